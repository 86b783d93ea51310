"""A large file that Spark's tasks read in parts gives the rows, line numbers, rejects and figures of DuckDB's reduce, whatever is in it.

Tasks run in this process, one after the other, with parts of a few bytes; ``test_engines.py`` has a file in parts on Spark itself.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import strategies as s
from faulty_store import WatchedStore
from histories import fresh
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recon.api import Reconciliation
from recon.config import Config
from recon.engines.duckdb.window import reduce_window
from recon.engines.spark import parts, reduce_large
from recon.errors import ReconError
from recon.intake import batches
from recon.intake.manifests import Manifest, read_manifest
from recon.state import reduced
from recon.state.reduced import Figures
from recon.storage import layout, ranges
from recon.storage.port import ObjectStore

SETTINGS = settings(deadline=None, max_examples=int(os.environ.get("RECON_LAW_EXAMPLES", "15")), suppress_health_check=list(HealthCheck))
HEADER = ",".join(s.COLUMNS)


@contextmanager
def in_this_process(store: ObjectStore, seen: list[tuple[str, int]]) -> Iterator[None]:
    """Carries out the tasks of a large reduce here; ``seen``: each job's name and number of tasks."""

    def attempted(config: Config, what: str, function: Callable[..., Any], items: Sequence[Any], shared: object = None) -> list[Any]:
        found: list[Any] = []
        seen.append((what, len(items)))
        for item in items:
            try:
                found.append(function(store, config, *(() if shared is None else (shared,)), item))
            except ReconError as error:
                found.append(error)
        return found

    with patch.object(reduce_large, "attempted", attempted):
        yield


def land(r: Reconciliation, name: str, content: bytes, expect: dict[str, Any] | None = None) -> Manifest:
    """Lands a file as if it had passed the look at it, and returns the manifest of its window."""
    file = r.config.path.parent / name
    file.write_bytes(content)
    batches.land(r.store(), s.at(0), [file], lambda name, path: None, batches.LandOptions(close=True, expect=expect or {}))
    manifest = read_manifest(r.store(), s.at(0))
    assert manifest is not None
    return manifest


def rows_of(store: ObjectStore, figures: Figures) -> dict[str, Any]:
    """All that a reduce wrote, in an order that does not depend on how it was written."""
    found: dict[str, Any] = {**figures.to_json(), "folder": "", "digests": {}}
    for name in (reduced.ARTIFACTS, reduced.EVENTS, reduced.SET_ASIDE):
        path = store.local(figures.folder + name)
        assert path is not None
        order = ["hi", "lo"] if name == reduced.ARTIFACTS else ["file", "line"]
        found[name] = pq.read_table(path).sort_by([(column, "ascending") for column in order]).to_pylist()
    return found


def both(r: Reconciliation, manifest: Manifest, size: int, piece: int = 64) -> tuple[Any, Any, list[tuple[str, int]]]:
    """What DuckDB's reduce leaves, or says; the same of a reduce in parts of about ``size`` bytes; and the latter's jobs."""
    seen: list[tuple[str, int]] = []
    # Files that landed are read by range, as those in object storage are.
    store = WatchedStore(r.store(), mapped=lambda path: not path.startswith(layout.EVENTS))
    try:
        whole: Any = rows_of(r.store(), reduce_window(r.store(), r.config, manifest))
    except ReconError as error:
        whole = str(error)
    small = [
        patch.object(parts, "PARQUET_BYTES", size),
        patch.object(parts, "TEXT_BYTES", size),
        patch.object(ranges, "PIECE_BYTES", piece),
    ]
    with small[0], small[1], small[2], in_this_process(store, seen):
        (result,) = reduce_large.reduce_large(store, r.config, [manifest])
    assert list(r.store().list("state")) == [], "pieces are deleted"
    return whole, str(result) if isinstance(result, ReconError) else rows_of(r.store(), result), seen


def tasks(seen: list[tuple[str, int]], what: str) -> int:
    return sum(count for name, count in seen if name == what)


