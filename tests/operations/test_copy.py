"""Copying a store: what arrives is the whole store, whatever happens on the way."""

from __future__ import annotations

import re
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import faulty_store
import pytest
import strategies as s
from cli_calls import FIRST, Call
from histories import carry_out, check_store, open_in, records, slow
from hypothesis import given
from hypothesis import strategies as st
from superseded import YAML, Clock, story

from recon.api import Reconciliation
from recon.errors import ConnectionLost, Damaged, ReconError, TryAgain, WrongUsage
from recon.intake import landing_log
from recon.model.windows import name_of
from recon.operations.copy import transfer
from recon.operations.copy.copy import ROUNDS_MAX, Copied, copy
from recon.operations.copy.transfer import Item, Transfer
from recon.operations.copy.windows import finished_reductions
from recon.planning import due
from recon.reading.artifacts import live_records
from recon.state.compaction import compact
from recon.state.reachable import needed
from recon.state.timeline import Entry, State, Timeline
from recon.storage import layout, lease, ranges
from recon.storage.local import LocalStore
from recon.storage.open import open_store
from recon.storage.port import ObjectStore

SLOW = slow(6)
MADE_ANEW = (layout.LANDINGS, "frontiers/")
"""What a copy has of its own."""


class Died(BaseException):
    """The process's end, with no handler and no last word."""


@pytest.fixture
def memory() -> Iterator[Path]:
    """A folder in memory, where syncing costs nothing."""
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None) as folder:
        yield Path(folder)


def here(folder: Path, windows: int = 3) -> tuple[Reconciliation, s.State]:
    (folder / "here").mkdir()
    r = open_in(folder / "here", YAML)
    return r, story(r, windows)


def at(folder: Path, store: Path | str, text: str = YAML) -> Reconciliation:
    """The same reconciliation on another store."""
    folder.mkdir(exist_ok=True)
    (folder / "recon.yaml").write_text(text.replace("store: ./data", f"store: {store}"))
    return Reconciliation(folder / "recon.yaml")


def beside(store: Path) -> Reconciliation:
    """A copy in a folder, opened."""
    return at(store.with_name(store.name + "-home"), store)


def check_copy(r: Reconciliation, state: s.State) -> None:
    found = r.verify(full=True)
    assert found.ok, found.problems
    check_store(r, state)


def more(r: Reconciliation, state: s.State, window: int, keys: Iterable[int] = range(8)) -> s.State:
    """One window more: landed, closed and run."""
    rows = tuple(s.Row(order_id=f"K{n}", event_id=f"{window}-{n}", amount=f"{n}.75") for n in keys)
    for operation in (s.Land(window, s.File(f"w{window}", rows)), s.Close(window), s.Run((window,))):
        carry_out(r, operation)
        state = s.apply(state, operation)
    return state


def held(store: ObjectStore) -> dict[str, bytes]:
    return {path: store.get(path) for path in store.list("") if not path.startswith(MADE_ANEW)}


def lines(store: ObjectStore, state: State) -> list[str]:
    return sorted(line for batch in live_records(store, state) for line in batch.column("record").to_pylist())


def into(r: Reconciliation, target: ObjectStore) -> Copied:
    return copy(r.store(), target, "the target")


# ---- whole -----------------------------------------------------------------------------------------------------------


def test_a_store_goes_from_a_folder_to_s3_and_back_and_is_the_same(memory: Path, in_s3: str) -> None:
    r, state = here(memory)
    before = sorted(r.store().sizes(""))
    r.copy(in_s3)
    assert sorted(r.store().sizes("")) == before
    there = at(memory / "there", in_s3)
    check_copy(there, state)
    there.copy(memory / "back")
    back = beside(memory / "back")
    check_copy(back, state)
    assert records(r) == records(there) == records(back)
    assert held(r.store()) == held(back.store())


def test_from_s3_to_s3_and_up_to_date_again(memory: Path, in_s3: str) -> None:
    r, state = here(memory)
    r.copy(in_s3)
    there = at(memory / "there", in_s3)
    there.copy(in_s3.removesuffix("/prefix") + "/other")
    more(r, state, 4)
    assert there.copy(in_s3.removesuffix("/prefix") + "/other").objects == 0
    again = r.copy(in_s3)
    assert 0 < again.objects < again.already
    done = there.copy(in_s3.removesuffix("/prefix") + "/other")
    assert (done.commit, done.objects) == (again.commit, again.objects)
    other = at(memory / "other", in_s3.removesuffix("/prefix") + "/other")
    assert other.verify(full=True).ok
    assert records(other) == records(r)


