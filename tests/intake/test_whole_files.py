"""Files that are refused as a whole: not what their name says, damaged, or beyond the limits."""

from __future__ import annotations

import gzip
import subprocess
import sys
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from loaded_files import (
    MONEY,
    inspect,
    load,
    parquet_bytes,
)

from recon.config.settings import Limits
from recon.errors import WrongInput, WrongUsage
from recon.intake.files import EventSpec
from recon.intake.files import inspect as inspected
from recon.vocabulary.types import Type


def faults(folder: Path, name: str, content: bytes, columns: tuple[str, ...] = ("k", "v")) -> str:
    path = folder / "landed"
    path.write_bytes(content)
    with pytest.raises((WrongInput, WrongUsage)) as caught:
        inspect(name, path, columns)
    text = str(caught.value)
    assert "\n" not in text
    assert text.startswith(name)
    return text


GOOD = b"k,v\n" + b"".join(b"%d,1\n" % i for i in range(20_000))


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.xlsx", b"x", "the name has no known suffix"),
        ("a.parquet.gz", b"x", "the name has no known suffix"),
        ("a.csv", b"", "the file is empty"),
        ("a.csv", parquet_bytes(k=["a"]), "the content is Parquet"),
        ("a.csv", gzip.compress(GOOD, mtime=0), "the content is gzip, the name says plain text"),
        ("a.csv.gz", GOOD, "the content is not gzip"),
        ("a.csv.gz", zstandard.compress(GOOD), "the content is zstd, the name says gzip"),
        ("a.csv.gz", gzip.compress(parquet_bytes(k=["a"]), mtime=0), "the content is Parquet"),
        ("a.csv", b'{"k":"a","v":1}\n', "line 1 is a JSON object"),
        ("a.jsonl", GOOD, "line 1 is no JSON object"),
        ("a.json", b'[\n{"k":1}]', "line 1 begins a JSON array"),
        ("a.json", b'{\n"k":1}', "line 1 begins an object that continues on the next line"),
        ("a.csv", "k,v\n".encode("utf-16"), "UTF-16"),
        ("a.csv", b"\xff\xe4k,v\na,1\n", "line 1: the header is not UTF-8"),
        ("a.csv", b"k,v\ra,1\r", "carriage returns only"),
        ("a.csv", b"k,Value\na,1\n", "has no column 'v'; it has: k, Value"),
        ("a.csv", b"k,V\na,1\n", "has no column 'v'; did you mean 'V'? it has: k, V"),
        ("a.csv", b"k;v\na;1\n", "separated by ';'; expected ','"),
        ("a.csv", b"k,v,k\na,1,b\n", "has column 'k' twice"),
        ("a.parquet", parquet_bytes(k=["a"]), "the schema has no column 'v'"),
        ("a.parquet", parquet_bytes(k=["a"], v=[1])[:-3], "not a whole Parquet file"),
        ("a.parquet", b"k,v\n", "the content is not Parquet"),
        *(("a.csv.gz", gzip.compress(GOOD, mtime=0)[:cut], "the gzip data is cut off") for cut in (-3, 30)),
        *(("a.csv.zst", zstandard.compress(GOOD)[:cut], "the zstd data is cut off") for cut in (-3, 30)),
        ("a.csv.gz", gzip.compress(GOOD, mtime=0)[:40] + b"\xff" * 40 + gzip.compress(GOOD, mtime=0)[80:], "damaged gzip"),
    ],
)  # fmt: skip
def test_a_file_that_is_not_what_its_name_says_is_refused_in_one_line(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    assert says in faults(tmp_path, name, content)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.csv", b"k,v\na,1\n" + b"x" * 40_000_000, "a.csv: line 3 is longer than 16,777,216 bytes"),
        ("a.csv", b'k,v\na,1\n"' + b"x" * 40_000_000, "a.csv: line 3 is longer than 16,777,216 bytes"),
        ("a.jsonl", b'{"k":"a","v":1}\n{"k":"' + b"x" * 40_000_000, "a.jsonl: line 2 is longer than 16,777,216 bytes"),
        ("a.csv.gz", gzip.compress(GOOD, mtime=0)[:-9], "the gzip data is cut off"),
        ("a.csv", b"k\na\n", "line 1: the header has no column 'v'"),
        ("a.parquet", parquet_bytes(k=["a"], v=[[1]]), "column 'v' is a list"),
    ],
)
def test_a_file_that_can_not_be_read_to_its_end_stops_the_load(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    with pytest.raises(WrongInput) as caught:
        load(tmp_path, {name: content}, EventSpec(("k",), None, None, {"v": Type("text")}))
    assert says in str(caught.value)


@pytest.mark.parametrize("values", [[9, 10], [Decimal("1.5")], [1.5], [date(2026, 11, 1)]])
def test_parquet_numbers_that_no_one_declared_are_never_ordered_as_text(tmp_path: Path, values: list[Any]) -> None:
    path, content = tmp_path / "x", parquet_bytes(k=["a"] * len(values), v=values)
    path.write_bytes(content)
    says = r"a.parquet: column 'v' is [^ ].* and would be compared as text, in which 9 is more than 10; declare it under events.types"
    with pytest.raises(WrongInput, match=says):
        inspect("a.parquet", path, ["k", "v"], {"v"})
    with pytest.raises(WrongInput, match=says):
        load(tmp_path, {"a.parquet": content}, EventSpec(("k",), None, None, {"v": Type("text")}, frozenset("v")))
    # Declared, or not asked for its order, it is read as ever; and so is text, however it is stored.
    inspect("a.parquet", path, ["k", "v"])
    path.write_bytes(parquet_bytes(k=["a"], v=pa.array(["9"]).dictionary_encode()))
    inspect("a.parquet", path, ["k", "v"], {"v"})


def test_a_nested_parquet_column_is_refused_when_it_lands(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(parquet_bytes(k=["a"], v=[[1]]))
    with pytest.raises(WrongInput, match="column 'v' is a list"):
        inspect("a.parquet", tmp_path / "x", ["k", "v"])
    inspect("a.parquet", tmp_path / "x", ["k"])


def test_a_damaged_page_of_parquet_stops_the_load(tmp_path: Path) -> None:
    content = bytearray(parquet_bytes(k=[f"key {i}" for i in range(5000)]))
    content[200:400] = bytes(200)
    with pytest.raises(WrongInput, match="damaged Parquet"):
        load(tmp_path, {"a.parquet": bytes(content)}, EventSpec(("k",), None, None, {}))


def limited(**limits: int) -> EventSpec:
    return EventSpec(("k",), None, None, {"v": Type("text")}, limits=Limits(**limits))


LONG = b"k,v\na,1\nb," + b"x" * 1000 + b"\n"

MANY = b"k,v\n" + b"a,1\n" * 1000

RATIO = "times as many; if it is meant, raise limits.ratio"


def repeated(rows: int) -> bytes:
    """Parquet of equal rows."""
    column = pa.repeat("a", rows)
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"k": column, "v": column}), sink)
    return bytes(sink.getvalue())


