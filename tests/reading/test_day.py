"""The report of a day: what it adds up, what it calls right, and its page."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import pytest
import strategies as s
from cli_calls import Call
from histories import open_in

import recon
from recon.api import Reconciliation
from recon.errors import WrongUsage
from recon.model.totals import Totals
from recon.model.windows import name_of
from recon.reading.breaks import Chosen
from recon.reading.day import PARTS, day_report, html_of, last_day_over

DAY = "2026-11-01"
W0, W1 = (name_of(s.at(window)) for window in range(2))


def land(r: Reconciliation, window: int, rows: Sequence[s.Row], close: bool = True) -> None:
    path = r.config.path.parent / f"a{window}.csv"
    path.write_text(s.to_csv(tuple(rows)))
    r.land([path], name_of(s.at(window)), close=close, again=True)


def invoice(key: str, amount: str = "10.00", **other: str) -> s.Row:
    return s.Row(order_id=key, event_id=f"i-{key}", amount=amount, booked_at="2026-11-01T00:10:00Z", **other)


@pytest.fixture
def r(tmp_path: Path) -> Reconciliation:
    """Two windows: three invoices, one of them twice, and an amount that cannot be read."""
    made = open_in(tmp_path)
    land(made, 0, [invoice("A"), invoice("A"), invoice("B", "1234.50")])
    land(made, 1, [invoice("C<b>", "0.01"), invoice("D", "x")])
    made.run()
    return made


class Cells(HTMLParser):
    """The texts of a page's cells."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.elements: set[str] = set()
        self._in = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.add(tag)
        self._in = tag == "td"
        if self._in:
            self.found.append("")

    def handle_data(self, data: str) -> None:
        if self._in:
            self.found[-1] += data


def test_totals_are_the_sum_of_the_certificates_and_breaks_are_those_of_the_last_window(r: Reconciliation) -> None:
    report = r.report(DAY)
    certificates = [r.certificate(window) or {} for window in (W0, W1)]
    for part in PARTS:
        assert report.totals[part] == Totals.from_json(certificates[0][part]) + Totals.from_json(certificates[1][part])
    assert report.totals["in"].rows == 5 == sum(report.totals[part].rows for part in PARTS[1:])
    assert [(window.window, dict(window.rows)) for window in report.windows] == [
        (W0, {"in": 3, "accepted": 2, "duplicates": 1, "rejected": 0}),
        (W1, {"in": 2, "accepted": 1, "duplicates": 0, "rejected": 1}),
    ]
    assert (report.through, report.breaks) == (W1, r.breaks_summary(through=W1))
    assert [row["key"] for row in report.largest] == r.breaks(Chosen(sort="balance"), through=W1).column("key").to_pylist()


def test_breaks_of_an_earlier_day_leave_out_later_windows(r: Reconciliation) -> None:
    path = r.config.path.parent / "later.csv"
    path.write_text(s.to_csv((invoice("LATER"),)))
    r.land([path], "2026-11-02T00:00Z", close=True)
    r.run()
    assert {row["key"] for row in r.report(DAY).largest} == {"A", "B", "C<b>"}
    assert {row["key"] for row in r.report("2026-11-02").largest} == {"A", "B", "C<b>", "LATER"}


def test_a_day_is_right_when_each_window_with_files_is_done_and_ties(r: Reconciliation) -> None:
    assert (r.report(DAY).verdict, r.report("2026-11-02").verdict) == ("right", "open")
    land(r, 2, [invoice("E")], close=False)
    open_day = r.report(DAY)
    assert (open_day.verdict, [window.waits != "" for window in open_day.windows]) == ("open", [False, False, True])
    land(r, 3, [s.Row(order_id="F", event_id="i-F", amount="x", booked_at="2026-11-01T03:10:00Z")])
    r.run()
    wrong = r.report(DAY)
    assert wrong.verdict == "wrong"
    assert "every row was rejected" in wrong.windows[3].wrong[0]


