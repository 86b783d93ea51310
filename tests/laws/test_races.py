"""Writers that race: the timeline takes one, the others start over or drop what is done, and the artifacts come out the same.

The laws: 2 to 5 and 9; the protocol: docs/decisions/002-timeline.md.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import crash_child as c
import faulty_store
import numpy as np
import pytest
import strategies as s
from damage import flip_records
from histories import carry_out, check_store, records, run_range, slow
from hypothesis import given
from hypothesis import strategies as st

import recon
from recon.api import Reconciliation
from recon.engines.existing import find_existing, records_of
from recon.engines.prefetched import Prefetched, open_prefetched, prefetched_files
from recon.engines.select import engine_of
from recon.errors import Damaged
from recon.intake.manifests import read_manifest
from recon.model.windows import name_of
from recon.stages.commit import Merged
from recon.stages.merge import merge_windows
from recon.stages.reduce import reduce_windows
from recon.state.reduced import Figures
from recon.state.runs import check_of, entries_of, write_run
from recon.state.tiers import merge_tiers
from recon.state.timeline import Timeline
from recon.storage.local import LocalStore

WAIT_S = 60


@pytest.fixture(scope="module")
def server() -> Iterator[c.Server]:
    server = c.Server()
    yield server
    server.close()


def landed(*windows: int, revised: bool = False) -> list[s.Operation]:
    """Files for windows that share keys and duplicates, closed; or each window's file replaced by another."""
    operations: list[s.Operation] = []
    for window in windows:
        if revised:
            operations.append(s.Replace(window, f"w{window}.csv", s.File(f"w{window}b", c.rows_of(window, "abc")[2:])))
        else:
            operations += [s.Land(window, s.File(f"w{window}", c.rows_of(window))), s.Close(window)]
    return operations


def again(r: Reconciliation) -> Reconciliation:
    """Another one on the same store, with a timeline and a view of it of its own."""
    return recon.open(r.config.path)


def check_against_oracle(r: Reconciliation, operations: Sequence[s.Operation]) -> None:
    check_store(again(r), c.state_after(operations))
    assert c.faults(again(r)) == []


# ---- at once ---------------------------------------------------------------------------------------------------------


def test_processes_that_run_the_same_windows_at_once_come_to_what_one_comes_to(server: c.Server, tmp_path: Path) -> None:
    operations = [*landed(0, 1), s.Run((0, 1)), *landed(2, 4), *landed(1, revised=True)]
    r = c.prepare(tmp_path, operations)
    answers = server.all(*[{"do": "run", "config": str(r.config.path)}] * 3)
    commits = [commit for answer in answers for commit in answer["commits"]]
    assert len(set(commits)) == len(commits), "two processes think that they made the same commit"
    check_against_oracle(r, [*operations, s.Run((1, 2, 4))])


def test_processes_that_run_other_windows_of_the_same_keys_at_once_come_to_what_one_comes_to(server: c.Server, tmp_path: Path) -> None:
    operations = [*landed(0), s.Run((0,)), *landed(1, 2, 3, 4), *landed(0, revised=True)]
    r = c.prepare(tmp_path, operations)
    blocks = ((0,), (1, 3), (2,), (4,))
    answers = server.all(*({"do": "run", "config": str(r.config.path), "windows": block} for block in blocks))
    assert [len(answer["windows"]) for answer in answers] == [1, 2, 1, 1]
    check_against_oracle(r, [*operations, s.Run((0, 1, 2, 3, 4))])


@pytest.mark.parametrize("blocks", [((0, 1, 2),) * 3, ((0,), (1,), (2,))], ids=["the same windows", "other windows"])
def test_threads_that_run_at_once_come_to_what_one_comes_to(tmp_path: Path, blocks: tuple[tuple[int, ...], ...]) -> None:
    operations = landed(0, 1, 2)
    r = c.prepare(tmp_path, operations)
    start = threading.Barrier(len(blocks))

    def work(block: tuple[int, ...]) -> Any:
        mine = again(r)
        start.wait(WAIT_S)
        return run_range(mine, block)

    with ThreadPoolExecutor(len(blocks)) as threads:
        reports = list(threads.map(work, blocks))
    merged = [window for report in reports for window in report.windows]
    assert sorted(merged) == [name_of(s.at(window)) for window in (0, 1, 2)], "each window is merged by just one"
    check_against_oracle(r, [*operations, s.Run((0, 1, 2))])


