"""Copying a store: what arrives is the whole store."""

from __future__ import annotations

import re
import shutil
import tempfile
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import faulty_store
import pytest
import strategies as s
from cli_calls import FIRST, Call
from copied_stores import at, beside, check_copy, held, here, into, killed, more
from histories import carry_out, check_store, open_in, records, slow
from hypothesis import given
from hypothesis import strategies as st
from superseded import YAML, Clock, story

from recon.api import Reconciliation
from recon.errors import ReconError, WrongUsage
from recon.intake import landing_log
from recon.model.windows import name_of
from recon.planning import due
from recon.state.compaction import compact
from recon.state.timeline import Entry, Timeline
from recon.storage import layout, lease
from recon.storage.local import LocalStore

SLOW = slow(2)


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
    "received",
    "loads",
}
OF_ITS_OWN = {"clean", "clock", "copying.json", "corrections", "leases", "prefetched", "frontiers", "serving", "cache", "shares", "steps"}


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
    assert found >= COPIED - {"quarantine", "generations", "indexed", "received", "loads"}


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
