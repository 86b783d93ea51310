"""Columns that are computed, rows that are looked up, and groups that are numbered, where a statement reads them."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from recon.transformations import late_tables
from recon.transformations.engines import duckdb as engine
from recon.transformations.engines.late import Late, Rows
from recon.transformations.engines.views import Views
from recon.transformations.run import carry_out, read_request

REGIONS = ["North", "south", "", "NORTH", "South", "east"]
ROWS = [(row, REGIONS[row * 7 % 6], f"{row * 37 % 90 - 40}.{row % 10}", f"k{row % 9}") for row in range(60)]
OPERATIONS: list[dict[str, Any]] = [
    {"compute": {"table": "t", "set": {"double": "=[@amount]*2", "quarter": "=[@double]/4", "inverse": "=1/([@id]-7)"}}},
    {"running_total": {"table": "t", "to": "so_far", "of": "double", "by": "region"}},
    {"compute": {"table": "t", "set": {"after": "=[@so_far]+[@double]"}}},
    {"rank": {"table": "t", "to": "rank", "of": "after", "by": "region"}},
    {"vlookup": {"table": "t", "in": "names", "key": "key", "take": "name"}},
    {"filter": {"table": "t", "where": "=[@after]>-50"}},
    {"number_rows": {"table": "t", "to": "place", "by": "region"}},
    {"sort": {"table": "t", "by": [{"column": "quarter", "descending": True}, "region"]}},
    {"compute": {"table": "t", "set": {"label": '=IFNA([@name], "none")&[@place]'}}},
]


def expected() -> list[tuple[Any, ...]]:
    """id, so_far, rank, place, label of each row, by plain Python."""
    sums: dict[str, Decimal] = {}
    rows = []
    for number, region, amount, key in ROWS:
        double = Decimal(amount) * 2
        sums[region.lower()] = sums.get(region.lower(), Decimal(0)) + double
        rows.append((number, region.lower(), double, sums[region.lower()], key))
    ranked = [(*row, 1 + sum(one[1] == row[1] and one[3] + one[2] > row[3] + row[2] for one in rows)) for row in rows]
    kept, places = [], dict[str, int]()
    for number, region, double, so_far, key, rank in ranked:
        if so_far + double > -50:
            places[region] = places.get(region, 0) + 1
            name = f"name {key}" if key < "k6" else "none"
            kept.append((number, region, double, so_far, rank, places[region], f"{name}{places[region]}"))
    ordered = sorted(kept, key=lambda row: (-row[2], row[1] == "", row[1], row[0]))
    return [(row[0], row[3], row[4], row[5], row[6]) for row in ordered]


def answer(folder: Path, columns: int) -> tuple[list[tuple[Any, ...]], dict[str, Any]]:
    """The same, of a table with that many columns more, and the certificate."""
    more = [f"c{number}" for number in range(columns)]
    lines = [",".join(map(str, (*row, *[row[0]] * columns))) for row in ROWS]
    (folder / "t.csv").write_text("\n".join([",".join(["id", "region", "amount", "key", *more]), *lines]) + "\n")
    (folder / "names.csv").write_text("key,name\n" + "".join(f"K{number},name k{number}\n" for number in range(6)))
    inputs = {"t": {"path": "t.csv", "types": {"id": "integer", "amount": "decimal(9,1)"}}, "names": {"path": "names.csv"}}
    request = {"inputs": inputs, "operations": OPERATIONS, "outputs": [{"table": "t", "path": "o.parquet"}]}
    (folder / "r.json").write_text(json.dumps(request))
    certificate = carry_out(read_request(folder / "r.json"))
    found = pq.read_table(folder / "o.parquet").select(["id", "so_far", "rank", "place", "label"]).to_pydict()
    return list(zip(*found.values(), strict=True)), certificate


@pytest.mark.parametrize(("columns", "groups", "long"), [(0, 1, 0), (0, 100_000, 60_000), (12, 1, 60_000), (12, 100_000, 0)])
def test_late_columns_equal_plain_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, columns: int, groups: int, long: int) -> None:
    monkeypatch.setattr(late_tables, "GROUPS_MAX", groups)
    monkeypatch.setattr(engine, "_LONG", long)
    found, certificate = answer(tmp_path, columns)
    assert found == expected()
    assert certificate["operations"][0]["errors"] == {"inverse": {"#DIV/0!": {"count": 1, "first_row": 9}}}
    assert certificate["operations"][4]["errors"]["name"]["#N/A"]["count"] == sum(key >= "k6" for *_, key in ROWS)
    assert certificate["outputs"][0]["sums"]["so_far"] == str(sum(row[1] for row in expected()))


def test_a_statement_gets_what_it_names_only() -> None:
    views = Views()
    views.add("base", "SELECT 1 AS n, 2 AS a, 3 AS b")
    views.add("core", Rows("base", ("a", "b"), {"x": "l.v"}, " LEFT JOIN found l ON l.k = t.a"))
    views.add("late", Late("core", ("a", "b", "x"), {"y": "a + 1", "z": "y * x"}))
    few = views.over("SELECT sum(y) FROM late")
    assert "found" not in few
    assert "b" not in few.split("late AS")[1].split("FROM")[0]
    assert "LEFT JOIN found" in views.over("SELECT sum(z) FROM late")
    assert "FROM core ORDER BY n)" in views.over("SELECT z FROM late t", ordered="late")
    assert "a + 1" in views.over("SELECT * FROM late")