# ---- a paused loser --------------------------------------------------------------------------------------------------


def small_commits(r: Reconciliation, operations: list[s.Operation], count: int) -> None:
    """Commits that each write a small run, so that tiers are merged."""
    for number in range(count):
        window = 10 + number
        for operation in (*landed(window), s.Run((window,))):
            carry_out(r, operation)
            operations.append(operation)


Meanwhile = Callable[[Reconciliation, list[s.Operation]], None]


def does(*made: s.Operation) -> Meanwhile:
    def meanwhile(r: Reconciliation, operations: list[s.Operation]) -> None:
        for operation in made:
            carry_out(r, operation)
            operations.append(operation)

    return meanwhile


MEANWHILE: dict[str, Meanwhile] = {
    "the same windows are committed": does(s.Run((1, 2))),
    "one of the windows is committed": does(s.Run((2,))),
    "a newer revision of a window is committed": does(*landed(1, revised=True), s.Run((1,))),
    "another window of the same keys is committed": does(*landed(3), s.Run((3,))),
    "an earlier window with the same events is corrected": does(*landed(0, revised=True), s.Run((0,))),
    "an earlier window is taken back": does(s.Unland(0, "w0.csv"), s.Run((0,))),
    "tiers are merged": lambda r, operations: small_commits(r, operations, 7),
}


@pytest.mark.parametrize("meanwhile", MEANWHILE)
def test_a_writer_paused_before_its_commit_starts_over_or_drops_what_is_done_when(tmp_path: Path, meanwhile: str) -> None:
    operations = [*landed(0), s.Run((0,)), *landed(1, 2)]
    r = c.prepare(tmp_path, operations)
    loser = again(r)
    hook, reached, go_on = faulty_store.paused_at("timeline/0")
    loser._store = faulty_store.WatchedStore(loser.store(), before=hook)
    with ThreadPoolExecutor(1) as threads:
        paused = threads.submit(run_range, loser, (1, 2))
        try:
            assert reached.wait(WAIT_S)
            MEANWHILE[meanwhile](r, operations)
        finally:
            go_on.set()
        report = paused.result(WAIT_S)
    assert len(report.commits) == (0 if meanwhile == "the same windows are committed" else 1)
    done = s.Run((1, 2))
    check_against_oracle(r, [*operations, done])


@pytest.mark.parametrize("meanwhile", ["the same windows are committed", "another window of the same keys is committed"])
def test_a_writer_paused_when_its_entry_is_written_but_has_no_name_yet_does_not_overwrite_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, meanwhile: str
) -> None:
    operations = [*landed(0), s.Run((0,)), *landed(1, 2)]
    r = c.prepare(tmp_path, operations)
    link = os.link
    paused, reached, go_on = faulty_store.paused_at("timeline/0", kind="link")

    def paused_link(source: Any, target: Path, **options: Any) -> None:
        if target.is_relative_to(tmp_path / "data"):
            paused(faulty_store.Call("link", str(target.relative_to(tmp_path / "data")), 0))
        link(source, target, **options)

    monkeypatch.setattr(os, "link", paused_link)
    with ThreadPoolExecutor(1) as threads:
        loser = threads.submit(run_range, again(r), (1, 2))
        try:
            assert reached.wait(WAIT_S)
            MEANWHILE[meanwhile](r, operations)
        finally:
            go_on.set()
        loser.result(WAIT_S)
    check_against_oracle(r, [*operations, s.Run((1, 2))])


# ---- an old pre-fetched file -----------------------------------------------------------------------------------------


