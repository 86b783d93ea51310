"""Pins the oracle down by examples worked by hand, and shows that the strategies reach what they are there for."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st
from oracle import Control, Event, Measure, Picked, Result, Rules, UnreadableError, WindowTotals, oracle, read, typed
from oracle import withdrawn as withdrawn_keys
from strategies import (
    STANDARD_RULES,
    STANDARD_YAML,
    Close,
    File,
    History,
    Land,
    Replace,
    Replay,
    Row,
    Run,
    State,
    Unland,
    at,
    batches,
    current_events,
    histories,
    to_csv,
    to_jsonl,
)


def landed(*windows: list[Row]) -> list[Event]:
    """One CSV file per window, ``w0.csv`` for the first: row i stands on line i + 2."""
    return [event for n, rows in enumerate(windows) for event in File(f"w{n}", tuple(rows)).events(n)]


def event(window: int, line: int, order: int = 0, file: str = "f.csv", **values: str | None) -> Event:
    return Event(at(window), file, order, line, {"order_id": "A", **values})


def time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def rows_by_verdict(totals: WindowTotals) -> tuple[int, int, int, int, int]:
    return totals.rows, totals.counted, totals.duplicates, totals.suppressed, len(totals.rejected)


def places(result: Result, key: str = "A") -> list[tuple[int, int]]:
    """(n, d) of a key's contributions."""
    return [(c.n, c.d) for c in result.artifacts[key].contributions]


# ---- one window ------------------------------------------------------------------------------------------------------


def test_an_invoice_and_its_payment_match() -> None:
    result = oracle(landed([Row(event_id="1"), Row(event_id="2", event_type="PAYMENT", amount="10")]), STANDARD_RULES)
    artifact = result.artifacts["A"]
    assert artifact.status == "MATCHED"
    assert {name: artifact.measures[name] for name in ("billed", "paid", "lines", "amounts")} == {
        "billed": Decimal("10.00"),
        "paid": Decimal("10.00"),
        "lines": 2,
        "amounts": 2,
    }
    assert str(artifact.measures["paid"]) == "10.00"
    assert artifact.derived == {"balance": Decimal("0.00"), "unexplained": Decimal("-10.00")}
    assert [(c.window, c.n, c.d, c.events, c.suppressed) for c in artifact.contributions] == [
        (at(0), 2, 0, [("w0.csv", 2), ("w0.csv", 3)], [])
    ]


def test_the_first_status_that_holds_is_given() -> None:
    unpaid, over = Row(event_id="1"), Row(order_id="B", event_id="2", event_type="PAYMENT")
    artifacts = oracle(landed([unpaid, over]), STANDARD_RULES).artifacts
    assert (artifacts["A"].status, artifacts["B"].status) == ("UNPAID", "BREAK")


def test_a_key_of_which_no_condition_is_true_has_no_status() -> None:
    rules = replace(STANDARD_RULES, status=(("NULL", lambda scope: None), ("FALSE", lambda scope: False)))
    assert oracle(landed([Row()]), rules).artifacts["A"].status is None


def test_derived_values_see_measures_and_earlier_derived_ones_and_of_first_and_last_the_value() -> None:
    derived = (("twice", lambda scope: 2 * scope["opening"]), ("again", lambda scope: 2 * scope["twice"]))
    rules = replace(STANDARD_RULES, derived=derived, status=(("BIG", lambda scope: scope["again"] > 39),))
    artifact = oracle(landed([Row()]), rules).artifacts["A"]
    assert (artifact.derived, artifact.status) == ({"twice": Decimal("20.00"), "again": Decimal("40.00")}, "BIG")


def test_measures_skip_nulls_and_over_nothing_are_null_but_counts_are_0() -> None:
    artifact = oracle(landed([Row(event_type=None, amount="")]), STANDARD_RULES).artifacts["A"]
    assert artifact.measures == {
        "billed": None,
        "paid": None,
        "lines": 1,
        "amounts": 0,
        "smallest": None,
        "largest": None,
        "opening": None,
        "latest": None,
    }
    assert artifact.derived == {"balance": 0, "unexplained": None}


def test_where_takes_true_only() -> None:
    rules = Rules(("order_id",), {"n": "integer"}, measures=(Measure("some", "count", None, _more_than_one),))
    events = [event(0, 1, n="2"), event(0, 2, n="1"), event(0, 3, n="")]
    assert oracle(events, rules).artifacts["A"].measures == {"some": 1}


