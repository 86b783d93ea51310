"""A PostgreSQL database as warehouse."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from recon.aggregations.warehouse import audit, statements
from recon.aggregations.warehouse import load as steps
from recon.aggregations.warehouse.port import Audit, Load, Loaded
from recon.config.secrets import Credentials
from recon.errors import ConnectionLost, TryAgain, WrongInput, WrongUsage
from recon.storage import parquet
from recon.vocabulary.types import Type

if TYPE_CHECKING:
    from recon.config.settings import WarehouseSettings

_CONNECT_S = 10
_NULL = "\\N"


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
        except psycopg2.OperationalError as error:
            raise ConnectionLost(f"warehouse {self.shown}: {_line(error)}; run the same again") from None
        except (psycopg2.errors.SerializationFailure, psycopg2.errors.DeadlockDetected) as error:
            raise TryAgain(f"warehouse {self.shown}: {_line(error)}; run the same again") from error
        except psycopg2.DataError as error:
            raise WrongInput(f"warehouse {self.shown}: {_line(error)}; nothing was changed") from error
        except psycopg2.ProgrammingError as error:
            raise WrongUsage(f"warehouse {self.shown}: {_line(error)}; nothing was changed") from error
        finally:
            if connection is not None:
                connection.close()  # rolls back what was not committed


def _line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


class _Session:
    dialect = statements.POSTGRESQL
    now = "now()"

    def __init__(self, connection: Any) -> None:
        self._cursor = connection.cursor()

    def execute(self, statement: str) -> int:
        self._cursor.execute(statement)
        return max(0, int(self._cursor.rowcount))

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        self._cursor.execute(statement)
        found: list[tuple[Any, ...]] = self._cursor.fetchall()
        return found

    def lock(self, target: str) -> None:
        self._cursor.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", [f"recon {target}"])

    def columns(self, target: str) -> list[tuple[str, str, int | None, int | None]]:
        schema, _, table = target.rpartition(".")
        if schema:
            self._cursor.execute(f"CREATE SCHEMA IF NOT EXISTS {statements.quoted(schema)}")
        query = (
            "SELECT column_name, data_type, numeric_precision, numeric_scale FROM information_schema.columns "
            f"WHERE table_schema = {statements.text(schema) if schema else 'current_schema()'} AND table_name = {statements.text(table)} "
            "ORDER BY ordinal_position"
        )
        return self.query(query)

    def widen(self, target: str, column: str, kind: Type) -> None:
        alter = f"ALTER TABLE {statements.quoted(target)} ALTER COLUMN {statements.quoted(column)}"
        self._cursor.execute(f"{alter} TYPE {self.dialect.column_type(kind)}")

    def stage(self, load: Load) -> None:
        columns = ", ".join(f"{statements.quoted(name)} {self.dialect.column_type(kind)}" for name, kind in load.columns.items())
        self._cursor.execute(f"CREATE TEMP TABLE {statements.STAGE} ({columns}) ON COMMIT DROP")
        with TemporaryDirectory(prefix="recon-load-") as folder:
            file = Path(folder) / "rows.csv"
            as_csv(load, file)
            with file.open("rb") as lines:
                self._cursor.copy_expert(f"COPY {statements.STAGE} FROM STDIN (FORMAT csv, NULL '{_NULL}')", lines)
        self._cursor.execute(f"ANALYZE {statements.STAGE}")


def as_csv(load: Load, file: Path) -> None:
    """The rows as CSV. Every value is quoted, a null is not: a text that is ``\\N`` stays one."""
    import duckdb

    from recon.vocabulary.duckdb import literal

    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        rows = f"SELECT {statements.listed(load.columns)} FROM {parquet.scan(load.rows)}"
        connection.execute(f"COPY ({rows}) TO {literal(str(file))} (FORMAT csv, HEADER false, FORCE_QUOTE *, NULLSTR {literal(_NULL)})")