def reduced_and_prefetched(r: Reconciliation, *windows: int) -> tuple[list[Figures], Prefetched]:
    manifests = [manifest for window in windows if (manifest := read_manifest(r.store(), s.at(window)))]
    figures = reduce_windows(r.store(), r.config, manifests)
    return figures, engine_of(r.config).prefetch(r.store(), r.config, r.state(), figures)


def merged_late(r: Reconciliation, figures: Sequence[Figures], prefetched: Prefetched) -> Merged:
    from recon.stages.certify import certify_windows

    merged = merge_windows(r.store(), r.config, timeline := Timeline(r.store()), figures, prefetched)
    certify_windows(r.store(), r.config, timeline.head(), [*merged.windows, *merged.recounted])
    merge_tiers(r.store(), r.config, timeline)
    return merged


@pytest.mark.parametrize("meanwhile", MEANWHILE)
def test_a_file_prefetched_at_an_old_commit_is_read_anew_where_keys_were_touched_since_when(tmp_path: Path, meanwhile: str) -> None:
    operations = [*landed(0), s.Run((0,)), *landed(1, 2)]
    r = c.prepare(tmp_path, operations)
    late = again(r)
    figures, prefetched = reduced_and_prefetched(late, 1, 2)
    MEANWHILE[meanwhile](r, operations)
    merged_late(late, figures, prefetched)
    check_against_oracle(r, [*operations, s.Run((1, 2))])


def test_a_file_prefetched_before_another_revision_of_its_window_was_committed_is_not_taken(tmp_path: Path) -> None:
    """Revision 2 has keys that neither 1 nor 3 has: whoever merges 3 over 2 has to take them out again."""
    lone = s.File("w1-lone", (s.Row(order_id="LONE", event_id="x"),))
    operations = [*landed(0, 1), s.Run((0, 1)), s.Replace(1, "w1.csv", lone), s.Replay(1)]
    r = c.prepare(tmp_path, operations)
    third = s.Replace(1, lone.name, s.File("w1-third", c.rows_of(1)[3:]))
    # The file is made for the third revision, over the first; then a slow writer commits the second.
    second = reduce_windows(r.store(), r.config, [m] if (m := read_manifest(r.store(), s.at(1))) else [])
    carry_out(r, third)
    figures, prefetched = reduced_and_prefetched(r, 1)
    merged_late(again(r), second, engine_of(r.config).prefetch(r.store(), r.config, r.state(), second))
    assert records(r)["LONE"]["contributions"]
    merged_late(r, figures, prefetched)
    assert records(r)["LONE"]["withdrawn"] == [name_of(s.at(1))]
    check_against_oracle(r, [*operations, s.Run((1,)), third, s.Run((1,))])


def test_a_file_prefetched_for_another_revision_of_its_window_is_not_taken(tmp_path: Path) -> None:
    """Only revision 3 holds the key Z, which stands from another window: what was read for revision 2 does not know it."""
    files = [s.File(f"w1-{key}", (s.Row(order_id=key, event_id=f"{key}1"),)) for key in "ABZ"]
    before = s.File("w0", (s.Row(order_id="Z", event_id="Z0"),))
    operations = [s.Land(0, before), s.Close(0), s.Land(1, files[0]), s.Close(1), s.Run((0, 1))]
    operations.append(s.Replace(1, files[0].name, files[1]))
    r = c.prepare(tmp_path, operations)
    _, prefetched = reduced_and_prefetched(r, 1)
    third = s.Replace(1, files[1].name, files[2])
    carry_out(r, third)
    figures, _ = reduced_and_prefetched(r, 1)
    merged_late(r, figures, prefetched)
    check_against_oracle(r, [*operations, third, s.Run((1,))])