def _more_than_one(row: dict[str, Any]) -> bool | None:
    return None if row["n"] is None else row["n"] > 1


def test_sums_of_38_digits_are_exact() -> None:
    rules = Rules(("order_id",), {"a": ("decimal", 38, 0)}, measures=(Measure("total", "sum", "a"),))
    events = [event(0, 1, a="9" * 38), event(0, 2, a="1")]
    assert oracle(events, rules).artifacts["A"].measures["total"] == Decimal(10**38)


def test_first_and_last_go_by_time_then_window_order_of_landing_and_line() -> None:
    rules = Rules(
        ("order_id",),
        {"v": "text"},
        id="i",
        time="t",
        dedupe=timedelta(hours=1),
        measures=(Measure("first", "first", "v"), Measure("last", "last", "v")),
    )

    def picked(*events: Event) -> tuple[Any, Any]:
        measures = oracle(events, rules).artifacts["A"].measures
        return measures["first"].value, measures["last"].value

    early, late = "2026-11-01T00:00Z", "2026-11-01T01:00+00:59"  # the later line is one minute after
    assert picked(event(0, 1, v="late", i="1", t=late), event(0, 2, v="early", i="2", t=early)) == ("early", "late")
    assert picked(event(0, 1, v="id 2", i="2", t=early), event(0, 2, v="id 10", i="10", t=early)) == ("id 2", "id 10")
    assert picked(event(0, 1, v="no id", i="", t=early), event(0, 2, v="id 1", i="1", t=early)) == ("no id", "id 1")
    assert picked(event(3, 1, v="w3", i="1", t=early), event(0, 2, v="w0", i="1", t=early)) == ("w0", "w3")
    assert picked(event(0, 1, 1, v="second", t=early), event(0, 2, 0, "g.csv", v="first", t=early)) == ("first", "second")
    assert picked(event(0, 2, v="line 2", t=early), event(0, 1, v="line 1", t=early)) == ("line 1", "line 2")
    assert picked(event(0, 1, v="", t=early), event(0, 2, v="x", t=late), event(0, 3, v="y")) == ("x", "x")
    measures = oracle([event(0, 1, v="x", i="7", t=early)], rules).artifacts["A"].measures
    assert measures["first"] == Picked(datetime(2026, 11, 1, tzinfo=UTC), "x")


def test_several_key_columns_make_a_compact_json_array() -> None:
    rules = Rules(("order_id", "item"), {})
    result = oracle([event(0, 1, item='é"1'), event(0, 2, item=None)], rules)
    assert list(result.artifacts) == ['["A","é\\"1"]']
    assert result.windows[at(0)].rejected == [("f.csv", 2, "empty key")]


# ---- duplicates within a window --------------------------------------------------------------------------------------


def test_within_a_window_the_first_by_time_counts_and_what_differs_from_it_is_a_conflict() -> None:
    later = Row(amount="7.00", booked_at="2026-11-01T00:30:00Z")
    first = Row(amount="5.00", booked_at="2026-11-01T00:20:00Z")
    same = Row(amount="5", booked_at="2026-11-01T01:20:00+01:00")
    untimed = Row(amount="5.00", booked_at=None)
    result = oracle(landed([untimed, later, first, same]), STANDARD_RULES)
    totals = result.windows[at(0)]
    assert result.artifacts["A"].contributions[0].events == [("w0.csv", 4)]
    assert rows_by_verdict(totals) == (4, 1, 3, 0, 0)
    assert totals.conflicting == [("w0.csv", 2), ("w0.csv", 3)]


def test_of_rows_of_one_time_the_first_by_order_of_landing_then_line_counts() -> None:
    rules = Rules(("order_id",), {}, id="i")
    tied = [event(0, 1, 1, "a.csv", i="1"), event(0, 9, 0, "z.csv", i="1"), event(0, 10, 0, "z.csv", i="1")]
    for order in (tied, tied[::-1]):
        assert oracle(order, rules).artifacts["A"].contributions[0].events == [("z.csv", 9)]


