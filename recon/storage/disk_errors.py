"""Turns errors of the local disk into Recon's own, and writes a local file."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from recon.errors import OutOfCapacity, TryAgain, WrongUsage, transient_kind
from recon.storage.port import COPY_CHUNK_BYTES

_READ_ONLY = {errno.EACCES, errno.EROFS, errno.EPERM}


def copy_to_file(chunks: Iterable[bytes], local: Path) -> int:
    """Writes a new local file; returns its bytes. Raises TryAgain where it can't be written."""
    try:
        with open(local, "wb") as target:
            return sum(target.write(chunk) for chunk in chunks)
    except OSError as error:
        _fail(error, str(local), "writing")


@contextmanager
def filling(local: Path, size: int) -> Iterator[Callable[[int, bytes], None]]:
    """A new local file of ``size`` bytes without content, and a function that writes bytes at an offset. It has its name at the end of the
    block. Raises TryAgain where it can't be written."""
    unfinished = local.with_name(f"{local.name}-{os.getpid()}")
    try:
        with open(unfinished, "wb") as target:
            target.truncate(size)

            def write(offset: int, content: bytes) -> None:
                target.seek(offset)
                target.write(content)

            yield write
        unfinished.replace(local)
    except OSError as error:
        _fail(error, str(local), "writing")


@contextmanager
def local_pieces(local: Path) -> Iterator[Iterator[bytes]]:
    """The bytes of a local file in pieces. Raises WrongUsage if it cannot be read."""
    try:
        with open(local, "rb", buffering=0) as source:
            yield iter(lambda: source.read(COPY_CHUNK_BYTES), b"")
    except OSError as error:
        raise WrongUsage(f"{local}: can't be read ({error.strerror}); name a file that exists") from None


def _fail(error: OSError, path: str, doing: str) -> NoReturn:
    """Raises the operating system's error as one of Recon's, with the next step."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        raise OutOfCapacity(f"{path}: no space left while {doing}; free some disk space, then run the same again") from error
    if error.errno == errno.ENOENT:
        raise TryAgain(f"{path}: its unfinished file was swept away while {doing}; run the same again") from error
    if error.errno in (errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG):
        raise WrongUsage(f"{path}: {error.strerror} while {doing}; use another name") from error
    if error.errno in _READ_ONLY:
        raise TryAgain(f"{path}: {error.strerror} while {doing}; check the folder's permissions, then try again") from error
    kind = transient_kind(error) or TryAgain
    raise kind(f"{path}: {error.strerror or error} while {doing}; check the disk, then run the same again") from error
