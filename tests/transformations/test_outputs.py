"""Outputs: workbooks, text that no spreadsheet runs, rejects, the certificate's file, S3; all of them or none."""

from __future__ import annotations

import csv
import json
import os
import re
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import openpyxl
import pyarrow.parquet as pq
import pytest
from cli_calls import Call
from hypothesis import given, settings
from hypothesis import strategies as st

from recon.errors import WrongInput, WrongUsage
from recon.exports import placing, sheets
from recon.exports.guarding import takes_for_formula
from recon.storage.open import open_store
from recon.storage.scratch import file_digest
from recon.transformations.outputs import shown, workbook
from recon.transformations.run import carry_out, read_request

ROWS = """\
item,amount,big,day,ok,note
A,10.50,1,2026-11-01,true,plain
B,x,12345678901234567.25,2026-12-24,false,=1+1
C,-2.25,,x,,-5.00
"""
TYPES = {"amount": "decimal(18,2)", "big": "decimal(30,2)", "day": "date", "ok": "boolean"}


def request(folder: Path, *outputs: dict[str, Any] | str, rows: str = ROWS, types: dict[str, str] = TYPES, **more: Any) -> Path:
    (folder / "t.csv").write_text(rows)
    listed = [{"table": "t", **({"path": output} if isinstance(output, str) else output)} for output in outputs]
    inputs = {"t": {"path": "t.csv", "types": types}}
    (folder / "request.json").write_text(json.dumps({"inputs": inputs, "outputs": listed, **more}))
    return folder / "request.json"


def done(folder: Path, *outputs: dict[str, Any] | str, **more: Any) -> dict[str, Any]:
    return carry_out(read_request(request(folder, *outputs, **more)))


def cells(file: Path, sheet: str = "t") -> list[list[Any]]:
    return [[cell.value for cell in row] for row in openpyxl.load_workbook(file)[sheet].iter_rows()]


def lines(file: Path) -> list[list[str]]:
    with file.open(newline="") as opened:
        return list(csv.reader(opened, delimiter="\t" if file.suffix == ".tsv" else ","))


def test_a_workbook_has_numbers_dates_and_truth_values_and_all_else_as_text(tmp_path: Path) -> None:
    certificate = done(tmp_path, "out.xlsx")
    first, second, third = cells(tmp_path / "out.xlsx")[1:]
    assert first == ["A", 10.5, 1, datetime(2026, 11, 1), True, "plain"]  # noqa: DTZ001
    assert second == ["B", "#VALUE!", "12345678901234567.25", datetime(2026, 12, 24), False, "=1+1"]  # noqa: DTZ001
    assert third == ["C", -2.25, None, "#VALUE!", None, "-5.00"]
    sheet = openpyxl.load_workbook(tmp_path / "out.xlsx")["t"]
    assert (sheet["F3"].data_type, sheet["B2"].number_format, sheet["D2"].number_format) == ("s", "#,##0.00", "yyyy-mm-dd")
    (output,) = certificate["outputs"]
    assert (output["rows"], output["sheets"], output["numbers_as_text"]) == (3, 1, 1)
    assert output["digest"] == file_digest(tmp_path / "out.xlsx")


def test_rows_beyond_a_sheet_are_refused_or_go_on_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workbook, "ROWS_MAX", 2)
    told = re.escape(
        "output out.xlsx: 3 rows do not fit a sheet, which takes 2 below its heading; write sheets: split, or an output in .csv"
    )
    compute = {"compute": {"table": "t", "set": {"x": "=1"}}}
    group = {"group": {"table": "t", "by": "item", "values": {"n": {"count": "amount"}}}}
    for operations in ([], [compute], [group]):
        with pytest.raises(WrongInput, match=told):
            done(tmp_path, "out.xlsx", operations=operations)
    assert not (tmp_path / "out.xlsx").exists()
    certificate = done(tmp_path, {"path": "out.xlsx", "sheets": "split"})
    assert [row[0] for row in cells(tmp_path / "out.xlsx")] == ["item", "A", "B"]
    assert [row[0] for row in cells(tmp_path / "out.xlsx", "t 2")] == ["item", "C"]
    assert certificate["outputs"][0]["sheets"] == 2


def test_rows_that_are_known_to_be_too_many_are_refused_before_an_operation_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workbook, "ROWS_MAX", 2)
    asked = read_request(request(tmp_path, "out.xlsx", operations=[{"compute": {"table": "t", "set": {"x": "=1"}}}]))
    seen: list[str] = []
    with pytest.raises(WrongInput, match="do not fit a sheet"):
        carry_out(asked, lambda stage, what, share: seen.append(what))
    assert not [what for what in seen if "compute" in what]


def test_columns_beyond_a_sheet_are_refused_before_rows_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workbook, "COLUMNS_MAX", 5)
    with pytest.raises(WrongUsage, match=r"output out\.xlsx: 6 columns, and a sheet has 5"):
        read_request(request(tmp_path, "out.xlsx"))


