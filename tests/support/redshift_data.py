"""A stand-in for Redshift and its Data API: the protocol of the API, and its statements carried out on a real PostgreSQL.

What the two share runs as it is. COPY reads the Parquet file that its place names. Sessions, tokens, the states of a statement and the
end of a session by its keep-alive are as AWS documents them. A transaction sees what was there at its first read, as in Redshift. What
PostgreSQL would take and Redshift would not is refused.
"""

from __future__ import annotations

import json
import re
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer
from io import BytesIO
from typing import Any

import postgres
import psycopg2
import psycopg2.extras
import pyarrow as pa
import pyarrow.parquet as pq
import sqlglot
from http_requests import JsonHandler

_NOT_OF_REDSHIFT = re.compile(
    r"IS (NOT )?DISTINCT FROM|ON CONFLICT|ON COMMIT|ALTER COLUMN \S+ (SET DATA )?TYPE (?!VARCHAR)|\bnow\(\)|\\", re.I
)
_CAST_TO_BOOLEAN = re.compile(r"CAST\(\S+ AS BOOLEAN\)")
_COPY = re.compile(r"COPY (\w+) FROM '(s3://[^']+)' IAM_ROLE (default|'arn:[^']+') FORMAT AS PARQUET")
_GETDATE = "CREATE FUNCTION getdate() RETURNS timestamp LANGUAGE sql STABLE AS $$ SELECT now() AT TIME ZONE 'UTC' $$"
WHERE = ({"WorkgroupName", "Database"}, {"ClusterIdentifier", "Database"}, {"SessionId"})

Fault = Callable[[str, dict[str, Any]], str | None]
"""Operation and request → what goes wrong: ``cut`` (it never arrives), ``lost`` (done, but not answered), ``twice`` (it arrives twice),
``late`` (it is done and answered after a while), or the code of an error."""


class Refused(Exception):
    def __init__(self, code: str, message: str = "") -> None:
        super().__init__(code)
        self.code, self.message = code, message


@dataclass
class Statement:
    """One submitted statement."""

    sql: str
    session: Session
    status: str = "SUBMITTED"
    error: str = ""
    rows: list[tuple[Any, ...]] | None = None
    id: str = field(default_factory=lambda: str(uuid.uuid4()))


@dataclass
class Session:
    """One connection. ``keep_alive_s`` None: it ends with its statement."""

    connection: Any
    keep_alive_s: float | None
    used: float = field(default_factory=time.monotonic)
    busy: bool = False
    id: str = field(default_factory=lambda: str(uuid.uuid4()))


