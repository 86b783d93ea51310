"""Uploads: small files that owners send for their requests. They go with the requests that read them."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from recon.config.service import Rights, ServiceSettings
from recon.database import Database
from recon.database.tables import REQUEST_UPLOADS, UPLOADS
from recon.service.results import Results
from recon.service.submissions import Holder, Problem, Refused, TooMany

_T = UPLOADS.c
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}\Z")


@dataclass(frozen=True)
class Upload:
    """An upload. ``name``: random; a request reads it as ``upload:NAME``. ``file``: its own name, whose end says the format."""

    id: int
    name: str
    owner: str
    file: str
    size: int
    digest: str
    at: datetime
    expires_at: datetime


class Uploads:
    """The uploads of a service."""

    def __init__(self, database: Database, settings: ServiceSettings, results: Results) -> None:
        self._database, self._settings, self._results = database, settings, results

    def add(self, holder: Holder, file: str, chunks: Iterable[bytes]) -> Upload:
        """Stores a file. Raises Refused where it is too large or its name is none, and TooMany where the owner has too many bytes."""
        if not _FILE.match(file):
            raise Refused(
                Problem("wrong-request", field="name"), f"{file[:100]!r} is no name; write up to 100 letters, digits, '.', '_' and '-'"
            )
        rights = self._settings.owners.get(holder.owner, Rights())
        free = rights.uploads - self.bytes_of(holder.owner)
        if free <= 0:
            raise TooMany(
                f"the uploads of {holder.owner} have {rights.uploads:,} bytes; remove some, or wait until their requests expire", 3600
            )
        name, counted = secrets.token_hex(16), _Counted(chunks, min(self._settings.upload_max, free))
        try:
            self._results.put_upload(name, file, iter(counted))
        except BaseException:
            self._results.remove_upload(name)
            raise
        with self._database.write() as connection:
            now = self._database.clock(connection)
            values = {"name": name, "owner": holder.owner, "file": file, "size": counted.size, "digest": counted.digest, "at": now}
            connection.execute(UPLOADS.insert().values(**values, expires_at=now + self._settings.keep))
            return _upload(connection.execute(sa.select(UPLOADS).where(_T.name == name)).one())

    def find(self, owner: str | None, name: str) -> Upload | None:
        """An owner's upload; of any owner where ``owner`` is None."""
        whose = [] if owner is None else [_T.owner == owner]
        with self._database.read() as connection:
            row = connection.execute(sa.select(UPLOADS).where(_T.name == name, *whose)).one_or_none()
        return None if row is None else _upload(row)

    def size(self, owner: str, name: str) -> int | None:
        """Bytes of an owner's upload; None where there is none."""
        found = self.find(owner, name)
        return None if found is None else found.size

    def bytes_of(self, owner: str) -> int:
        """Bytes of all of an owner's uploads."""
        with self._database.read() as connection:
            return int(connection.scalar(sa.select(sa.func.sum(_T.size)).where(_T.owner == owner)) or 0)

    def remove(self, owner: str, name: str) -> bool:
        """Removes an upload that no request reads; whether there was one. Raises Refused for one that a request reads."""
        found = self.find(owner, name)
        if found is None:
            return False
        with self._database.write() as connection:
            if connection.scalar(sa.select(sa.func.count()).where(REQUEST_UPLOADS.c.upload == found.id)):
                raise Refused(Problem("wrong-request"), f"upload {name} belongs to a request, and goes with it")
            connection.execute(UPLOADS.delete().where(_T.id == found.id))
        self._results.remove_upload(name)
        return True

    def sweep(self) -> int:
        """Removes uploads that expired and that no request reads. Returns their number."""
        used = sa.select(REQUEST_UPLOADS.c.upload)
        with self._database.write() as connection:
            now = self._database.clock(connection)
            gone = list(connection.execute(sa.select(_T.id, _T.name).where(_T.expires_at < now, _T.id.not_in(used)).limit(1000)))
            connection.execute(UPLOADS.delete().where(_T.id.in_([row.id for row in gone])))
        for row in gone:
            self._results.remove_upload(row.name)
        return len(gone)


class _Counted:
    """Pieces of a file, counted as they pass. Raises Refused beyond ``most`` bytes."""

    def __init__(self, chunks: Iterable[bytes], most: int) -> None:
        self._chunks, self._most, self._sha = chunks, most, hashlib.sha256()
        self.size = 0

    @property
    def digest(self) -> str:
        return self._sha.hexdigest()

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._chunks:
            self.size += len(chunk)
            if self.size > self._most:
                raise Refused(
                    Problem("too-large"), f"the file has more than {self._most:,} bytes; put it into a folder or S3 and name it there"
                )
            self._sha.update(chunk)
            yield chunk


def _upload(row: sa.Row[tuple[object, ...]]) -> Upload:
    values = row._mapping
    return Upload(*(values[name] for name in ("id", "name", "owner", "file", "size", "digest", "at", "expires_at")))
