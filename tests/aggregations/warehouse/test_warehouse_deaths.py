"""A death at any step of a load leaves the table as before or as after, and the next try mends it; loads that race happen once each."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import warehouses
from load_deaths import Died, killed_at, load_all, watched
from warehouses import KEYS, Site, load_of, row

from recon.aggregations.warehouse.port import Audit, Loaded

BEFORE: dict[Any, Any] = {("a", code): row(str(code)) for code in range(10)}
AFTER: dict[Any, Any] = {**{key: value for key, value in BEFORE.items() if key[1] != 9}, ("a", 3): row("99.00"), ("b", 1): row("7.00")}
DONE = Loaded(10, 1, 1, 1)
BEFORE_COMMIT = ("after", "INSERT INTO recon_loads")
KILLS = [
    *(
        (kind, when, statement)
        for kind in ("duckdb", "postgresql")
        for when, statement in (*(("before", one) for one in ("stage", "DELETE", "UPDATE", 'INSERT INTO "')), BEFORE_COMMIT)
    ),
    *(("redshift", *one) for one in (("before", "COPY"), ("after", "COPY"), ("before", "UPDATE"), BEFORE_COMMIT, ("after", "COMMIT"))),
]
WAIT_S = 60


@pytest.fixture(scope="module")
def processes() -> Any:
    """New processes, which fork from one that has loaded all modules and nothing else."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["load_deaths", "warehouses", "boto3", "duckdb", "psycopg2", "pyarrow.parquet"])
    return context


@pytest.fixture
def environment() -> Mapping[str, str]:
    """What leads a child to the services of the test."""
    return {name: value for name, value in os.environ.items() if name.startswith("AWS_")}


@pytest.fixture
def brief(request: pytest.FixtureRequest, site: Site) -> Site:
    """The session of a dead process in Redshift ends after a second here."""
    if site.api is None:
        return site
    return warehouses.redshift_site(site.api, request.getfixturevalue("staging"), keep_alive_s=1)


def test_an_interrupt_before_any_statement_leaves_all_as_it_was(site: Site, tmp_path: Path) -> None:
    site.warehouse.load(load_of(tmp_path, BEFORE, 1))
    load, steps, committing = load_of(tmp_path, AFTER, 2), 0, "COMMIT"
    every = 2 if site.kind == "redshift" else 1

    def end_at(number: int, seen: list[str]) -> Any:
        def watch(now: str, step: str) -> None:
            if now == "before":
                seen.append(step)
                if len(seen) == number:
                    raise Died

        return watch

    while True:
        steps, seen = steps + every, list[str]()
        with watched(site.kind, end_at(steps, seen)):
            try:
                loaded = site.warehouse.load(load)
                break
            except Died:
                assert site.table() == BEFORE, seen
    assert loaded == DONE
    assert site.table() == AFTER
    assert steps > 15, "all of them were seen"
    assert committing in seen or site.kind != "redshift"


@pytest.mark.parametrize(("site", "when", "beginning"), KILLS, indirect=["site"])
def test_a_kill_is_mended_by_the_next_try(
    brief: Site, tmp_path: Path, environment: Mapping[str, str], processes: Any, when: str, beginning: str
) -> None:
    brief.warehouse.load(load_of(tmp_path, BEFORE, 1))
    load = load_of(tmp_path, AFTER, 2)
    child = processes.Process(target=killed_at, args=(when, beginning, brief.kind, brief.warehouse, load, environment))
    child.start()
    child.join(WAIT_S)
    assert child.exitcode == -signal.SIGKILL
    committed = (when, beginning) == ("after", "COMMIT")
    assert brief.table() == (AFTER if committed else BEFORE)
    assert (brief.warehouse.find("daily", 2) is not None) is committed
    again = brief.warehouse.load(replace(load, run=3))
    assert again == replace(DONE, again=committed)
    assert brief.table() == AFTER


def race(processes: Any, site: Site, environment: Mapping[str, str], *loads: list[Any]) -> list[list[Any]]:
    """What came of each process's loads."""
    outs = [processes.SimpleQueue() for _ in loads]
    children = [
        processes.Process(target=load_all, args=(site.warehouse, mine, environment, out)) for mine, out in zip(loads, outs, strict=True)
    ]
    for child in children:
        child.start()
    found = [out.get() for out in outs]
    for child in children:
        child.join(WAIT_S)
        assert child.exitcode == 0
    return found


def test_processes_that_race_with_one_load_do_it_once(site: Site, tmp_path: Path, environment: Mapping[str, str], processes: Any) -> None:
    """Also where there is no ledger and no table yet."""
    load = load_of(tmp_path, BEFORE, 1)
    found = race(processes, site, environment, [load], [load], [replace(load, run=2)])
    assert sorted((one.again for (one,) in found), key=bool) == [False, True, True], found
    assert site.table() == BEFORE
    assert site.sql("SELECT COUNT(*) FROM recon_loads") == [(1,)]


def test_processes_that_race_with_other_loads_of_a_table_leave_the_latest_run(
    site: Site, tmp_path: Path, environment: Mapping[str, str], processes: Any
) -> None:
    rows = [{("a", code): row(str(run)) for code in range(run % 4 + 1)} for run in range(8)]
    own = [{(f"process {which}", 1): row(str(which))} for which in range(2)]
    loads = [
        [load_of(tmp_path, own[which], 1, f"scope {which}"), *(load_of(tmp_path, rows[run], run + 1) for run in range(which, 8, 2))]
        for which in range(2)
    ]
    found = race(processes, site, environment, *loads)
    late = [one for came in found for one in came if isinstance(one, str)]
    assert all("comes too late and changed nothing" in one for one in late), late
    assert site.table(scope="monday") == rows[7]
    assert site.table(scope="scope 0") | site.table(scope="scope 1") == own[0] | own[1]
    assert site.warehouse.audit("daily", list(KEYS)) == Audit(len(rows[7]) + 2, 0, 0, {})
    assert site.sql("SELECT COUNT(*) FROM recon_loads") == [(10 - len(late),)]


def test_threads_of_one_process_take_turns(site: Site, tmp_path: Path) -> None:
    """The lock on DuckDB's file is between processes only."""
    load, found = load_of(tmp_path, BEFORE, 1), list[Loaded]()
    threads = [threading.Thread(target=lambda: found.append(site.warehouse.load(load))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
    assert sorted((one.again for one in found), key=bool) == [False, True, True, True]
    assert site.table() == BEFORE
