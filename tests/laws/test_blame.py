"""One file stops one window: whatever goes wrong while it is reduced or merged, the others go on, and nothing else is blamed on it."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from daemons import site, span
from small_reconciliation import HEADER, landed, made, window

from recon.api import Reconciliation
from recon.cli import main
from recon.cli.dagster_runs import Materializing
from recon.engines.blame import blamed
from recon.engines.duckdb import session, slices
from recon.engines.duckdb import window as reduce
from recon.engines.duckdb.session import connect
from recon.errors import OutOfCapacity, TryAgain, WrongInput, WrongUsage
from recon.planning import quarantine
from recon.stages.report import RunReport
from recon.storage.scratch import scratch_folder
from recon_assets.retries import FAILURE_TAG

FOREIGN: dict[str, Callable[[], Exception]] = {
    "Python's memory": MemoryError,
    "too deep a recursion": lambda: RecursionError("maximum recursion depth exceeded"),
    "a date out of range": lambda: OverflowError("date value out of range"),
    "an unexpected type": lambda: TypeError("unsupported operand type(s)"),
    "a decimal that is none": lambda: ArithmeticError("sNaN"),
    "DuckDB's memory": lambda: duckdb.OutOfMemoryException("Out of Memory Error: could not allocate block"),
    "a conversion in DuckDB": lambda: duckdb.ConversionException("Conversion Error: Could not convert string 'x' to INT"),
    "an error of DuckDB's own": lambda: duckdb.InternalException("INTERNAL Error: assertion failed"),
    "a fatal error of DuckDB": lambda: duckdb.FatalException("FATAL Error: database has been invalidated"),
    "an Arrow type": lambda: pa.ArrowInvalid("Integer value out of bounds"),
    "bytes that Arrow cannot decode": lambda: OSError("Corrupt snappy compressed data."),
}


def ran(opened: Reconciliation, way: str) -> RunReport:
    if way == "direct":
        return opened.run()
    with Materializing() as dagster:
        return opened.run(None, None, None, dagster)


def reason(opened: Reconciliation, hour: int) -> str | None:
    held = quarantine.read(opened.store(), opened.config.grid.parse(window(hour)), 1, opened.config.rules_version)
    return held and held.reason


@pytest.fixture
def spoiling(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Callable[[], Exception]], None]:
    """Has a stage fail with an error on whatever range holds the window of 01:00."""

    def spoil(stage: str, error: Callable[[], Exception]) -> None:
        real_figures, real_slice = reduce.figures_of, slices.merge_slice

        def figures(connection: Any, config: Any, manifest: Any, *more: Any) -> Any:
            if manifest.window == window(1):
                raise error()
            return real_figures(connection, config, manifest, *more)

        def slice_of(connection: Any, config: Any, sources: Any, *more: Any) -> Any:
            if window(1) in sources.artifacts:
                raise error()
            return real_slice(connection, config, sources, *more)

        if stage == "reduce":
            monkeypatch.setattr(reduce, "figures_of", figures)
        else:
            monkeypatch.setattr(slices, "merge_slice", slice_of)

    return spoil


@pytest.mark.parametrize("fault", FOREIGN)
@pytest.mark.parametrize("stage", ["reduce", "merge"])
def test_any_error_of_one_window_leaves_out_that_window_and_the_others_go_on(
    tmp_path: Path, spoiling: Callable[..., None], stage: str, fault: str
) -> None:
    opened = made(tmp_path, hours=4)
    spoiling(stage, FOREIGN[fault])
    report = opened.run()
    assert list(report.bad) == [window(1)]
    assert f"window {window(1)} could not be {stage}d: {type(FOREIGN[fault]()).__name__}: " in report.bad[window(1)]
    assert reason(opened, 1) == report.bad[window(1)]
    assert sorted(report.windows) == [window(0), window(2), window(3)]
    assert [reason(opened, hour) for hour in (0, 2, 3)] == [None] * 3
    assert opened.verify(full=True).problems == []


@pytest.mark.parametrize("stage", ["reduce", "merge"])
def test_recon_run_names_the_window_and_goes_on_and_a_later_run_takes_it(
    tmp_path: Path, spoiling: Callable[..., None], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], stage: str
) -> None:
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    opened = made(tmp_path, hours=4)
    with monkeypatch.context() as patched:
        spoiling(stage, MemoryError)
        assert main(["run", "--config", str(opened.config.path)]) == 1
        told = capsys.readouterr().err
        assert f"left out: window {window(1)} could not be {stage}d: MemoryError: no further text; nothing of it was committed" in told
        assert told.count("\n") == 1
        assert set(opened.state().windows) == {window(0), window(2), window(3)}
        patched.undo()
    monkeypatch.undo()
    assert ran(Reconciliation(opened.config.path), "direct").windows == [window(1)]


@pytest.mark.parametrize(
    "error",
    [
        lambda: OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
        lambda: OSError(errno.EIO, os.strerror(errno.EIO)),
        lambda: ConnectionResetError("reset by peer"),
        lambda: TimeoutError("timed out"),
        lambda: duckdb.IOException("IO Error: Could not write file: Input/output error"),
        lambda: TryAgain("the lock is held"),
    ],
)
@pytest.mark.parametrize(("way", "stage"), [("direct", "reduce"), ("direct", "merge"), ("dagster", "merge")])
def test_errors_of_the_storage_and_the_network_are_to_be_tried_again_and_put_nothing_in_quarantine(
    tmp_path: Path, spoiling: Callable[..., None], monkeypatch: pytest.MonkeyPatch, way: str, stage: str, error: Callable[[], Exception]
) -> None:
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    opened = made(tmp_path, hours=2)
    spoiling(stage, error)
    with pytest.raises(TryAgain):
        ran(opened, way)
    assert not list(opened.store().list("quarantine/"))


def test_after_a_fatal_error_of_duckdb_the_next_window_gets_a_new_database(tmp_path: Path) -> None:
    opened = made(tmp_path, hours=1)
    folder = tmp_path / "orders_data" / "tmp" / "some"
    folder.mkdir(parents=True)
    before = session._opened(opened.config, folder.parent)

    def broken() -> None:
        with session.connect(opened.store(), opened.config, folder):
            raise duckdb.FatalException("FATAL Error: database has been invalidated")

    with pytest.raises(duckdb.FatalException):
        broken()
    assert session._opened(opened.config, folder.parent) is not before


def test_a_manifest_that_is_damaged_stops_its_own_window_only(tmp_path: Path) -> None:
    opened = made(tmp_path, hours=3)
    (manifest,) = [path for path in opened.store().list("events/2026-11-01T0100Z/manifests") if path.endswith("000002.json")] or [
        list(opened.store().list("events/2026-11-01T0100Z/manifests"))[-1]
    ]
    file = tmp_path / "orders_data" / manifest
    file.chmod(0o644)
    file.write_text('{"window": 7}')
    report = opened.run()
    assert list(report.bad) == [window(1)]
    assert "manifests/000001.json: damaged (" in report.bad[window(1)]
    assert report.windows == [window(0), window(2)]


@pytest.mark.parametrize(
    "expect", [{"rows": "three"}, {"rows": True}, {"rows": -1}, {"amount": [1]}, {"amount": {"EUR": None}}, {"amount": "NaN"}]
)
def test_declared_totals_of_another_type_are_refused_when_they_land(tmp_path: Path, expect: dict[str, Any]) -> None:
    opened = made(tmp_path)
    (tmp_path / "x.csv").write_text(HEADER + "A,1,INVOICE,1.00,EUR\n")
    with pytest.raises(WrongUsage, match="are not all numbers"):
        opened.land([tmp_path / "x.csv"], window(0), expect=expect)
    assert not list(opened.store().list("events/"))


@pytest.mark.parametrize("expect", [{"rows": "three"}, {"rows": [1]}, {"amount": {"EUR": {}}}, {"amount": "sNaN"}])
def test_declared_totals_of_another_type_that_an_earlier_version_landed_stop_their_own_window_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, expect: dict[str, Any]
) -> None:
    opened = made(tmp_path, hours=3)
    (tmp_path / "declared.csv").write_text(HEADER + "C,9,INVOICE,1.00,EUR\n")
    with monkeypatch.context() as patched:
        patched.setattr("recon.intake.batches.declared_totals", lambda raw: raw)  # it did not look at them
        opened.land([tmp_path / "declared.csv"], window(1), expect=expect)
    report = opened.run()
    assert list(report.bad) == [window(1)]
    assert "its declared control totals" in report.bad[window(1)]
    assert report.windows == [window(0), window(2)]
    assert "declared" in opened.status(window(1))["quarantined"]["reason"]
    assert opened.status()["backlog"] == [window(1)]


@pytest.mark.soak
def test_a_window_that_cannot_be_processed_does_not_stop_a_daemon(tmp_path: Path) -> None:
    with site(tmp_path) as line:
        (tmp_path / "faults" / "break" / "stateless+2026-11-01T0100Z").touch()
        line.land(0, 1, 2)
        line.start()
        line.wait_for(lambda: {window(0), window(2)} <= set(line.r.state().windows), "the others to be committed")
        line.wait_for(lambda: line.skipped("reduce", f"{window(1)} could not be processed at"), "a person to be told")
        line.stop()
        assert set(line.r.state().windows) == {window(0), window(2)}
        held = quarantine.read(line.r.store(), line.r.config.grid.parse(window(1)), 2, line.r.config.rules_version)
        assert held is not None
        assert f"window {window(1)} could not be reduced: MemoryError" in held.reason
        failed = [run for run in line.runs() if FAILURE_TAG in run.tags]
        assert [run.tags[FAILURE_TAG] for run in failed] == ["WrongInput"], [span(run) for run in failed]


def test_an_error_of_the_system_is_told_as_one_of_its_kinds() -> None:
    assert type(blamed(OSError(errno.ENOSPC, "No space left on device"), "x")) is OutOfCapacity
    assert type(blamed(OSError(errno.EACCES, "Permission denied"), "x")) is TryAgain
    assert type(blamed(ValueError("a\nb"), "x")) is WrongInput
    assert "\n" not in str(blamed(ValueError("a\nb"), "x"))
    assert len(str(blamed(ValueError("a" * 5000), "x"))) < 600


# ---- settings


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("events: {id: event_id, dedupe: 1000000000d}", "events.dedupe: 1000000000d is too long; at most 36,525d, a hundred years"),
        ("events: {id: event_id, dedupe: 36526d}", "events.dedupe: 36526d is too long"),
        (f"events: {{id: event_id, dedupe: {'9' * 5000}m}}", "is too long"),
        ("retention: {history: 999999999d}", "retention.history: 999999999d is too long"),
        ("freshness: 999999999h", "freshness: 999999999h is too long"),
        ("memory_limit: 1MB", "memory_limit: 1MB is not from"),
        ("memory_limit: 99999999999999999999TB", "memory_limit: 99999999999999999999TB is not from"),
        ("windows: {start: 0001-01-01T00:00Z, every: 1d}", "windows.start: '0001-01-01T00:00Z' is not from 1900 to 2999"),
        ("windows: {start: 9999-12-31T00:00Z, every: 1d}", "windows.start: '9999-12-31T00:00Z' is not from 1900 to 2999"),
        ("control: {rows: {sum: amount}}", 'control.rows: rows is the number of rows, {count: "*"}; give another total another name'),
        ("control: {rows: {count: order_id}}", "control.rows: rows is the number of rows"),
        ('control: {rows: {count: "*", by: currency}}', "control.rows: rows is the number of rows"),
    ],
)
def test_absurd_settings_are_refused_with_file_line_and_field(tmp_path: Path, line: str, told: str) -> None:
    text = "name: orders\nstore: ./data\nkey: order_id\nwindows: {start: 2026-11-01T00:00Z, every: 1h}\nmeasures: {lines: {count: '*'}}\n"
    name = line.partition(":")[0]
    kept = [old for old in text.splitlines() if not old.startswith(f"{name}:")]
    (tmp_path / "recon.yaml").write_text("\n".join([*kept, line, ""]))
    with pytest.raises(WrongUsage) as error:
        _ = Reconciliation(tmp_path / "recon.yaml").config
    assert told in str(error.value)
    assert str(error.value).startswith(f"{tmp_path / 'recon.yaml'}:{len(kept) + 1}: ")


# ---- spilling


def test_what_duckdb_spills_lies_in_a_private_folder_with_a_name_that_cannot_be_guessed(tmp_path: Path) -> None:
    opened = made(tmp_path, hours=1)
    opened.run()
    found = session._database.cache_info()
    assert found.currsize == 1
    spill = next(iter((tmp_path / "orders_data" / "tmp").glob("spill-*")))
    assert stat.S_IMODE(spill.stat().st_mode) == 0o700
    assert str(os.getpid()) not in spill.name
    spill.rmdir()
    landed(opened, 1)
    opened.run()
    (again,) = (tmp_path / "orders_data" / "tmp").glob("spill-*")
    assert again != spill, "DuckDB would make the old one again, readable by all"
    assert stat.S_IMODE(again.stat().st_mode) == 0o700


def test_limits_that_duckdb_refuses_are_wrong_usage(tmp_path: Path) -> None:
    config = replace(made(tmp_path).config, memory_limit="lots")
    with pytest.raises(WrongUsage, match="DuckDB cannot be opened with memory_limit: lots"):
        session._opened(config, tmp_path)


def test_a_spill_that_finds_no_room_is_tried_again_and_is_no_fault_of_the_window(tmp_path: Path) -> None:
    """DuckDB bounds its spill by the room that was free; what it says then is no error of the operating system."""
    r = made(tmp_path)
    store = r.store()
    statements = (
        "SET memory_limit = '60MB'; SET threads = 1; SET max_temp_directory_size = '1MB'; "
        "CREATE TEMP TABLE many AS SELECT md5(range::VARCHAR) AS text FROM range(1500000); "
        "CREATE TEMP TABLE ordered AS FROM many ORDER BY text"
    )
    with pytest.raises(OutOfCapacity), scratch_folder(store) as scratch, connect(store, r.config, scratch) as connection:
        connection.execute(statements)
