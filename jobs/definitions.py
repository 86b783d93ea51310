"""The code location that Dagster loads, by the path of this file: see workspace.yaml.

Nothing
happens when this module is imported.

``jobs`` and ``resources`` are common names. A folder of that name in the working directory would silently take the place of ours, and
`dagster definitions validate` would still succeed.
"""

from __future__ import annotations

import dagster as dg

from recon.operations.packaging.own_packages import refuse_foreign_modules


@dg.definitions
def defs() -> dg.Definitions:
    """Everything of this code location, by $RECON_CONFIG or the recon.yaml of the working directory."""
    refuse_foreign_modules()
    from jobs.build import build_definitions

    return build_definitions()