def test_rows_without_an_id_are_never_duplicates() -> None:
    rules = replace(STANDARD_RULES, id=None)
    assert places(oracle(landed([Row(event_id=None)] * 2, [Row(event_id=None)]), STANDARD_RULES)) == [(2, 0), (1, 0)]
    assert places(oracle(landed([Row()] * 2, [Row()]), rules)) == [(2, 0), (1, 0)]


def test_one_id_under_two_keys_is_two_events() -> None:
    result = oracle(landed([Row(), Row(order_id="B")], [Row(order_id="B")]), STANDARD_RULES)
    assert (places(result), places(result, "B")) == ([(1, 0)], [(1, 0), (0, 1)])


# ---- duplicates across windows ---------------------------------------------------------------------------------------


def test_an_event_of_exactly_dedupe_before_is_a_duplicate_and_of_one_window_more_is_not() -> None:
    assert places(oracle(landed([Row()], [], [Row()]), STANDARD_RULES)) == [(1, 0), (0, 1)]
    assert places(oracle(landed([Row()], [], [], [Row()]), STANDARD_RULES)) == [(1, 0), (1, 0)]


def test_a_suppressed_event_suppresses_the_next_one_in_turn() -> None:
    rules = replace(STANDARD_RULES, dedupe=timedelta(hours=1))
    assert places(oracle(landed([Row()], [Row()], [Row()]), rules)) == [(1, 0), (0, 1), (0, 1)]
    assert places(oracle(landed([Row()], [], [Row()]), rules)) == [(1, 0), (1, 0)]


def test_a_wholly_suppressed_contribution_is_there_with_counts_of_0_and_null_sums() -> None:
    result = oracle(landed([Row()], [Row(amount="99.00")]), STANDARD_RULES)
    second = result.artifacts["A"].contributions[1]
    assert (second.events, second.suppressed) == ([], [("w1.csv", 2)])
    assert (second.measures["billed"], second.measures["lines"], second.measures["opening"]) == (None, 0, None)
    assert result.artifacts["A"].measures["billed"] == Decimal("10.00")


def test_of_a_suppressed_identity_only_one_row_is_suppressed_and_the_others_are_duplicates_in_their_window() -> None:
    result = oracle(landed([Row()], [Row(), Row(amount="3.00")]), STANDARD_RULES)
    assert rows_by_verdict(result.windows[at(1)]) == (2, 0, 1, 1, 0)
    assert result.windows[at(1)].conflicting == [("w1.csv", 3)]


def test_a_rejected_row_suppresses_nothing() -> None:
    assert places(oracle(landed([Row(amount="abc")], [Row()]), STANDARD_RULES)) == [(1, 0)]


def test_a_suppressed_event_is_no_part_of_first_or_last() -> None:
    again = Row(amount="1.00", booked_at="2026-10-31T00:00:00Z")
    measures = oracle(landed([Row()], [again]), STANDARD_RULES).artifacts["A"].measures
    assert measures["opening"] == Picked(time("2026-11-01T00:10:00Z"), Decimal("10.00"))


# ---- rows ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("10", ("decimal", 18, 2), "10.00"),
        (" +1.500 ", ("decimal", 18, 2), "1.50"),
        ("1E2", ("decimal", 18, 2), "100.00"),
        ("-0", ("decimal", 18, 2), "0.00"),
        ("9999999999999999.99", ("decimal", 18, 2), "9999999999999999.99"),
        (".5", ("decimal", 2, 2), "0.50"),
    ],
)
def test_a_decimal_has_the_declared_scale_and_nothing_is_rounded(text: str, kind: Any, value: str) -> None:
    assert str(typed(text, kind)) == value


@pytest.mark.parametrize(
    ("text", "kind", "why"),
    [
        ("1.005", ("decimal", 18, 2), "too many decimals"),
        ("1e-500000", ("decimal", 18, 2), "too many decimals"),
        ("10000000000000000", ("decimal", 18, 2), "does not fit"),
        ("1e500000", ("decimal", 18, 2), "does not fit"),
        ("1,000.00", ("decimal", 18, 2), "not a decimal"),
        ("NaN", ("decimal", 18, 2), "not a decimal"),
        ("-", ("decimal", 18, 2), "not a decimal"),
        ("9223372036854775808", "integer", "does not fit"),
        ("1.0", "integer", "not an integer"),
        ("yes", "boolean", "not a boolean"),
        ("2026-02-29", "date", "not a date"),
        ("20260228", "date", "not a date"),
        ("yesterday", "timestamp", "not a timestamp"),
        ("2026-11-01T00:00:00.0000001Z", "timestamp", "not a timestamp"),
        ("infinity", "timestamp", "not a timestamp"),
        ("2026-11-01T00:00", "timestamp", "not a timestamp"),
    ],
)
def test_what_is_not_of_its_type_is_rejected_with_its_kind_of_reason(text: str, kind: Any, why: str) -> None:
    with pytest.raises(UnreadableError, match=f"^{why}$"):
        typed(text, kind)


