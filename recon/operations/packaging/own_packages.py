"""Recon's packages beside the library, and a check that no other packages are imported in their place.

``jobs`` and ``resources`` are common names: a folder of that name in the working directory would silently be imported instead.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

from recon.errors import WrongUsage

DISTRIBUTION = "dagster-recon"
"""The name for pip. ``recon`` on PyPI is an unrelated package."""
PACKAGES = ("recon_assets", "recon_dagster", "resources", "jobs")
"""In a wheel the last two are below ``recon_dagster``, and packages of these names are the user's."""


def refuse_foreign_modules() -> None:
    """Raises WrongUsage with the path of a package that would be imported in place of Recon's package of the same name."""
    ours = Path(__file__).resolve().parents[3]
    for name in PACKAGES:
        if (ours / "recon_dagster" / name).is_dir():
            continue
        spec = importlib.util.find_spec(name)
        found = [] if spec is None else [spec.origin] if spec.origin else list(spec.submodule_search_locations or [])
        path = Path(found[0]).resolve() if found else None
        if path is None:
            raise WrongUsage(f"{name}: not found; pip install {DISTRIBUTION} into this Python, or start in {ours}")
        if path not in (ours / name, ours / name / "__init__.py"):
            raise WrongUsage(
                f"{path}: a foreign package {name!r} is imported in place of Recon's own ({ours / name}); "
                "rename it, or start in another folder"
            )
