"""What an owner's requests may read and write, and files opened so that no link leads out of it."""

from __future__ import annotations

import errno
import fnmatch
import hashlib
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from recon.config.service import Rights
from recon.service.submissions import Problem, Refused
from recon.storage.open import open_store
from recon.storage.port import AlreadyExists, NotFound
from recon.storage.scratch import object_digest
from recon.transformations.request.files import S3, bucket_and_key

_PATTERN = re.compile(r"[*?\[]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f\\\ud800-\udfff]")
FILES_MAX = 1_000
"""Files of one input, which are open at the same time."""
_FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
_FILE = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
_NOT_THERE = {
    getattr(errno, name)
    for name in ("ENOENT", "ENOTDIR", "ELOOP", "EMLINK", "EACCES", "EPERM", "ENAMETOOLONG", "EISDIR", "ENXIO", "ENODEV", "EINVAL")
}
"""Errors of what is not there, is a link, a pipe or a device, or may not be read. BSD says EMLINK of a link."""


@dataclass(frozen=True)
class Places:
    """The places of an owner. Paths are compared as written; one that could be read in two ways is refused."""

    rights: Rights

    def size(self, path: str) -> int:
        """Bytes of the files that an input's path names. Raises Refused where it may not be read or names nothing."""
        self._owned(path, self.rights.read, "read")
        if path.startswith(S3):
            return sum(size for _, size in self.objects(path))
        total = 0
        for _, descriptor in self.files(path):
            try:
                total += os.fstat(descriptor).st_size
            finally:
                os.close(descriptor)
        return total

    def refuse_unreadable(self, path: str) -> None:
        """Raises Refused where a path may not be read."""
        self._owned(path, self.rights.read, "read")

    def refuse_unwritable(self, path: str) -> None:
        """Raises Refused where a path may not be written."""
        if _PATTERN.search(path):
            raise _not_permitted(path, "an output is one file, no pattern")
        if path.endswith("/"):
            raise _not_permitted(path, "an output is a file, no folder")
        self._owned(path, self.rights.write, "write")

    def files(self, path: str) -> Iterator[tuple[str, int]]:
        """The files of a path in folders, by name: their paths, and open descriptors that the caller closes. Raises Refused."""
        root = self._owned(path, self.rights.read, "read")
        below = path.removeprefix(root).rstrip("/")
        *folders, last = below.split("/") if below else [""]
        folder = _opened_folder(Path(root), folders, path)
        try:
            before = root + "".join(f"{name}/" for name in folders)
            if last and not _PATTERN.search(last) and not _is_folder(folder, last):
                yield path, _opened_file(folder, last, path)
                return
            if last and not _PATTERN.search(last):
                folder, outer = _opened(last, _FOLDER, folder, path), folder
                os.close(outer)
                before, last = f"{before}{last}/", "*"
            pattern = last or "*"
            names = sorted(name for name in os.listdir(folder) if fnmatch.fnmatchcase(name, pattern) and not name.startswith((".", "_")))
            names = [name for name in names if not _is_folder(folder, name)]
            if not names:
                raise Refused(Problem("no-such-input"), f"{path}: no file has such a name")
            if strange := next((name for name in names if _CONTROL.search(name)), None):
                reason = f"{path}: the name {strange!a} has control characters or is not UTF-8; rename the file"
                raise Refused(Problem("wrong-input"), reason)
            if len(names) > FILES_MAX:
                raise Refused(Problem("too-large"), f"{path}: {len(names):,} files; at most {FILES_MAX:,}")
            for name in names:
                yield before + name, _opened_file(folder, name, before + name)
        finally:
            os.close(folder)

    def objects(self, path: str) -> list[tuple[str, int]]:
        """The objects of a path in S3 with their bytes, by name. Raises Refused."""
        self._owned(path, self.rights.read, "read")
        bucket, _, key = path.removeprefix(S3).partition("/")
        store = open_store(f"{S3}{bucket}", Path())
        if _PATTERN.search(key):
            before = _PATTERN.split(key)[0].rpartition("/")[0]
            found = [
                (f"{S3}{bucket}/{other}", size)
                for other, size in store.sizes(before)
                if fnmatch.fnmatchcase(other, key) and other.count("/") == key.count("/")
            ]
        else:
            try:
                found = [(path, store.size(key))]
            except NotFound:
                found = []
        if not found:
            raise Refused(Problem("no-such-input"), f"{path}: there is no such object")
        return found

    def copy_once(self, to: str, file: Path, digest: str) -> None:
        """Creates an owner's copy of a file. The same bytes may be there already, put by an earlier try of a request. ``digest``: SHA-256.
        Raises Refused for a place that may not be written, and where other bytes are there."""
        self.refuse_unwritable(to)
        root = self._owned(to, self.rights.write, "write")
        if to.startswith(S3):
            bucket, key = bucket_and_key(to)
            store = open_store(f"{S3}{bucket}", Path())
            try:
                store.copy_in(key, file)
            except AlreadyExists:
                if object_digest(store, key) != digest:
                    raise _there(to) from None
            return
        *folders, name = to.removeprefix(root).split("/")
        folder = _opened_folder(Path(root), folders, to, make=True)
        try:
            _create(folder, name, file, digest, to)
        finally:
            os.close(folder)

    def _owned(self, path: str, places: Sequence[str], what: str) -> str:
        """The owner's place that a path lies in. Raises Refused."""
        in_s3 = path.startswith(S3)
        rest = path.removeprefix(S3) if in_s3 else path.removeprefix("/")
        if not in_s3 and not path.startswith("/"):
            raise _not_permitted(path, "write a whole path, s3://bucket/name, or upload:NAME")
        if _CONTROL.search(path) or "://" in rest or any(part in ("", ".", "..") for part in rest.rstrip("/").split("/")):
            raise _not_permitted(path, "write it without '.', '..', '//', backslashes and control characters")
        fixed = _PATTERN.split(path)[0]
        if "**" in path or (not in_s3 and _PATTERN.search(str(PurePosixPath(path).parent))):
            raise _not_permitted(path, "only a file's name may have a pattern")
        found = next((place for place in places if fixed.startswith(place)), None)
        if found is None:
            raise _not_permitted(path, f"it is no place that you may {what}")
        return found


