"""Inputs: every format by its name or by ``format``, several files as one, archives, objects in S3; and what is refused."""

from __future__ import annotations

import gzip
import io
import json
import re
import struct
import zipfile
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recon.errors import WrongInput, WrongUsage
from recon.storage.open import open_store
from recon.transformations.run import carry_out, read_request

MT940 = """:20:STARTUMS
:25:DE89370400440532013000
:28C:00007/001
:60F:C261031EUR1000,00
:61:2611011101DR250,5NMSCNONREF//B4711
:86:Rent
:61:2611021102C0,55NTRFREF-1
:62F:C261103EUR750,05
-
"""
BAI2 = """01,BANK,US,261101,0600,1,80,,2/
02,US,BANK,1,261101,0600,USD,2/
03,0975312468,,010,500000/
16,165,1500000,1,DD1620,,DEALER PAYMENTS/
49,2000000,3/
98,2000000,1,5/
99,2000000,1,7/
"""
CAMT053 = (
    '<?xml version="1.0"?><Document xmlns="urn:iso:std:iso:20022:tech:xsd:camt.053.001.08"><BkToCstmrStmt><Stmt><Id>S1</Id>'
    "<Acct><Id><IBAN>DE89370400440532013000</IBAN></Id><Ccy>EUR</Ccy></Acct>"
    '<Bal><Tp><CdOrPrtry><Cd>OPBD</Cd></CdOrPrtry></Tp><Amt Ccy="EUR">10.00</Amt><CdtDbtInd>CRDT</CdtDbtInd></Bal>'
    '<Bal><Tp><CdOrPrtry><Cd>CLBD</Cd></CdOrPrtry></Tp><Amt Ccy="EUR">12.50</Amt><CdtDbtInd>CRDT</CdtDbtInd></Bal>'
    '<Ntry><Amt Ccy="EUR">2.50</Amt><CdtDbtInd>CRDT</CdtDbtInd><Sts><Cd>BOOK</Cd></Sts>'
    "<BookgDt><Dt>2026-11-01</Dt></BookgDt></Ntry></Stmt></BkToCstmrStmt></Document>"
)
NACHA = Path(__file__).parents[1] / "data" / "ach" / "PPD-200-batches-100000-entries.ach.gz"


def zipped(**members: bytes) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, body in members.items():
            archive.writestr(name, body)
    return content.getvalue()


def xlsx() -> bytes:
    book, content = openpyxl.Workbook(), io.BytesIO()
    for row in (["k", "amount"], ["A", 1.5], ["B", 2]):
        book.active.append(row)
    book.save(content)
    return content.getvalue()


def ods() -> bytes:
    spaces = "".join(f' xmlns:{name}="urn:oasis:names:tc:opendocument:xmlns:{name}:1.0"' for name in ("office", "table", "text"))
    text = '<table:table-cell office:value-type="string"><text:p>{}</text:p></table:table-cell>'
    number = '<table:table-cell office:value-type="float" office:value="{}"/>'
    rows = "".join(
        f"<table:table-row>{row}</table:table-row>"
        for row in (text.format("k") + text.format("amount"), text.format("A") + number.format("1.5"))
    )
    body = f'<table:table table:name="s">{rows}</table:table>'
    sheet = f"<office:body><office:spreadsheet>{body}</office:spreadsheet></office:body>"
    content = f"<office:document-content{spaces}>{sheet}</office:document-content>"
    return zipped(**{"mimetype": b"application/vnd.oasis.opendocument.spreadsheet", "content.xml": content.encode()})


def dbf() -> bytes:
    fields = [("K", "C", 6), ("AMOUNT", "N", 12)]
    header = struct.pack("<BBBBLHHHBBLLLBBH", 3, 126, 11, 1, 3, 32 + 32 * 2 + 1, 19, 0, 0, 0, 0, 0, 0, 0, 3, 0)
    names = b"".join(struct.pack("<11scLBBHBBBB7sB", n.encode(), t.encode(), 0, size, 0, 0, 0, 0, 0, 0, b"", 0) for n, t, size in fields)
    rows = (b" " + b"A".ljust(6) + b"1.50".rjust(12), b"*" + b"gone".ljust(6) + b"9".rjust(12), b" " + b"B".ljust(6) + b"2".rjust(12))
    return header + names + b"\r" + b"".join(rows) + b"\x1a"


def parquet() -> bytes:
    content = io.BytesIO()
    columns = {"k": ["A", "B"], "amount": [Decimal("1.50"), None], "day": [date(2026, 11, 1), None], "ok": [True, False], "n": [7, None]}
    pq.write_table(pa.table(columns), content)
    return content.getvalue()


