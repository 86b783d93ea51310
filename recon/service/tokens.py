"""Tokens: 256 random bits, of which the database has the SHA-256."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa

from recon.config.service import OWNER
from recon.database import Database
from recon.database.tables import TOKENS
from recon.errors import WrongUsage
from recon.service.submissions import ROLES, Holder

PREFIX = "recon_"
"""What a token begins with, so that scanners for secrets can find one that was committed."""
_T = TOKENS.c


@dataclass(frozen=True)
class Token:
    """A token as it may be shown."""

    id: int
    owner: str
    roles: tuple[str, ...]
    note: str
    made_at: datetime
    expires_at: datetime
    withdrawn_at: datetime | None


class Tokens:
    """The tokens of a service."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, owner: str, roles: Sequence[str], expires: timedelta, note: str = "") -> str:
        """Makes a token and returns its text, which is never shown again. Raises WrongUsage."""
        if not re.match(OWNER, owner):
            raise WrongUsage(f"{owner!r} is no owner; write small letters, digits, '_' and '-', such as finance")
        if unknown := [role for role in roles if role not in ROLES]:
            raise WrongUsage(f"there is no role {unknown[0]!r}; there are {', '.join(ROLES)}")
        if not roles:
            raise WrongUsage(f"name at least one role of {', '.join(ROLES)}")
        text = PREFIX + secrets.token_urlsafe(32)
        with self._database.write() as connection:
            now = self._database.clock(connection)
            values = {"digest": _digest(text), "owner": owner, "roles": ",".join(sorted(set(roles))), "note": note}
            connection.execute(TOKENS.insert().values(**values, made_at=now, expires_at=now + expires))
        return text

    def holder(self, text: str) -> Holder | None:
        """Who a token belongs to; None for one that is wrong, expired or withdrawn. It is found by its digest, so that the time to find it
        says nothing about other tokens."""
        with self._database.read() as connection:
            now = self._database.clock(connection)
            row = connection.execute(sa.select(TOKENS).where(_T.digest == _digest(text))).one_or_none()
        if row is None or row.withdrawn_at is not None or row.expires_at <= now:
            return None
        return Holder(row.owner, frozenset(row.roles.split(",")), row.id)

    def withdraw(self, number: int) -> Token:
        """Ends a token now. Raises WrongUsage where there is none of this number."""
        with self._database.write() as connection:
            now = self._database.clock(connection)
            connection.execute(TOKENS.update().where(_T.id == number, _T.withdrawn_at.is_(None)).values(withdrawn_at=now))
            row = connection.execute(sa.select(TOKENS).where(_T.id == number)).one_or_none()
        if row is None:
            raise WrongUsage(f"there is no token {number}; 'recon tokens list' shows all")
        return _token(row)

    def all(self) -> list[Token]:
        """All tokens, oldest first."""
        with self._database.read() as connection:
            return [_token(row) for row in connection.execute(sa.select(TOKENS).order_by(_T.id))]


def _token(row: sa.Row[tuple[object, ...]]) -> Token:
    values = row._mapping
    roles = tuple(str(values["roles"]).split(","))
    return Token(values["id"], values["owner"], roles, values["note"], values["made_at"], values["expires_at"], values["withdrawn_at"])


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
