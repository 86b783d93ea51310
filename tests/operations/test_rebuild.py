"""Rebuilds: after a change of the rules everything is taken again, at once or not at all, and what was known before stays known."""

from __future__ import annotations

import csv
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import faulty_store
import pytest
import strategies as s
from histories import carry_out, check_store, fresh, open_in, records, run_range, slow
from hypothesis import assume, given
from hypothesis import strategies as st
from oracle import oracle
from other_rules import OTHER_RULES, OTHER_YAML, begun, story

import recon
from recon.api import Reconciliation
from recon.errors import WrongInput, WrongUsage
from recon.model.windows import name_of

SLOW = slow(2)
SOAK = os.environ.get("RECON_SOAK") == "1"


def with_other_rules(r: Reconciliation) -> Reconciliation:
    """The same store, by a configuration with the other rules."""
    path = r.config.path.with_name("other.yaml")
    path.write_text(OTHER_YAML)
    return recon.open(path)


def picture(r: Reconciliation, **asked: Any) -> list[dict[str, Any]]:
    return r.artifacts(**asked).to_pylist()


@SLOW
@given(s.histories(max_windows=4, max_operations=8), s.histories(max_windows=4, max_operations=6))
def test_after_a_change_of_rules_a_rebuild_gives_what_the_new_rules_say_and_histories_go_on(first: s.History, then: s.History) -> None:
    with fresh() as r:
        for operation in first.operations:
            carry_out(r, operation)
        before, known = picture(r), r.state().time
        other = with_other_rules(r)
        with pytest.raises(WrongUsage, match="the rules changed since commit"):
            other.run()
        preview, changes = other.preview_rebuild()
        assert picture(r) == before, "a preview changes nothing that is visible"
        rebuilt = other.rebuild()
        check_store(other, first.states()[-1], OTHER_RULES)
        assert (preview.before, preview.after) == (rebuilt.before, rebuilt.after)
        assert not other.verify(full=True).problems
        old, new = (oracle(first.states()[-1].committed_events(), rules).artifacts for rules in (s.STANDARD_RULES, OTHER_RULES))
        judged = {row["key"]: (row["status_before"], row["status_after"]) for row in changes.to_pylist()}
        for key in {*old, *new}:
            statuses = tuple(side[key].status if key in side else None for side in (old, new))
            assert judged.get(key, statuses) == statuses
            assert key in judged or statuses[0] == statuses[1]
        assert picture(other, known_at=known) == before
        for row in before:
            assert other.show(row["key"], known_at=known)["status"] == row["status"]
        state = first.states()[-1]
        for operation in then.operations:  # whatever of it applies to what stands now
            if isinstance(operation, s.Land):  # a file of a name that is taken would land under another
                operation = replace(operation, file=replace(operation.file, stem=f"then-{operation.file.stem}"))
            if isinstance(operation, (s.Land, s.Close, s.Run)):
                state = s.apply(state, operation)
                carry_out(other, operation)
        check_store(other, state, OTHER_RULES)
        assert not other.verify(full=True).problems


@SLOW
@given(s.histories(max_windows=4, max_operations=6), st.data())
def test_windows_that_are_committed_by_the_old_rules_while_a_rebuild_runs_are_not_missed(history: s.History, data: st.DataObject) -> None:
    with fresh() as r:
        for operation in history.operations:
            carry_out(r, operation)
        assume(r.state().commit)  # a window whose only file was taken back may be all that there was
        state = history.states()[-1]
        other = with_other_rules(r)
        moments = data.draw(st.sets(st.integers(1, 25), max_size=3))
        late = iter(range(3))

        def meanwhile(call: faulty_store.Call) -> None:
            nonlocal state
            if call.kind == "put_new" and call.number in moments and (number := next(late, None)) is not None:
                for operation in (s.Land(4 + number, s.File(f"late-{number}", (s.Row(event_id=f"late-{number}"),))), s.Close(4 + number)):
                    carry_out(r, operation)
                    state = s.apply(state, operation)
                if r.state().rules == r.config.rules_version:  # else the switch has been, and the old rules are refused
                    run_range(r, (4 + number,))
                    state = s.apply(state, s.Run((4 + number,)))

        other._store = faulty_store.WatchedStore(other.store(), before=meanwhile)
        other.rebuild()
        other._store = None
        check_store(other, state, OTHER_RULES)
        other.run()
        check_store(other, s.apply(state, s.Run((4, 5, 6))), OTHER_RULES)
        assert not other.verify(full=True).problems


class Killed(Exception):
    """The process dies here."""


@pytest.mark.parametrize("kind", ["put_new", "copy_in"])
def test_a_rebuild_that_dies_at_any_write_changes_nothing_or_all_and_is_completed_by_the_next(tmp_path: Path, kind: str) -> None:
    """In `make test` at every third put; test_reachable.py has every object after the switch."""
    (tmp_path / "made").mkdir()
    made = open_in(tmp_path / "made")
    state, before = story(made), records(made)
    number, dies = 0, True
    while dies:
        number += 1 if SOAK or kind == "copy_in" else 3
        r = recon.open(shutil.copytree(tmp_path / "made", tmp_path / str(number)) / "recon.yaml")
        other = with_other_rules(r)

        def hook(call: faulty_store.Call, at: int = number) -> None:
            if call.kind == kind and call.number == at:
                raise Killed

        other._store = faulty_store.WatchedStore(other.store(), before=hook)
        try:
            other.rebuild()
            dies = False
        except Killed:
            pass
        other = with_other_rules(r)
        if other.state().rules != other.config.rules_version:
            assert records(r) == before
            assert len(begun(r)) <= 1
        other.rebuild() if other.state().rules != other.config.rules_version else other.run()
        check_store(other, state, OTHER_RULES)
    assert number > 5