@SLOW
@given(s.histories(max_windows=4, max_operations=10), st.data())
def test_a_copy_of_any_history_brought_up_to_date_at_any_time_is_the_store(history: s.History, data: st.DataObject) -> None:
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None) as made:
        folder, clock = Path(made), Clock()
        r = open_in(folder, YAML)
        for operation in history.operations:
            carry_out(r, operation)
            what = data.draw(st.sampled_from(("", "", "copy", "compact", "sweep")))
            if what == "copy":
                r.copy(folder / "copy")
            elif what == "compact":
                compact(r.store(), r.config, Timeline(r.store()), always=True)
            elif what == "sweep":
                clock.sweep(r)
        r.copy(folder / "copy")
        copied = beside(folder / "copy")
        check_copy(copied, history.states()[-1])
        assert records(copied) == records(r)
        assert all(copied.certificate(name) == r.certificate(name) for name in r.state().windows)


def test_work_goes_on_in_a_copy_which_is_a_store_of_its_own_then(memory: Path) -> None:
    r, state = here(memory)
    landed = s.Land(3, s.File("waits", (s.Row("K1", "w-1"),)))
    for operation in (landed, s.Close(3)):
        carry_out(r, operation)
        state = s.apply(state, operation)
    r.copy(memory / "copy")
    copied = beside(memory / "copy")
    assert len(copied.run().windows) == 1, "what waited there waits here"
    state = more(copied, s.apply(state, s.Run((3,))), 4)
    check_copy(copied, state)
    with pytest.raises(WrongUsage, match="has gone on by itself"):
        r.copy(memory / "copy")
    check_copy(copied, state)