def _not_permitted(path: str, why: str) -> Refused:
    return Refused(Problem("not-permitted"), f"{path!r} is not permitted: {why}")


def _there(to: str) -> Refused:
    return Refused(Problem("exists-already"), f"{to}: another file is there, and files are never replaced; name another place")


def _create(folder: int, name: str, file: Path, digest: str, to: str) -> None:
    """Creates a file in an open folder, whole or not at all; where one is there it must have the same bytes."""
    new = f".recon-{secrets.token_hex(8)}"
    try:
        with open(_nameless(folder, new), "wb") as target, file.open("rb") as source:
            shutil.copyfileobj(source, target, 1 << 20)
            target.flush()
            os.fsync(target.fileno())
            if _exists(folder, new):
                os.link(new, name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
            else:
                os.link(f"/proc/self/fd/{target.fileno()}", name, dst_dir_fd=folder, follow_symlinks=True)
        os.fsync(folder)
    except FileExistsError:
        with open(_opened_file(folder, name, to), "rb") as there:
            if hashlib.file_digest(there, "sha256").hexdigest() != digest:
                raise _there(to) from None
    finally:
        with suppress(FileNotFoundError):
            os.unlink(new, dir_fd=folder)


def _nameless(folder: int, name: str) -> int:
    """A new file in a folder without a name yet, so that a kill leaves nothing; with ``name`` where the file system has no such files."""
    try:
        return os.open(".", os.O_WRONLY | os.O_TMPFILE, 0o644, dir_fd=folder)
    except (AttributeError, OSError):  # not on Linux; not this file system
        return os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644, dir_fd=folder)


def _exists(folder: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _opened_folder(root: Path, names: Sequence[str], path: str, make: bool = False) -> int:
    """A folder below an owner's, opened name by name, so that no link on the way is followed. ``make``: where it is not there."""
    try:
        folder = os.open(root, _FOLDER & ~getattr(os, "O_NOFOLLOW", 0))  # the owner's folder is the administrator's choice
    except OSError as error:
        raise Refused(Problem("no-such-input"), f"{path}: {root} cannot be read ({error.strerror})") from None
    for name in names:
        try:
            inner = _opened(name, _FOLDER, folder, path, make)
        finally:
            os.close(folder)
        folder = inner
    return folder


def _opened(name: str, flags: int, folder: int, path: str, make: bool = False) -> int:
    """``make``: a folder, where it is not there. Raises Refused for what is not there or is a link; OSError for what may pass, such as too
    many open files."""
    try:
        if make:
            with suppress(FileExistsError):
                os.mkdir(name, 0o755, dir_fd=folder)
        return os.open(name, flags, dir_fd=folder)
    except OSError as error:
        if error.errno in _NOT_THERE:
            raise Refused(Problem("no-such-input"), f"{path}: there is no such file") from None
        raise


def _is_folder(folder: int, name: str) -> bool:
    try:
        return stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
    except OSError:
        return False


def _opened_file(folder: int, name: str, path: str) -> int:
    """A plain file; a link, a device and a pipe are as if they were not there."""
    descriptor = _opened(name, _FILE, folder, path)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise Refused(Problem("no-such-input"), f"{path}: there is no such file")
    return descriptor