def test_a_text_that_no_cell_takes_is_refused_with_its_row(tmp_path: Path) -> None:
    rows = f"item\nA\n{'x' * (sheets.TEXT_MAX + 1)}\n"
    with pytest.raises(WrongUsage, match=r"out\.xlsx: row 2: a text of 32,768 characters does not fit"):
        done(tmp_path, "out.xlsx", rows=rows, types={})
    assert not (tmp_path / "out.xlsx").exists()


FORMULAS = ["=1+1", "+cmd", "-2+3", "@SUM(A1)", " =1", "＝1", "'=1"]
HARMLESS = ["-5.00", "+49,5", "a=b", "'tis", "x@y.z", "–7", "Größe"]


def test_texts_that_a_spreadsheet_might_run_get_an_apostrophe_but_signed_numbers_do_not(tmp_path: Path) -> None:
    with (tmp_path / "texts.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["t"], *([text] for text in (*FORMULAS, *HARMLESS))])
    rows = (tmp_path / "texts.csv").read_text()
    certificate = done(tmp_path, "out.csv", "out.tsv", {"path": "as-it-is.csv", "guard": False}, rows=rows, types={})
    guarded = [f"'{text}" for text in FORMULAS] + HARMLESS
    assert [row[0] for row in lines(tmp_path / "out.csv")[1:]] == guarded
    assert [row[0] for row in lines(tmp_path / "out.tsv")[1:]] == guarded
    assert [row[0] for row in lines(tmp_path / "as-it-is.csv")[1:]] == [*FORMULAS, *HARMLESS]
    assert [output["texts_guarded"] for output in certificate["outputs"]] == [7, 7, 0]


def test_rows_with_an_error_go_to_a_file_of_their_own_with_column_and_kind(tmp_path: Path) -> None:
    certificate = done(tmp_path, "out.csv", "out.parquet", on_error="reject")
    assert lines(tmp_path / "out.csv")[1:] == [["A", "10.50", "1.00", "2026-11-01", "true", "plain"]]
    assert pq.read_table(tmp_path / "out.parquet").num_rows == 1
    assert lines(tmp_path / "out.csv.rejects.csv") == [
        ["row", "error_column", "error_kind", "item", "amount", "big", "day", "ok", "note"],
        ["3", "amount", "#VALUE!", "B", "#VALUE!", "12345678901234567.25", "2026-12-24", "false", "'=1+1"],
        ["4", "day", "#VALUE!", "C", "-2.25", "", "#VALUE!", "", "-5.00"],
    ]
    first = certificate["outputs"][0]
    assert (first["rows"], first["rejects"]["rows"], first["rejects"]["sums"]["amount"]) == (1, 2, "-2.25")
    assert first["errors"]["day"] == {"#VALUE!": {"count": 1, "first_row": 4}}
    certificate = done(tmp_path, "out.csv", rows="item,row\nA,1\n", types={}, on_error="reject")
    assert lines(tmp_path / "out.csv.rejects.csv") == [["row_", "error_column", "error_kind", "item", "row"]], "no rows of the run before"
    assert certificate["outputs"][0]["rejects"]["rows"] == 0


def test_several_outputs_of_several_tables_each_in_its_format_with_its_own_figures(tmp_path: Path, recon: Call) -> None:
    group = {"group": {"table": "t", "by": "ok", "values": {"big": {"sum": "big"}}, "as": "g"}}
    outputs = [{"path": "all.txt", "format": "tsv"}, {"path": "all.parquet"}, {"table": "g", "path": "g.out", "format": "xlsx"}]
    certificate = done(tmp_path, *outputs, operations=[group])
    assert lines(tmp_path / "all.txt")[0] == ["\t".join(["item", "amount", "big", "day", "ok", "note"])]
    assert pq.read_table(tmp_path / "all.parquet").num_rows == 3
    (tmp_path / "g.out").rename(tmp_path / "g.xlsx")
    assert cells(tmp_path / "g.xlsx", "g")[0] == ["ok", "big"]
    found = [(output["path"], output["rows"], output["sums"]["big"], len(output["errors"])) for output in certificate["outputs"]]
    whole = "12345678901234568.25"
    assert found == [("all.txt", 3, whole, 2), ("all.parquet", 3, whole, 2), ("g.out", 3, whole, 0)]
    for option in ("--dry-run", "--explain"):
        said = recon("transform", str(tmp_path / "request.json"), option).out
        assert "writes all.txt: t as tsv" in said
        assert "writes g.out: g as xlsx" in said
        told = json.loads(recon("transform", str(tmp_path / "request.json"), option, "--json").out)["outputs"]
        assert [one["format"] for one in told] == ["tsv", "parquet", "xlsx"]


@pytest.mark.parametrize("wrong", [0, 1, 2])
def test_where_one_of_several_outputs_does_not_fit_none_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: int) -> None:
    monkeypatch.setattr(workbook, "ROWS_MAX", 2)
    outputs = ["a.csv", "b.parquet"]
    outputs.insert(wrong, "c.xlsx")
    group = {"group": {"table": "t", "by": "item", "values": {"n": {"count": "amount"}}}}
    with pytest.raises(WrongInput, match="do not fit a sheet"):
        done(tmp_path, *outputs, operations=[group], certificate="proof.json")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["request.json", "t.csv"]


