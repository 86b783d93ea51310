"""The store in a local folder: the embedded default."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from io import BufferedReader
from pathlib import Path
from typing import NoReturn

from recon.errors import Damaged, WrongUsage
from recon.storage.disk_errors import _READ_ONLY, _fail, copy_to_file, local_pieces
from recon.storage.port import COPY_CHUNK_BYTES, TEMPORARY, AlreadyExists, NotFound, ReadCost, check_path

# Errors of link() on file systems without hard links.
_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EXDEV}
DISK = ReadCost(gap_max_bytes=1 << 16, request_max_bytes=1 << 23, requests_at_once=16)


class LocalStore:
    """A store in a local folder. An object is written under ``tmp/``, synced, linked to its name; its folder is synced.

    ``link()`` fails where the name exists, which makes it the conditional put. A process that is killed leaves the whole object under its
    name, or only a temporary file. A folder that is read-only can still be read.
    """

    cost = DISK

    def __init__(self, root: Path, shared: bool = False) -> None:
        """``shared``: folders and files get the modes of the umask; else only their owner can read them (0700, 0600).

        Raises WrongUsage where ``root`` is no folder, or its file system has no hard links, which is tried."""
        self.root = Path(os.path.abspath(root))
        self._folder_mode, self._file_mode = (0o777, 0o666) if shared else (0o700, 0o600)
        self._temporary = self.root / TEMPORARY
        # Folders that this process has synced up to the root. A folder made by another process may not be durable yet.
        self._durable: set[Path] = set()
        self._open()

    def _open(self) -> None:
        probe = self._temporary / f"{os.getpid()}-{secrets.token_hex(8)}"
        linked = probe.with_name(probe.name + "-link")
        try:
            existing = next(folder for folder in (self.root, *self.root.parents) if os.path.lexists(folder))
            self.root.parent.mkdir(parents=True, exist_ok=True)
            self._make_folder(self._temporary)
            for folder in (self.root, *self.root.parents):
                if folder == existing:
                    break
                sync(folder.parent)
            os.close(os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL, self._file_mode))
        except (FileExistsError, NotADirectoryError):
            raise WrongUsage(f"store {self.root}: it, a folder above it or its '{TEMPORARY}' is a file; name a folder") from None
        except OSError as error:
            if error.errno in _READ_ONLY and self.root.is_dir():
                return
            _fail(error, str(self.root), "opening the store")
        try:
            os.link(probe, linked)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                _fail(error, str(self.root), "opening the store")
            raise WrongUsage(
                f"store {self.root}: its file system has no hard links, which commits need; name one on a local disk"
            ) from None
        finally:
            for name in (probe, linked):
                with suppress(OSError):
                    name.unlink()

    def put_new(self, path: str, chunks: Iterable[bytes | memoryview]) -> int:
        """See ObjectStore. ``chunks`` is not read when the object exists already."""
        target = self._file(path)
        temporary = self._temporary / f"{os.getpid()}-{secrets.token_hex(8)}"
        try:
            if os.path.lexists(target):
                self._refuse_existing(path, target)
            try:
                size = _write_synced(temporary, chunks, self._file_mode)
                self._make_durable(target.parent)
                try:
                    os.link(temporary, target)
                except FileExistsError:
                    self._refuse_existing(path, target)
                sync(target.parent)
            finally:
                with suppress(OSError):
                    temporary.unlink(missing_ok=True)
        except OSError as error:
            _fail(error, path, "writing")
        return size

    def _refuse_existing(self, path: str, target: Path) -> NoReturn:
        if target.is_dir():
            raise WrongUsage(f"store path {path!r}: it is a folder of other objects; write a name below it")
        # The caller builds on the winner's object, which must survive a power cut though its writer may not have synced it.
        self._make_durable(target.parent)
        sync(target.parent)
        raise AlreadyExists(f"{path}: exists already in {self.root} and is never overwritten")

    def _make_durable(self, folder: Path) -> None:
        """Makes the folder and syncs every entry on the way down to it, once per process."""
        if folder in self._durable and folder.is_dir():
            return
        self._make_folder(folder)
        for below in (folder, *folder.parents):
            if below == self.root:
                break
            sync(below.parent)
        self._durable.add(folder)

    def _make_folder(self, folder: Path) -> None:
        """Makes the folder and those between it and the root."""
        if folder != self.root and not folder.parent.is_dir():
            self._make_folder(folder.parent)
        folder.mkdir(mode=self._folder_mode, exist_ok=True)

    def get(self, path: str) -> bytes:
        with self._reading(path) as handle:
            try:
                return handle.read()
            except OSError as error:
                _fail(error, path, "reading")

    def get_range(self, path: str, offset: int, length: int) -> bytes:
        if offset < 0 or length < 0:
            raise WrongUsage(f"{path}: a range of {length} bytes from {offset} is no range; both count from 0")
        with self._reading(path) as handle:
            try:
                # A length from a damaged index must not become an allocation, nor its offset a failing seek.
                there = max(0, os.fstat(handle.fileno()).st_size - offset)
                found = b""
                if length <= there:
                    handle.seek(offset if there else 0)
                    found = handle.read(length)
            except OSError as error:
                _fail(error, path, "reading")
        if len(found) != length or there < length:
            raise Damaged(
                f"{path}: cut short: {length} bytes expected from offset {offset}, {there} are there; "
                "restore the file from a backup, then run 'recon verify'"
            )
        return found

    def _reading(self, path: str) -> BufferedReader:
        try:
            return open(self._file(path), "rb")
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise NotFound(f"{path}: does not exist in {self.root}") from None
        except OSError as error:
            _fail(error, path, "reading")

    def size(self, path: str) -> int:
        with self._reading(path) as handle:
            return os.fstat(handle.fileno()).st_size

    def modified(self, path: str) -> datetime:
        with self._reading(path) as handle:
            return datetime.fromtimestamp(os.fstat(handle.fileno()).st_mtime, UTC)

    def version(self, path: str) -> str:
        with self._reading(path) as handle:
            found = os.fstat(handle.fileno())
        return f"{found.st_size} {found.st_mtime_ns} {found.st_ctime_ns}"

    def exists(self, path: str) -> bool:
        return self._file(path).is_file()

    def list(self, prefix: str) -> Iterator[str]:
        """See ObjectStore. Files whose names ``put_new`` would refuse were not put here and are left out."""
        folder = prefix.removesuffix("/")
        if folder:
            check_path(folder)
        return self._below(folder)

    def sizes(self, prefix: str) -> Iterator[tuple[str, int]]:
        for path in self.list(prefix):
            try:
                yield path, os.stat(self.root / path).st_size
            except FileNotFoundError:  # deleted since it was listed
                continue
            except OSError as error:
                _fail(error, path, "listing")

    def _below(self, folder: str) -> Iterator[str]:
        try:
            with os.scandir(self.root / folder) as entries:
                # A folder sorts as its paths do, with the slash: "a-b" comes before "a/b".
                names = sorted(e.name + "/" * e.is_dir() for e in entries if e.is_dir() or e.is_file())
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            _fail(error, folder or str(self.root), "listing")
        for name in names:
            path = f"{folder}/{name}" if folder else name
            try:
                check_path(path.removesuffix("/"))
            except WrongUsage:
                continue
            if name.endswith("/"):
                yield from self._below(path.removesuffix("/"))
            else:
                yield path

    def empty(self) -> bool:
        try:
            return all(name == TEMPORARY for name in os.listdir(self.root))
        except OSError as error:
            _fail(error, str(self.root), "listing")

    def delete(self, path: str) -> None:
        """See ObjectStore. Not synced: the next sweep deletes again an object that comes back after a power cut."""
        try:
            self._file(path).unlink(missing_ok=True)
        except NotADirectoryError:
            return
        except IsADirectoryError:
            raise WrongUsage(f"store path {path!r}: it is a folder; delete the objects in it") from None
        except OSError as error:
            _fail(error, path, "deleting")

    def copy_in(self, path: str, local: Path) -> int:
        with local_pieces(local) as pieces:
            return self.put_new(path, pieces)

    def copy_out(self, path: str, local: Path) -> int:
        with self._reading(path) as source:
            return copy_to_file(iter(lambda: source.read(COPY_CHUNK_BYTES), b""), local)

    def local(self, path: str) -> Path | None:
        return self._file(path)

    def sweep_temporary(self, older_than_s: float) -> int:
        """Removes temporary files and folders not written to for ``older_than_s`` seconds. Returns how many.

        A writer whose temporary file was swept raises TryAgain; its object is not created.
        """
        before, swept = time.time() - older_than_s, 0
        try:
            with os.scandir(self._temporary) as entries:
                for entry in entries:
                    path = Path(entry.path)
                    with suppress(FileNotFoundError):
                        if max(p.lstat().st_mtime for p in (path, *path.rglob("*"))) > before:
                            continue
                        if entry.is_dir(follow_symlinks=False):
                            shutil.rmtree(path)
                        else:
                            path.unlink()
                        swept += 1
        except FileNotFoundError:
            return swept
        except OSError as error:
            _fail(error, str(self._temporary), "sweeping")
        return swept

    def _file(self, path: str) -> Path:
        return self.root / check_path(path)


def _write_synced(file: Path, chunks: Iterable[bytes | memoryview], mode: int) -> int:
    size = 0
    with open(file, "xb", buffering=COPY_CHUNK_BYTES, opener=lambda path, flags: os.open(path, flags, mode)) as handle:
        for chunk in chunks:
            size += handle.write(chunk)
        handle.flush()
        os.fsync(handle.fileno())
    return size


def sync(path: Path) -> None:
    """Makes a file, or the names in a folder, last through a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
