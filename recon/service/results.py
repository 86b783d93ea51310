"""What comes out: results under a name that cannot be guessed, links to them, and uploads."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from recon.config import Place
from recon.config.secrets import ReadSecret, boto3_secret, credentials
from recon.errors import WrongUsage
from recon.service.paths import Places
from recon.service.submissions import Submission
from recon.storage.open import open_store
from recon.storage.port import NotFound, ObjectStore
from recon.storage.ranges import pieces
from recon.storage.s3.store import S3Store
from recon.storage.scratch import file_digest

RESULTS, UPLOADS = "results", "uploads"
KEY_FILE = "service.key"
_SALT = "recon.results"


@dataclass(frozen=True)
class Made:
    """A file that a request made. ``to``: the owner's place that it is copied to as well."""

    name: str
    file: Path
    rows: int | None = None
    to: str | None = None


class Opened(NamedTuple):
    """A result as it is read. ``size``: bytes."""

    name: str
    size: int
    pieces: Iterator[bytes | memoryview]
    owner: str


class Results:
    """The store of results of a service."""

    def __init__(self, place: Place, read_secret: ReadSecret = boto3_secret) -> None:
        self._place, self._settings, self._read_secret = place, place.service, read_secret
        # Below the reconciliation's name, since each service removes what it does not know.
        self._root = f"{place.service.results.rstrip('/')}/{place.name}"
        self.store: ObjectStore = open_store(self._root, place.path.parent, place.s3)

    def new_place(self) -> str:
        """A name of 256 random bits."""
        return secrets.token_hex(32)

    def put(self, place: str, made: Sequence[Made], places: Places) -> list[dict[str, Any]]:
        """Puts the files of a request below a new place, then copies those that go to the owner's places. Returns name, bytes, digest, rows
        and place of each. Raises Refused where another file lies at an owner's place."""
        found = []
        for one in made:
            size = self.store.copy_in(_path(place, one.name), one.file)
            figures = {"name": one.name, "bytes": size, "digest": file_digest(one.file), "rows": one.rows}
            found.append({**figures, **({} if one.to is None else {"to": one.to})})
        for one, figures in zip(made, found, strict=True):
            if one.to is not None:
                places.copy_once(one.to, one.file, str(figures["digest"]))
        return found

    def remove(self, place: str) -> None:
        """Removes all files of a place, and its folder in a store that has folders."""
        for path in list(self.store.list(f"{RESULTS}/{place}")):
            self.store.delete(path)
        if (folder := self.store.local(f"{RESULTS}/{place}")) is not None:
            with suppress(OSError):
                folder.rmdir()

    def remove_empty(self, known: Set[str], before: datetime) -> None:
        """Removes the empty folders of places that are not ``known`` and older than a time, in a store that has folders."""
        if (some := self.store.local(f"{RESULTS}/x")) is None or not some.parent.is_dir():
            return
        for folder in some.parent.iterdir():
            with suppress(OSError):
                if folder.name not in known and folder.stat().st_mtime < before.timestamp():
                    folder.rmdir()

    def link(self, of: Submission, name: str) -> str:
        """A link to a result that is valid for ``service.links``: a whole URL of S3, or a token for ``open``. Raises WrongUsage where there
        is no such result."""
        if of.place is None or name not in {one["name"] for one in of.results}:
            raise WrongUsage(f"request {of.name} has no result {name}")
        if isinstance(self.store, S3Store):
            return self.store.signed(_path(of.place, name), round(self._settings.links.total_seconds()))
        return str(self._signer().dumps([of.owner, of.place, name]))

    def open(self, link: str) -> Opened | None:
        """The file that a signed link names; None for a link that is wrong or too old, or a file that is gone."""
        from itsdangerous import BadData

        try:
            owner, place, name = self._signer().loads(link, max_age=round(self._settings.links.total_seconds()))
            size = self.store.size(_path(place, name))
        except (BadData, NotFound, ValueError, TypeError):
            return None
        return Opened(name, size, pieces(self.store, _path(place, name), size), owner)

    def _signer(self) -> Any:
        from itsdangerous import URLSafeTimedSerializer

        return URLSafeTimedSerializer(self._secret(), salt=_SALT)

    def _secret(self) -> str:
        if self._settings.secret is not None:
            found = credentials("service", None, self._settings.secret, self._read_secret).password
            if not found or len(found) < 32:
                raise WrongUsage(f"service.secret: {self._settings.secret} is shorter than 32 characters")
            return found
        return _own_key(self._place.path.parent / ".recon" / KEY_FILE)

    def put_upload(self, name: str, file: str, chunks: Iterator[bytes]) -> None:
        """Puts an upload, whole, under its own name, which says its format."""
        self.store.put_new(f"{UPLOADS}/{name}/{file}", chunks)

    def upload(self, name: str, scratch: Path, file: str) -> Path:
        """An upload as a local file of its own name. Raises NotFound."""
        target = scratch / file
        if (local := self.store.local(f"{UPLOADS}/{name}/{file}")) is not None:
            if not local.is_file():
                raise NotFound(f"upload {name} is gone")
            target.symlink_to(local)
        else:
            self.store.copy_out(f"{UPLOADS}/{name}/{file}", target)
        return target

    def remove_upload(self, name: str) -> None:
        """Removes an upload's bytes."""
        for path in list(self.store.list(f"{UPLOADS}/{name}")):
            self.store.delete(path)

    def url(self, folder: str, name: str, file: str) -> str:
        """Where a cluster finds an upload, or puts a result. The store must be in S3."""
        return f"{self._root}/{folder}/{name}/{file}"

    def folder(self, folder: str) -> str:
        """The location of all results, or of all uploads: an absolute path, or an address in S3."""
        return f"{self._root if self._root.startswith('s3://') else (self._place.path.parent / self._root).absolute()}/{folder}"

    def there(self, place: str, name: str) -> dict[str, Any]:
        """A file that a cluster put below a place: its name and bytes. Raises NotFound."""
        return {"name": name, "bytes": self.store.size(_path(place, name))}

    def copy_out(self, place: str, name: str, to: Path) -> None:
        """Copies a file of a place to a local one."""
        self.store.copy_out(_path(place, name), to)


def _path(place: str, name: str) -> str:
    return f"{RESULTS}/{place}/{name}"


def _own_key(file: Path) -> str:
    """The key in a file, made where there is none; only its user may read it."""
    try:
        return file.read_text(encoding="ascii")
    except FileNotFoundError:
        file.parent.mkdir(parents=True, exist_ok=True)
    new = file.with_name(f"{file.name}.{secrets.token_hex(8)}")
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
        stream.write(secrets.token_urlsafe(48))
    try:
        os.link(new, file)  # whole, or another process's
    except FileExistsError:
        pass
    finally:
        new.unlink()
    return file.read_text(encoding="ascii")
