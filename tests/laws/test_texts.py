"""Any text can be a key, an id or a value: it comes out of `show` and of every export as it went in, whatever file brought it."""

from __future__ import annotations

import csv
import io
import json
import re
import tempfile
from collections.abc import Callable, Sequence
from decimal import Context, Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import strategies as s
from histories import open_in, slow
from hypothesis import example, given
from hypothesis import strategies as st

from recon.api import Reconciliation
from recon.cli import main
from recon.intake.files import key_text
from recon.model.form import Form, Slot
from recon.model.record import full
from recon.records.encode import encode
from recon.records.tables import as_table, merged_rows

WINDOWS = ("2026-11-01T00:00Z", "2026-11-01T01:00Z")
COLUMNS = ("order_id", "event_id", "event_type", "amount", "currency", "booked_at")
Rows = Sequence[dict[str, str]]

ODD = [
    *("'", '"', "''", '"x', "a,b", "a\tb", "two\nlines", "two\r\nlines", "\r", "\n", " ", "\u00a0", "\ufeff", "\u2028", "\x1e", "\\"),
    *("\\n", "null", "NULL", "true", "0", "00", "1e5", "NaN", "-7", "=1+1", "[]", '["a"]', "{}", "😀", "👩\u200d👧", "e\u0301", "\u00e9"),
    *("\u202ex", "k" * 1000, "\ufffd"),
]
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=12) | st.sampled_from(ODD)


def separated(mark: str) -> Callable[[Rows], bytes]:
    """Quoted where it must be, as a spreadsheet writes it; every field quoted, so that an empty or blank one is text."""

    def written(rows: Rows) -> bytes:
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, COLUMNS, delimiter=mark, lineterminator="\r\n", quoting=csv.QUOTE_ALL)
        writer.writeheader()
        writer.writerows(rows)
        return text.getvalue().encode()

    return written


def json_lines(rows: Rows) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=len(row["order_id"]) % 2 == 0) + "\n" for row in rows).encode()


def parquet(rows: Rows) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table({name: pa.array([row[name] for row in rows], pa.string()) for name in COLUMNS}), sink)
    return sink.getvalue()


WRITERS: dict[str, Callable[[Rows], bytes]] = {
    "x.csv": separated(","),
    "x.tsv": separated("\t"),
    "x.jsonl": json_lines,
    "x.parquet": parquet,
}


def rows_of(keys: Sequence[str], texts: Sequence[str]) -> list[dict[str, str]]:
    """One event for each key; its id and its type are texts too."""
    return [
        dict(zip(COLUMNS, (key, f"{text}#{number}", text, "1.00", "EUR", "2026-11-01T00:10:00Z"), strict=True))
        for number, (key, text) in enumerate(zip(keys, texts, strict=True))
    ]


def process(folder: Path, rows: Rows, name: str, text: str = s.STANDARD_YAML) -> Reconciliation:
    """Lands the rows in one window, the same ones in the next, where every one of them is a duplicate; and runs both."""
    r = open_in(folder, text)
    for window in WINDOWS:
        (folder / name).write_bytes(WRITERS[name](rows))
        r.land([folder / name], window, close=True, again=True)
    report = r.run()
    assert not report.bad
    assert (report.rows, report.accepted, report.duplicates, report.rejected) == (2 * len(rows), len(rows), len(rows), 0)
    return r


def undone(cell: str) -> str:
    """A cell of an exported CSV file without the apostrophe that keeps a spreadsheet from running it; as docs/cli.md says."""
    formula = "[\x00-\x20]*[=+@\\-\uff1d\uff0b\uff0d\uff20]|[\t\r\n]"
    return cell[1:] if cell.startswith("'") and re.match(formula, cell.lstrip("'")) else cell


def exported(r: Reconciliation, folder: Path) -> dict[str, dict[str, dict[str, Any]]]:
    """What each export holds: suffix → key → row."""
    for suffix in ("csv", "jsonl", "parquet"):
        r.export(folder / f"out.{suffix}")
    with (folder / "out.csv").open(encoding="utf-8", newline="") as opened:
        of_csv = [{name: undone(cell) for name, cell in row.items()} for row in csv.DictReader(opened)]
    of_json = [json.loads(line) for line in (folder / "out.jsonl").read_bytes().decode().split("\n")[:-1]]
    of_parquet = pq.read_table(folder / "out.parquet").to_pylist()
    return {suffix: {row["key"]: row for row in rows} for suffix, rows in (("csv", of_csv), ("jsonl", of_json), ("parquet", of_parquet))}