def test_a_day_is_not_right_while_a_window_lacks_a_file_that_is_expected(tmp_path: Path) -> None:
    r = open_in(tmp_path, s.STANDARD_YAML.replace("every: 1h", "every: 12h") + "closing: {files: 1}\n")
    land(r, 0, [invoice("A")], close=False)
    r.run()
    without = r.report(DAY)
    assert (without.verdict, [window.stage for window in without.windows], without.empty) == ("open", ["done", "nothing landed"], [])
    assert "not closed: 0 of 1 file" in without.windows[1].waits
    path = r.config.path.parent / "noon.csv"
    path.write_text(s.to_csv((invoice("B"),)))
    r.land([path], f"{DAY}T12:00Z")
    r.run()
    assert r.report(DAY).verdict == "right"


def test_what_is_wrong_with_a_window_without_files_is_shown(r: Reconciliation) -> None:
    r.config.path.write_text(r.config.path.read_text().replace("coalesce(paid, 0)", "coalesce(paid, 1)"))
    changed = recon.open(r.config.path)
    report = changed.report("2026-11-02")
    assert (report.verdict, report.empty, len(report.windows)) == ("wrong", [], 24)
    assert "the rules changed" in html_of(report)


def test_a_day_that_is_not_over_is_open(r: Reconciliation) -> None:
    report = day_report(r.store(), r.config, r.config, r.state(), DAY, datetime(2026, 11, 1, 5, 30, tzinfo=UTC))
    assert (report.verdict, report.to_come, len(report.empty)) == ("open", 19, 3)


def test_the_newest_day_that_is_over_and_has_a_window(r: Reconciliation) -> None:
    assert last_day_over(r.config, r.state(), datetime(2026, 11, 1, 23, 59, tzinfo=UTC)) is None
    assert last_day_over(r.config, r.state(), datetime(2026, 11, 2, tzinfo=UTC)) == DAY


def test_the_page_has_every_figure_and_no_element_of_a_key(r: Reconciliation) -> None:
    page = html_of(r.report(DAY))
    cells = Cells(page)
    assert {W0, W1, "C<b>", "1,234.50", "0.01", "amount EUR *"} <= set(cells.found)
    assert "* 1 rejected row has no readable amount, so no total includes it." in page
    assert '<td class="n">0</td>' not in page.partition("amount EUR")[2].partition("</tr>")[0]  # but 0.00
    assert not {"b", "script", "link", "img"} & cells.elements
    assert "default-src 'none'" in page
    assert "http" not in page.replace("http-equiv", "")


@pytest.mark.parametrize(
    ("day", "said"),
    [
        ("yesterday", "yesterday: this is no date; write the day as 20"),
        ("2026-10-31", "2026-10-31: the first window is 2026-11-01T00:00Z; name that day or a later one"),
        ("2999-01-01", "2999-01-01: this day is in the future; the newest is 20"),
    ],
)
def test_other_days_are_refused(r: Reconciliation, day: str, said: str) -> None:
    with pytest.raises(WrongUsage) as refused:
        r.report(day)
    assert str(refused.value).startswith(said)


def test_the_command_writes_the_page_and_its_status_is_the_verdict(r: Reconciliation, recon: Call, tmp_path: Path) -> None:
    config, page = str(r.config.path), tmp_path / "day.html"
    done = recon("report", DAY, str(page), "--config", config)
    assert (done.status, done.out.splitlines()) == (
        0,
        [f"wrote {page}", "right: 2 windows with files, 2 with a certificate that ties", f"3 breaks at the end of {W1}"],
    )
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    shown = recon("report", DAY, "--json", "--config", config).json
    assert (shown["verdict"], shown["totals"]["in"]["rows"], len(shown["largest"])) == ("right", 5, 3)
    missing = recon("report", DAY, str(tmp_path / "none" / "day.html"), "--config", config)
    assert (missing.status, "make it first" in missing.err) == (2, True)
    land(r, 3, [invoice("F")], close=False)
    assert recon("report", DAY, str(page), "--config", config).status == 1