def test_whoever_follows_the_landings_of_a_copy_sees_what_landed_in_the_source_long_before_it_came(
    memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    r, _ = here(memory)
    r.copy(memory / "copy")
    copied = beside(memory / "copy")
    waiting, cursor = due.follow(copied.store(), copied.state())
    assert waiting == {}
    with monkeypatch.context() as then:
        then.setattr(landing_log.note, "__defaults__", (lambda: datetime.now(UTC) - timedelta(hours=9),))
        carry_out(r, s.Land(3, s.File("waits", (s.Row("K1", "w-1"),))))
    r.copy(memory / "copy")
    assert due.follow(copied.store(), copied.state(), cursor)[0] == {name_of(s.at(3)): 1}


def test_a_rebuild_and_what_was_known_before_it_come_along(memory: Path) -> None:
    r, _ = here(memory)
    r.copy(memory / "copy")
    then = Timeline(r.store()).entry(2)
    assert then is not None
    text = r.place.path.read_text().replace("coalesce(billed, 0) - coalesce", "coalesce(billed, 0) - 2 * coalesce")
    r.place.path.write_text(text)
    again = Reconciliation(r.place.path)
    again.rebuild()
    more(again, s.State(), 5)
    for target in ("copy", "new"):
        again.copy(memory / target)
        copied = at(memory / f"{target}-home", memory / target, text)
        found = copied.verify(full=True)
        assert found.ok, found.problems
        assert records(copied) == records(again)
        shown = [one.show("K3", known_at=then.time) for one in (again, copied)]
        assert shown[0] == shown[1]


# ---- killed ----------------------------------------------------------------------------------------------------------


def dying(number: int, after: bool) -> Callable[[faulty_store.Call], None]:
    """Nothing is written from the ``number``-th write on; ``after``: but that one."""
    lock, seen = threading.Lock(), 0

    def hook(call: faulty_store.Call) -> None:
        nonlocal seen
        if call.kind in ("put_new", "delete"):
            with lock:
                seen += 1
                if seen > number - (not after):
                    raise Died

    return hook


def killed(r: Reconciliation, target: Path, number: int) -> bool:
    """Whether a copy that dies at its ``number``-th write did not come to its end."""
    try:
        into(r, faulty_store.WatchedStore(LocalStore(target), before=dying(number, after=False)))
    except Died:
        return True
    return False


def test_killed_at_any_write_it_is_no_store_and_the_next_call_makes_it_whole(memory: Path) -> None:
    r, state = here(memory, windows=2)
    undisturbed = LocalStore(memory / "undisturbed")
    into(r, undisturbed)
    number = 1
    while killed(r, target := memory / f"copy-{number}", number):
        copied = beside(target)
        if not (target / "store.json").exists():
            with pytest.raises(WrongUsage, match=r"unfinished copy|there is no store"):
                copied.state()
        else:
            assert held(LocalStore(target)).items() >= held(undisturbed).items(), "once it is a store it is whole"
        into(r, LocalStore(target))
        assert held(LocalStore(target)) == held(undisturbed), number
        if number % 12 == 0:
            check_copy(beside(target), state)
        number += 1
    assert number > 30, "every write was tried"


def test_an_update_that_is_killed_at_any_write_has_not_begun_or_is_all_there_and_the_next_call_ends_it(memory: Path) -> None:
    r, state = here(memory, windows=2)
    first, text = LocalStore(memory / "first"), r.place.path.read_text().replace("- coalesce", "- 2 * coalesce")
    old = into(r, first).commit
    state = more(r, state, 4)
    compact(r.store(), r.config, Timeline(r.store()), always=True)
    r.place.path.write_text(text)
    r = Reconciliation(r.place.path)
    r.rebuild()
    timeline = Timeline(r.store())
    at_commit = {n: lines(r.store(), timeline.at(n)) for n in range(old, timeline.head().commit + 1)}
    shutil.copytree(memory / "first", memory / "undisturbed")
    into(r, undisturbed := LocalStore(memory / "undisturbed"))
    number, seen = 1, set()
    while True:
        target = memory / f"copy-{number}"
        shutil.copytree(memory / "first", target)
        if not killed(r, target, number):
            break
        store = LocalStore(target)
        now = Timeline(store).head()
        seen.add(now.commit)
        assert lines(store, now) == at_commit[now.commit]
        assert into(r, store).commit == timeline.head().commit
        assert held(store) == held(undisturbed)
        number += 1
    assert seen == {old, timeline.head().commit}, "no commit between them was ever the newest of a copy"


# ---- beside others ---------------------------------------------------------------------------------------------------


def doing(prefix: str, kind: str, what: Callable[[], Any], times: int = 1) -> faulty_store.Hook:
    """Does something in the middle of reading the source: before its first calls of a kind below ``prefix``."""
    left, lock = [times], threading.Lock()

    def hook(call: faulty_store.Call) -> None:
        with lock:
            if call.kind == kind and call.path.startswith(prefix) and left[0]:
                left[0] -= 1
                what()

    return hook


@pytest.mark.parametrize(
    ("prefix", "kind"),
    [
        ("stateless/", "list"),
        ("events/", "list"),
        ("events/", "get"),
        ("state/", "list"),
        ("state/", "get"),
        ("timeline/", "get"),
        ("certificates/", "list"),
    ],
)
def test_beside_a_writer_a_copy_is_a_commit_of_the_store_and_goes_on_from_there(memory: Path, prefix: str, kind: str) -> None:
    r, state = here(memory, windows=2)
    commit, made = r.state().commit, []

    def write() -> None:
        made.append(more(r, state, 4))

    source = faulty_store.WatchedStore(r.store(), before=doing(prefix, kind, write), mapped=lambda path: False)
    done = copy(source, LocalStore(memory / "copy"), "the target")
    copied = beside(memory / "copy")
    found = copied.verify(full=True)
    assert found.ok, found.problems
    assert commit <= done.commit <= r.state().commit
    # A reduction whose manifest is not here would be taken for that of the copy's own revision of this number.
    for folder in finished_reductions(copied.store()):
        _, window, attempt, _ = folder.split("/")
        assert copied.store().exists(f"events/{window}/manifests/{attempt[:6]}.json")
    copied.run()
    expected = made[0] if 4 in landed(copied) else state
    check_copy(copied, expected)


def landed(r: Reconciliation) -> set[int]:
    from recon.intake.manifests import landed_windows

    return {window for window in range(6) if name_of(s.at(window)) in landed_windows(r.store())}


def swept(r: Reconciliation, clock: Clock) -> None:
    compact(r.store(), r.config, Timeline(r.store()), always=True)
    for _ in range(3):
        clock.sweep(r)


@pytest.mark.parametrize(
    ("prefix", "kind"), [("stateless/", "list"), ("events/", "get"), ("state/", "list"), ("state/", "size"), ("state/", "get")]
)
def test_swept_beneath_it_begins_again_from_the_newer_head(memory: Path, prefix: str, kind: str) -> None:
    r, state = here(memory, windows=4)
    clock, before = Clock(), set(r.store().list("state/"))
    source = faulty_store.WatchedStore(r.store(), before=doing(prefix, kind, lambda: swept(r, clock)), mapped=lambda path: False)
    done = copy(source, LocalStore(memory / "copy"), "the target")
    assert before - set(r.store().list("state/")), "the sweep has removed something"
    assert done.commit == r.state().commit
    check_copy(beside(memory / "copy"), state)


def test_swept_over_and_over_it_gives_up_and_what_came_stays(memory: Path) -> None:
    r, state = here(memory, windows=2)

    def churn() -> None:
        head = Timeline(r.store()).head()
        entry = Entry("sweep", layout.new_attempt(), head.rules, totals=dict(head.totals), swept=("state/of-nobody/part-0000.words",))
        assert Timeline(r.store()).commit(entry, onto=head) is not None

    target = LocalStore(memory / "copy")
    for times in (ROUNDS_MAX, ROUNDS_MAX - 1):
        source = faulty_store.WatchedStore(r.store(), before=doing("stateless/", "list", churn, times), mapped=lambda path: False)
        if times == ROUNDS_MAX:
            with pytest.raises(TryAgain, match="swept 5 times while it was copied"):
                copy(source, target, "the target")
        else:
            assert copy(source, target, "the target").commit == r.state().commit
    check_copy(beside(memory / "copy"), state)


def test_what_the_source_has_swept_the_copy_removes_by_the_next_call(memory: Path) -> None:
    r, state = here(memory, windows=4)
    r.copy(memory / "copy")
    copied, clock = beside(memory / "copy"), Clock()
    before = needed(copied.store(), copied.state())
    swept(r, clock)
    assert r.copy(memory / "copy").removed == 0
    assert before <= set(copied.store().list("state/")), "who reads the copy now has what it reads"
    state = more(r, state, 5)
    assert r.copy(memory / "copy").removed > 0
    assert set(copied.store().list("state/")) == needed(copied.store(), copied.state())
    assert r.copy(memory / "copy").removed == 0
    check_copy(copied, state)


def test_two_that_copy_at_once_do_no_harm(memory: Path) -> None:
    r, state = here(memory)
    failed: list[BaseException] = []

    def one() -> None:
        try:
            copy(LocalStore(r.store().root), LocalStore(memory / "copy"), "the target")  # type: ignore[attr-defined]
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=one) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    check_copy(beside(memory / "copy"), state)


