"""Nothing of a path becomes data: one site gives equal bytes in a folder of any name."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cli_calls import command
from daily_orders import EVENTS
from folders import CASES, ROOT

import recon
from recon.api import Reconciliation
from recon.errors import WrongUsage
from recon.reading.artifacts import live_records
from recon.storage import parquet

CASE = CASES / "hive-path"
FIRST, SECOND, THIRD = (f"2026-11-0{day}T00:00Z" for day in (1, 2, 3))
PLAIN = "plain"
LIKE_DATA = [
    *("currency=EUR", "key=7", "hi=9", "lo=3", "event_type=INVOICE", "n=3", "id=1", "event_id=1", "file=0", "line=1", "ids=5", "w=2"),
    *("c_amount=1", "m_eur=1", "kind=rejected", "amount=1", "filename=x", "file_row_number=4", "reason=none", "time=2026-11-01"),
]
AWKWARD = [
    "a[b]",
    "100%",
    "%41",
    "ü",
    "a?b",
    "a*b",
    "x'y",
    'x"y',
    "a b",
    "**",
    "[!a]",
    ".hidden[x]",
    "#1",
    "a;b",
    "{i}",
    "back\\slash",
    "~",
]
NESTED = ["/".join(LIKE_DATA), "/".join(name for name in AWKWARD if name not in ("a?b", "back\\slash")), "a?b", "back\\slash"]
"""Each folder below the one before: a fault by one name is a fault of the whole path."""
RULES = (
    EVENTS
    + """\
measures:
  eur: {sum: amount, where: "currency = 'EUR'"}
  usd: {sum: amount, where: "currency = 'USD'"}
  last: {last: amount}
  invoices: {count: "*", where: "event_type = 'INVOICE'"}
