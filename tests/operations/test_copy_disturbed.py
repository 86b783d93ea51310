"""Copying a store while processes die, others work and bytes change on their way."""

from __future__ import annotations

import re
import shutil
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import faulty_store
import pytest
import strategies as s
from copied_stores import MADE_ANEW, beside, check_copy, held, here, into, killed, lines, more
from superseded import Clock

from recon.api import Reconciliation
from recon.errors import ConnectionLost, Damaged, TryAgain, WrongUsage
from recon.model.windows import name_of
from recon.operations.copy import transfer
from recon.operations.copy.copy import ROUNDS_MAX, copy
from recon.operations.copy.transfer import Item, Transfer
from recon.operations.copy.windows import finished_reductions
from recon.state.compaction import compact
from recon.state.reachable import needed
from recon.state.timeline import Entry, Timeline
from recon.storage import layout, ranges
from recon.storage.local import LocalStore
from recon.storage.open import open_store
from recon.storage.port import ObjectStore

# ---- killed ----------------------------------------------------------------------------------------------------------


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
