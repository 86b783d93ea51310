"""The law of aggregations: evaluators that race, with clocks an hour apart, start each run once and never while a condition does not
hold; and every version of a file is in the newest completed run of its scope, or waits with a reason.

Triggers in the database log every change of a file and a run in the order in which they are written. A plain Python replay of this log
says what was there when each run was claimed, and judges its conditions anew.
"""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import aggregation_site as s
import pytest
import sqlalchemy as sa
import yaml
from aggregation_site import made, opened

from recon.aggregations.runs import tracking
from recon.aggregations.runs.site import Aggregations
from recon.aggregations.tick import tick
from recon.errors import TryAgain, WrongUsage
from recon.model.windows import name_of

SHOPS = [f"{letter}.csv" for letter in "abcdef"]
WINDOWS = [name_of(s.NOON.replace(hour=0) + timedelta(days=day)) for day in range(4)]
DEFINITIONS = 20
LATER = timedelta(hours=3)
"""How far ahead the last ticks look, in time for every further try, and so the check after them: near midnight that is another day."""

LOGGED = {"files": ["id", "source", "name", "window", "state", "kept", "landings"], "aggregation_runs": ["id", "state"]}


def trigger(table: str, event: str) -> str:
    """A trigger of SQLite that logs the rows that an event leaves."""
    columns = ", ".join(f"'{column}', NEW.\"{column}\"" for column in LOGGED[table])
    insert = f"INSERT INTO law_log (kind, row) VALUES ('{table}', json_object({columns}))"
    return f"CREATE TRIGGER law_{table}_{event} AFTER {event} ON {table} BEGIN {insert}; END"


SQLITE_LOG = [
    "CREATE TABLE law_log (seq INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT, row TEXT)",
    *(trigger(table, event) for table in LOGGED for event in ("insert", "update")),
]
POSTGRES_LOG = [
    "CREATE TABLE law_log (seq BIGSERIAL PRIMARY KEY, kind TEXT, row TEXT)",
    "CREATE FUNCTION law() RETURNS trigger LANGUAGE plpgsql AS "
    "$$ BEGIN INSERT INTO law_log (kind, row) VALUES (TG_TABLE_NAME, row_to_json(NEW)); RETURN NEW; END $$",
    *(
        f"CREATE TRIGGER law AFTER INSERT OR UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION law()"
        for table in ("files", "aggregation_runs")
    ),
]


# ---- random configurations -------------------------------------------------------------------------------------------


def configurations(chance: random.Random) -> dict[str, dict[str, Any]]:
    """Twenty definitions, each with some of the conditions."""
    found: dict[str, dict[str, Any]] = {}
    for number in range(DEFINITIONS):
        name = f"d{number:02}"
        made_up: dict[str, Any] = {"source": "sales", "keys": "shop", "measures": {"total": {"sum": "amount"}}, "target": f"t_{name}"}
        made_up["expect"] = chance.choice(
            [
                1,
                3,
                5,
                chance.sample(SHOPS, 3),
                [SHOPS[0], {"name": SHOPS[1], "until": "2026-11-03"}, {"name": SHOPS[2], "from": "2026-11-02"}],
            ]
        )
        for field_name, value, likely in (
            ("per", "all", 0.15),
            ("input", "all", 0.2),
            ("least_rows", chance.randint(2, 12), 0.3),
            ("files", "[a-d].csv", 0.0),
            ("needs", [{"source": "items", "since": chance.choice(["ever", "today"])}], 0.3),
            ("criteria", "select count(*) >= 2 from files where window = :scope and source = 'sales' and state = 'landed'", 0.2),
        ):
            if chance.random() < likely:
                made_up[field_name] = value
        if "criteria" in made_up and made_up.get("per") == "all":
            del made_up["criteria"]
        if number >= 16 and made_up.get("per") != "all":
            before = [name for name, one in found.items() if one.get("per") != "all"]
            made_up["needs"] = [*made_up.get("needs", []), {"aggregation": chance.choice(before)}]
        found[name] = made_up
    return found


# ---- a site at work --------------------------------------------------------------------------------------------------


