"""Money that was once lost, doubled, stuck or told wrongly: one example per fault that a review found."""

from __future__ import annotations

import shutil
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from histories import open_in, records
from small_blocks import small

from recon.api import Reconciliation
from recon.errors import WrongUsage

HEADER = "k,i,t,a,cur\n"
FIRST, SECOND, THIRD = (f"2026-11-01T0{hour}:00Z" for hour in range(3))


def rules(amount: str = "decimal(38,2)", measures: str = "{s: {sum: a}, n: {count: '*'}}", more: str = "") -> str:
    return f"""\
name: review
store: ./data
key: k
windows: {{start: 2026-11-01T00:00Z, every: 1h}}
events: {{types: {{a: "{amount}"}}, id: i, time: t, dedupe: 2h}}
measures: {measures}
control: {{a: {{sum: a, by: cur}}}}
{more}"""


def land(r: Reconciliation, folder: Path, window: str, rows: str, name: str = "a.csv", **how: Any) -> None:
    path = folder / name
    path.write_text(rows if rows.startswith("k,") else HEADER + rows)
    r.land([path], window, close=True, **how, again=True)


def test_sums_of_more_than_28_digits_tie_to_the_last_cent(tmp_path: Path) -> None:
    r, amount = open_in(tmp_path, rules()), "1" * 34 + ".11"
    land(r, tmp_path, FIRST, f"A,1,,{amount},EUR\n")
    land(r, tmp_path, SECOND, f"A,1,,{amount},EUR\nB,2,,2.22,EUR\n")
    assert r.run().bad == {}
    assert r.show("A")["measures"]["s"] == amount
    certificate = r.certificate(SECOND)
    assert certificate is not None
    assert (certificate["accepted"]["a"], certificate["duplicates"]["a"]) == ({"EUR": "2.22"}, {"EUR": amount})


def test_verify_adds_up_integers_beyond_64_bits(tmp_path: Path) -> None:
    r, huge = open_in(tmp_path, rules("integer")), 9 * 10**18
    land(r, tmp_path, FIRST, f"A,1,,{huge},EUR\nB,2,,{huge},EUR\nC,3,,{huge},EUR\n")
    assert r.run().bad == {}
    certificate = r.certificate(FIRST)
    assert certificate is not None
    assert certificate["measures"]["s"] == str(3 * huge)
    assert r.verify(full=True).problems == []


def test_verify_adds_up_what_is_carried_forward_beyond_38_digits(tmp_path: Path) -> None:
    """Each window's sum has 38 digits, and so has each key's; those of all blocks together have more."""
    r, amount = open_in(tmp_path, rules().replace("dedupe: 2h", "dedupe: 1h")), "1" + "0" * 34 + ".00"
    with small():
        for hour in range(10):
            rows = "".join(f"K{key},{hour}-{key},,{amount},EUR\n" for key in range(45))
            land(r, tmp_path, f"2026-11-01T0{hour}:00Z", rows)
        assert r.run().bad == {}
        carried = [record["carried"] for record in records(r).values() if record.get("carried")]
        assert sum(Decimal(block["m"]["s"]) for block in carried) > Decimal("1.7e36")
        assert r.verify(full=True).problems == []


def test_a_sum_that_outgrows_a_decimal_within_a_window_holds_up_that_window_only(tmp_path: Path) -> None:
    r, huge = open_in(tmp_path, rules()), "9" * 36 + ".99"
    land(r, tmp_path, FIRST, f"A,1,,{huge},EUR\nA,2,,{huge},EUR\n")
    land(r, tmp_path, SECOND, "A,3,,1.00,EUR\n")
    report = r.run()
    assert report.windows == [SECOND]
    assert list(report.bad) == [FIRST]
    assert report.bad[FIRST].startswith(f"window {FIRST}: a sum outgrew the 38 digits")
    assert r.show("A")["measures"]["s"] == "1.00"


def test_a_sum_that_outgrows_a_decimal_over_windows_holds_up_the_window_that_brings_it_only(tmp_path: Path) -> None:
    r, huge = open_in(tmp_path, rules()), "9" * 36 + ".99"
    land(r, tmp_path, FIRST, f"A,1,,{huge},EUR\n")
    land(r, tmp_path, SECOND, f"A,2,,{huge},EUR\n")
    land(r, tmp_path, THIRD, "B,3,,1.00,EUR\n")
    report = r.run()
    assert (report.windows, list(report.bad)) == ([FIRST, THIRD], [SECOND])
    assert "outgrew the 38 digits" in report.bad[SECOND]
    assert r.show("A")["measures"]["s"] == huge
    land(r, tmp_path, SECOND, "A,2,,-1.00,EUR\n", replace="a.csv")
    assert r.run().bad == {}
    assert r.show("A")["measures"]["s"] == "9" * 35 + "8.99"