status: [{PAID: "coalesce(eur, 0) + coalesce(usd, 0) = 0"}, {OPEN: "true"}]
control: {rows: {count: "*"}, amount: {sum: amount, by: currency}}
"""
)
COLUMNS = ["event_id", "order_id", "amount", "currency", "event_type", "booked_at"]
ROWS = [
    ("1", "A", "100.00", "USD", "INVOICE", "2026-11-01T08:00:00Z"),
    ("2", "B", "40.00", "USD", "INVOICE", "2026-11-01T09:00:00Z"),
    ("3", "C", "60.00", "EUR", "PAYMENT", "2026-11-01T10:00:00Z"),
    ("3", "C", "60.00", "EUR", "PAYMENT", "2026-11-01T10:00:00Z"),
    ("4", "D", "TBC", "EUR", "INVOICE", "2026-11-01T11:00:00Z"),
]
AGAIN = [("1", "A", "100.00", "USD", "INVOICE", "2026-11-01T08:00:00Z"), ("5", "A", "-100.00", "USD", "PAYMENT", "2026-11-02T08:00:00Z")]
LATE = [("6", "E", "7.00", "EUR", "INVOICE", "2026-11-03T08:00:00Z")]


def write(file: Path, rows: list[tuple[str, ...]]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix == ".parquet":
        pq.write_table(pa.table({name: [row[at] for row in rows] for at, name in enumerate(COLUMNS)}), file)
    elif file.suffix == ".csv":
        file.write_text("".join(",".join(row) + "\n" for row in [tuple(COLUMNS), *rows]))
    else:
        objects = [", ".join(f'"{name}": "{value}"' for name, value in zip(COLUMNS, row, strict=True)) for row in rows]
        file.write_text("".join(f"{{{members}}}\n" for members in objects))
    return file


def carried_out(folder: Path) -> Reconciliation:
    """A site in ``folder``: three formats, duplicates within and across windows, a rejected row, a replaced file, a rebuild."""
    folder.mkdir(parents=True)
    (folder / "recon.yaml").write_text(RULES)
    r = recon.open(folder / "recon.yaml")
    r.land([write(folder / "in" / "one.parquet", ROWS)], FIRST, close=True, again=True)
    r.land(
        [write(folder / "in" / "three.csv", [*LATE, ("7", "F", "1.00", "EUR", "INVOICE", "2026-11-03T08:00:00Z")])],
        THIRD,
        close=True,
        again=True,
    )
    assert r.run().bad == {}
    r.land([write(folder / "in" / "two.jsonl", AGAIN)], SECOND, close=True, again=True)
    assert r.run().bad == {}
    r.land([write(folder / "in" / "late.parquet", LATE)], THIRD, replace="three.csv", again=True)
    assert r.run().bad == {}
    return r


def taken(r: Reconciliation, folder: Path) -> dict[str, Any]:
    """Everything that can be read of it."""
    records = sorted(line for batch in live_records(r.store(), r.state()) for line in batch.column("record").to_pylist())
    exported = {}
    for name in ("all.csv", "all.jsonl"):
        r.export(folder / name)
        exported[name] = (folder / name).read_bytes()
    r.export(folder / "as-of.csv", as_of=SECOND)
    exported["as-of"] = (folder / "as-of.csv").read_bytes()
    shown = {key: {**r.show(key, events=True), "commit": 0} for key in "ABCDE" if key != "D"}
    preview, changes = r.preview_rebuild()
    assert changes.num_rows == 0
    figures = [r.certificate(window) for window in (FIRST, SECOND, THIRD)]
    totals = [{name: one[name] for name in ("accepted", "duplicates", "rejected")} for one in figures if one]
    return {
        "records": records,
        "exported": exported,
        "shown": shown,
        "rejects": r.rejects().to_pylist(),
        "totals": totals,
        "statuses": str(preview),
    }


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("site") / PLAIN
    return taken(carried_out(folder), folder)


@pytest.mark.parametrize("name", NESTED)
def test_a_site_in_a_folder_of_any_name_gives_equal_bytes(tmp_path: Path, plain: dict[str, Any], name: str) -> None:
    folder = tmp_path / name / "site"
    for other in ("ab", "axb", "a", "b"):  # what patterns would match as well
        shutil.copytree(CASE, tmp_path / other / "site")
    r = carried_out(folder)
    assert taken(r, folder) == plain
    assert r.verify(full=True).problems == []
    r.rebuild()
    assert taken(r, folder)["exported"] == plain["exported"]
    assert r.verify(full=True).problems == []


@pytest.mark.parametrize("name", [PLAIN, "currency=EUR", "key=orders", *NESTED])
def test_a_provider_s_parquet_file_of_two_currencies_keeps_them(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name / "case"
    shutil.copytree(CASE, folder)
    r = recon.open(folder / "recon.yaml")
    r.land([folder / "payouts.parquet"], FIRST, close=True, again=True)
    assert r.run().bad == {}
    table = r.artifacts().to_pylist()
    assert {row["key"]: (str(row["eur"]), str(row["usd"])) for row in table} == {
        "A": ("None", "100.00"),
        "B": ("None", "40.00"),
        "C": ("60.00", "None"),
    }
    certificate = r.certificate(FIRST)
    assert certificate is not None
    assert certificate["accepted"]["amount"] == {"EUR": "60.00", "USD": "140.00"}
    assert r.verify(full=True).problems == []


def test_verify_sees_a_changed_amount_in_a_folder_named_like_the_column(tmp_path: Path) -> None:
    """What verify reads of a stateless file is what is in it: a column of the folder's name would cover the change."""
    folder = tmp_path / "c_currency=USD" / "m_eur=60.00"
    shutil.copytree(CASE, folder)
    r = recon.open(folder / "recon.yaml")
    r.land([folder / "payouts.parquet"], FIRST, close=True, again=True)
    r.run()
    (file,) = (folder / "data").glob("stateless/*/*/artifacts.parquet")
    held = pq.ParquetFile(file).read()
    at = held.schema.get_field_index("m_eur")
    changed = pa.array([value and value * 2 for value in held["m_eur"].to_pylist()], held.schema.field(at).type)
    file.unlink()
    pq.write_table(held.set_column(at, held.schema.field(at), changed), file)
    assert any("eur 120.00 ≠ 60.00" in finding for finding in r.verify().problems)


