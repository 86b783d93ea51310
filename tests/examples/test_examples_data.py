"""The examples' source data and readers: what must come out before any reconciliation."""

from __future__ import annotations

import csv
import gzip
import json
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from example_readers import ACH, ach, transactions
from folders import EXAMPLES
from hypothesis import given
from hypothesis import strategies as st


def broken_batches(events: pa.Table) -> list[str]:
    """Batches whose entries do not tie to their control record, in plain Python."""
    held: dict[str, list[Decimal]] = {}
    declared: dict[str, list[Decimal]] = {}
    names = ("batch", "kind", "records", "routing", "debit", "credit")
    for batch, kind, *figures in zip(*(events[name].to_pylist() for name in names), strict=True):
        sums = (declared if kind == "CONTROL" else held).setdefault(batch, [Decimal(0)] * 4)
        for place, figure in enumerate(figures):
            sums[place] += figure or 0
    for sums in held.values():
        sums[1] %= 10**10
    return [batch for batch in declared if declared[batch] != held.get(batch)]


# ---- seed-batch


def test_the_seed_batch_sums_to_25_and_50() -> None:
    with (EXAMPLES / "seed-batch" / "data" / "example-input.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    sums = {key: sum(Decimal(row["amount"]) for row in rows if row["order_id"] == key) for key in ("A112", "B242")}
    assert sums == {"A112": 25, "B242": 50}
    assert len(rows) == 3


# ---- transactions


@pytest.fixture(scope="module")
def sides() -> dict[str, pa.Table]:
    source = EXAMPLES / "transactions" / "data"
    return {side: transactions.events_of(side, source / f"{side}.parquet") for side in ("origin", "destination")}


def test_both_sides_of_45326_payments_differ_by_29146_68_and_11499_agree(sides: dict[str, pa.Table]) -> None:
    sums = {side: pc.sum(table["amount"]).as_py() for side, table in sides.items()}
    assert sums["origin"] == Decimal("460426948.22")
    assert sums["origin"] - sums["destination"] == Decimal("29146.68")
    pair = sides["origin"].join(sides["destination"], "ground_truth", right_suffix="_there", join_type="inner")
    assert len(pair) == 45_326
    assert pc.sum(pc.equal(pair["amount"], pair["amount_there"])).as_py() == 11_499


def test_event_ids_differ_between_the_sides(sides: dict[str, pa.Table]) -> None:
    ids = pa.chunked_array([*sides["origin"]["event_id"].chunks, *sides["destination"]["event_id"].chunks])
    assert len(ids.unique()) == 2 * 45_326


@pytest.mark.parametrize(("by_day", "windows", "files"), [(False, 1, 2), (True, 151, 279)])
def test_prepared_files_hold_every_row_once_in_its_window(tmp_path: Path, by_day: bool, windows: int, files: int) -> None:
    prepared = transactions.prepare(EXAMPLES / "transactions" / "data", tmp_path, by_day=by_day)
    assert (len(prepared), sum(len(paths) for paths in prepared.values())) == (windows, files)
    names = [path.name for paths in prepared.values() for path in paths]
    assert len(set(names)) == files
    rows = 0
    for window, paths in prepared.items():
        for path in paths:
            table = pq.read_table(path)
            rows += len(table)
            assert table.schema.field("amount").type == pa.decimal128(18, 2)
            assert not by_day or [f"{day}T00:00Z" for day in table["transaction_date"].unique()] == [window]
    assert rows == 2 * 45_326


@given(st.lists(st.decimals(-(10**11), 10**11, places=2), max_size=20))
def test_amounts_come_out_as_the_decimal_that_the_doubles_shortest_text_says(amounts: list[Decimal]) -> None:
    doubles = pa.array([float(amount) for amount in amounts], pa.float64())
    assert transactions.exact_amounts(doubles).to_pylist() == [Decimal(repr(float(amount))) for amount in amounts]


@pytest.mark.parametrize("amount", [0.001, 1.005, float("nan"), float("inf"), 1e300])
def test_an_amount_that_has_no_two_decimals_is_refused_with_its_row(amount: float) -> None:
    with pytest.raises(ValueError, match=r"^row 2: amount .* two decimals"):
        transactions.exact_amounts(pa.array([1.25, amount]))


# ---- ach


@pytest.fixture(scope="module")
def events() -> pa.Table:
    return ach.read_events(ACH)


def test_the_reader_finds_100199_entries_and_200_control_records(events: pa.Table) -> None:
    counts = {row["values"]: row["counts"] for row in pc.value_counts(events["kind"]).to_pylist()}
    assert counts == {"ENTRY": 100_199, "CONTROL": 200}
    identities = events.group_by(["batch", "event_id"]).aggregate([])
    assert len(identities) == 100_399


def test_all_200_batches_tie_and_credits_are_201233987_66(events: pa.Table) -> None:
    assert broken_batches(events) == []
    assert pc.count_distinct(events["batch"]).as_py() == 200
    for kind in ("ENTRY", "CONTROL"):
        some = events.filter(pc.equal(events["kind"], kind))
        assert pc.sum(some["credit"]).as_py() == Decimal("201233987.66")
        assert (pc.sum(some["debit"]).as_py() or 0) == 0


def test_each_event_names_the_line_it_came_from(events: pa.Table) -> None:
    lines = gzip.decompress(ACH.read_bytes()).decode("ascii").splitlines()
    for event in events.slice(92_000, 700).to_pylist():
        line = lines[event["line"] - 1]
        assert line[0] == {"ENTRY": "6", "CONTROL": "8"}[event["kind"]]
        if event["kind"] == "ENTRY":
            assert (line[79:94], Decimal(line[29:39]) / 100) == (event["event_id"], event["credit"])


@pytest.mark.parametrize(
    ("line", "position"),
    [(93_000, 37), (93_000, 11), (96_165, 44), (96_165, 20), (96_165, 10)],
    ids=["amount", "routing", "declared credit", "declared hash", "declared count"],
)
def test_one_changed_digit_breaks_exactly_its_batch(tmp_path: Path, line: int, position: int) -> None:
    ach.change_digit(ACH, tmp_path / "changed.ach", line, position)
    assert broken_batches(ach.read_events(tmp_path / "changed.ach")) == ["0000002"]


HEADER = "101 231380104 1210428822605081505A094101Federal Reserve Bank   My Bank Name".ljust(94)


def small_file() -> list[str]:
    """One batch: a credit of 12.34 with an addenda record, a debit of 0.66."""
    return [
        HEADER,
        "5220ACME Corporation".ljust(87) + "0000007",
        "622231380104123456789        0000001234               Wade Arnold             1121042880000001",
        "705" + "thank you".ljust(80) + "0001" + "0000001",
        "627231380104123456789        0000000066               Wade Arnold             0121042880000002",
        "8200" + "000003" + "0046276020" + "000000000066" + "000000001234" + "121042882".ljust(43) + "0000007",
        "9" + "000001" + "000001" + "00000003" + "0046276020" + "000000000066" + "000000001234" + " " * 39,
        *["9" * 94] * 3,
    ]


def read(tmp_path: Path, lines: list[str], end: str = "\n") -> pa.Table:
    path = tmp_path / "small.ach"
    path.write_bytes(end.join(lines).encode("utf-8"))
    return ach.read_events(path)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_addenda_count_as_records_and_debits_are_told_from_credits(tmp_path: Path, end: str) -> None:
    events = read(tmp_path, small_file(), end)
    rows = [(e["line"], e["batch"], e["kind"], e["debit"], e["credit"], e["records"]) for e in events.to_pylist()]
    assert rows == [
        (3, "0000007", "ENTRY", None, Decimal("12.34"), 1),
        (4, "0000007", "ADDENDA", None, None, 1),
        (5, "0000007", "ENTRY", Decimal("0.66"), None, 1),
        (6, "0000007", "CONTROL", Decimal("0.66"), Decimal("12.34"), 3),
    ]
    assert broken_batches(events) == []
    assert {e["declared_batch"] for e in events.to_pylist()} == {None, "0000007"}


def test_an_unknown_transaction_code_is_in_no_total(tmp_path: Path) -> None:
    lines = small_file()
    lines[2] = "699" + lines[2][3:]
    assert broken_batches(read(tmp_path, lines)) == ["0000007"]


def edited(line: int, text: str) -> list[str]:
    lines = small_file()
    lines[line - 1] = text
    return lines


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ([], "the file is empty"),
        (edited(3, "622231380104"), "line 3: 12 characters, expected 94"),
        (edited(3, small_file()[2].replace("Arnold", "Arnöld")), "line 3: 95 characters|line 3: characters other than"),
        (edited(3, small_file()[2].replace("0000001234", "00000O1234")), "line 3: the amount, '00000O1234'"),
        (edited(3, "5" + small_file()[2][1:]), "line 3: record type '5' after '5', expected 6 or 8"),
        (small_file()[1:], "line 1: record type '5', expected '1'"),
        (small_file()[:6], "line 6: the file ends without its file control"),
        (
            small_file()[:4] + small_file()[5:],
            "line 6: the file control declares 3 entries and addenda, the file has 2",
        ),
        ([*small_file()[:6], *small_file()[1:]], "line 7: batch number 0000007 is in an earlier header"),
    ],
)
def test_a_file_of_the_wrong_form_is_refused_naming_the_line(tmp_path: Path, lines: list[str], reason: str) -> None:
    with pytest.raises(ValueError, match=rf"^small\.ach(: |, )({reason})") as caught:
        read(tmp_path, lines)
    assert "\n" not in str(caught.value)


def test_a_cut_off_gzip_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cut.ach.gz").write_bytes(ACH.read_bytes()[:100_000])
    with pytest.raises(ValueError, match=r"^cut\.ach\.gz: not a whole gzip file"):
        ach.read_events(tmp_path / "cut.ach.gz")


# ---- notebook


def test_the_notebook_is_valid_without_outputs_and_its_code_compiles() -> None:
    notebook = json.loads((EXAMPLES / "notebook.ipynb").read_text(encoding="utf-8"))
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    cells = notebook["cells"]
    assert len({cell["id"] for cell in cells}) == len(cells)
    for cell in cells:
        assert isinstance(cell["source"], list)
        if cell["cell_type"] == "code":
            assert (cell["outputs"], cell["execution_count"]) == ([], None)
            compile("".join(cell["source"]), cell["id"], "exec")
