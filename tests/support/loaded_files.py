"""Files as they are loaded: their rows, accepted or rejected, and the same in plain Python."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
from collections.abc import Collection, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from recon.intake.files import EventSpec, SourceFile, formats, load_events
from recon.intake.files import inspect as inspected
from recon.storage.hashing import define
from recon.vocabulary.types import Type

CONNECTION = duckdb.connect(config={"threads": 1})  # one for all: opening one takes longer than most tests
SALT = "salt"
MONEY = Type("decimal", 18, 2)
SPEC = EventSpec(("k",), ("id",), "t", {"amount": MONEY, "note": Type("text")})
HEADER = "k,id,t,amount,note\n"


def load(folder: Path, files: dict[str, bytes], spec: EventSpec = SPEC, zone: str = "UTC") -> tuple[Any, Any, Any]:
    """Counts, accepted and rejected rows (as dicts, by file and line) of files with these contents."""
    sources = []
    for number, (name, content) in enumerate(files.items()):
        path = folder / f"landed-{number}"
        path.write_bytes(content)
        sources.append(SourceFile(name, path))
    CONNECTION.execute(f"SET timezone = '{zone}'")
    define(CONNECTION, SALT)
    counts = load_events(CONNECTION, sources, spec, "events")
    tables = []
    for table in ("events", "events_rejects"):
        cursor = CONNECTION.execute(f"SELECT * FROM {table} ORDER BY file, line")
        names = [column[0] for column in cursor.description]
        tables.append([dict(zip(names, row, strict=True)) for row in cursor.fetchall()])
    for number, count in enumerate(counts):
        assert count.accepted == sum(row["file"] == number for row in tables[0])
        assert count.rejected == sum(row["file"] == number for row in tables[1])
        assert count.rows == count.accepted + count.rejected
    return counts, tables[0], tables[1]


def inspect(name: str, path: Path, columns: Sequence[str], ordered: Collection[str] = (), texts: Collection[str] = ()) -> None:
    """Looks at a file as when it lands: the first column is the key, the others are numbers, or texts."""
    types = {column: Type("text") if column in {*texts, *ordered} else MONEY for column in columns[1:]}
    inspected(name, path, EventSpec((columns[0],), None, None, types, frozenset(ordered)))


def reasons(folder: Path, name: str, content: str | bytes, spec: EventSpec = SPEC) -> list[tuple[int, str, str]]:
    content = content.encode() if isinstance(content, str) else content
    return [(row["line"], row["reason"], row["raw"]) for row in load(folder, {name: content}, spec)[2]]


def amount_of(folder: Path, token: str, kind: Type = MONEY, suffix: str = "csv") -> Any:
    """The typed value of one field, or the reason why it has none."""
    spec = EventSpec(("k",), None, None, {"v": kind})
    if suffix == "csv":
        field = '"' + token.replace('"', '""') + '"'
        content = f"k,v\na,{field}\n"
    else:
        content = f'{{"k":"a","v":{token}}}\n'
    _, accepted, rejected = load(folder, {f"x.{suffix}": content.encode()}, spec)
    return accepted[0]["c_v"] if accepted else rejected[0]["reason"]


MONEY_SPEC = EventSpec(("k",), None, None, {"v": MONEY})


def timed(folder: Path, texts: Sequence[str], zone: str | None, epochs: dict[str, str] | None = None) -> list[Any]:
    """What each text is as the time of an event: a datetime, or the reason why it is none."""
    spec = EventSpec(("k",), None, "t", {"u": Type("timestamp")}, zone=zone, epochs=epochs or {})
    content = "k,t,u\n" + "".join(f"a,{text},{text}\n" for text in texts)
    for session in ("UTC", "Asia/Tokyo"):
        _, accepted, rejected = load(folder, {"a.csv": content.encode()}, spec, session)
        assert all(row["time"] == row["c_u"] for row in accepted)
        found = {row["line"]: row["time"] for row in accepted} | {row["line"]: row["reason"] for row in rejected}
    return [found[line] for line in range(2, 2 + len(texts))]


def parquet_bytes(**columns: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


JSON_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]{1,3})?")


def expected_decimal(token: str, precision: int, scale: int) -> Decimal | None:
    """The exact value if it has at most ``scale`` decimals and fits; by Python's integers only."""
    sign, digits, exponent = Decimal(token.strip()).as_tuple()
    assert isinstance(exponent, int)
    number = int("".join(map(str, digits)) or "0") * (-1 if sign else 1)
    shift = exponent + scale
    if shift < 0 and number % 10**-shift:
        return None
    scaled = number * 10**shift if shift >= 0 else number // 10**-shift if number >= 0 else -(-number // 10**-shift)
    return Decimal(scaled).scaleb(-scale) if abs(scaled) < 10**precision and precision <= 28 else exact(scaled, precision, scale)


def exact(scaled: int, precision: int, scale: int) -> Decimal | None:
    if abs(scaled) >= 10**precision:
        return None
    return Decimal((int(scaled < 0), tuple(map(int, str(abs(scaled)))), -scale))


def encoded(name: str, rows: list[dict[str, str | None]], header: list[str]) -> bytes:
    """Rows of texts as a file of the format that ``name`` tells."""
    form = formats.format_of(name)
    if form.kind == "parquet":
        return parquet_bytes(**{column: pa.array([row[column] for row in rows], pa.string()) for column in header})
    if form.kind == "json":
        content = "".join(json.dumps(row, ensure_ascii=len(rows) % 2 == 0) + "\n" for row in rows)
    else:
        text = io.StringIO()
        writer = csv.writer(text, delimiter="\t" if form.kind == "tsv" else ",", lineterminator="\r\n")
        writer.writerow(header)
        writer.writerows([[row[column] or "" for column in header] for row in rows])
        content = text.getvalue()
    if form.codec is None:
        return content.encode()
    return gzip.compress(content.encode()) if form.codec == "gzip" else zstandard.compress(content.encode())