def test_a_rebuild_by_the_same_rules_gives_equal_artifacts_and_names_itself_in_the_certificates(tmp_path: Path) -> None:
    r = open_in(tmp_path)
    state = story(r)
    before = picture(r)
    rebuilt = r.rebuild()
    assert picture(r) == before
    assert (rebuilt.windows, rebuilt.certificates) == (3, 3)
    certificate = r.certificate(name_of(s.at(0)))
    assert certificate is not None
    assert certificate["changed_by"] == {"cause": "rebuild", "reason": f"by the rules {r.config.rules_version}"}
    assert (certificate["number"], certificate["commit"]) == (3, rebuilt.commit)
    check_store(r, state)
    assert not r.verify(full=True).problems
    assert r.run().commits == []


def test_a_preview_writes_the_keys_that_would_change_and_its_generation_is_what_the_rebuild_switches_to(tmp_path: Path) -> None:
    r = open_in(tmp_path)
    story(r)
    other = with_other_rules(r)
    preview, changes = other.preview_rebuild(tmp_path / "changes.csv")
    with (tmp_path / "changes.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["key"] for row in rows] == changes.column("key").to_pylist()
    assert {*rows[0]} >= {"key", "status_before", "status_after", "change", "billed_before", "billed_after", "refunds_after"}
    assert (preview.changed, preview.added, preview.removed) == (len(rows), ["refunds"], [])
    assert any("billed" in row["change"] for row in rows)
    (generation,) = begun(r)
    written = {path for path in r.store().list("") if path.startswith(("stateless/", "state/"))}
    other.rebuild()
    assert begun(r) == []
    assert {path for path in r.store().list("") if path.startswith(("stateless/", "state/"))} == written, "nothing was done again"
    entry = other.state()
    assert {held.commit for held in entry.windows.values()} == {entry.commit}
    assert generation in r.store().get(f"timeline/{entry.commit:012d}.json").decode()
    other.preview_rebuild(tmp_path / "changes.xlsx")
    assert (tmp_path / "changes.xlsx").stat().st_size > 1000


def test_a_window_that_the_new_rules_cannot_process_stops_the_rebuild_before_anything_is_switched(tmp_path: Path) -> None:
    r = open_in(tmp_path)
    story(r)
    path = tmp_path / "strict.yaml"
    path.write_text(s.STANDARD_YAML.replace("decimal(18,2)", "decimal(18,1)") + "rejects: stop\n")
    landed = tmp_path / "fine.csv"
    landed.write_text(s.to_csv([s.Row(amount="1.25")]))
    r.land([landed], name_of(s.at(3)), close=True)
    r.run()
    before = r.state().commit
    with pytest.raises(WrongInput, match=r"nothing was switched: window 2026-11-01T03:00Z: fine.csv, line 2: amount"):
        recon.open(path).rebuild()
    assert r.state().commit == before


def test_nothing_can_be_rebuilt_before_anything_is_committed_and_a_grid_stays_as_it_is(tmp_path: Path) -> None:
    r = open_in(tmp_path)
    with pytest.raises(WrongUsage, match="nothing is committed yet"):
        r.rebuild()
    (tmp_path / "grid.yaml").write_text(s.STANDARD_YAML.replace("every: 1h", "every: 2h"))
    with pytest.raises(WrongUsage, match=r"windows\.every"):
        recon.open(tmp_path / "grid.yaml").rebuild()


def test_what_was_known_before_needs_the_rules_of_then_and_says_so_where_they_are_gone(tmp_path: Path) -> None:
    r = open_in(tmp_path)
    story(r)
    known = r.state().time
    other = with_other_rules(r)
    other.rebuild()
    assert picture(other, known_at=known)
    for path in r.store().list("rules/"):
        r.store().delete(path)
    with pytest.raises(WrongUsage, match=r"rules/.*\.json: the rules of version .* are not in the store"):
        picture(other, known_at=known)


def test_what_was_known_by_logic_of_several_modules_is_still_judged_by_their_texts_of_then(tmp_path: Path) -> None:
    (tmp_path / "judging").mkdir()
    (tmp_path / "judging" / "__init__.py").write_text("")
    (tmp_path / "judging" / "names.py").write_text("NAME = 'SETTLED'\n")
    logic = (
        "import pyarrow as pa\nfrom judging.names import NAME\n\n"
        "def judge(table, stage):\n"
        "    if stage == 'reduce':\n        return table\n"
        "    status = pa.array([NAME] * table.num_rows, pa.string())\n"
        "    return table.set_column(table.schema.get_field_index('status'), 'status', status)\n"
    )
    (tmp_path / "judge.py").write_text(logic)
    r = open_in(tmp_path, s.STANDARD_YAML + "logic: judge:judge\n")
    for operation in (s.Land(0, s.File("w0", (s.Row(),))), s.Close(0), s.Run((0,))):
        carry_out(r, operation)
    known = r.state().time
    (tmp_path / "judging" / "names.py").write_text("NAME = 'DONE'\n")
    changed = recon.open(tmp_path / "recon.yaml")
    changed.rebuild()
    assert [row["status"] for row in picture(changed)] == ["DONE"]
    assert [row["status"] for row in picture(changed, known_at=known)] == ["SETTLED"]
    as_of = name_of(s.at(0))
    assert changed.show("A", through=as_of)["status"] == "DONE"
    assert changed.show("A", through=as_of, known_at=known)["status"] == "SETTLED", "judged again, by the texts of then"
