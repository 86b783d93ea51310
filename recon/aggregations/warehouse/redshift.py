"""Redshift as warehouse, serverless or a cluster, through its Data API: no connection, no password, no open port.

Rows go as Parquet into S3, by COPY into a temporary table, and from there by the steps that all warehouses share. Redshift enforces no keys
and has no row locks: loads take turns by ``LOCK`` of an empty table, before the transaction reads anything, which readers of other tables
do not notice. Its MERGE is not used; decision 026 says why.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from recon.aggregations.warehouse import audit, rows, statements
from recon.aggregations.warehouse import load as steps
from recon.aggregations.warehouse.port import LEDGER, Audit, Load, Loaded
from recon.aggregations.warehouse.redshift_api import Statements
from recon.errors import ReconError
from recon.storage.aws_calls import Pace, client
from recon.storage.port import ObjectStore
from recon.vocabulary.types import Type

if TYPE_CHECKING:
    from recon.config.warehouse import WarehouseSettings

LOCK_S = 300.0
"""Seconds that another load is waited for."""
KEEP_ALIVE_S = 120
"""Seconds that the transaction of a process that died lives on, and with it the lock."""
LOCK = "recon_load_lock"
_PACE = Pace(first=0.2, most=3, patience=120)
_STAGED = "recon_staged"
_WIDER = "recon_wider"


class RedshiftWarehouse:
    """``staging``: opens the place in S3 that ``settings.staging`` names. ``pace``: of the Data API."""

    def __init__(
        self,
        settings: WarehouseSettings,
        staging: Callable[[], ObjectStore],
        pace: Pace = _PACE,
        keep_alive_s: int = KEEP_ALIVE_S,
        lock_s: float = LOCK_S,
    ) -> None:
        self._settings, self._staging, self._pace = settings, staging, pace
        self._keep_alive_s, self._lock_s = keep_alive_s, lock_s
        self.shown = f"redshift://{settings.workgroup or settings.cluster}/{settings.database}"

    def load(self, load: Load) -> Loaded:
        with self._errors(), self._transaction() as session:
            return steps.carry_out(session, load)

    def find(self, target: str, run: int) -> Loaded | None:
        with self._errors():
            return steps.found(self._session(), target, run)

    def totals(self, target: str, scope: str, measures: Mapping[str, Type]) -> tuple[int, dict[str, Decimal | None]]:
        with self._errors():
            return steps.sums(self._session(), target, scope, measures)

    def audit(self, target: str, keys: Sequence[str]) -> Audit:
        with self._errors():
            return audit.audit(self._session(), target, keys)

    def rows(self, target: str, scope: str, columns: Sequence[str]) -> Generator[list[tuple[Any, ...]], None, None]:
        with self._errors():
            yield from audit.rows(self._session(), target, scope, columns)

    def sample(self, target: str, scope: str, most: int) -> list[dict[str, Any]]:
        with self._errors():
            return audit.sample(self._session(), target, scope, most)

    def _session(self, keep_alive_s: int | None = None) -> _Session:
        settings = self._settings
        where = {
            "WorkgroupName": settings.workgroup,
            "ClusterIdentifier": settings.cluster,
            "Database": settings.database,
            "SecretArn": settings.secret,
        }
        given = {name: value for name, value in where.items() if value is not None}
        made = Statements(client("redshift-data"), given, self._pace, keep_alive_s)
        return _Session(made, settings, self._staging, self._lock_s)

    @contextmanager
    def _transaction(self) -> Iterator[_Session]:
        """``_Session.prepare`` begins the transaction; it is committed at the end of the block."""
        session = self._session(self._keep_alive_s)
        try:
            yield session
            session.execute("COMMIT")
        except BaseException:
            # A statement that is still on its way must not come after a ROLLBACK, where it would be a transaction of its own: then the
            # session is left, and what it did ends with it.
            if session.settled:
                with suppress(ReconError):
                    session.execute("ROLLBACK")
            raise

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except ReconError as error:
            if str(error).startswith(("warehouse", "store")):
                raise
            raise type(error)(f"warehouse {self.shown}: {error}") from error


class _Session:
    dialect = statements.REDSHIFT

    def __init__(self, made: Statements, settings: WarehouseSettings, staging: Callable[[], ObjectStore], lock_s: float) -> None:
        self._statements, self._settings, self._staging, self._lock_s = made, settings, staging, lock_s

    @property
    def settled(self) -> bool:
        return self._statements.settled

    def execute(self, statement: str) -> None:
        self._statements.execute(statement)

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        return self._statements.query(statement)

    def stream(self, statement: str) -> Iterator[list[tuple[Any, ...]]]:
        return self._statements.stream(statement)

    def prepare(self, target: str) -> None:
        number = self.dialect.types["integer"]
        self._make(LEDGER, statements.create_ledger(self.dialect))
        self._make(LOCK, f"CREATE TABLE IF NOT EXISTS {LOCK} (id {number})")
        self.execute("BEGIN")
        # The first statement that reads or writes fixes what the transaction sees: the lock comes before it.
        self._statements.execute(f"LOCK {LOCK}", self._lock_s)

    def _make(self, table: str, statement: str) -> None:
        """Makes a table where there is none; another process may do so at the same time."""
        full = steps.place(self, table)
        if self.query(statements.columns(full)):
            return
        try:
            self.execute(statement)
        except ReconError:
            if not self.query(statements.columns(full)):
                raise

    def widen(self, target: str, column: str, kind: Type) -> None:
        """Redshift widens texts in place, but no numbers."""
        alter, name = f"ALTER TABLE {statements.quoted(target)}", statements.quoted(column)
        self.execute(f"{alter} ADD COLUMN {_WIDER} {self.dialect.column_type(kind)}")
        self.execute(f"UPDATE {statements.quoted(target)} SET {_WIDER} = {name}")
        self.execute(f"{alter} DROP COLUMN {name}")
        self.execute(f"{alter} RENAME COLUMN {_WIDER} TO {name}")

    def stage(self, load: Load) -> None:
        text, number = self.dialect.types["text"], self.dialect.types["integer"]
        columns = {name: number if kind.kind == "integer" else text for name, kind in load.columns.items()}
        self.execute(f"CREATE TEMP TABLE {_STAGED} ({', '.join(f'{statements.quoted(name)} {kind}' for name, kind in columns.items())})")
        if load.count:
            self._copy(load)
        typed = ", ".join(f"{self._typed(name, kind)} AS {statements.quoted(name)}" for name, kind in load.columns.items())
        self.execute(f"CREATE TEMP TABLE {statements.STAGE} AS SELECT {typed} FROM {_STAGED}")

    def _typed(self, name: str, kind: Type) -> str:
        """A staged text as a value; Redshift casts no column of texts to booleans."""
        if kind.kind == "boolean":
            return f"CASE {statements.quoted(name)} WHEN 'true' THEN TRUE WHEN 'false' THEN FALSE END"
        return f"CAST({statements.quoted(name)} AS {self.dialect.column_type(kind)})"

    def _copy(self, load: Load) -> None:
        store, name = self._staging(), f"recon-{load.run}-{uuid.uuid4().hex}.parquet"
        with TemporaryDirectory(prefix="recon-load-") as folder:
            file = Path(folder) / name
            rows.as_parquet(load, file)
            store.copy_in(name, file)
        role = "default" if self._settings.role is None else statements.text(self._settings.role)
        source = statements.text(f"{str(self._settings.staging).rstrip('/')}/{name}")
        try:
            self.execute(f"COPY {_STAGED} FROM {source} IAM_ROLE {role} FORMAT AS PARQUET")
        finally:
            with suppress(ReconError):  # the bucket's lifecycle removes what is left
                store.delete(name)