# ---- refused ---------------------------------------------------------------------------------------------------------


def test_what_is_not_an_earlier_copy_is_refused_and_left_as_it_is(memory: Path) -> None:
    r, state = here(memory)
    other = memory / "other"
    other.mkdir()
    another = open_in(other, YAML.replace("name: orders", "name: payments"))
    twin_folder = memory / "twin"
    twin_folder.mkdir()
    twin = open_in(twin_folder, YAML)
    story(twin, 3)  # the same events, in commits of its own
    (memory / "papers").mkdir()
    (memory / "papers" / "letter.txt").write_text("not a store")
    into(r, LocalStore(memory / "further"))
    state = more(beside(memory / "further"), state, 4)
    into(r, LocalStore(memory / "landed"))
    carry_out(beside(memory / "landed"), s.Land(5, s.File("own", (s.Row(),))))
    refused = {
        "other/data": "store of another reconciliation",
        "twin/data": "is not the source's: this is another store, or a copy that has gone on by itself",
        "papers": "neither a store nor a copy",
        "further": "it has gone on by itself",
        "landed": "is not the source's",
        "here/data": "is the store itself",
        "here/data/inside": "or lies in it",
        "here": "or around it",
    }
    for folder, why in refused.items():
        before = {path: path.read_bytes() for path in (memory / folder).rglob("*") if path.is_file()}
        with pytest.raises(WrongUsage, match=re.escape(why)):
            r.copy(memory / folder)
        assert {path: path.read_bytes() for path in (memory / folder).rglob("*") if path.is_file()} == before, folder
    assert another.store().get(layout.STORE)