def test_landed_bytes_that_changed_in_the_store_are_never_taken_for_money(tmp_path: Path) -> None:
    r = open_in(tmp_path, rules())
    land(r, tmp_path, FIRST, "A,1,,1.00,EUR\n")
    (landed,) = (tmp_path / "data" / "events").rglob("*.csv")
    landed.chmod(0o644)
    landed.write_text(HEADER + "A,1,,9.00,EUR\n")
    report = r.run()
    assert "are not those that landed" in report.bad[FIRST]
    land(r, tmp_path, FIRST, "A,1,,1.00,EUR\n", replace="a.csv")  # as the message says
    assert r.run().bad == {}
    assert r.show("A")["measures"]["s"] == "1.00"


def test_amounts_in_certificates_are_plain_digits_however_small(tmp_path: Path) -> None:
    r = open_in(tmp_path, rules("decimal(38,10)"))
    land(r, tmp_path, FIRST, "A,1,,-0.0000000001,EUR\nB,2,,0,USD\nB,2,,0,USD\n")
    r.run()
    certificate = r.certificate(FIRST)
    assert certificate is not None
    assert certificate["accepted"]["a"] == {"EUR": "-0.0000000001", "USD": "0"}
    assert certificate["duplicates"]["a"] == {"EUR": "0.0000000000", "USD": "0"}
    assert certificate["measures"]["s"] == "-0.0000000001"


def test_columns_named_file_and_line_do_not_cover_where_an_event_stands(tmp_path: Path) -> None:
    r = open_in(tmp_path, rules(measures="{f: {max: file}, l: {max: line}, s: {sum: a}}"))
    land(r, tmp_path, FIRST, "k,i,t,a,cur,file,line\nA,1,,1.00,EUR,other,77\n", "bank.csv")
    r.run()
    (event,) = r.show("A", events=True)["contributions"][0]["event_list"]
    assert (event["file"], event["line"]) == ("bank.csv", 2)
    assert (event["file (column)"], event["line (column)"]) == ("other", "77")


CAPPED = """\
import pyarrow as pa
import pyarrow.compute as pc

def judge(table, stage):
    if stage == "merge":
        return table
    place = table.column_names.index("m_s")
    kind = table.schema.field(place)
    return table.set_column(place, kind, pc.cast(pc.if_else(pc.greater(table["m_s"], 3), pa.scalar(LIMIT), pa.scalar(0)), kind.type))
"""


def judged(folder: Path, limit: int) -> Reconciliation:
    (folder / "rules.py").write_text(CAPPED.replace("LIMIT", str(limit)))
    return open_in(folder, rules(more="status: [{ALL: 'true'}]\nlogic: rules:judge\n"))


def test_a_recounted_windows_measures_are_those_of_its_artifacts_where_logic_makes_them_no_sums(tmp_path: Path) -> None:
    r = judged(tmp_path, 3)
    land(r, tmp_path, FIRST, "A,1,,2.00,EUR\n")
    land(r, tmp_path, SECOND, "A,1,,2.00,EUR\nA,2,,2.00,EUR\n")
    r.run(SECOND, SECOND)
    assert r.certificate(SECOND)["measures"]["s"] == "3.00"  # type: ignore[index]
    assert r.run().recounted == [SECOND]
    held = [part["m"]["s"] for part in records(r)["A"]["contributions"]]
    assert held == ["0.00", "0.00"]
    assert r.certificate(SECOND)["measures"]["s"] == "0.00"  # type: ignore[index]
    assert not r.verify(full=True).problems


def test_logic_that_changed_is_loaded_anew_by_a_process_that_lives_on(tmp_path: Path) -> None:
    for limit in (3, 5):
        r = judged(tmp_path, limit)  # the same file, edited within the same second
        land(r, tmp_path, FIRST, "A,1,,4.00,EUR\n")
        r.run()
        assert r.show("A")["measures"]["s"] == f"{limit}.00"
        shutil.rmtree(tmp_path / "data")


