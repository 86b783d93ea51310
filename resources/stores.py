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
    """The store of a ``recon.yaml``. ``config_file``: the file's absolute path."""

    config_file: str

    def open(self) -> ObjectStore:
        """Opens the store. Raises WrongUsage if there is no store yet, or if it belongs to another reconciliation."""
        return open_for(load_place(Path(self.config_file)), read_secret=dagster_secret)

    def work(self, config: Config) -> Work:
        """Opens the store for a stage."""
        opened = self.open()
        return Work(opened, config, Timeline(opened))


class OpenStore:
    """An open store, for runs in this process: all stages share its timeline and its report."""

    def __init__(self, work: Work) -> None:
        self._work = work

    def open(self) -> ObjectStore:
        return self._work.store

    def work(self, config: Config) -> Work:
        return self._work


def resource_key(reconciliation: str) -> str:
    """The key of a reconciliation's store among the resources, such as ``orders_store``."""
    return f"{reconciliation}_store"
