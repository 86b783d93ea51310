"""Scratch folders for intermediate files, local copies of objects, and digests.

A scratch folder is on the store's own disk where the store is a writable folder, so that moving a file in is cheap, and otherwise in the
system's temporary folder. $RECON_SCRATCH overrides both: Spark's tasks set it to a disk of their own machine."""

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
    """A new, empty folder that is removed at the end of the block. Raises TryAgain where it cannot be made."""
    mark = store.local(layout.STORE)
    temporary = mark.parent / TEMPORARY if mark else None
    own = os.environ.get("RECON_SCRATCH")
    usable = temporary is not None and os.access(temporary, os.W_OK)
    place = Path(own) if own else temporary if temporary and usable else Path(tempfile.gettempdir())
    try:
        folder = Path(tempfile.mkdtemp(prefix="recon-", dir=place))
    except OSError as error:
        raise TryAgain(f"{place}: {error.strerror} while making a folder in it; fix that, then run the same again") from error
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