def certificate(folder: Path, given: dict[str, Any] | str | list[str]) -> dict[str, Any]:
    inputs = {"t": given if isinstance(given, dict) else {"path": given}}
    (folder / "request.json").write_text(json.dumps({"inputs": inputs, "outputs": [{"table": "t", "path": "out.csv"}]}))
    return carry_out(read_request(folder / "request.json"))


CSV = b"k,amount\nA,1.50\nB,2\n"
FIXED = {"kind": "fixed", "fields": {"k": "1-1", "amount": "2-6"}}
FORMATS: dict[str, tuple[str, Callable[[], bytes], Any, str]] = {
    "csv": ("a.csv", lambda: CSV, None, "A,1.50"),
    "tsv": ("a.TSV", lambda: CSV.replace(b",", b"\t"), None, "A,1.50"),
    "semicolons in cp1252": (
        *("a.txt", lambda: "k;name\nA;Größe\n".encode("cp1252")),
        *({"kind": "delimited", "header": True, "delimiter": ";", "encoding": "cp1252"}, "A,Größe"),
    ),
    "json": ("a.json", lambda: b'[{"k": "A", "amount": 1.50}]', None, "A,1.5"),
    "jsonl": ("a.jsonl", lambda: b'{"k": "A", "amount": 1.50}\n', None, "A,1.5"),
    "ndjson": ("a.ndjson", lambda: b'{"k": "A", "amount": 1.50}\n', None, "A,1.5"),
    "fixed": ("a.txt", lambda: b"A 1.50\nB    2\n", FIXED, "A,1.50"),
    "xlsx": ("a.xlsx", xlsx, None, "A,1.5"),
    "ods": ("a.ods", ods, None, "A,1.5"),
    "dbase": ("a.dbf", dbf, None, "A,1.50"),
    "mt940": ("a.sta", lambda: MT940.encode(), "mt940", "D,-250.5,"),
    "bai2": ("a.bai", lambda: BAI2.encode(), "bai2", "DEALER PAYMENTS"),
    "camt053": ("a.xml", lambda: CAMT053.encode(), "camt053", "2.50"),
    "parquet": ("a.parquet", parquet, None, "A,1.50,2026-11-01,true,7"),
    "zip": ("a.zip", lambda: zipped(**{"a.csv": CSV, "b.csv": b"k,amount\nC,3\n"}), None, "A,1.50"),
    "gzip": ("a.csv.gz", lambda: gzip.compress(CSV), None, "A,1.50"),
}


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_of_intake_is_read(tmp_path: Path, name: str) -> None:
    path, content, layout, row = FORMATS[name]
    (tmp_path / path).write_bytes(content())
    found = certificate(tmp_path, {"path": path, **({"format": layout} if layout else {})})
    written = (tmp_path / "out.csv").read_text()
    assert row in written
    assert found["inputs"][0]["rows"] == len(written.splitlines()) - 1


@pytest.mark.soak
def test_a_real_ach_file_in_gzip_is_read(tmp_path: Path) -> None:
    (tmp_path / NACHA.name).write_bytes(NACHA.read_bytes())
    assert certificate(tmp_path, {"path": NACHA.name, "format": "nacha"})["inputs"][0]["rows"] == 100_199


def test_records_that_a_dbase_file_marks_as_deleted_are_counted(tmp_path: Path) -> None:
    (tmp_path / "a.dbf").write_bytes(dbf())
    assert certificate(tmp_path, "a.dbf")["inputs"][0]["marked_as_deleted"] == 1


