"""The SQL database: made and migrated once, whoever opens it first, with equal tables in SQLite and PostgreSQL."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import postgres
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from daemons import end_with_parent

from recon.config.load import load_place
from recon.database import open as opening
from recon.database import open_database
from recon.database.migrate import HEAD
from recon.database.tables import FILES, METADATA
from recon.errors import TryAgain, WrongUsage

YAML = """
name: orders
store: ./data
key: order_id
windows: {start: 2026-11-01T00:00Z, every: 1h}
measures: {lines: {count: "*"}}
"""


def configuration(folder: Path, database: str = "") -> Path:
    path = folder / "recon.yaml"
    path.write_text(YAML + database)
    return path


@pytest.fixture(scope="module")
def server() -> Iterator[postgres.Server]:
    with postgres.server() as running:
        yield running


@pytest.fixture(params=["sqlite", "postgresql"])
def config(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration with an empty database."""
    opening._opened.cache_clear()
    if request.param == "sqlite":
        return configuration(tmp_path)
    running = request.getfixturevalue("server")
    monkeypatch.setenv("RECON_TEST_PASSWORD", running.password)
    url = f"postgresql://{running.host}:{running.port}/{postgres.new_database(running)}"
    return configuration(tmp_path, f"database: {{url: '{url}', user: {running.user}, secret: RECON_TEST_PASSWORD}}\n")


OPEN = """
import sys, pathlib
from recon.config.load import load_place
from recon.database import open_database
open_database(load_place(pathlib.Path(sys.argv[1])))
"""


def test_processes_that_open_it_at_once_make_its_tables_once(config: Path) -> None:
    opening_it = [subprocess.Popen([sys.executable, "-c", OPEN, str(config)], preexec_fn=end_with_parent) for _ in range(3)]
    assert [process.wait(120) for process in opening_it] == [0, 0, 0]
    with open_database(load_place(config)).read() as connection:
        assert connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalars().all() == [HEAD]
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []


ALONE = """
import sys, pathlib, time
from recon.config.load import load_place
from recon.database import open_database
with open_database(load_place(pathlib.Path(sys.argv[1]))).alone("intake"):
    print("in", flush=True)
    time.sleep(600)
"""


def test_a_lock_is_waited_for_and_ends_with_its_process(config: Path) -> None:
    arguments = [sys.executable, "-c", ALONE, str(config)]
    first = subprocess.Popen(arguments, stdout=subprocess.PIPE, preexec_fn=end_with_parent)
    assert first.stdout is not None
    assert first.stdout.readline() == b"in\n"
    entered = threading.Event()

    def enter() -> None:
        with open_database(load_place(config)).alone("intake"):
            entered.set()

    waiting = threading.Thread(target=enter, daemon=True)
    waiting.start()
    with open_database(load_place(config)).alone("other"):
        assert not entered.wait(1)
    first.kill()
    assert entered.wait(20)
    waiting.join()
    first.communicate()


def test_times_come_back_as_they_were_and_sort_by_time(config: Path) -> None:
    database = open_database(load_place(config))
    times = [datetime(2026, 11, 1, 12, 0, 0, micro, UTC) for micro in (0, 5, 500_000)]
    with database.write() as connection:
        for number, time in enumerate(reversed(times)):
            row = {"name": str(number), "series": "", "digest": "0" * 64, "size": 1, "state": "received", "received_at": time}
            connection.execute(FILES.insert().values(reconciliation="orders", source="bank", **row))
    with database.read() as connection:
        assert list(connection.scalars(sa.select(FILES.c.received_at).order_by(FILES.c.received_at))) == times


def test_a_transaction_that_fails_writes_nothing(config: Path) -> None:
    database = open_database(load_place(config))
    row = {"name": "a", "series": "", "digest": "0" * 64, "size": 1, "state": "received", "received_at": datetime.now(UTC)}
    with pytest.raises(RuntimeError), database.write() as connection:  # noqa: PT012
        connection.execute(FILES.insert().values(reconciliation="orders", source="bank", **row))
        raise RuntimeError("killed here")
    with database.read() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(FILES)) == 0


def test_tables_of_a_newer_version_are_refused(config: Path) -> None:
    database = open_database(load_place(config))
    with database.write() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    opening._opened.cache_clear()
    with pytest.raises(WrongUsage, match="made by another version of recon"):
        open_database(load_place(config))


def test_a_password_in_the_url_is_refused_and_not_shown(tmp_path: Path) -> None:
    with pytest.raises(WrongUsage, match="user and password do not belong here") as refused:
        load_place(configuration(tmp_path, "database: postgresql://recon:geheim@host/db\n"))
    assert "geheim" not in str(refused.value)


def test_a_server_that_is_away_is_worth_another_try(tmp_path: Path) -> None:
    opening._opened.cache_clear()
    path = configuration(tmp_path, "database: postgresql://127.0.0.1:1/recon\n")
    with pytest.raises(TryAgain, match=r"127\.0\.0\.1:1"):
        open_database(load_place(path))
