"""Pieces of outputs: tasks write them, the driver puts them one behind the other. They lie in a folder that both see, or in S3."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from uuid import uuid4

from recon.engines.spark.tasks import local_disk
from recon.errors import ReconError, WrongUsage
from recon.transformations.request.files import AS_USUAL, S3, Objects


@dataclass(frozen=True)
class Pieces:
    """``place``: a folder, or ``s3://bucket/prefix``."""

    place: str
    objects: Objects = AS_USUAL

    @staticmethod
    @contextmanager
    def below(place: str, objects: Objects) -> Iterator[Pieces]:
        """A place of its own below another, which is removed at the end. Raises WrongUsage."""
        if not place.startswith(S3):
            if not Path(place).is_dir():
                raise WrongUsage(f"spark.shared: {place}: there is no such folder; make it first, or name a place in S3")
            with tempfile.TemporaryDirectory(prefix=".recon-transform-", dir=place) as folder:
                yield Pieces(folder, objects)
            return
        made = Pieces(f"{place.rstrip('/')}/{uuid4().hex}", objects)
        objects.at(made.place)  # what is no bucket is refused now, not by a task
        try:
            yield made
        finally:
            made._remove()

    def new(self) -> Pieces:
        """A place for the pieces of one output."""
        name = f"{self.place}/{uuid4().hex}"
        if not name.startswith(S3):
            Path(name).mkdir()
        return Pieces(name, self.objects)

    @contextmanager
    def piece(self, name: str) -> Iterator[tuple[Path, str]]:
        """A local path to write to, and the place where the piece is after the block."""
        there = f"{self.place}/{name}"
        if not there.startswith(S3):
            yield Path(there), there
            return
        with tempfile.TemporaryDirectory(prefix="recon-piece-", dir=local_disk()) as folder:
            local = Path(folder) / name
            yield local, there
            if local.exists():
                store, key = self.objects.at(there)
                store.copy_in(key, local)

    def fetched(self, there: str, folder: Path) -> Path:
        """A piece as a local file; one in S3 is copied to a folder and removed."""
        if not there.startswith(S3):
            return Path(there)
        store, key = self.objects.at(there)
        store.copy_out(key, folder / PurePosixPath(there).name)
        store.delete(key)
        return folder / PurePosixPath(there).name

    def _remove(self) -> None:
        with suppress(ReconError):  # keep the error that ended the request; what stays is swept with its step
            store, prefix = self.objects.at(self.place)
            for key in list(store.list(prefix)):
                store.delete(key)