def test_times_are_utc_instants_and_other_types_are_read() -> None:
    midnight = datetime(2026, 11, 1, tzinfo=UTC)
    for text in ("2026-11-01", "2026-11-01 00:00Z", "2026-11-01T00:00:00.000Z", "2026-10-31T19:00:00-05:00"):
        assert typed(text, "timestamp") == midnight
    assert (typed("true", "boolean"), typed("0", "boolean"), typed("-7", "integer")) == (True, False, -7)
    assert (typed("2026-11-01", "date"), typed(" x ", "text")) == (date(2026, 11, 1), " x ")


def test_rejected_rows_keep_their_place_and_reason_and_are_counted_nowhere_else() -> None:
    bad = [Row(amount="1.005"), Row(order_id=""), Row(booked_at="yesterday"), Row(amount="abc", booked_at="x")]
    result = oracle(landed([*bad, Row(order_id="B")]), STANDARD_RULES)
    totals = result.windows[at(0)]
    assert totals.rejected == [
        ("w0.csv", 2, "too many decimals"),
        ("w0.csv", 3, "empty key"),
        ("w0.csv", 4, "bad time"),
        ("w0.csv", 5, "bad time"),
    ]
    assert (rows_by_verdict(totals), totals.accepted, totals.keys) == ((5, 1, 0, 0, 4), 1, {"B"})
    assert list(result.artifacts) == ["B"]


# ---- windows ---------------------------------------------------------------------------------------------------------


def test_money_is_totalled_per_currency_and_verdict_where_it_can_be_read() -> None:
    first = [Row(amount="1.00"), Row(amount="2.00"), Row(event_id="2", amount="4.00", currency="USD")]
    second = [Row(amount="8.00"), Row(event_id="3", amount="16.00", currency=""), Row(order_id="", amount="32.00")]
    totals = oracle(landed(first, [*second, Row(amount="abc")]), STANDARD_RULES).windows
    assert totals[at(0)].money["amount"] == {
        "in": {"EUR": Decimal("3.00"), "USD": Decimal("4.00")},
        "counted": {"EUR": Decimal("1.00"), "USD": Decimal("4.00")},
        "duplicate": {"EUR": Decimal("2.00")},
        "suppressed": {},
        "rejected": {},
    }
    assert totals[at(1)].money["amount"] == {
        "in": {"EUR": Decimal("40.00"), None: Decimal("16.00")},
        "counted": {None: Decimal("16.00")},
        "duplicate": {},
        "suppressed": {"EUR": Decimal("8.00")},
        "rejected": {"EUR": Decimal("32.00")},
    }
    assert totals[at(1)].money["rows"]["in"] == {"": 4}


def test_a_control_count_of_a_column_takes_only_what_can_be_read() -> None:
    rules = replace(STANDARD_RULES, control=(Control("amounts", "count", "amount"),))
    totals = oracle(landed([Row(), Row(event_id="2", amount=""), Row(amount="abc")]), rules).windows[at(0)]
    assert totals.money["amounts"]["in"] == {"": 1}


def test_as_of_leaves_out_later_windows_and_takes_the_one_named() -> None:
    events = landed([Row()], [Row(event_id="2", event_type="PAYMENT")], [Row(order_id="B")])
    result = oracle(events, STANDARD_RULES, as_of=at(1))
    assert (list(result.artifacts), list(result.windows)) == (["A"], [at(0), at(1)])
    assert oracle(events, STANDARD_RULES, as_of=at(0)).artifacts["A"].status == "UNPAID"


