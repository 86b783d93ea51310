"""The laws, as random histories against the oracle in plain Python."""

from __future__ import annotations

import itertools
import os
from dataclasses import replace
from unittest.mock import patch

import strategies as s
from histories import carry_out, follow, fresh, records, run_range, same
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from oracle import oracle, withdrawn
from plain_rules import PLAIN_RULES, PLAIN_YAML

from recon.engines.duckdb import reduce
from recon.model.windows import name_of

EXAMPLES = int(os.environ.get("RECON_LAW_EXAMPLES", "3"))
SLOW = settings(deadline=None, max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))


@SLOW
@given(s.histories(), st.sampled_from(s.FOLDERS))
def test_artifacts_and_certificates_equal_the_oracles_after_every_run_of_any_history(history: s.History, name: str) -> None:
    with fresh(name=name) as r:
        follow(r, history)


@SLOW
@given(s.histories(max_windows=4, max_operations=10))
def test_a_key_with_more_ids_than_its_record_may_hold_comes_out_the_same(history: s.History) -> None:
    with fresh() as r, patch.object(reduce, "IDS_MAX", 3):
        follow(r, history)


@SLOW
@given(s.histories(max_windows=4, max_operations=6))
def test_events_without_ids_and_times_are_all_counted_under_a_key_of_two_columns(history: s.History) -> None:
    with fresh(PLAIN_YAML) as r:
        follow(r, history, PLAIN_RULES)


@SLOW
@given(s.histories(max_windows=4, max_operations=10))
def test_artifacts_with_two_currencies_add_none_of_them_up(history: s.History) -> None:
    rules = s.CURRENCY_RULES
    with fresh(s.CURRENCY_YAML) as r:
        follow(r, history, rules)
        assert not r.verify(full=True).problems
        for key, artifact in oracle(history.states()[-1].committed_events(), rules).artifacts.items():
            shown = r.show(key)
            assert shown["currencies"] == artifact.currencies
            found = shown.get("by_currency", {})
            assert list(found) == (artifact.currencies if len(artifact.currencies) > 1 else [])
            for currency, measures in found.items():
                assert all(same(measures[name], wanted) for name, wanted in artifact.by_currency[currency].items())


@SLOW
@given(s.histories(max_windows=4, max_operations=10))
def test_ids_of_several_columns_and_numbered_rows_come_out_as_the_oracle_says(history: s.History) -> None:
    rules = replace(s.STANDARD_RULES, id=("event_type", "event_id", "#"))
    with fresh(s.NUMBERED_YAML) as r:
        follow(r, history, rules)
        assert not r.verify(full=True).problems


@SLOW
@given(s.histories(max_windows=4, max_operations=8))
def test_a_window_that_is_closed_with_too_few_files_is_short_in_its_certificate(history: s.History) -> None:
    with fresh(s.SHORT_YAML) as r:
        follow(r, history)
        for window, revisions in history.states()[-1].revisions.items():
            certificate = r.certificate(name_of(s.at(window)))
            assert certificate is not None
            assert (certificate["received_files"], certificate["short"]) == (len(revisions[-1]), len(revisions[-1]) < 2)


@SLOW
@given(s.histories())
def test_a_record_names_the_windows_that_once_held_its_key_and_no_longer_do(history: s.History) -> None:
    with fresh() as r:
        for operation in history.operations:
            carry_out(r, operation)
        gone = withdrawn(history.states()[-1].committed_revisions(), s.STANDARD_RULES)
        held = {key: record["withdrawn"] for key, record in records(r).items() if record["withdrawn"]}
        assert held == {key: [name_of(window) for window in windows] for key, windows in gone.items() if windows}


@SLOW
@given(s.batches(), st.data())
def test_any_order_and_any_grouping_of_the_same_windows_gives_the_same_bytes(
    batches: dict[int, tuple[s.File, ...]], data: st.DataObject
) -> None:
    seen = []
    for _ in range(2):
        order = data.draw(st.permutations(sorted(batches)))
        cuts = sorted(data.draw(st.sets(st.integers(1, len(order)))) | {0, len(order)})
        with fresh() as r:
            for window, files in batches.items():
                for file in files:
                    carry_out(r, s.Land(window, file))
                carry_out(r, s.Close(window))
            for start, end in itertools.pairwise(cuts):
                run_range(r, tuple(order[start:end]))
            seen.append(records(r))
    assert seen[0] == seen[1]


@SLOW
@given(s.batches(max_windows=3), st.data())
def test_a_replay_of_the_same_input_writes_no_artifact_again(batches: dict[int, tuple[s.File, ...]], data: st.DataObject) -> None:
    with fresh() as r:
        for window, files in batches.items():
            for file in files:
                carry_out(r, s.Land(window, file))
            carry_out(r, s.Close(window))
        run_range(r, tuple(batches))
        before = records(r)
        replayed = data.draw(st.sets(st.sampled_from(sorted(batches)), min_size=1))
        for window in replayed:
            carry_out(r, s.Replay(window))
        report = run_range(r, tuple(replayed))
        assert report.written == 0
        assert sorted(report.windows) == [name_of(s.at(window)) for window in sorted(replayed)]
        assert records(r) == before


@SLOW
@given(s.histories(max_windows=4, max_operations=8), st.integers(0, 5))
def test_as_of_a_window_is_what_the_windows_up_to_it_come_to(history: s.History, last: int) -> None:
    with fresh() as r:
        for operation in history.operations:
            carry_out(r, operation)
        state = history.states()[-1]
        expected = oracle(state.committed_events(), s.STANDARD_RULES, as_of=s.at(last))
        table = r.artifacts(through=name_of(s.at(last))).to_pylist()
        assert [row["key"] for row in table] == sorted(expected.artifacts)
        for row in table:
            artifact = expected.artifacts[row["key"]]
            assert row["status"] == artifact.status
            assert row["billed"] == artifact.measures["billed"]
            assert row["windows"] == len(artifact.contributions)
            shown = r.show(row["key"], through=name_of(s.at(last)))
            assert shown["status"] == artifact.status
            assert [part["events"] for part in shown["contributions"]] == [c.n for c in artifact.contributions]


@SLOW
@given(s.batches(max_windows=3))
def test_every_counted_cent_leads_back_to_an_event_with_its_file_and_line(
    batches: dict[int, tuple[s.File, ...]],
) -> None:
    with fresh() as r:
        landed = []
        for window, files in batches.items():
            for file in files:
                carry_out(r, s.Land(window, file))
            landed += s.events_of(window, files)
            carry_out(r, s.Close(window))
        run_range(r, tuple(batches))
        for key, artifact in oracle(landed, s.STANDARD_RULES).artifacts.items():
            shown = r.show(key, events=True)
            for part, contribution in zip(shown["contributions"], artifact.contributions, strict=True):
                for counted, expected in (
                    (True, contribution.events),
                    (False, sorted([*contribution.suppressed, *contribution.duplicates])),
                ):
                    events = [event for event in part["event_list"] if event["counted"] is counted]
                    assert sorted((event["file"], event["line"]) for event in events) == expected
                    assert all(("duplicate_of" in event) is not counted for event in events)
