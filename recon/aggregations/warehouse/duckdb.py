"""The embedded warehouse: a DuckDB file, which one process at a time opens."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_random_exponential

from recon.aggregations.warehouse import audit, statements
from recon.aggregations.warehouse import load as steps
from recon.aggregations.warehouse.port import ROWS_AT_ONCE, Audit, Load, Loaded
from recon.errors import TryAgain, WrongInput
from recon.storage import parquet
from recon.vocabulary.types import Type

if TYPE_CHECKING:
    import duckdb

LOCK_S = 30
"""Seconds that another process's lock on the file is waited for."""
_turns: defaultdict[Path, threading.Lock] = defaultdict(threading.Lock)
"""The file's lock is between processes; the threads of one process take turns by these."""


class DuckDBWarehouse:
    """A DuckDB file; made by its first load."""

    def __init__(self, path: Path) -> None:
        self.path, self.shown = path, str(path)

    def load(self, load: Load) -> Loaded:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._transaction() as session:
            return steps.carry_out(session, load)

    def find(self, target: str, run: int) -> Loaded | None:
        if not self.path.exists():
            return None
        with self._transaction() as session:
            return steps.found(session, target, run)

    def totals(self, target: str, scope: str, measures: Mapping[str, Type]) -> tuple[int, dict[str, Decimal | None]]:
        if not self.path.exists():
            raise WrongInput(f"{target}: there is no warehouse {self.shown} yet; run the aggregation that loads the table")
        with self._transaction() as session:
            return steps.sums(session, target, scope, measures)

    def audit(self, target: str, keys: Sequence[str]) -> Audit:
        if not self.path.exists():
            return Audit(None, 0, 0, {})
        with self._transaction() as session:
            return audit.audit(session, target, keys)

    def rows(self, target: str, scope: str, columns: Sequence[str]) -> Generator[list[tuple[Any, ...]], None, None]:
        if self.path.exists():
            with self._transaction() as session:
                yield from audit.rows(session, target, scope, columns)

    def sample(self, target: str, scope: str, most: int) -> list[dict[str, Any]]:
        if not self.path.exists():
            return []
        with self._transaction() as session:
            return audit.sample(session, target, scope, most)

    @contextmanager
    def _transaction(self) -> Iterator[_Session]:
        import duckdb

        with _turns[self.path.resolve()]:
            connection = _connected(self.path)
            try:
                connection.execute("SET TimeZone = 'UTC'")
                connection.execute("BEGIN")
                yield _Session(connection)
                connection.execute("COMMIT")
            except duckdb.TransactionException as error:
                raise TryAgain(f"warehouse {self.shown}: {_line(error)}; run the same again") from error
            except duckdb.IOException as error:  # such as a full disk
                raise TryAgain(f"warehouse {self.shown}: {_line(error)}; nothing was changed") from error
            except duckdb.Error as error:
                raise WrongInput(f"warehouse {self.shown}: {_line(error)}; nothing was changed") from error
            finally:
                connection.close()  # rolls back what was not committed


@retry(
    retry=retry_if_exception_type(TryAgain),
    stop=stop_after_delay(LOCK_S),
    wait=wait_random_exponential(multiplier=0.05, max=1),
    reraise=True,
)
def _connected(path: Path) -> duckdb.DuckDBPyConnection:
    import duckdb

    try:
        return duckdb.connect(str(path))
    except duckdb.IOException as error:
        if "lock" in str(error).lower():
            raise TryAgain(f"warehouse {path}: another process has it open; close it there, or run the same again") from None
        raise WrongInput(f"warehouse {path}: {_line(error)}") from None


def _line(error: Exception) -> str:
    return str(error).splitlines()[0]


class _Session:
    dialect = statements.DUCKDB

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection

    def execute(self, statement: str) -> None:
        self._connection.execute(statement)

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        return self._connection.execute(statement).fetchall()

    def stream(self, statement: str) -> Iterator[list[tuple[Any, ...]]]:
        self._connection.execute(statement)
        while found := self._connection.fetchmany(ROWS_AT_ONCE):
            yield found

    def prepare(self, target: str) -> None:
        self.execute(statements.create_ledger(self.dialect))

    def widen(self, target: str, column: str, kind: Type) -> None:
        alter = f"ALTER TABLE {statements.quoted(target)} ALTER COLUMN {statements.quoted(column)}"
        self.execute(f"{alter} SET DATA TYPE {self.dialect.column_type(kind)}")

    def stage(self, load: Load) -> None:
        columns = ", ".join(
            f"CAST({statements.quoted(name)} AS {self.dialect.column_type(kind)}) AS {statements.quoted(name)}"
            for name, kind in load.columns.items()
        )
        self.execute(f"CREATE OR REPLACE TEMP TABLE {statements.STAGE} AS SELECT {columns} FROM {parquet.scan(load.rows)}")