@dataclass
class Work:
    """Threads on one site. ``claimed``: the numbers of all runs that any of them was given. ``errors``: what none of them foresaw."""

    folder: Path
    seed: int
    steps: int
    claimed: list[int] = field(default_factory=list)
    begun: list[int] = field(default_factory=list)
    errors: list[BaseException] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def senders(self) -> None:
        """Files arrive, are replaced, taken back, converted anew."""
        chance, site = random.Random(self.seed), opened(self.folder)
        for _ in range(self.steps):
            name, window = chance.choice(SHOPS), chance.choice(WINDOWS)
            rows = [("A", "4", "1.00")] * chance.randint(1, 4)
            what = chance.random()
            time.sleep(chance.random() / 50)
            with alone(site):
                if what < 0.75:
                    s.land(site, name, rows, window)
                elif what < 0.85:
                    s.take_back(site, name, window)
                elif what < 0.92:
                    s.reconvert(site, name, rows, window)
                else:
                    s.land(site, f"items{chance.randint(0, 9)}.csv", window=WINDOWS[0], source="items", at=datetime.now(UTC))
        self.over.set()

    def evaluator(self, number: int, ahead: timedelta) -> None:
        """Ticks; carries out what it claims, but for what fails, is cancelled, or dies with its process."""
        chance, site = random.Random(self.seed * 7 + number), opened(self.folder)
        while not self.over.is_set():
            for run in ticked(site, ahead):
                self.claimed.append(run.id)
                end(site, run, chance.choice(["completed"] * 5 + ["failed", "cancelled", "dead", "dead later"]), self.begun)

    def guarded(self, *call: Any) -> None:
        try:
            call[0](*call[1:])
        except BaseException as error:
            self.errors.append(error)
            self.over.set()

    def go(self) -> None:
        calls = [(self.senders,), (self.evaluator, 1, timedelta(0)), (self.evaluator, 2, timedelta(hours=1))]
        threads = [threading.Thread(target=self.guarded, args=call) for call in calls]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self.errors:
            raise self.errors[0]


def alone(site: Aggregations) -> Any:
    """On PostgreSQL, files change between two claims, so that the log has them in the order in which claims see them."""
    return site.intake.database.alone("aggregations shops")


def ticked(site: Aggregations, ahead: timedelta) -> tuple[tracking.Run, ...]:
    try:
        return tick(site, now=datetime.now(UTC) + ahead, worker=f"ahead {ahead}").claimed
    except TryAgain:
        return ()


def end(site: Aggregations, run: tracking.Run, how: str, begun: list[int]) -> None:
    """What becomes of a run, without computing anything."""
    if how == "dead":
        return
    try:
        site.runs.start(run, "law")
    except WrongUsage:
        return  # it was given up meanwhile
    begun.append(run.id)
    if how == "completed":
        if site.runs.prepare(run, {"rules": "", "rows_in": 0}):
            site.runs.end(run, "completed", figures={})
    elif how in ("failed", "cancelled"):
        site.runs.end(run, how, "chance")  # type: ignore[arg-type]


# ---- the judge -------------------------------------------------------------------------------------------------------


@dataclass
class Judge:
    """Replays the log. ``files``: number → newest row; ``runs``: number → state; ``last``: (definition, scope) → the versions and rules of
    the last completed run."""

    definitions: Mapping[str, Mapping[str, Any]]
    evaluations: Mapping[int, Mapping[str, Any]]
    rows: Mapping[int, Mapping[str, Any]]
    files: dict[int, Mapping[str, Any]] = field(default_factory=dict)
    runs: dict[int, str] = field(default_factory=dict)
    last: dict[tuple[str, str], set[str]] = field(default_factory=dict)
    ever: dict[tuple[str, str], list[set[str]]] = field(default_factory=dict)
    tries: dict[tuple[str, str, str], int] = field(default_factory=dict)
    judged: int = 0

    def landed(self, source: str, scope: str = "all") -> dict[str, Mapping[str, Any]]:
        """Version → file of the landed files of a scope."""
        return {
            str(one["id"]) if one["landings"] == 1 else f"{one['id']}.{one['landings']}": one
            for one in self.files.values()
            if one["state"] == "landed" and one["source"] == source and scope in ("all", one["window"])
        }

    def see(self, kind: str, row: Mapping[str, Any]) -> None:
        if kind == "files":
            self.files[row["id"]] = row
            return
        number, state = row["id"], row["state"]
        if number not in self.runs:
            assert state == "claimed", number
            self.judge(number)
        before, self.runs[number] = self.runs.get(number), state
        run = self.rows[number]
        key, versions = (run["aggregation"], run["scope"]), set(run["versions"].split(","))
        if before != state == "completed":
            self.last[key] = versions
            self.ever.setdefault(key, []).append(versions)

    def judge(self, number: int) -> None:
        """A run is claimed: does each condition hold?"""
        run, said = self.rows[number], self.evaluations[self.rows[number]["evaluation"]]
        name, scope, one = run["aggregation"], run["scope"], self.definitions[run["aggregation"]]
        mine = [other for other, row in self.rows.items() if (row["aggregation"], row["scope"]) == (name, scope)]
        assert not [other for other in mine if self.runs.get(other) in ("claimed", "running")], f"run {number}: another is at work"
        there = self.landed("sales", scope)
        versions = set(run["versions"].split(","))
        assert versions == set(there), f"run {number}: it has other files than were there"
        assert run["versions"] == said["versions"]
        self._judge_input(number, one, versions, self.last.get((name, scope)))
        names = {file["name"] for file in there.values()}
        assert names >= expected(one["expect"], scope, parsed(said["at"])), f"run {number}: a file is missing"
        if isinstance(one["expect"], int):
            assert len(there) >= one["expect"]
        assert sum(file["kept"] for file in there.values()) >= one.get("least_rows", 0)
        if "criteria" in one:
            assert len(there) >= 2
        for need in one.get("needs", []):
            self._judge_need(number, need, scope, versions)
        attempt = self.tries[name, scope, run["load"]] = self.tries.get((name, scope, run["load"]), 0) + 1
        assert attempt <= 3, f"run {number}: try {attempt} of the same input"
        self.judged += 1

    def _judge_input(self, number: int, one: Mapping[str, Any], versions: set[str], last: set[str] | None) -> None:
        if last is None:
            return
        assert versions != last, f"run {number}: nothing is new"
        if one.get("input") == "all" and versions - last:
            assert not versions & last, f"run {number}: not all files are new"

    def _judge_need(self, number: int, need: Mapping[str, Any], scope: str, versions: set[str]) -> None:
        if "aggregation" in need:
            assert versions in self.ever.get((need["aggregation"], scope), []), f"run {number}: {need['aggregation']} had not done it"
        else:
            assert self.landed("items"), f"run {number}: no items"


