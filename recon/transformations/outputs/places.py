"""Where outputs go: files in folders and objects in S3, all of them or none."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath

from recon.errors import ReconError, WrongUsage
from recon.exports.placing import put_in_place, refuse_place
from recon.storage.port import AlreadyExists
from recon.transformations.inputs.files import Scratch
from recon.transformations.request.files import S3, Objects


def place_of(path: str, folder: Path) -> str:
    """A place by which two paths are compared."""
    return path if path.startswith(S3) else str((folder / path).resolve())


def refuse_places(paths: Sequence[str], folder: Path, objects: Objects) -> None:
    """Raises WrongUsage for places where no file can be written, and for objects in S3 that exist: these are never replaced."""
    for path in paths:
        if path.startswith(S3):
            store, key = objects.at(path)
            if store.exists(key):
                raise _there(path)
            continue
        file = folder / path
        above = next(parent for parent in file.parents if os.path.lexists(parent))
        if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
            raise WrongUsage(f"{file}: nothing can be written in {above}; choose another path")
        if above == file.parent:
            refuse_place(file)


@contextmanager
def placed(paths: Sequence[str], folder: Path, scratch: Scratch, objects: Objects) -> Iterator[Mapping[str, Path]]:
    """Path → a local path to write to. At the end of the block all files take their places, objects first; on any failure none does.

    Raises WrongUsage and TryAgain."""
    uploads = {path: scratch.new() / PurePosixPath(path).name for path in paths if path.startswith(S3)}
    files = {path: folder / path for path in paths if not path.startswith(S3)}
    for file in files.values():
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise WrongUsage(f"{file}: its folder cannot be made ({error.strerror}); choose another path") from error
    sent: list[str] = []
    try:
        with put_in_place(list(files.values())) as new:
            yield {**uploads, **dict(zip(files, new, strict=True))}
            for path, local in uploads.items():
                _send(path, local, objects)
                sent.append(path)
    except BaseException:
        for path in sent:
            with suppress(ReconError):
                store, key = objects.at(path)
                store.delete(key)
        raise


def _send(path: str, local: Path, objects: Objects) -> None:
    store, key = objects.at(path)
    try:
        store.copy_in(key, local)
    except AlreadyExists:
        raise _there(path) from None


def _there(path: str) -> WrongUsage:
    return WrongUsage(f"{path} exists already, and objects in S3 are never replaced; choose another path, or delete it")
