"""What aggregations work with: configuration, store, database, definitions, runs and warehouse, each opened when it is first needed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from recon.aggregations.definitions.read import Definitions, Reader
from recon.aggregations.definitions.table import Take
from recon.aggregations.preconditions.evaluate import Evaluator
from recon.aggregations.runs.tracking import Runs
from recon.aggregations.warehouse.open import open_warehouse
from recon.aggregations.warehouse.port import Warehouse
from recon.config.model import Config
from recon.intake.sources.site import Intake


@dataclass(frozen=True)
class Aggregations:
    """The aggregations of one reconciliation. It may be kept: each call of ``definitions`` and of the evaluator reads anew."""

    intake: Intake

    @property
    def config(self) -> Config:
        return self.intake.config

    @cached_property
    def _reader(self) -> Reader:
        return Reader(self.config, self.intake.sources)

    def definitions(self, take: Take | None = None) -> Definitions:
        """All definitions, the files synced with the table."""
        return self._reader.read(self.intake.database, take)

    def preview(self) -> Definitions:
        """All definitions, and the differences between files and table, which stay."""
        return self._reader.read(self.intake.database, write=False)

    @cached_property
    def evaluator(self) -> Evaluator:
        return Evaluator(self.intake.database, self.config.name, self.intake.waiting)

    @cached_property
    def runs(self) -> Runs:
        return Runs(self.intake.database, self.config.name)

    @cached_property
    def warehouse(self) -> Warehouse:
        return open_warehouse(self.config, self.intake.read_secret)