def parsed(at: Any) -> datetime:
    found = datetime.fromisoformat(at) if isinstance(at, str) else at
    return found.astimezone(UTC)


def expected(expect: Any, scope: str, at: datetime) -> set[str]:
    """The names that complete a scope; for all windows those of the evaluator's day."""
    if isinstance(expect, int):
        return set()
    day = scope[:10] if scope != "all" else at.strftime("%Y-%m-%d")
    entries = [{"name": entry} if isinstance(entry, str) else entry for entry in expect]
    return {entry["name"] for entry in entries if entry.get("from", day) <= day < entry.get("until", "9999")}


def read(site: Aggregations, table: str) -> list[dict[str, Any]]:
    order = "seq" if table == "law_log" else "id"
    with site.intake.database.read() as connection:
        return [dict(row) for row in connection.execute(sa.text(f"SELECT * FROM {table} ORDER BY {order}")).mappings()]


def check(folder: Path, work: Work, definitions: Mapping[str, Mapping[str, Any]]) -> Judge:
    """The whole law."""
    site = opened(folder)
    rows = {row["id"]: row for row in read(site, "aggregation_runs")}
    judge = Judge(definitions, {row["id"]: row for row in read(site, "aggregation_evaluations")}, rows)
    for entry in read(site, "law_log"):
        judge.see(entry["kind"], json.loads(entry["row"]))
    assert sorted(work.claimed) == sorted(set(work.claimed)) == sorted(rows), "each run was given to one evaluator"
    assert len(work.begun) == len(set(work.begun)), "each run started once"
    assert judge.judged == len(rows)
    found = site.definitions()
    waiting = {
        (one.definition.name, one.scope): one.waits_for
        for one in site.evaluator.evaluate(found.good.values(), datetime.now(UTC) + LATER, known=found.good)
    }
    for name, one in definitions.items():
        for scope in {file["window"] for file in judge.landed("sales").values()} if one.get("per") != "all" else {"all"}:
            if judge.last.get((name, scope)) != set(judge.landed("sales", scope)):
                assert waiting.get((name, scope)), f"{name}, {scope}: its files are in no run, and wait for nothing"
    return judge


@pytest.mark.parametrize(
    ("seed", "steps"),
    [(1, 60), (2, 60), *(pytest.param(seed, 1_500, marks=pytest.mark.soak) for seed in range(10, 20))],
)
def test_evaluators_that_race_start_each_run_once_and_never_too_early(tmp_path: Path, database: str, seed: int, steps: int) -> None:
    definitions = configurations(random.Random(seed))
    site = made(tmp_path, {name: yaml.safe_dump(one) for name, one in definitions.items()}, database)
    assert not site.definitions().broken, site.definitions().broken
    for statement in SQLITE_LOG if site.intake.database.is_sqlite else POSTGRES_LOG:
        s.edit(site, statement)
    with patch.object(tracking, "LEASE", timedelta(seconds=0.2)):
        work = Work(tmp_path, seed, steps)
        work.go()
        quiet(site, work)
    assert check(tmp_path, work, definitions).judged, "there was something to judge"


def quiet(site: Aggregations, work: Work) -> None:
    """Nothing arrives any more: ticks until nothing is due, in time for every further try."""
    for _ in range(60):
        claimed = ticked(site, LATER)
        for run in claimed:
            work.claimed.append(run.id)
            end(site, run, "completed", work.begun)
        if not claimed and not site.runs.all(state="claimed") and not site.runs.all(state="running"):
            return
        time.sleep(0.1)
    raise AssertionError("it never ends")
