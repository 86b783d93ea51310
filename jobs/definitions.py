"""The code location, which workspace.yaml names by the path of this file. Importing this module does nothing.

``jobs`` and ``resources`` are common names. A folder of that name in the working directory would silently shadow Recon's package, and
`dagster definitions validate` would still succeed; so the packages are checked first.
"""

from __future__ import annotations

import dagster as dg

from recon.operations.packaging.own_packages import refuse_foreign_modules


@dg.definitions
def defs() -> dg.Definitions:
    """The definitions for $RECON_CONFIG, or for the recon.yaml in the working directory."""
    refuse_foreign_modules()
    from jobs.build import build_definitions

    # Backfills from the UI use the implicit job, which takes its executor from here.
    return dg.Definitions.merge(build_definitions(), dg.Definitions(executor=dg.in_process_executor))