@slow(3)
@given(s.histories(max_windows=4, max_operations=8), st.data())
def test_whatever_happens_between_prefetch_and_merge_the_artifacts_are_the_oracles(
    tmp_path_factory: pytest.TempPathFactory, history: s.History, data: st.DataObject
) -> None:
    r = c.prepare(tmp_path_factory.mktemp("late"), ())
    operations: list[s.Operation] = []
    cut = data.draw(st.integers(1, len(history.operations)))
    for operation in history.operations[:cut]:
        carry_out(r, operation)
        operations.append(operation)
    state = c.state_after(operations)
    ready = sorted(state.pending & state.closed)
    chosen = data.draw(st.lists(st.sampled_from(ready), unique=True, min_size=1)) if ready else []
    figures, prefetched = reduced_and_prefetched(again(r), *sorted(chosen))
    taken = {window: c.state_after(operations).files.get(window, ()) for window in chosen}
    for operation in history.operations[cut:-1]:
        carry_out(r, operation)
        operations.append(operation)
    merged = merged_late(again(r), figures, prefetched)
    # What the late writer still had to do is what was not run meanwhile, by the files that it took.
    state, done = c.state_after(operations), set(merged.windows)
    assert done <= {name_of(s.at(window)) for window in chosen}
    for window in chosen:
        if name_of(s.at(window)) in done:
            state.revisions[window] = (*state.revisions.get(window, ()), taken[window])
    if history.operations[cut:]:
        check_store(again(r), state)
    # And the runs that follow put everything right.
    carry_out(r, history.operations[-1])
    check_store(again(r), s.apply(state, history.operations[-1]))


def test_a_byte_that_flips_in_a_prefetched_file_of_places_never_changes_what_is_merged(tmp_path: Path) -> None:
    r = c.prepare(tmp_path, [*landed(0), s.Run((0,)), *landed(1)])
    _, prefetched = reduced_and_prefetched(r, 1)
    file = tmp_path / "data" / prefetched.path
    content, right = file.read_bytes(), open_prefetched(r.store(), prefetched).read(r.store())
    assert right.num_rows == prefetched.found > 0
    assert right.column("record")[0].as_py() not in content, "in a folder the file holds no records"
    found = set()
    for byte in range(0, len(content), 7):
        file.write_bytes(content[:byte] + bytes([content[byte] ^ 8]) + content[byte + 1 :])
        ((path, listed),) = prefetched_files(r.store())
        for opened in (prefetched, *([listed] if listed else [])):
            try:
                found.add(open_prefetched(r.store(), opened).read(r.store()).equals(right))
            except Damaged as error:
                found.add(str(error).partition(":")[0] == path)
    assert found == {True}
    for wrong in (content[:-9], content[-30:], b""):
        file.write_bytes(wrong)
        assert [listed for _, listed in prefetched_files(r.store())] == [None]
    with pytest.raises(Damaged, match=re.escape(prefetched.path)):
        open_prefetched(r.store(), prefetched).read(r.store())


def test_a_record_that_is_damaged_between_prefetch_and_merge_is_named_and_nothing_is_committed(tmp_path: Path) -> None:
    r = c.prepare(tmp_path, [*landed(0), s.Run((0,)), *landed(1)])
    figures, prefetched = reduced_and_prefetched(r, 1)
    before = r.state().commit
    (part,) = (tmp_path / "data" / "state").rglob("part-*.words")
    flip_records(r)
    with pytest.raises(Damaged, match=part.name):
        merged_late(again(r), figures, prefetched)
    assert r.state().commit == before


# ---- what a pre-fetch reads ------------------------------------------------------------------------------------------


def read_by_prefetch(folder: Path, artifacts: int, touched: int) -> tuple[int, int, int]:
    """Bytes and requests of a pre-fetch of ``touched`` keys in a state of ``artifacts``, and the records that it found."""
    long = "K" * 400  # so that records, and not their run, are most of what there is to read
    many = tuple(s.Row(order_id=f"{long}{number}", event_id=str(number)) for number in range(artifacts))
    few = tuple(s.Row(order_id=f"{long}{number * 37}", event_id=f"f{number}") for number in range(touched))
    r = c.prepare(folder, [s.Land(0, s.File("many", many)), s.Close(0), s.Run((0,)), s.Land(1, s.File("few", few))])
    carry_out(r, s.Close(1))
    figures, _ = reduced_and_prefetched(r, 1)
    store = faulty_store.WatchedStore(r.store(), mapped=lambda path: not path.startswith("state/"))
    found = engine_of(r.config).prefetch(store, r.config, r.state(), figures).found
    reads = [call for call in store.calls if call.kind in ("get", "get_range") and call.path.startswith("state/")]
    return sum(call.bytes for call in reads), len(reads), found


