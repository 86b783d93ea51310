"""``recon.yaml`` read, checked and turned into a ``Config``: rules, settings, and the version of the rules.

``yaml_file`` reads the file with line numbers, ``sections`` are its pydantic models, ``mistakes`` words their errors, ``load`` builds
the ``Config``. *Rules* give artifacts their meaning and make up the *rules version*; *settings* do not.
"""

from recon.config.load import load_config, load_place
from recon.config.model import Config, Place

__all__ = ["Config", "Place", "load_config", "load_place"]