def test_a_column_named_as_the_rows_number_changes_no_order(tmp_path: Path) -> None:
    done(tmp_path, "out.csv", "out.xlsx", rows="n,row\n3,x\n1,y\n2,z\n", types={}, on_error="reject")
    assert [row[0] for row in lines(tmp_path / "out.csv")] == [row[0] for row in cells(tmp_path / "out.xlsx")] == ["n", "3", "1", "2"]


def test_the_certificate_is_written_beside_the_outputs_or_where_the_command_says(tmp_path: Path, recon: Call) -> None:
    certificate = done(tmp_path, "out.csv", certificate="proof/of.json")
    assert json.loads((tmp_path / "proof" / "of.json").read_text()) == certificate
    answer = recon("transform", str(tmp_path / "request.json"), "--certificate", str(tmp_path / "other.json"))
    assert (answer.status, answer.err) == (0, "")
    assert "t: amount: 1 #VALUE!, first in row 3; day: 1 #VALUE!, first in row 4" in answer.out
    assert "1 texts that look like formulas got an apostrophe (guard: false leaves them)" in answer.out
    assert f"certificate: {tmp_path}/other.json" in answer.out
    assert json.loads((tmp_path / "other.json").read_text()) == certificate


@pytest.mark.parametrize(
    ("outputs", "more", "told"),
    [
        (["out.csv"], {"certificate": "t.csv"}, "certificate: t.csv is the input t; choose another path"),
        (["out.csv", "out.csv.rejects.csv"], {"on_error": "reject"}, "output 2: out.csv.rejects.csv is the rejects of output 1"),
        (["t.csv/out.csv"], {}, "nothing can be written in {folder}/t.csv; choose another path"),
        (["folder.csv"], {}, "folder.csv: this is a folder; name a file"),
        ([{"path": "out.csv", "sheets": "split"}], {}, "is for .xlsx only; any other file has no limit of rows"),
    ],
)
def test_a_place_where_nothing_can_be_written_is_named_first(tmp_path: Path, outputs: list[Any], more: dict[str, Any], told: str) -> None:
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(WrongUsage, match=re.escape(told.format(folder=tmp_path))):
        read_request(request(tmp_path, *outputs, **more))


def test_where_one_of_several_files_cannot_take_its_place_what_was_there_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.csv").write_text("the old one")
    replace = os.replace

    def failing(source: Path, target: Path) -> None:
        if target.name == "c.csv" and source.name.startswith("new"):
            raise OSError(5, "Input/output error")
        replace(source, target)

    monkeypatch.setattr(placing.os, "replace", failing)
    with pytest.raises(WrongUsage, match=r"c\.csv: cannot be written \(Input/output error\)"):
        done(tmp_path, "a.csv", "b.csv", "c.csv")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "request.json", "t.csv"]
    assert (tmp_path / "a.csv").read_text() == "the old one"


def test_objects_in_s3_are_written_with_the_files_and_never_replaced(tmp_path: Path, in_s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(in_s3, tmp_path)
    certificate = done(tmp_path, f"{in_s3}/out/of.csv", "out.csv", on_error="reject", certificate=f"{in_s3}/out/certificate.json")
    assert store.get("out/of.csv") == (tmp_path / "out.csv").read_bytes()
    assert list(store.list("")) == ["out/certificate.json", "out/of.csv", "out/of.csv.rejects.csv"]
    assert json.loads(store.get("out/certificate.json")) == certificate
    with pytest.raises(WrongUsage, match=r"out/of\.csv exists already, and objects in S3 are never replaced"):
        read_request(request(tmp_path, f"{in_s3}/out/of.csv"))
    monkeypatch.setattr(placing._Placing, "place", lambda placing: os.stat("/no/such/file"))
    with pytest.raises(WrongUsage, match="cannot be written"):
        done(tmp_path, f"{in_s3}/out/other.csv", "out.csv")
    assert not store.exists("out/other.csv")


ODD = st.lists(st.sampled_from(list("=+-@'\t\r\n \x00\x1f09.,aé＝＋－＠")), max_size=6).map("".join)


@settings(max_examples=100, deadline=None)
@given(ODD)
def test_all_that_exports_guard_is_guarded_but_signed_numbers(text: str) -> None:
    found, guarded = duckdb.execute(f"SELECT {shown._formula('t')}, {takes_for_formula('t')} FROM (SELECT ? AS t)", [text]).fetchall()[0]
    assert found == (guarded and not re.fullmatch(r"[+\-][0-9.,]+", text))