def test_a_key_that_is_gone_from_a_window_is_withdrawn_there_until_it_comes_back() -> None:
    both, one = File("both", (Row(), Row(order_id="B"))), File("one", (Row(),))
    gone = (Land(0, both), Close(0), Run((0,)), Replace(0, "both.csv", one), Run((0,)))
    state = History(gone).states()[-1]
    assert withdrawn_keys(state.committed_revisions(), STANDARD_RULES) == {"B": [at(0)]}
    assert list(oracle(state.committed_events(), STANDARD_RULES).artifacts) == ["A"]
    back = History((*gone, Land(0, both), Unland(0, "one.csv"), Run((0,)))).states()[-1]
    assert withdrawn_keys(back.committed_revisions(), STANDARD_RULES) == {}


# ---- histories -------------------------------------------------------------------------------------------------------


def test_a_run_commits_what_is_closed_and_changed_and_nothing_else() -> None:
    one, two = File("one", (Row(),)), File("two", (Row(event_id="2"),))
    history = History(
        (
            Land(0, one),
            Land(1, one),
            Run((0, 1)),
            Close(0),
            Run((0, 1)),
            Run((0,)),
            Land(0, two),
            Land(0, two),
            Run((0,)),
        )
    )
    states = history.states()
    assert [state.processed for state in states if state.processed] == [(0,), (0,)]
    assert [len(state.committed_events()) for state in states] == [0, 0, 0, 0, 1, 1, 1, 1, 2]
    assert len(current_events(history)) == 3


@pytest.mark.parametrize(("format", "first_line"), [("csv", 2), ("jsonl", 1), ("jsonl-numbers", 1)])
def test_rendered_files_hold_on_each_line_the_row_that_its_event_says(format: str, first_line: int) -> None:
    file = File("f", (Row(amount="1.50"), Row(order_id='k,"é"', amount=None, event_id="x-3"), Row(amount="abc")), format)
    lines = file.content.decode().split("\n")
    assert [event.line for event in file.events(0)] == [first_line, first_line + 1, first_line + 2]
    second = lines[first_line]
    if format == "csv":
        assert lines[0] == "order_id,event_id,event_type,amount,currency,booked_at,f.csv"
        assert second.startswith('"k,""é""",x-3,INVOICE,,EUR,')
    else:
        assert json.loads(second)["order_id"] == 'k,"é"'
        assert ('"amount": 1.50' in lines[0]) == (format == "jsonl-numbers")
        assert '"amount": "abc"' in lines[2]
    assert lines[-1] == ""
    assert (to_csv([]).count("\n"), to_jsonl([], numbers=True)) == (1, "")


ORDINARY = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@ORDINARY
@given(histories(), st.randoms(use_true_random=False))
def test_the_order_of_events_says_nothing(history: History, chance: random.Random) -> None:
    events = current_events(history)
    shuffled = events.copy()
    chance.shuffle(shuffled)
    assert oracle(shuffled, STANDARD_RULES) == oracle(events, STANDARD_RULES)


@ORDINARY
@given(histories())
def test_in_is_counted_and_duplicates_and_suppressed_and_rejected_in_rows_and_money(history: History) -> None:
    events = current_events(history)
    result = oracle(events, STANDARD_RULES)
    assert sum(totals.rows for totals in result.windows.values()) == len(events)
    for window, totals in result.windows.items():
        counted, duplicates, suppressed, rejected = rows_by_verdict(totals)[1:]
        assert totals.rows == counted + duplicates + suppressed + rejected == totals.accepted + rejected
        own = [c for a in result.artifacts.values() for c in a.contributions if c.window == window]
        assert (sum(c.n for c in own), sum(c.d for c in own), len(own)) == (counted, suppressed, len(totals.keys))
        for shares in totals.money.values():
            for split, total in shares["in"].items():
                assert total == sum(s.get(split, 0) for name, s in shares.items() if name != "in")


@ORDINARY
@given(histories())
def test_every_operation_of_a_history_is_applicable_and_the_last_run_leaves_nothing_to_do(history: History) -> None:
    before = State()
    for operation, after in zip(history.operations, history.states(), strict=True):
        names = {} if isinstance(operation, Run) else {f.name for f in before.files.get(operation.window, ())}
        if isinstance(operation, Close):
            assert names
            assert operation.window not in before.closed
        elif isinstance(operation, Replace):
            assert operation.old in names
            assert operation.file.name not in names
        elif isinstance(operation, Unland):
            assert operation.name in names
        elif isinstance(operation, Replay):
            assert before.revisions[operation.window]
        before = after
    assert not before.pending
    assert oracle(before.committed_events(), STANDARD_RULES) == oracle(current_events(history), STANDARD_RULES)