def test_a_prefetch_reads_what_the_keys_of_its_batch_need_not_the_state(tmp_path: Path) -> None:
    """Twenty times the state: the bytes do not double, though at this size most gaps are still cheaper to read than to skip."""
    small = read_by_prefetch(tmp_path / "small", 2_000, touched=50)
    large = read_by_prefetch(tmp_path / "large", 40_000, touched=50)
    assert (small[2], large[2]) == (50, 50)
    assert large[0] < 2 * small[0], f"{small} → {large}"
    assert large[1] <= 50 * 3, "a few requests a key at most"


def read_of_large_state(folder: Path, artifacts: int, touched: int) -> int:
    """Bytes read for ``touched`` keys from a run of ``artifacts`` entries: records of zeros, so that none need be written."""
    store, length = LocalStore(folder), 400
    part = folder / "state" / "a" / "part-0000.words"
    part.parent.mkdir(parents=True)
    part.touch()
    os.truncate(part, artifacts * length)
    randomly = np.random.default_rng(7)
    hi = np.sort(randomly.integers(0, 1 << 64, artifacts, dtype=np.uint64))
    check = np.full(artifacts, check_of(bytes(length)), np.uint32)
    entries = entries_of("state/a/part-0000.words", hi, hi, np.full(artifacts, length, np.uint32), check)
    write_run(store, "state/a/merge.run", entries)
    asked = np.sort(randomly.choice(hi, touched, replace=False))
    watched = faulty_store.WatchedStore(store, mapped=lambda path: False)
    assert records_of(watched, find_existing(watched, ["state/a/merge.run"], asked, asked)).num_rows == touched
    return sum(call.bytes for call in watched.calls if call.kind in ("get", "get_range"))


def test_from_some_size_on_a_prefetch_reads_no_more_however_much_the_state_grows(tmp_path: Path) -> None:
    small = read_of_large_state(tmp_path / "small", 50_000, touched=20)
    large = read_of_large_state(tmp_path / "large", 1_000_000, touched=20)
    assert large < 1.5 * small, f"{small} → {large}"


# ---- tiers -----------------------------------------------------------------------------------------------------------


def test_after_sixty_small_merges_the_runs_are_few_and_show_finds_every_key(tmp_path: Path) -> None:
    r = c.prepare(tmp_path, ())
    most = 0
    for window in range(60):
        rows = tuple(s.Row(order_id=f"K{window * 3 + n}", event_id=f"e{window}-{n}") for n in range(5))
        for operation in (s.Land(window, s.File(f"w{window}", rows)), s.Close(window)):
            carry_out(r, operation)
        run_range(r, (window,))
        most = max(most, len(r.state().runs))
    assert most < 8
    assert r.state().commit > 60, "tiers are commits of their own"
    held = records(r)
    assert set(held) == {f"K{number}" for number in range(59 * 3 + 5)}
    for key, record in held.items():
        shown = r.show(key)
        assert shown["measures"]["lines"] == record["measures"]["lines"]
        assert [part["window"] for part in shown["contributions"]] == [part["w"] for part in record["contributions"]]
    assert again(r).state() == r.state()


def test_tiers_merged_below_newer_runs_stay_below_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    operations = [operation for window in range(5) for operation in (*landed(window), s.Run((window,)))]
    r = c.prepare(tmp_path, operations)
    newest = r.state().runs[:2]
    due = iter([slice(2, 4)])
    monkeypatch.setattr("recon.state.tiers.choose_tiers", lambda sizes: next(due, None))
    assert merge_tiers(r.store(), r.config, Timeline(r.store())).merged == 2
    runs = again(r).state().runs
    assert runs[:2] == newest
    assert len(runs) == 4
    check_against_oracle(r, operations)