@pytest.mark.parametrize("name", ["currency=EUR", "100% #b", "x'y [1]*", "ü"])
def test_the_command_line_works_in_a_folder_of_any_name(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    shutil.copytree(CASE, folder)
    landed = folder / f"{name}.parquet"
    (folder / "payouts.parquet").rename(landed)
    for arguments in (
        ["land", str(landed), "--window", FIRST, "--close"],
        ["run"],
        ["verify", "--full"],
        ["export", f"{name}.csv"],
        ["doctor"],
    ):
        done = command(*arguments, cwd=folder)
        assert (done.returncode, done.stderr) == (0, ""), arguments
    assert [line.split(",")[:4] for line in (folder / f"{name}.csv").read_text().splitlines()[1:]] == [
        ["A", "SEEN", "", "100.00"],
        ["B", "SEEN", "", "40.00"],
        ["C", "SEEN", "60.00", ""],
    ]


def test_a_question_mark_in_the_path_of_dagster_s_home_is_refused_and_another_home_serves(tmp_path: Path) -> None:
    folder = tmp_path / "a?b"
    shutil.copytree(CASE, folder)
    assert command("land", "payouts.parquet", "--window", FIRST, "--close", cwd=folder).returncode == 0
    refused = command("run", cwd=folder)
    assert (refused.returncode, refused.stderr) == (
        2,
        f"recon: {folder}/.dagster: Dagster cannot keep its files in a folder with '?' in its path; name another in DAGSTER_HOME\n",
    )
    assert command("run", cwd=folder, DAGSTER_HOME=str(tmp_path / "home")).returncode == 0
    assert command("verify", "--full", cwd=folder).returncode == 0


def test_files_of_windows_are_told_apart_by_their_own_paths(tmp_path: Path) -> None:
    import duckdb

    files = {}
    for number, name in enumerate([*LIKE_DATA, *AWKWARD]):
        file = tmp_path / name / "rows.parquet"
        file.parent.mkdir()
        pq.write_table(pa.table({"n": [number]}), file)
        files[str(number)] = file
    rows = duckdb.sql(f"SELECT n, w FROM {parquet.scan_windows(files)} ORDER BY n").fetchall()
    assert rows == [(number, str(number)) for number in range(len(files))]
    for number, file in enumerate(files.values()):
        assert parquet.read(file).to_pylist() == [{"n": number}]
        assert parquet.read(file, ["n"], [("n", "=", number)]).to_pylist() == [{"n": number}]
        assert duckdb.sql(f"SELECT * FROM {parquet.scan(file)}").fetchall() == [(number,)]


def test_a_path_that_duckdb_cannot_be_given_exactly_is_refused() -> None:
    with pytest.raises(WrongUsage, match="holds a backslash and also"):
        parquet.scan(Path("/a\\[b]/c.parquet"))


@pytest.mark.parametrize(
    "opening",
    [
        r"read_parquet|parquet_scan|parquet_metadata|parquet_schema",
        r"pq\.read|read_table\(|ParquetFile\(|ParquetDataset",
        r"\bdataset\(|pyarrow\.dataset|import dataset",
    ],
)
def test_no_other_module_opens_a_parquet_file(opening: str) -> None:
    found = {
        str(file.relative_to(ROOT))
        for package in ("recon", "recon_assets", "recon_dagster", "resources", "jobs")
        for file in (ROOT / package).rglob("*.py")
        if re.search(opening, file.read_text("utf-8"))
    }
    assert found <= {"recon/storage/parquet.py"}


def test_no_module_lets_duckdb_open_a_csv_or_json_file_by_its_path() -> None:
    for package in ("recon", "recon_assets", "recon_dagster", "resources", "jobs"):
        for file in (ROOT / package).rglob("*.py"):
            assert not re.search(r"read_csv\(|read_json|read_text\('|read_blob|sniff_csv|FROM '|glob\(\{", file.read_text("utf-8")), file


def test_no_module_uses_duckdbs_default_connection_which_belongs_to_the_users_program() -> None:
    for package in ("recon", "recon_assets", "recon_dagster", "resources", "jobs"):
        for file in (ROOT / package).rglob("*.py"):
            assert not re.search(r"\bduckdb\.(execute|sql|query|values|from_arrow|from_df|read_\w+)\(", file.read_text("utf-8")), file
