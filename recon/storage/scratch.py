"""A folder for a stage's intermediate files, on the store's own disk where the store is a folder, so that moving in is cheap.

$RECON_SCRATCH names another place: tasks of Spark, which may run on many machines at once, set it to a disk of their own.
In a store that may only be read it lies where the system keeps temporary files: whoever only looks needs no more."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from recon.errors import TryAgain
from recon.storage import layout
from recon.storage.port import TEMPORARY, NotFound, ObjectStore
from recon.storage.ranges import pieces


@contextmanager
def scratch_folder(store: ObjectStore) -> Iterator[Path]:
    """A new, empty folder that is removed at the end, whatever happened. Raises TryAgain where none can be made."""
    mark = store.local(layout.STORE)
    temporary = mark.parent / TEMPORARY if mark else None
    own = os.environ.get("RECON_SCRATCH")
    usable = temporary is not None and os.access(temporary, os.W_OK)
    place = Path(own) if own else temporary if temporary and usable else Path(tempfile.gettempdir())
    try:
        folder = Path(tempfile.mkdtemp(prefix="recon-", dir=place))
    except OSError as error:
        raise TryAgain(f"{place}: {error.strerror} while making a folder in it; mend that, then run the same again") from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def local_copy(store: ObjectStore, path: str, scratch: Path) -> Path:
    """An object as a local file: itself in a folder store, else a copy in ``scratch``. Raises NotFound."""
    local = store.local(path)
    if local is None:
        local = scratch / path.replace("/", "_")
        store.copy_out(path, local)
    if not local.is_file():
        raise NotFound(f"{path}: gone from the store")
    return local


def file_digest(file: Path) -> str:
    """SHA-256 of a local file, in hex. Raises OSError."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def object_digest(store: ObjectStore, path: str) -> str:
    """SHA-256 of an object, in hex, read a piece at a time. Raises NotFound."""
    sha = hashlib.sha256()
    for piece in pieces(store, path, store.size(path)):
        sha.update(piece)
    return sha.hexdigest()