LINES = [
    'A,{n},INVOICE,1.00,EUR,2026-11-01T00:10:00Z\n',
    'B,{n},PAYMENT,2.50,EUR,2026-11-01T00:11:00Z\r\n',
    'A,1,INVOICE,1.00,EUR,2026-11-01T00:10:00Z\n',
    'A,1,INVOICE,9.00,EUR,2026-11-01T00:10:00Z\n',
    '"C\nD",{n},INVOICE,3.00,EUR,2026-11-01T00:10:00Z\n',
    '"E ""x""\n\n",{n},INVOICE,3.00,EUR,2026-11-01T00:10:00Z\n',
    'F,{n},INVOICE,TBC,EUR,2026-11-01T00:10:00Z\n',
    'G,{n},INVOICE\n',
    "\n",
    "\r\n",
    "\ufeffH,{n},INVOICE,1.00,EUR,2026-11-01T00:10:00Z\n",
    "I\rJ,{n},INVOICE,1.00,EUR,2026-11-01T00:10:00Z\n",
    HEADER + "\n",
]  # fmt: skip
STRAY = [
    'K,"{n},INVOICE,1.00,EUR,2026-11-01T00:10:00Z\n',
    'L 5",{n},INVOICE,1.00,EUR,2026-11-01T00:10:00Z\n',
    '"M"x,{n},INVOICE,1.00,EUR,2026-11-01T00:10:00Z\n',
]


def text(lines: Sequence[str]) -> bytes:
    return "".join(line.replace("{n}", str(number)) for number, line in enumerate(lines)).encode()


@SETTINGS
@given(st.lists(st.sampled_from(LINES), min_size=4, max_size=30), st.lists(st.sampled_from(STRAY), max_size=1), st.data())
def test_csv_in_parts_is_what_it_is_as_a_whole_whatever_its_quotes(lines: list[str], stray: list[str], data: st.DataObject) -> None:
    lines = data.draw(st.permutations([*lines, *stray]))
    head = data.draw(st.sampled_from([HEADER, "\ufeff" + HEADER, ",".join(f'"{name}"' for name in s.COLUMNS)]))
    content = (head + "\n").encode() + text(lines)
    content = content[: len(content) - data.draw(st.integers(0, 2))]
    with fresh() as r:
        whole, cut, _ = both(r, land(r, "events.csv", content), data.draw(st.integers(40, 200)), data.draw(st.integers(60, 300)))
    assert cut == whole


JSON = [
    '{"order_id":"A","event_id":"{n}","event_type":"INVOICE","amount":"1.00","currency":"EUR","booked_at":"2026-11-01T00:10:00Z"}\n',
    '{"order_id":"B\\n","event_id":"{n}","event_type":"INVOICE","amount":1.5,"currency":"EUR","booked_at":"2026-11-01T00:10:00Z"}\r\n',
    '{"order_id":"A","event_id":"1","event_type":"INVOICE","amount":2.00,"booked_at":"2026-11-01T00:10:00Z"}\n',
    '{"order_id":"A","event_id":"{n}","event_type":"INVOICE","amount":"TBC"}\n',
    '{"order_id":"A\n',
    "\ufeff{}\n",
    "\n",
    "[1]\n",
]


@SETTINGS
@given(st.lists(st.sampled_from(JSON), min_size=3, max_size=20), st.integers(40, 300), st.integers(60, 300))
def test_json_lines_in_parts_are_what_they_are_as_a_whole(lines: list[str], size: int, piece: int) -> None:
    with fresh() as r:
        whole, cut, _ = both(r, land(r, "events.jsonl", text(lines)), size, piece)
    assert cut == whole


PARQUET_ROWS = st.lists(
    st.tuples(st.sampled_from("ABC"), st.integers(0, 9), st.sampled_from(["1.00", "2.5", "TBC", None])), min_size=1, max_size=40
)


