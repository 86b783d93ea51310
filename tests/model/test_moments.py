"""Moments that a question is asked about: --as-of, --through and --known-at, from Python and on the command line."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import strategies as s
from cli_calls import Call
from histories import carry_out, open_in
from hypothesis import given
from hypothesis import strategies as st

from recon.api import Reconciliation
from recon.errors import WrongUsage
from recon.model.moments import known_instant, upto
from recon.model.windows import Grid, name_of

W0, W1, W2, W3 = (name_of(s.at(window)) for window in range(4))
GRID = Grid(s.START, timedelta(hours=1))
DAYS = Grid(datetime(2026, 10, 30, 4, tzinfo=UTC), timedelta(days=1), "America/New_York")
NOW = datetime(2026, 11, 1, 3, 20, tzinfo=UTC)


@pytest.fixture(scope="module")
def r(tmp_path_factory: pytest.TempPathFactory) -> Reconciliation:
    """A is billed 10.00 in W0, paid in W1."""
    r = open_in(tmp_path_factory.mktemp("moments"))
    paid = s.Row(event_id="p", event_type="PAYMENT", booked_at="2026-11-01T01:10:00Z")
    carry_out(r, s.Land(0, s.File("a", (s.Row(),))))
    carry_out(r, s.Land(1, s.File("b", (paid,))))
    for operation in (s.Close(0), s.Close(1), s.Run((0, 1))):
        carry_out(r, operation)
    return r


def test_as_of_a_time_counts_the_windows_that_had_ended_and_through_a_window_counts_it(r: Reconciliation) -> None:
    assert r.show("A", as_of=W1)["status"] == "UNPAID", "W1 had only begun then"
    assert r.show("A", through=W0)["status"] == "UNPAID"
    assert r.show("A", as_of=W2)["status"] == "MATCHED"
    assert r.show("A", through=W1)["status"] == "MATCHED"


@pytest.mark.parametrize("written", [W1, "2026-11-01T01:00:00+00:00", "2026-10-31T20:00-05:00", "2026-11-01T02:00+01:00"])
def test_equal_instants_give_equal_answers_however_they_are_written(r: Reconciliation, written: str) -> None:
    assert r.show("A", as_of=written) == r.show("A", as_of=W1) == r.show("A", through=W0)
    assert r.artifacts(as_of=written).to_pylist() == r.artifacts(through=W0).to_pylist()


def test_an_answer_names_both_forms_and_each_can_be_given_back(r: Reconciliation) -> None:
    shown = r.show("A", through=W0)
    assert (shown["as_of"], shown["through"]) == (W1, W0)
    assert r.show("A", as_of=shown["as_of"]) == r.show("A", through=shown["through"]) == shown


@pytest.mark.parametrize(
    ("as_of", "through", "said"),
    [
        ("2026-11-01T01:20Z", None, "no window ends then; the nearest end of a window is 2026-11-01T01:00Z"),
        ("2026-11-01T01:40Z", None, "no window ends then; the nearest end of a window is 2026-11-01T02:00Z"),
        ("2026-11-01T03:00", None, "has no zone; write 2026-11-01T03:00Z"),
        ("2026-11-01", None, "has no zone; write 2026-11-01T00:00Z"),
        ("2026-11-01T04:00Z", None, "is in the future; the newest window that has ended did so at 2026-11-01T03:00Z"),
        ("2026-11-01T00:00Z", None, "no window had ended by then; the first ends at 2026-11-01T01:00Z"),
        (None, "2026-11-01T04:00Z", "this window is in the future; the newest that has begun is 2026-11-01T03:00Z"),
        (None, "2026-11-01T01:20Z", "the nearest is 2026-11-01T01:00Z"),
        (W1, W0, "give one of them"),
    ],
)
def test_a_moment_that_has_no_answer_is_refused_with_the_nearest_that_has(as_of: str | None, through: str | None, said: str) -> None:
    with pytest.raises(WrongUsage, match=said):
        upto(GRID, as_of, through, NOW)


def test_a_local_month_ends_at_its_midnight_and_a_date_means_that_midnight() -> None:
    now = datetime(2026, 11, 29, tzinfo=UTC)
    ended = upto(DAYS, "2026-11-01T00:00-04:00", None, now)
    assert ended is not None
    assert (ended.last, ended.end) == (datetime(2026, 10, 31, 4, tzinfo=UTC), datetime(2026, 11, 1, 4, tzinfo=UTC))
    assert upto(DAYS, "2026-11-01", None, now) == ended
    assert upto(DAYS, "2026-11-02", None, now) == upto(DAYS, None, "2026-11-01", now)


def test_a_recommended_time_is_accepted(r: Reconciliation, recon: Call) -> None:
    config = ("--config", str(r.config.path))
    answer = recon("show", "A", "--known-at", "2026-11-30", *config)
    recommended = answer.line.split("write ")[1].split(" ")[0]
    assert "has no zone" not in recon("show", "A", "--known-at", recommended, *config).err
    for off in ("2026-11-01T01:20Z", "2026-11-01T01:40Z"):
        nearest = recon("show", "A", "--as-of", off, *config).line.rpartition(" ")[2]
        assert recon("show", "A", "--as-of", nearest, *config).status == 0


def test_a_printed_time_can_be_given_back_and_means_what_was_known_when_it_was_printed(tmp_path: Path) -> None:
    r = open_in(tmp_path)
    carry_out(r, s.Land(0, s.File("a", (s.Row(),))))
    r.close(W0)
    r.run()
    certified = (r.certificate(W0) or {})["time"]
    assert r.show("A", known_at=certified)["commit"] == 1
    assert r.show("A", known_at=r.state().time)["commit"] == 1
    carry_out(r, s.Land(1, s.File("b", (s.Row(event_id="p", event_type="PAYMENT"),))))
    r.close(W1)
    r.run()
    assert r.show("A", known_at=certified)["commit"] == 1, "a certificate's time knows nothing of the commit after it"
    assert r.show("A", known_at=(r.certificate(W1) or {})["time"])["commit"] == 2


@pytest.mark.parametrize(
    ("written", "last"),
    [
        ("2026-11-01T03:10:05Z", "2026-11-01T03:10:05.999999+00:00"),
        ("2026-11-01T03:10:05.1Z", "2026-11-01T03:10:05.199999+00:00"),
        ("2026-11-01T03:10:05.123456Z", "2026-11-01T03:10:05.123456+00:00"),
        ("2026-10-31T23:10-04:00", "2026-11-01T03:10:00.999999+00:00"),
    ],
)
def test_a_time_means_the_end_of_the_last_digit_that_is_written(written: str, last: str) -> None:
    assert known_instant(written, "", NOW) == datetime.fromisoformat(last)


def test_what_will_be_known_in_the_future_is_not_answered() -> None:
    with pytest.raises(WrongUsage, match="is in the future"):
        known_instant("2026-11-01T03:20:01Z", "", NOW)
    assert known_instant("2026-11-01T03:20:01Z", "2026-11-01T03:20:02+00:00", NOW), "the clock of the newest commit was ahead"


@given(st.integers(0, 200), st.sampled_from([-300, -210, 0, 60, 345]))
def test_any_window_that_ended_has_one_answer_by_its_end_in_any_zone(window: int, minutes: int) -> None:
    later = s.START + timedelta(days=30)
    through = upto(GRID, None, name_of(s.at(window)), later)
    assert through is not None
    sign, offset = "-" if minutes < 0 else "+", abs(minutes)
    local = (through.end + timedelta(minutes=minutes)).strftime("%Y-%m-%dT%H:%M")
    assert upto(GRID, f"{local}{sign}{offset // 60:02d}:{offset % 60:02d}", None, later) == through
