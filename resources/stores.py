"""The store of a reconciliation as a Dagster resource."""

from __future__ import annotations

from pathlib import Path

import dagster as dg

from recon.config import Config, load_place
from recon.stages.work import Work
from recon.state.timeline import Timeline
from recon.storage.open import open_for
from recon.storage.port import ObjectStore
from resources.redis import dagster_secret


class ReconciliationStore(dg.ConfigurableResource[ObjectStore]):
    """The store that a ``recon.yaml`` names. ``config_file`` is the file's absolute path."""

    config_file: str

    def open(self) -> ObjectStore:
        """Opens the store. Raises WrongUsage where there is none yet, or where it belongs to another reconciliation."""
        return open_for(load_place(Path(self.config_file)), read_secret=dagster_secret)

    def work(self, config: Config) -> Work:
        """The store, opened for a stage."""
        opened = self.open()
        return Work(opened, config, Timeline(opened))


class OpenStore:
    """The same for runs in a process that has the store open already: all their stages share its timeline and fill its report."""

    def __init__(self, work: Work) -> None:
        self._work = work

    def open(self) -> ObjectStore:
        return self._work.store

    def work(self, config: Config) -> Work:
        return self._work


def resource_key(reconciliation: str) -> str:
    """The name under which a reconciliation's store is found in a run: one code location serves several."""
    return f"{reconciliation}_store"
