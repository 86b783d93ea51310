"""Reads ``recon.yaml`` into a ``Config``: rules, settings, and the version of the rules.

*Rules* give artifacts their meaning and make up the *rules version*; *settings* do not. ``yaml_file`` reads the file with its line numbers,
``sections`` (rules) and ``settings`` are its pydantic models, made of ``fields``; ``mistakes`` words their errors, and ``load`` builds the
``Config``.
"""

from recon.config.load import load_config, load_place
from recon.config.model import Config, Place

__all__ = ["Config", "Place", "load_config", "load_place"]