@SETTINGS
@given(PARQUET_ROWS, st.integers(1, 9), st.integers(1, 4000), st.booleans())
def test_parquet_in_parts_has_the_row_numbers_of_the_whole_file(rows: list[Any], group: int, size: int, broken: bool) -> None:
    columns = {
        "order_id": [key for key, _, _ in rows],
        "event_id": [str(number) for _, number, _ in rows],
        "event_type": ["INVOICE"] * len(rows),
        "amount": [amount for _, _, amount in rows],
        "currency": ["EUR"] * len(rows),
        "booked_at": ["2026-11-01T00:10:00Z"] * len(rows),
    }
    arrays = {name: pa.array(values, pa.string()) for name, values in columns.items()}
    if broken:  # read by Arrow, not by DuckDB
        arrays["currency"] = pa.array([b"\xff", *[b"EUR"] * (len(rows) - 1)], pa.binary())
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(arrays), sink, row_group_size=group)
    with fresh() as r:
        whole, cut, seen = both(r, land(r, "events.parquet", sink.getvalue().to_pybytes()), size)
    assert cut == whole
    assert tasks(seen, "intake of whole files") == 0


def csv_of(count: int) -> bytes:
    return (HEADER + "\n").encode() + text([LINES[0]] * count)


def test_a_file_with_quotes_and_line_ends_in_fields_is_read_in_parts_and_by_one_task_only_where_a_quote_is_open() -> None:
    quoted = (HEADER + "\n").encode() + text([LINES[4]] * 40)
    with fresh() as r:
        whole, cut, seen = both(r, land(r, "events.csv", quoted), 200)
    assert cut == whole
    assert tasks(seen, "intake") > 5
    assert tasks(seen, "intake of whole files") == 0
    # After a quote inside a plain field the line end in the next quoted field has an even number of quotes before it.
    misleading = (HEADER + "\n").encode() + text([STRAY[1], *[LINES[4]] * 40])
    with fresh() as r:
        whole, cut, seen = both(r, land(r, "events.csv", misleading), 200)
    assert cut == whole
    assert tasks(seen, "intake of whole files") == 1


@pytest.mark.parametrize(
    ("name", "content", "rule", "expect", "said"),
    [
        ("a.csv", csv_of(40), "limits: {rows: 30}\n", {}, "more than 30 rows"),
        ("a.csv", csv_of(40), "", {"rows": 41}, "do not tie"),
        ("a.csv", csv_of(40) + LINES[6].encode(), "rejects: stop\n", {}, "line 42"),
        ("a.jsonl", text([JSON[2]] * 30), "", {}, "no line has a member 'currency'"),
        ("a.csv", b"order_id,event_id\n" + b"A,1\n" * 100, "", {}, "has no column"),
    ],
)
def test_what_is_wrong_with_a_file_in_parts_is_said_of_the_whole_file(
    name: str, content: bytes, rule: str, expect: dict[str, Any], said: str
) -> None:
    with fresh(s.STANDARD_YAML + rule) as r:
        whole, cut, seen = both(r, land(r, name, content, expect), 200)
    assert cut == whole
    assert said in cut
    assert tasks(seen, "intake") > 1 or "column" in said


def test_a_member_that_only_one_part_has_is_no_error() -> None:
    with fresh() as r:
        whole, cut, seen = both(r, land(r, "a.jsonl", text([JSON[0], *[JSON[2]] * 30])), 200)
    assert cut == whole
    assert not isinstance(cut, str)
    assert tasks(seen, "intake of whole files") == 0


def test_bytes_that_are_not_those_that_landed_are_refused_in_parts_too() -> None:
    with fresh() as r:
        manifest = land(r, "a.csv", csv_of(40))
        path = r.store().local(manifest.files[0].path)
        assert path is not None
        path.write_bytes(csv_of(40).replace(b"1.00", b"1.01"))
        whole, cut, _ = both(r, manifest, 200)
    assert cut == whole
    assert "are not those that landed" in cut


@pytest.mark.parametrize("name", ["a.csv.gz", "a.csv"])
def test_compressed_files_and_numbers_of_equal_rows_are_read_by_one_task(name: str) -> None:
    import gzip

    with fresh(s.NUMBERED_YAML if name == "a.csv" else s.STANDARD_YAML) as r:
        content = csv_of(40)
        whole, cut, seen = both(r, land(r, name, gzip.compress(content) if name.endswith("gz") else content), 50)
    assert cut == whole
    assert tasks(seen, "intake") == 1
    assert json.loads(json.dumps(cut["arrived"]))["rows"] == 40