CASES = st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=6, unique_by=lambda pair: pair[0])


@pytest.mark.parametrize("name", WRITERS)
@slow(2)
@example(list(zip(ODD, reversed(ODD), strict=True)))
@given(CASES)
def test_any_text_goes_from_any_file_to_look_ups_and_exports_unchanged(
    capsys: pytest.CaptureFixture[str], name: str, pairs: list[tuple[str, str]]
) -> None:
    keys, texts = [key for key, _ in pairs], [text for _, text in pairs]
    rows = rows_of(keys, texts)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        r = process(folder, rows, name)
        for row in rows:
            shown = r.show(row["order_id"], events=True)
            assert (shown["key"], shown["measures"]["latest"], shown["measures"]["lines"]) == (row["order_id"], row["event_type"], 1)
            told = [event for part in shown["contributions"] for event in part["event_list"]]
            assert [(event["id"], event["event_type"]) for event in told] == [(row["event_id"], row["event_type"])] * 2
        command = ("show", "--config", str(folder / "recon.yaml"))
        for key in keys[:3]:
            capsys.readouterr()
            assert main([*command, "--json", "--", key]) == 0
            shown = json.loads(capsys.readouterr().out)
            assert shown["key"] == key
            # On a screen, whatever the key, its status stands behind it in the first line.
            assert main([*command, "--", key]) == 0
            assert capsys.readouterr().out.split("\n")[0].endswith(f"  {shown['status']}")
        for suffix, held in exported(r, folder).items():
            assert {key: row["latest"] for key, row in held.items()} == dict(pairs), suffix


@pytest.mark.parametrize("name", WRITERS)
@slow(2)
@example([(one, other) for one, other in zip(ODD, reversed(ODD), strict=True)])
@given(st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=6, unique=True))
def test_keys_of_several_columns_never_run_into_each_other(name: str, pairs: list[tuple[str, str]]) -> None:
    rows = rows_of([one for one, _ in pairs], [other for _, other in pairs])
    text = s.STANDARD_YAML.replace("key: order_id", "key: [order_id, event_type]")
    with tempfile.TemporaryDirectory() as place:
        r = process(Path(place), rows, name, text)
        assert r.artifacts().num_rows == len(pairs)
        for one, other in pairs:
            shown = r.show(one, other)
            assert (shown["key"], shown["measures"]["latest"], shown["measures"]["lines"]) == (key_text([one, other]), other, 1)


@pytest.mark.parametrize("scale", [0, 2, 17, 18, 19, 37])
def test_a_decimal_in_a_record_has_all_its_digits_on_either_side_of_64_bits(scale: int) -> None:
    slot = Slot("v", f"decimal(38,{scale})", "max")
    form = Form(("k",), ("2026-11-01T00:00+00:00", 3600, ""), (slot,), (), (), False, "")
    digits = ["0", "1", "9" * 17, "1" + "0" * 17, "9" * 18, "1" + "0" * 18, "9" * 38, "12345678901234567890", str(2**63 - 1), str(2**63)]
    for value in [Decimal(f"{sign}{each}").scaleb(-scale, Context(prec=38)) for each in digits for sign in ("", "-")]:
        shown = f"{value:.{scale}f}".removeprefix("-") if value == 0 else f"{value:.{scale}f}"
        listed = {"w": "2026-11-01T00:00Z", "n": 1, "d": 0, "ids": [], "m": {"v": str(value)}}
        table = as_table(form, [{"key": "A", "status": None, "contributions": [listed], "withdrawn": []}])
        table = table.append_column("m_v", pa.array([value], pa.decimal128(38, scale)))
        record = full(form, encode(form, merged_rows(form, table))[0].tobytes())
        assert record["measures"] == record["contributions"][0]["m"] == {"v": shown}