def test_the_standard_rules_as_text_and_as_callables_name_the_same() -> None:
    text = yaml.safe_load(STANDARD_YAML)
    measures = {m.name: {m.kind: m.column or "*"} for m in STANDARD_RULES.measures}
    assert {n: {k: c for k, c in m.items() if k != "where"} for n, m in text["measures"].items()} == measures
    filtered = {name for name, measure in text["measures"].items() if "where" in measure}
    assert filtered == {m.name for m in STANDARD_RULES.measures if m.where is not None}
    assert list(text["derived"]) == [name for name, _ in STANDARD_RULES.derived]
    assert [name for one in text["status"] for name in one] == [name for name, _ in STANDARD_RULES.status]
    controls = {c.name: {c.kind: c.column or "*"} | ({"by": c.by} if c.by else {}) for c in STANDARD_RULES.control}
    assert text["control"] == controls
    assert (text["key"], text["events"]["id"], text["events"]["time"], text["events"]["dedupe"]) == (
        *STANDARD_RULES.key,
        STANDARD_RULES.id,
        STANDARD_RULES.time,
        f"{STANDARD_RULES.dedupe // timedelta(hours=1)}h",
    )


@ORDINARY
@given(batches())
def test_batches_have_one_to_three_files_in_each_window(batch: dict[int, tuple[File, ...]]) -> None:
    assert 1 <= len(batch) <= 6
    assert all(1 <= len(own) <= 3 and len({file.digest for file in own}) == len(own) for own in batch.values())


def _some_window(holds: Callable[[WindowTotals], Any]) -> Callable[[History], bool]:
    return lambda history: any(holds(totals) for totals in oracle(current_events(history), STANDARD_RULES).windows.values())


def _edge_of_horizon(history: History) -> bool:
    """Exactly dedupe apart with nothing between, and one window more."""
    rows = [row for e in current_events(history) if (row := read(e, STANDARD_RULES)).why is None and row.id]
    seen = {(row.key, row.id, row.event.window) for row in rows}

    def gap(key: str, id: str | None, window: datetime, hours: int) -> bool:
        before = [(key, id, window - timedelta(hours=h)) in seen for h in range(1, hours + 1)]
        return before[-1] and not any(before[:-1])

    return any(gap(*one, hours=2) for one in seen) and any(gap(*one, hours=3) for one in seen)


def _chain(history: History) -> bool:
    """Suppressed in three windows one after the other: the third is beyond the first's horizon."""
    artifacts = oracle(current_events(history), STANDARD_RULES).artifacts.values()
    return any(sum(c.d > 0 for c in artifact.contributions) >= 3 for artifact in artifacts)


def _last(holds: Callable[[State], Any]) -> Callable[[History], bool]:
    return lambda history: bool(holds(history.states()[-1]))


REACHED: dict[str, Callable[[History], bool]] = {
    "suppressed": _some_window(lambda totals: totals.suppressed),
    "conflicting": _some_window(lambda totals: totals.conflicting),
    "duplicate that agrees": _some_window(lambda totals: totals.duplicates > len(totals.conflicting)),
    "two currencies": _some_window(lambda totals: len(totals.money["amount"]["counted"]) > 1),
    **{
        why: _some_window(lambda totals, why=why: why in {kind for _, _, kind in totals.rejected})  # type: ignore[misc]
        for why in ("empty key", "bad time", "not a decimal", "too many decimals", "does not fit")
    },
    "edge of the horizon": _edge_of_horizon,
    "chain": _chain,
    "withdrawn": _last(lambda state: withdrawn_keys(state.committed_revisions(), STANDARD_RULES)),
    "all revisions of a window": _last(lambda state: max(map(len, state.revisions.values()), default=0) >= 3),
    "late window": lambda history: any(
        state.processed and any(window > max(state.processed) for window in before.revisions)
        for before, state in zip(history.states(), history.states()[1:], strict=False)
    ),
}


@pytest.mark.parametrize("wanted", REACHED)
def test_random_histories_reach(wanted: str) -> None:
    search = settings(max_examples=1500, database=None, derandomize=True, deadline=None, phases=[Phase.generate])
    find(histories(), REACHED[wanted], settings=search)