@pytest.mark.parametrize("fault", ["raise ValueError('boo')", "raise KeyError('boo')"])
def test_logic_that_fails_makes_its_window_bad_in_one_line_and_commits_nothing(tmp_path: Path, fault: str) -> None:
    (tmp_path / "rules.py").write_text(f"def judge(table, stage):\n    {fault}\n")
    r = open_in(tmp_path, rules(more="logic: rules:judge\n"))
    land(r, tmp_path, FIRST, "A,1,,4.00,EUR\n")
    report = r.run()
    assert "rules:judge failed after reduce" in report.bad[FIRST]
    assert "boo" in report.bad[FIRST]
    assert "\n" not in report.bad[FIRST]
    assert r.state().commit == 0


def test_no_prefetched_or_temporary_file_stays_after_a_run_that_succeeds_or_fails(tmp_path: Path) -> None:
    r, huge = open_in(tmp_path, rules()), "9" * 36 + ".99"
    for window, event in ((FIRST, 1), (SECOND, 2)):
        land(r, tmp_path, window, f"A,{event},,{huge},EUR\n")
    assert r.run().bad
    assert [path for path in (tmp_path / "data" / "prefetched").rglob("*") if path.is_file()] == []
    assert list((tmp_path / "data").rglob("recon-*")) == []


def test_a_text_that_a_sheet_would_cut_is_refused_by_name_of_the_row(tmp_path: Path) -> None:
    r = open_in(tmp_path, rules(measures="{s: {sum: a}, longest: {max: note}}"))
    land(r, tmp_path, FIRST, f"k,i,t,a,cur,note\nA,1,,1.00,EUR,{'x' * 32_768}\n")
    r.run()
    with pytest.raises(WrongUsage, match=r"row 1: a text of 32,768 characters"):
        r.export(tmp_path / "out.xlsx")
    assert not (tmp_path / "out.xlsx").exists()
    assert r.export(tmp_path / "out.csv") == 1


def test_a_store_without_statuses_is_verified_in_full(tmp_path: Path) -> None:
    r = open_in(tmp_path, rules())
    land(r, tmp_path, FIRST, "A,1,,1.00,EUR\n")
    r.run()
    assert not r.verify(full=True).problems


def test_declared_totals_that_are_no_numbers_are_refused_when_they_are_declared(tmp_path: Path) -> None:
    r = open_in(tmp_path, rules())
    with pytest.raises(WrongUsage, match="a:EUR=one are not all numbers"):
        land(r, tmp_path, FIRST, "A,1,,1.00,EUR\n", expect={"a": {"EUR": "one"}})
    land(r, tmp_path, SECOND, "A,2,,1.10,EUR\n", expect={"a": {"EUR": 1.10}, "rows": 1})
    report = r.run()
    assert (report.windows, list(report.bad)) == ([SECOND], [])


def test_totals_declared_for_a_file_that_had_landed_already_are_compared(tmp_path: Path) -> None:
    r = open_in(tmp_path, rules())
    land(r, tmp_path, FIRST, "A,1,,1.00,EUR\n")
    land(r, tmp_path, FIRST, "A,1,,1.00,EUR\n", expect={"a": {"EUR": "2.00"}})
    assert "do not tie" in r.run().bad[FIRST]
    before = r.status(FIRST)["landed_revision"]
    land(r, tmp_path, FIRST, "A,1,,1.00,EUR\n", expect={"a": {"EUR": "2.00"}})
    assert r.status(FIRST)["landed_revision"] == before
    land(r, tmp_path, FIRST, "A,1,,1.00,EUR\n", expect={"a": {"EUR": "1.00"}})
    assert r.run().bad == {}


def test_a_currency_spelt_null_is_not_added_to_rows_without_one(tmp_path: Path) -> None:
    (tmp_path / "recon.yaml").write_text(
        "name: t\nstore: ./s\nkey: k\nwindows: {start: 2026-11-01T00:00Z, every: 1h}\n"
        'events: {types: {amount: "decimal(2,2)"}}\nmeasures: {total: {sum: amount}, most: {max: amount}}\n'
        "control: {amount: {sum: amount, by: currency}}\n"
    )
    (tmp_path / "a.csv").write_text('k,amount,currency\nA,0.50,null\nA,0.25,\nA,0.10,"""x"\n')
    r = Reconciliation(tmp_path / "recon.yaml")
    r.land([tmp_path / "a.csv"], window="2026-11-01T00:00Z", close=True, again=True)
    r.run()
    certificate = r.certificate("2026-11-01T00:00Z")
    assert certificate is not None
    assert certificate["in"]["amount"] == {'"null"': "0.50", "null": "0.25", '""x"': "0.10"}
    assert r.show("A")["measures"] == {"total": "0.85", "most": "0.50"}
    assert r.verify(full=True).problems == []
