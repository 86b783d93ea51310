"""A PostgreSQL database as warehouse."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from recon.aggregations.warehouse import audit, rows, statements
from recon.aggregations.warehouse import load as steps
from recon.aggregations.warehouse.port import ROWS_AT_ONCE, Audit, Load, Loaded
from recon.config.secrets import Credentials
from recon.errors import ConnectionLost, TryAgain, WrongInput, WrongUsage
from recon.vocabulary.types import Type

if TYPE_CHECKING:
    from recon.config.warehouse import WarehouseSettings

_CONNECT_S = 10
LOCK_S = 300
"""Seconds that another load of the same table is waited for."""


class PostgreSQLWarehouse:
    """A database by its URL; tables are in the first schema of its search path unless a target names one."""

    def __init__(self, settings: WarehouseSettings, credentials: Credentials) -> None:
        self._settings, self._credentials = settings, credentials
        self.shown = str(settings.url)

    def load(self, load: Load) -> Loaded:
        with self._transaction() as session:
            return steps.carry_out(session, load)

    def find(self, target: str, run: int) -> Loaded | None:
        with self._transaction() as session:
            return steps.found(session, target, run)

    def totals(self, target: str, scope: str, measures: Mapping[str, Type]) -> tuple[int, dict[str, Decimal | None]]:
        with self._transaction() as session:
            return steps.sums(session, target, scope, measures)

    def audit(self, target: str, keys: Sequence[str]) -> Audit:
        with self._transaction() as session:
            return audit.audit(session, target, keys)

    def rows(self, target: str, scope: str, columns: Sequence[str]) -> Generator[list[tuple[Any, ...]], None, None]:
        with self._transaction() as session:
            yield from audit.rows(session, target, scope, columns)

    def sample(self, target: str, scope: str, most: int) -> list[dict[str, Any]]:
        with self._transaction() as session:
            return audit.sample(session, target, scope, most)

    @contextmanager
    def _transaction(self) -> Iterator[_Session]:
        try:
            import psycopg2
        except ImportError:
            raise WrongUsage("warehouse: PostgreSQL needs the postgres extra: pip install 'dagster-recon[postgres]'") from None
        connection = None
        try:
            connection = psycopg2.connect(
                self._settings.url, user=self._credentials.user, password=self._credentials.password, connect_timeout=_CONNECT_S
            )
            yield _Session(connection)
            connection.commit()
        except (
            psycopg2.errors.LockNotAvailable,
            psycopg2.errors.SerializationFailure,
            psycopg2.errors.DeadlockDetected,
            psycopg2.errors.DuplicateSchema,  # made by another load at the same time
        ) as error:
            raise TryAgain(f"warehouse {self.shown}: {_line(error)}; run the same again") from error
        except (psycopg2.OperationalError, psycopg2.InterfaceError) as error:
            raise ConnectionLost(f"warehouse {self.shown}: {_line(error)}; run the same again") from None
        except psycopg2.ProgrammingError as error:
            raise WrongUsage(f"warehouse {self.shown}: {_line(error)}; nothing was changed") from error
        except psycopg2.Error as error:
            raise WrongInput(f"warehouse {self.shown}: {_line(error)}; nothing was changed") from error
        finally:
            if connection is not None:
                connection.close()  # rolls back what was not committed


def _line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


class _Session:
    dialect = statements.POSTGRESQL

    def __init__(self, connection: Any) -> None:
        self._connection, self._cursor = connection, connection.cursor()
        self.execute("SET TIME ZONE 'UTC'")

    def execute(self, statement: str) -> None:
        self._cursor.execute(statement)

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        self.execute(statement)
        found: list[tuple[Any, ...]] = self._cursor.fetchall()
        return found

    def stream(self, statement: str) -> Iterator[list[tuple[Any, ...]]]:
        with self._connection.cursor(name="recon_rows") as cursor:  # the server keeps the rows, not this process
            cursor.execute(statement)
            while found := cursor.fetchmany(ROWS_AT_ONCE):
                yield found

    def prepare(self, target: str) -> None:
        self.execute(f"SET lock_timeout = '{LOCK_S}s'")
        if not steps.has_ledger(self):
            self._lock("ledger")  # CREATE TABLE IF NOT EXISTS fails where two sessions are at it
            self.execute(statements.create_ledger(self.dialect))
            self._connection.commit()
        self._lock(target)

    def _lock(self, what: str) -> None:
        self.execute(f"SELECT pg_advisory_xact_lock(hashtext({statements.text(f'recon {what}')}))")

    def widen(self, target: str, column: str, kind: Type) -> None:
        alter = f"ALTER TABLE {statements.quoted(target)} ALTER COLUMN {statements.quoted(column)}"
        self.execute(f"{alter} TYPE {self.dialect.column_type(kind)}")

    def stage(self, load: Load) -> None:
        columns = ", ".join(f"{statements.quoted(name)} {self.dialect.column_type(kind)}" for name, kind in load.columns.items())
        self.execute(f"CREATE TEMP TABLE {statements.STAGE} ({columns}) ON COMMIT DROP")
        with TemporaryDirectory(prefix="recon-load-") as folder:
            file = Path(folder) / "rows.txt"
            rows.as_text(load, file)
            with file.open("rb") as lines:
                self._cursor.copy_expert(f"COPY {statements.STAGE} FROM STDIN (NULL '{rows.NULL}')", lines)
        self.execute(f"ANALYZE {statements.STAGE}")