def test_the_types_of_a_parquet_file_are_those_of_its_columns(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(parquet())
    found = certificate(tmp_path, "a.parquet")
    assert found["inputs"][0]["sums"] == {"amount": "1.50", "n": "7"}


def test_several_files_are_one_input_in_the_order_of_the_list_or_of_their_names(tmp_path: Path) -> None:
    for name, rows in {"a": "k,amount\nA,1\nx,y\n", "b": "amount,k\n2,B\n", "c": "k,amount\nC,3\n"}.items():
        (tmp_path / f"{name}.csv").write_text(rows)
    given: dict[str, Any] = {"types": {"amount": "decimal(9,2)"}}
    found = certificate(tmp_path, {"path": ["b.csv", "a.csv"], **given})
    assert (tmp_path / "out.csv").read_text().splitlines()[1:] == ["2.00,B", "1.00,A", '"#VALUE!",x']
    assert found["inputs"][0]["errors"] == {"amount": {"#VALUE!": {"count": 1, "first_row": 5}}}, "row 3 behind the 2 of b.csv"
    assert [file["file"] for file in found["inputs"][0]["files"]] == ["b.csv", "a.csv"]
    (tmp_path / "out.csv").rename(tmp_path / "out.txt")
    certificate(tmp_path, {"path": "*.csv", **given})
    assert (tmp_path / "out.csv").read_text().splitlines()[1:] == ["A,1.00", 'x,"#VALUE!"', "B,2.00", "C,3.00"]


def test_a_file_without_a_header_has_declared_columns(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("A,1\nB,2\n")
    certificate(tmp_path, {"path": "a.csv", "format": {"kind": "delimited", "header": False}, "columns": ["k", "amount"]})
    assert (tmp_path / "out.csv").read_text() == "k,amount\nA,1\nB,2\n"


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("none.csv", "input t: {folder}/none.csv: there is no such file"),
        ("none-*.csv", "input t: none-*.csv: no file in {folder} has such a name"),
        (["a.csv", "a.csv"], "input t: a.csv is there twice; name each file once"),
        (["a.csv", "other.csv"], "input t: other.csv has no column 'amount', which a.csv has; make it another input"),
        (["a.csv", "more.csv"], "input t: more.csv has a column 'c', which a.csv has not; make it another input"),
        ("twice.csv", "input t: twice.csv has the column 'K' twice; rename one in the file"),
        ("a.sta", "input t: a.sta: its name does not say its format; write format: {{kind: …}}"),
        ("broken.csv", "input t: broken.csv: line 2: 3 fields"),
        ("broken.zip", "input t: broken.zip: its zip archive can't be read"),
        ("s3://bucket", "input t: s3://bucket names no object; write s3://bucket/folder/name.csv"),
        ([], "inputs.t.path"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, given: str | list[str], told: str) -> None:
    files = {"a.csv": "k,amount\nA,1\n", "other.csv": "k\nA\n", "more.csv": "k,amount,c\n", "twice.csv": "k,K\n", "a.sta": MT940}
    for name, content in {**files, "broken.csv": "k,amount\nA,1,2\n", "broken.zip": "PK"}.items():
        (tmp_path / name).write_text(content)
    with pytest.raises((WrongInput, WrongUsage), match=re.escape(told.format(folder=tmp_path))):
        certificate(tmp_path, given)
    assert not (tmp_path / "out.csv").exists()


def test_an_error_that_an_output_has_is_that_error_again_where_the_column_has_a_type(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('k,amount\nA,"#N/A"\nB,#DIV/0!\nC,1.50\n#N/A,x\n')
    found = certificate(tmp_path, {"path": "a.csv", "types": {"amount": "decimal(9,2)"}})
    kinds = {kind: one["first_row"] for kind, one in found["inputs"][0]["errors"]["amount"].items()}
    assert kinds == {"#DIV/0!": 3, "#VALUE!": 5, "#N/A": 2}
    assert (tmp_path / "out.csv").read_text().splitlines()[1:] == ['A,"#N/A"', 'B,"#DIV/0!"', "C,1.50", '"#N/A","#VALUE!"']


def test_an_error_cell_of_a_sheet_is_that_error_in_a_typed_column(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    for row in (["k", "amount", "note"], ["A", "#N/A", "x"], ["B", 1.5, "#DIV/0!"]):
        book.active.append(row)
    assert (book.active["B2"].data_type, book.active["C3"].data_type) == ("e", "e")
    book.save(tmp_path / "a.xlsx")
    found = certificate(tmp_path, {"path": "a.xlsx", "types": {"amount": "decimal(9,2)"}})
    assert found["inputs"][0]["errors"] == {"amount": {"#N/A": {"count": 1, "first_row": 2}}}
    assert (tmp_path / "out.csv").read_text().splitlines()[1:] == ['A,"#N/A",x', 'B,1.50,"#DIV/0!"']


def test_objects_in_s3_are_inputs_alone_and_by_a_pattern(tmp_path: Path, in_s3: str) -> None:
    store = open_store(in_s3, tmp_path)
    for name in ("a", "b"):
        store.put_new(f"bank/{name}.csv", [f"k,amount\n{name},1\n".encode()])
    store.put_new("bank/deeper/c.csv", [b"k,amount\nc,1\n"])
    found = certificate(tmp_path, f"{in_s3}/bank/*.csv")
    assert (tmp_path / "out.csv").read_text() == "k,amount\na,1\nb,1\n"
    assert [file["file"] for file in found["inputs"][0]["files"]] == [f"{in_s3}/bank/a.csv", f"{in_s3}/bank/b.csv"]
    with pytest.raises(WrongUsage, match=re.escape(f"input t: {in_s3}/bank/x.csv: there is no such object")):
        certificate(tmp_path, f"{in_s3}/bank/x.csv")
