"""Statements through Redshift's Data API: each is submitted once, waited for, and its rows fetched.

The API answers at once and runs the statement meanwhile. Statements of a *session* share one connection, and so a transaction and
temporary tables; a session that is left ends by itself after its keep-alive, and its transaction is rolled back.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

from recon.errors import ConnectionLost, ReconError, TryAgain, WrongInput, WrongUsage
from recon.storage.aws_calls import Pace, call, call_with_retries
from recon.storage.redact import redacted

STATEMENT_BYTES_MAX = 100_000
STATEMENT_S_MAX = 6 * 3600.0
_PASSING = ("1023", "1020", "serializable", "could not serialize", "deadlock", "connection", "terminat", "restart", "shutting down")
_NOT_PERMITTED = ("permission denied", "must be owner", "not authorized", "access denied", "accessdenied", "forbidden")


class Statements:
    """Runs statements one after another. ``where``: workgroup or cluster, database and secret. ``keep_alive_s``: seconds that the session
    outlasts its last statement; None, and each statement has a connection of its own."""

    def __init__(self, client: Any, where: Mapping[str, str], pace: Pace, keep_alive_s: int | None = None) -> None:
        self._client, self._pace = client, pace
        self._where: dict[str, Any] = dict(where)
        self._kept: dict[str, Any] = {} if keep_alive_s is None else {"SessionKeepAliveSeconds": keep_alive_s}
        # By this name, the rule of infra/template.yaml tells of statements that failed.
        self._named = {"StatementName": f"recon {'read' if keep_alive_s is None else 'load'}", "WithEvent": keep_alive_s is not None}
        self.settled = True
        """Whether it is known of every statement that was submitted how it ended."""

    def execute(self, sql: str, most_s: float = STATEMENT_S_MAX) -> str:
        """Runs a statement to its end and returns its id. Raises TryAgain where it is not over after ``most_s`` seconds, or its fate is
        unknown; WrongInput where it failed."""
        return str(self._run(sql, most_s)["Id"])

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        return [row for page in self.stream(sql) for row in page]

    def stream(self, sql: str) -> Iterator[list[tuple[Any, ...]]]:
        """The rows page by page."""
        found = self._run(sql, STATEMENT_S_MAX)
        more: dict[str, str] = {}
        while found.get("HasResultSet"):
            page = call_with_retries(self._pace, self._client.get_statement_result, Id=found["Id"], **more)
            yield [tuple(_value(field) for field in record) for record in page["Records"]]
            if not page.get("NextToken"):
                return
            more = {"NextToken": page["NextToken"]}

    def _run(self, sql: str, most_s: float) -> dict[str, Any]:
        if (size := len(sql.encode())) > STATEMENT_BYTES_MAX:
            raise WrongUsage(
                f"a statement has {size:,} bytes, Redshift takes {STATEMENT_BYTES_MAX:,}; use fewer measures, or shorter names"
            )
        self.settled = False
        # The token makes a submission that is repeated, since its answer was lost, the same submission.
        submitted = {"Sql": sql, "ClientToken": str(uuid.uuid4()), **self._where, **self._kept, **self._named}
        try:
            begun = call_with_retries(self._pace, self._client.execute_statement, **submitted)
        except WrongUsage as error:
            if "SessionId" not in self._where:
                raise
            raise ConnectionLost(f"the session is gone, and its transaction with it ({error}); run the same again") from None
        if self._kept and (session := begun.get("SessionId")):
            self._where = {"SessionId": session}
        found = self._ended(begun["Id"], most_s)
        self.settled = True
        if found["Status"] != "FINISHED":
            raise _failure(str(found.get("Error") or found["Status"].lower()))
        return found

    def _ended(self, statement: str, most_s: float) -> dict[str, Any]:
        end, tries = time.monotonic() + most_s, 0
        while True:
            found: dict[str, Any] = call_with_retries(self._pace, self._client.describe_statement, Id=statement)
            if found["Status"] in ("FINISHED", "FAILED", "ABORTED"):
                return found
            if time.monotonic() > end:
                self._cancel(statement)
                raise TryAgain(f"a statement was not over after {most_s:g} s: {found['Status'].lower()}; run the same again")
            tries += 1
            self._pace.wait(tries)

    def _cancel(self, statement: str) -> None:
        try:
            call(self._client.cancel_statement, Id=statement)
        except ReconError:
            return  # it ends with its session


def _value(field: Mapping[str, Any]) -> Any:
    return None if field.get("isNull") else next(iter(field.values()))


def _failure(text: str) -> ReconError:
    line, lower = redacted(" ".join(text.split()))[:500], text.lower()
    if any(word in lower for word in _PASSING):
        return ConnectionLost(f"{line}; run the same again")
    if any(word in lower for word in _NOT_PERMITTED):
        return WrongUsage(f"{line}; nothing was changed")
    return WrongInput(f"{line}; nothing was changed")