def test_an_unfinished_copy_of_another_store_is_refused(memory: Path) -> None:
    r, _ = here(memory)
    (memory / "twin").mkdir()
    twin = open_in(memory / "twin", YAML)
    story(twin, 2)
    assert killed(twin, memory / "copy", 12)
    with pytest.raises(WrongUsage, match="unfinished copy of another store"):
        r.copy(memory / "copy")


@pytest.mark.parametrize("at_put", [1, 2, 3])
def test_a_commit_made_in_the_copy_while_it_is_brought_up_to_date_stands_and_nothing_follows_it(memory: Path, at_put: int) -> None:
    r, state = here(memory)
    r.copy(memory / "copy")
    copied, theirs = beside(memory / "copy"), state
    for window in (3, 4, 5):
        more(r, state, window)
    seen = 0

    def commit(call: faulty_store.Call) -> None:
        """A merge in the copy that looked at its timeline before the first entry came."""
        nonlocal seen
        if call.kind == "put_new" and call.path.startswith("timeline/0"):
            seen += 1
            if seen == at_put:
                entry = Entry("tiers", "theirs", copied.state().rules, totals=dict(copied.state().totals))
                body = replace(entry, number=copied.state().commit + 1, time="2026-11-25T00:00:00+00:00").to_json()
                copied.store().put_new(layout.commit(copied.state().commit + 1), [body])

    commit_before = copied.state().commit
    with pytest.raises(WrongUsage, match="is another store, or a copy that has gone on by itself"):
        into(r, faulty_store.WatchedStore(copied.store(), before=commit))
    assert Timeline(copied.store()).head().commit == commit_before + 1
    check_store(copied, theirs)
    assert not copied.store().exists(layout.commit(commit_before + 2))
    assert not copied.store().exists(layout.commit(commit_before + 3))


def test_nobody_commits_in_a_copy_whose_update_was_killed_before_it_is_finished(memory: Path) -> None:
    r, state = here(memory)
    r.copy(memory / "copy")
    copied = beside(memory / "copy")
    carry_out(copied, s.Land(5, s.File("own", (s.Row("K1", "own"),))))
    carry_out(copied, s.Close(5))
    for window in (3, 4):
        more(r, state, window)
    shutil.copy(r.store().local(layout.commit(5)), copied.store().local(layout.commit(5)))  # type: ignore[arg-type]
    with pytest.raises(WrongUsage, match="'recon copy' into this store was not finished; run it again"):
        carry_out(copied, s.Run((5,)))
    assert copied.state().commit == 3
    check_store(copied, state)


# ---- what arrives is compared ----------------------------------------------------------------------------------------