# The bytes are made in the test: nothing large is made, and no time of day gets into an id, where tests are only listed.
@pytest.mark.parametrize(
    ("name", "content", "limits", "says"),
    [
        pytest.param(name, content, limits, says, id=what)
        for what, name, content, limits, says in (
            (
                "line of csv",
                "a.csv",
                lambda: LONG,
                {"line": 1000},
                "a.csv: line 3 is longer than 1,000 bytes; end its lines with line feeds, or raise limits.line",
            ),
            ("line of gzip", "a.csv.gz", lambda: gzip.compress(LONG), {"line": 1000}, "a.csv.gz: line 3 is longer than 1,000 bytes"),
            (
                "line of json",
                "a.jsonl",
                lambda: b'{"k":"a","v":1}\n{"k":"' + b"x" * 1000 + b'"}\n',
                {"line": 1000},
                "a.jsonl: line 2 is longer than 1,000 bytes",
            ),
            ("bytes", "a.csv.gz", lambda: gzip.compress(MANY), {"bytes": 4000}, "a.csv.gz: it expands to more than 4,000 bytes; split it"),
            ("ratio of zstd", "a.csv.zst", lambda: zstandard.compress(b"k,v\n" + b"a,1\n" * 17_000_000), {}, RATIO),
            ("ratio of gzip", "a.csv.gz", lambda: gzip.compress(b"k,v\n" + b"\n" * 68_000_000), {}, RATIO),
            ("ratio of parquet", "a.parquet", lambda: repeated(9_000_000), {}, RATIO),
            ("rows", "a.parquet", lambda: repeated(1001), {"rows": 1000}, "a.parquet: it has 1,001 rows, at most 1,000"),
        )
    ],
)
def test_a_file_beyond_the_limits_is_refused_when_it_lands_and_when_it_is_read(
    tmp_path: Path, name: str, content: Callable[[], bytes], limits: dict[str, int], says: str
) -> None:
    made = content()
    (tmp_path / "x").write_bytes(made)
    with pytest.raises(WrongInput) as caught:
        inspected(name, tmp_path / "x", limited(**limits))
    assert says in str(caught.value)
    with pytest.raises(WrongInput) as caught:
        load(tmp_path, {name: made}, limited(**limits))
    assert says.partition(";")[0] in str(caught.value)


def test_a_file_of_more_rows_than_allowed_stops_the_load(tmp_path: Path) -> None:
    for name, content in {"a.csv": MANY + b"a,1\n", "a.jsonl": b'{"k":"a","v":1}\n' * 1001}.items():
        with pytest.raises(WrongInput, match=f"{name}: it has more than 1,000 rows; split it, or raise limits.rows"):
            load(tmp_path, {name: content}, limited(rows=1000))
        load(tmp_path, {name: content}, limited(rows=1001))


BLANK_LINES = r"""
import re, sys
from pathlib import Path
import duckdb
from recon.storage.hashing import define
from recon.intake.files import EventSpec, SourceFile, load_events
connection = duckdb.connect(config={"threads": 1})
define(connection, "")
path = Path(sys.argv[1])
counts = load_events(connection, [SourceFile("a.csv.gz", path)], EventSpec(("k",), None, None, {}), "events")
peak = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())  # getrusage has the parent's, too
print(counts[0].rows, int(peak[1]) >> 10, *connection.execute("SELECT line FROM events").fetchone())
"""


def test_blank_lines_take_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(gzip.compress(b"k,v\n" + b"\n" * 24_000_000 + b"a,1\n"))
    child = subprocess.run([sys.executable, "-c", BLANK_LINES, str(path)], capture_output=True, text=True, check=True)
    rows, mebibytes, line = map(int, child.stdout.split()[-3:])
    assert (rows, line) == (1, 24_000_002)
    assert mebibytes < 600


def test_good_files_pass_inspection(tmp_path: Path) -> None:
    for name, content in {
        "a.csv": GOOD,
        "b.csv": b"k,v\n",
        "c.csv.gz": gzip.compress(GOOD, mtime=0) * 2,
        "d.jsonl": b'{"k":1,"v":null}\n',
    }.items():
        path = tmp_path / "landed"
        path.write_bytes(content)
        inspect(name, path, ["k", "v"])


def test_columns_that_differ_in_case_only_are_refused() -> None:
    with pytest.raises(WrongUsage, match="differ in case only"):
        _ = EventSpec(("Key",), None, None, {"key": MONEY}).names
