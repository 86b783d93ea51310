"""A component for projects of ``dg``: the definitions of a ``recon.yaml``, by a ``defs.yaml`` beside it."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
from pydantic import Field

from jobs.build import build_definitions


class ReconComponent(dg.Component, dg.Model, dg.Resolvable):
    """The assets, checks, jobs, sensors, schedules and resources of reconciliations. In a ``defs.yaml``: ::

    type: recon_dagster.ReconComponent
    attributes:
      config: recon.yaml
      owners: [team:finance]
    """

    config: str = Field(description="A recon.yaml, or a folder of such files; relative to the folder of the defs.yaml.")
    owners: list[str] | None = Field(default=None, description="Owners of all assets; default: team:<reconciliation>.")
    group: str | None = Field(default=None, description="The group of all assets; default: the reconciliation's name.")
    pool: str | None = Field(default=None, description="One pool for all steps; default: one for each stage of each reconciliation.")

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """See ``recon_dagster.build_definitions``. Raises WrongUsage if there is no such file."""
        path = Path(context.path)
        folder = path if path.is_dir() else path.parent
        return build_definitions(folder / self.config, owners=self.owners, group=self.group, pool=self.pool)