class Garbling(faulty_store.WatchedStore):
    """One byte in the middle of one object is turned over: while it is put, or whenever it is read."""

    def __init__(self, inner: ObjectStore, path: str, once: bool = False) -> None:
        super().__init__(inner, mapped=lambda path: False)
        self.path, self.left = path, 1 if once else 1_000_000

    def _turned(self, path: str, body: bytes) -> bytes:
        if path != self.path or not body or not self.left:
            return body
        self.left -= 1
        return body[: len(body) // 2] + bytes([body[len(body) // 2] ^ 1]) + body[len(body) // 2 + 1 :]


class GarblesPuts(Garbling):
    def put_new(self, path: str, chunks: Iterable[bytes | memoryview]) -> int:
        return super().put_new(path, [self._turned(path, b"".join(bytes(chunk) for chunk in chunks))])


class GarblesGets(Garbling):
    def get(self, path: str) -> bytes:
        return self._turned(path, super().get(path))

    def get_range(self, path: str, offset: int, length: int) -> bytes:
        return self._turned(path, super().get_range(path, offset, length))


@pytest.fixture(params=[8 << 20, 400])
def _pieces(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Objects go whole, or in pieces."""
    monkeypatch.setattr(ranges, "PIECE_BYTES", request.param)


@pytest.mark.usefixtures("_pieces")
def test_a_byte_that_is_changed_on_its_way_into_the_target_is_noticed_whichever_it_is(memory: Path) -> None:
    r, state = here(memory, windows=2)
    into(r, LocalStore(memory / "sound"))
    tried = [
        path for path, size in LocalStore(memory / "sound").sizes("") if size and not path.startswith(MADE_ANEW) and path != layout.STORE
    ]
    assert len(tried) > 20
    for number, path in enumerate(tried):
        target = LocalStore(memory / str(number))
        with pytest.raises(ConnectionLost, match="arrived otherwise"):
            into(r, GarblesPuts(target, path))
        assert not target.exists(layout.STORE)
        into(r, target)
        assert held(target) == held(LocalStore(memory / "sound"))
    check_copy(beside(memory / "0"), state)


@pytest.mark.usefixtures("_pieces")
def test_events_reductions_and_records_that_are_read_otherwise_than_they_were_written_are_noticed(memory: Path) -> None:
    r, _ = here(memory, windows=2)
    rests_on = needed(r.store(), r.state())
    tried = [path for path in r.store().list("") if "/files/" in path or path.endswith(".parquet") or path in rests_on]
    assert len(tried) > 6
    for number, path in enumerate(tried):
        target = LocalStore(memory / str(number))
        with pytest.raises((Damaged, ConnectionLost)):
            copy(GarblesGets(r.store(), path), target, "the target")
        assert not target.exists(layout.commit(1)), path
        into(r, target)
        assert held(target).keys() <= held(r.store()).keys()


@pytest.mark.parametrize(("at", "what"), [(40, "damaged (its head is cut or changed)"), (-9, "the record at offset")])
def test_a_source_that_is_damaged_is_said_to_be(memory: Path, at: int, what: str) -> None:
    r, _ = here(memory, windows=2)
    path = next(path for path in sorted(needed(r.store(), r.state())) if path.endswith(".words"))
    file = r.store().local(path)
    assert file is not None
    body = file.read_bytes()
    changed = bytearray(body)
    changed[at] ^= 1
    file.write_bytes(changed)
    with pytest.raises(Damaged, match=re.escape(f"{path}: {what}")):
        r.copy(memory / "copy")
    file.unlink()
    with pytest.raises(Damaged, match="the source is not whole: run 'recon verify' on it"):
        r.copy(memory / "copy")
    file.write_bytes(body)
    r.copy(memory / "copy")


def test_a_large_object_goes_by_pieces_and_a_small_budget_is_kept(memory: Path, in_s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    body = bytes(range(256)) * (17 << 12) + b"end"
    source, there = LocalStore(memory / "a"), open_store(in_s3, memory)
    source.put_new("large", [body])
    monkeypatch.setattr(ranges, "PIECE_BYTES", 3 << 20)
    watched = faulty_store.WatchedStore(source)
    first = Transfer(watched, there, "there", lambda size: None)
    first.one(Item("large", len(body)), None)
    assert max(call.bytes for call in watched.calls) <= 3 << 20
    back = Transfer(there, LocalStore(memory / "b"), "back", lambda size: None)
    back.one(Item("large", len(body)), None)
    assert LocalStore(memory / "b").get("large") == body
    assert (first.objects, first.bytes, back.bytes) == (1, len(body), len(body))

    budget, lock, now, most = transfer._Budget(100), threading.Lock(), [0], [0]

    def take(size: int) -> None:
        with budget.taken(size):
            with lock:
                now[0] += size
                most[0] = max(most[0], now[0])
            with lock:
                now[0] -= size

    threads = [threading.Thread(target=take, args=(size,)) for size in (30, 60, 90, 100) * 8]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most[0] <= 100
    with budget.taken(1000):
        pass


# ---- what is copied, and what is said --------------------------------------------------------------------------------

COPIED = {
    "store.json",
    "events",
    "landings",
    "quarantine",
    "stateless",
    "state",
    "rules",
    "timeline",
    "generations",
    "indexed",
    "certificates",
}
OF_ITS_OWN = {"clock", "copying.json", "corrections", "leases", "prefetched", "frontiers", "serving", "cache", "shares", "steps"}


def test_each_kind_of_object_is_copied_or_left_on_purpose(memory: Path) -> None:
    assert layout.__doc__ is not None
    named = {re.match(r"    ([a-z.]+)", line)[1] for line in layout.__doc__.splitlines() if re.match(r"    [a-z.]+[/ ]", line)}  # type: ignore[index]
    assert named == COPIED | OF_ITS_OWN, "a new kind of object: say in recon.operations.copy.copy whether it comes along"
    r, _ = here(memory)
    store = r.store()
    held_lease = lease.acquire(store, "stages/merge", "a run", 60)
    assert held_lease is not None
    store.put_new(layout.serving_table_begun(1), [b"{}"])
    store.put_new(layout.CACHE_SEAL, [b"x" * 32])
    store.put_new(layout.prefetched("0" * 16), [b"x"])
    r.copy(memory / "copy")
    found = {path.partition("/")[0] for path in LocalStore(memory / "copy").list("")}
    assert found <= COPIED | {"frontiers"}
    assert found >= COPIED - {"quarantine", "generations", "indexed"}


def test_quarantine_and_notes_of_the_index_come_along(memory: Path) -> None:
    from recon.planning import quarantine
    from recon.state.tiers import indexed_at, note_indexed

    r, _ = here(memory)
    quarantine.put(r.store(), s.at(0), name_of(s.at(0)), 1, "rules", "it does not tie")
    note_indexed(r.store(), s.at(0), 1)
    note_indexed(r.store(), s.at(1), 99)  # of a commit after the copy's
    r.copy(memory / "copy")
    copied = LocalStore(memory / "copy")
    assert quarantine.read(copied, s.at(0), 1, "rules") == quarantine.read(r.store(), s.at(0), 1, "rules")
    assert (indexed_at(copied, s.at(0)), indexed_at(copied, s.at(1))) == (1, 0)
    note_indexed(r.store(), s.at(0), 2)
    r.copy(memory / "copy")
    notes = set(r.store().list("indexed/"))
    assert layout.indexed_commit(s.at(0), 2) in notes
    assert set(copied.list("indexed/")) == notes - {layout.indexed_commit(s.at(1), 99)}


def test_the_command_says_what_it_did_and_what_to_do_next(recon: Call, own: Path) -> None:
    told = recon("copy", "../copy", "--json").json
    assert (told["to"], told["commit"], told["removed"]) == ("../copy", 1, 0)
    assert told["objects"] > 10
    said = recon("copy", "../copy")
    assert said.status == 0
    assert said.out.startswith("../copy is the store as of commit 1: brought nothing new, ")
    config = own / "copy.yaml"
    config.write_text((own / "recon.yaml").read_text().replace("store: ./data", "store: ../copy"))
    assert recon("verify", "--full", "--config", str(config)).status == 0
    assert recon("show", "A112", "--json", "--config", str(config)).json == recon("show", "A112", "--json").json
    refused = recon("copy", "events")
    assert (refused.status, refused.line[:58]) == (2, "events: holds something that is neither a store nor a copy")
    (own.parent / "copy" / "store.json").rename(own.parent / "copy" / "copying.json")
    unfinished = recon("status", "--config", str(config))
    assert unfinished.status == 2
    assert "an unfinished copy of a store; run 'recon copy' to this folder again" in unfinished.line
    assert recon("certificate", FIRST).status == 0


def test_a_copy_of_an_empty_store_is_one(memory: Path) -> None:
    (memory / "here").mkdir()
    r = open_in(memory / "here", YAML)
    assert r.copy(memory / "copy").commit == 0
    state = story(r, 2)
    r.copy(memory / "copy")
    check_copy(beside(memory / "copy"), state)


def test_every_failure_is_one_of_the_projects_own(memory: Path) -> None:
    r, _ = here(memory, windows=2)
    target = memory / "copy"
    for number in (1, 5, 20):
        with pytest.raises(ReconError):
            into(r, faulty_store.WatchedStore(LocalStore(target), before=faulty_store.failing_once("put_new", number)))
    into(r, LocalStore(target))
