"""The code location that Dagster loads, by the path of this file: see workspace.yaml.

Belongs here: refusing what is not ours, then handing over. Does not belong here: the definitions (jobs.build). Nothing happens when this
module is imported.

``jobs`` and ``resources`` are common names. A folder of that name in the working directory would silently take the place of ours, and
`dagster definitions validate` would still succeed.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import dagster as dg

from recon.errors import WrongUsage

_PACKAGES = ("recon_assets", "resources", "jobs")


@dg.definitions
def defs() -> dg.Definitions:
    """Everything of this code location, by $RECON_CONFIG or the recon.yaml of the working directory."""
    refuse_foreign_modules()
    from jobs.build import build_definitions

    return build_definitions()


def refuse_foreign_modules() -> None:
    """Raises WrongUsage, naming the path, where another package of the same name would be imported in place of ours."""
    ours = Path(__file__).resolve().parents[1]
    for name in _PACKAGES:
        spec = importlib.util.find_spec(name)
        found = [] if spec is None else [spec.origin] if spec.origin else list(spec.submodule_search_locations or [])
        path = Path(found[0]).resolve() if found else None
        if path is None:
            raise WrongUsage(f"{name}: not found; install Recon into this Python, or start Dagster in {ours}")
        if path not in (ours / name, ours / name / "__init__.py"):
            raise WrongUsage(
                f"{path}: a foreign package {name!r} stands in the way of Recon's own ({ours / name}); "
                "rename it, or start Dagster in another folder"
            )