class RedshiftData:
    """``read``: place in S3 → its bytes. ``page``: rows of one answer. ``sql``: all statements that were begun."""

    def __init__(self, server: postgres.Server, database: str, read: Callable[[str], bytes]) -> None:
        self.url, self.page, self.delay_s, self.late_s = "", 5, 0.0, 0.3
        self.sql: list[str] = []
        self.calls: Counter[str] = Counter()
        self.fault: Fault = lambda operation, asked: None
        self._server, self._database, self._read = server, database, read
        self._statements: dict[str, Statement] = {}
        self._sessions: dict[str, Session] = {}
        self._tokens: dict[str, tuple[str, dict[str, Any]]] = {}
        self._turn = threading.RLock()
        with closing(self.connect()) as connection, connection.cursor() as cursor:
            cursor.execute(_GETDATE)

    def connect(self) -> Any:
        """A connection to the database behind."""
        server = self._server
        made = psycopg2.connect(host=server.host, port=server.port, user=server.user, password=server.password, dbname=self._database)
        made.autocommit = True
        with made.cursor() as cursor:
            cursor.execute("SET TIME ZONE 'UTC'")
        return made

    # ---- operations ----

    def answer(self, operation: str, asked: dict[str, Any]) -> dict[str, Any]:
        with self._turn:
            self.expire()
            match operation:
                case "ExecuteStatement":
                    return self._execute(asked)
                case "DescribeStatement":
                    return self._describe(self._statement(asked))
                case "GetStatementResult":
                    return self._result(self._statement(asked), int(asked.get("NextToken", 0)))
                case "CancelStatement":
                    statement = self._statement(asked)
                    with suppress(psycopg2.Error):
                        statement.session.connection.cancel()
                    return {"Status": True}
        raise Refused("ValidationException", operation)

    def expire(self) -> None:
        """Ends the sessions whose time is over; what they did not commit is rolled back."""
        with self._turn:
            for session in list(self._sessions.values()):
                if not session.busy and time.monotonic() - session.used > (session.keep_alive_s or 0):
                    session.connection.close()
                    del self._sessions[session.id]

    def _execute(self, asked: dict[str, Any]) -> dict[str, Any]:
        token, sql = asked.get("ClientToken"), asked["Sql"]
        if token in self._tokens:
            given, before = self._tokens[token]
            if given != json.dumps(asked, sort_keys=True):
                raise Refused("ValidationException", "the token was used with other parameters")
            return before
        where = {name for name in asked if name in set().union(*WHERE)}
        if where not in WHERE:
            raise Refused("ValidationException", f"the parameters {sorted(where)} do not go together")
        if len(sql.encode()) > 100_000 or "\x00" in sql:
            raise Refused("ValidationException", "the statement is too long")
        session = self._session(asked)
        if session.busy:
            raise Refused("ValidationException", "Session is not available")
        session.busy, statement = True, Statement(sql, session)
        self._statements[statement.id] = statement
        self.sql.append(sql)
        threading.Thread(target=self._run, args=(statement,), daemon=True).start()
        kept = {} if session.keep_alive_s is None else {"SessionId": session.id}
        answer = {"Id": statement.id, "Database": self._database, **kept}
        if token:
            self._tokens[token] = (json.dumps(asked, sort_keys=True), answer)
        return answer

    def _session(self, asked: dict[str, Any]) -> Session:
        keep = asked.get("SessionKeepAliveSeconds")
        if name := asked.get("SessionId"):
            if name not in self._sessions:
                raise Refused("ValidationException", f"Session {name} is closed")
            self._sessions[name].keep_alive_s = keep if keep is not None else self._sessions[name].keep_alive_s
            return self._sessions[name]
        made = Session(self.connect(), keep)
        self._sessions[made.id] = made
        return made

    def _statement(self, asked: dict[str, Any]) -> Statement:
        if asked["Id"] not in self._statements:
            raise Refused("ResourceNotFoundException", "Query does not exist.")
        return self._statements[asked["Id"]]

    def _describe(self, statement: Statement) -> dict[str, Any]:
        told: dict[str, Any] = {"Id": statement.id, "Status": statement.status, "HasResultSet": statement.rows is not None}
        return told | ({"Error": statement.error} if statement.error else {})

    def _result(self, statement: Statement, begin: int) -> dict[str, Any]:
        rows = statement.rows or []
        end = begin + self.page
        records = [[_field(value) for value in row] for row in rows[begin:end]]
        return {"Records": records, "TotalNumRows": len(rows)} | ({"NextToken": str(end)} if end < len(rows) else {})

    # ---- statements ----

    def _run(self, statement: Statement) -> None:
        time.sleep(self.delay_s)
        statement.status = "STARTED"
        session = statement.session
        try:
            (tree,) = sqlglot.parse(statement.sql, dialect="redshift")
            assert tree is not None
            if found := _NOT_OF_REDSHIFT.search(statement.sql) or _CAST_TO_BOOLEAN.search(statement.sql):
                raise ValueError(f'syntax error at or near "{found[0]}"')
            statement.rows = self._carried_out(session.connection, statement.sql)
            status = "FINISHED"
        except Exception as error:
            statement.error, status = f"ERROR: {error}", "FAILED"
        with self._turn:
            session.busy, session.used = False, time.monotonic()
            if session.keep_alive_s is None:
                session.connection.close()
                self._sessions.pop(session.id, None)
            statement.status = status

    def _carried_out(self, connection: Any, sql: str) -> list[tuple[Any, ...]] | None:
        with connection.cursor() as cursor:
            if copied := _COPY.fullmatch(sql):
                table = pq.read_table(BytesIO(self._read(copied[2])))
                assert table.num_rows, "an empty file is not worth a COPY"
                if odd := [one for one in table.schema.types if one not in (pa.string(), pa.int64())]:
                    raise ValueError(f"Spectrum Scan Error: incompatible Parquet schema: {odd[0]}")
                rows = list(zip(*(column.to_pylist() for column in table.columns), strict=True))
                psycopg2.extras.execute_values(cursor, f"INSERT INTO {copied[1]} VALUES %s", rows)
                return None
            cursor.execute("BEGIN ISOLATION LEVEL REPEATABLE READ" if sql == "BEGIN" else sql)
            return cursor.fetchall() if cursor.description else None

    def close(self) -> None:
        with self._turn:
            for session in self._sessions.values():
                with suppress(psycopg2.Error):
                    session.connection.close()
            self._sessions.clear()


def _field(value: Any) -> dict[str, Any]:
    if value is None:
        return {"isNull": True}
    if isinstance(value, bool):
        return {"booleanValue": value}
    if isinstance(value, int):
        return {"longValue": value}
    return {"stringValue": str(value)}


class _Handler(JsonHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    api: RedshiftData

    def do_POST(self) -> None:  # noqa: N802 - http.server calls it so
        asked = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
        operation = self.headers.get("X-Amz-Target", "").partition(".")[2]
        self.api.calls[operation] += 1
        fault = self.api.fault(operation, asked)
        if fault == "cut":
            self.close_connection = True
            return
        status, body = 200, {}
        try:
            if fault not in (None, "lost", "twice", "late"):
                raise Refused(str(fault))
            if fault == "late":
                time.sleep(self.api.late_s)
            body = self.api.answer(operation, asked)
            if fault == "twice":
                body = self.api.answer(operation, asked)
        except Refused as refused:
            status, body = 400, {"__type": refused.code, "message": refused.message}
        if fault == "lost":
            self.close_connection = True
            return
        self.answer(status, body)


@contextmanager
def redshift_data(server: postgres.Server, read: Callable[[str], bytes], database: str | None = None) -> Iterator[RedshiftData]:
    """Runs from here to the end of the block, on an empty database of the server."""
    made = RedshiftData(server, database or postgres.new_database(server), read)
    http = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"api": made}))
    made.url = f"http://127.0.0.1:{http.server_address[1]}"
    over = threading.Event()

    def expire() -> None:
        while not over.wait(0.1):
            made.expire()

    threads = [threading.Thread(target=work, daemon=True) for work in (http.serve_forever, expire)]
    for thread in threads:
        thread.start()
    try:
        yield made
    finally:
        over.set()
        http.shutdown()
        http.server_close()
        made.close()
