"""Forms that a part-file could have, on real records: bytes, CPU seconds to write and to read scattered records, one look-up.

    python benchmarks/encodings.py [--events 2000000] [--keys 659571] [--state 1000000] [--read 330000] [--rounds 3] [--out FILE.json]

The records are those that one merge writes into a state. JSON lines are the present form: a place is a range of bytes. In the others
records lie in frames, and a place is a frame and a position in it; Arrow IPC frames hold the text as a column, or the values in typed
columns. Reading gives the text of each record (of the typed frames, Arrow rows), unchecked alike.
"""

from __future__ import annotations

import io
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
from command_line import options, write_figures
from floors import Bench, cpu_s

from recon.engines.duckdb.contributions import record_structure
from recon.planning import due
from recon.stages.merge import merge_windows
from recon.stages.reduce import reduce_windows
from recon.state.runs import RecordAddresses
from recon.state.timeline import Timeline
from recon.storage.local import LocalStore

LOOKUPS = 2000


@dataclass(frozen=True)
class Written:
    """A file and where its frames begin and end; ``size`` records each."""

    file: Path
    borders: np.ndarray[Any, np.dtype[np.int64]]
    size: int


def frames(records: pa.Table, size: int, encode: Callable[[pa.Table], bytes], file: Path) -> Written:
    borders = [0]
    with open(file, "wb") as out:
        for start in range(0, len(records), size):
            borders.append(borders[-1] + out.write(encode(records.slice(start, size))))
        os.fsync(out.fileno())
    return Written(file, np.array(borders, np.int64), size)


def content_of(text: pa.ChunkedArray) -> tuple[np.ndarray[Any, Any], memoryview]:
    """Where the texts begin and end, and their bytes."""
    column = text.combine_chunks().cast(pa.large_string())
    _, offsets, content = column.buffers()
    bounds = np.frombuffer(offsets, np.int64)[column.offset : column.offset + len(column) + 1]
    return bounds - bounds[0], memoryview(content)[int(bounds[0]) : int(bounds[-1])]


def zstd(level: int) -> tuple[Callable[[pa.Table], bytes], Callable[[bytes], pa.Array]]:
    codec = pa.Codec("zstd", level)

    def encode(part: pa.Table) -> bytes:
        content = bytes(content_of(part.column("record"))[1])
        packed: bytes = codec.compress(content, asbytes=True)
        return len(content).to_bytes(4, "little") + packed

    def decode(frame: bytes) -> pa.Array:
        raw = codec.decompress(frame[4:], int.from_bytes(frame[:4], "little"))
        ends = np.flatnonzero(np.frombuffer(raw, np.uint8) == 10) + 1
        offsets = np.concatenate([[0], ends]).astype(np.int32)
        return pa.Array.from_buffers(pa.string(), len(ends), [None, pa.py_buffer(offsets), raw])

    return encode, decode


def ipc(column: str, compression: str | None) -> tuple[Callable[[pa.Table], bytes], Callable[[bytes], pa.Array]]:
    options = pa.ipc.IpcWriteOptions(compression=compression)

    def encode(part: pa.Table) -> bytes:
        sink = io.BytesIO()
        with pa.ipc.new_stream(sink, part.select([column]).schema, options=options) as writer:
            writer.write_table(part.select([column]).combine_chunks())
        return sink.getvalue()

    def decode(frame: bytes) -> pa.Array:
        return pa.ipc.open_stream(frame).read_next_batch().column(0)

    return encode, decode


def scattered(written: Written, rows: np.ndarray[Any, Any], decode: Callable[[bytes], pa.Array]) -> None:
    """The records at ``rows``, ascending, each frame read once."""
    number = rows // written.size
    cuts = np.searchsorted(number, np.arange(len(written.borders)))
    taken = []
    with open(written.file, "rb") as file:
        for frame in np.unique(number).tolist():
            raw = os.pread(file.fileno(), int(written.borders[frame + 1] - written.borders[frame]), int(written.borders[frame]))
            taken.append(decode(raw).take(pa.array(rows[cuts[frame] : cuts[frame + 1]] - frame * written.size)))
    pa.chunked_array(taken)


def one(written: Written, row: int, decode: Callable[[bytes], pa.Array]) -> Any:
    frame = row // written.size
    with open(written.file, "rb") as file:
        raw = os.pread(file.fileno(), int(written.borders[frame + 1] - written.borders[frame]), int(written.borders[frame]))
    found = decode(raw)[row - frame * written.size].as_py()
    return json.loads(found) if isinstance(found, str) else found


def latency_us(look_up: Callable[[int], Any], rows: list[int]) -> dict[str, float]:
    times = []
    for row in rows:
        start = time.perf_counter()
        look_up(row)
        times.append(1e6 * (time.perf_counter() - start))
    times.sort()
    return {"p50_us": round(statistics.median(times), 1), "p99_us": round(times[int(len(times) * 0.99)], 1)}


def lines(records: pa.Table, rows: np.ndarray[Any, Any], picked: list[int], folder: Path) -> dict[str, Any]:
    """The present form, through the code that the pre-fetch and look-ups use, but for the check."""
    store = LocalStore(folder)
    bounds, content = content_of(records.column("record"))
    (folder / "lines").unlink(missing_ok=True)
    write_s, size = cpu_s(lambda: store.put_new("lines", [content]))
    length = np.diff(bounds).astype(np.uint32)
    found = RecordAddresses(
        ("lines",), np.arange(len(rows)), np.zeros(len(rows), np.uint32), bounds[rows].astype(np.uint64), length[rows], length[rows]
    )

    def read() -> None:
        from recon.state.runs import read as runs_records

        views = runs_records._mapped(store, found)
        # Views touch nothing yet: the bytes are read by copying them together.
        views.cast(pa.large_binary())

    read_s, _ = cpu_s(read)
    found_one = latency_us(lambda row: json.loads(store.get_range("lines", int(bounds[row]), int(length[row]))), picked)
    return {"bytes": size, "write_cpu_s": write_s, "read_cpu_s": read_s, **found_one}


def framed(records: pa.Table, size: int, codec: Any, rows: np.ndarray[Any, Any], picked: list[int], folder: Path) -> dict[str, Any]:
    encode, decode = codec
    write_s, written = cpu_s(lambda: frames(records, size, encode, folder / "frames"))
    read_s, _ = cpu_s(lambda: scattered(written, rows, decode))
    figures = {"bytes": int(written.borders[-1]), "write_cpu_s": write_s, "read_cpu_s": read_s}
    return {**figures, **latency_us(lambda row: one(written, row, decode), picked)}


def records_of(bench: Bench) -> pa.Table:
    """The records that the merge of the batch writes, as text and as typed values."""
    r = bench.fresh()
    store, timeline = r.store(), Timeline(r.store())
    figures = reduce_windows(store, r.config, due.due(store, r.config, timeline.head()).ready)
    before = set(store.list("state/"))
    merge_windows(store, r.config, timeline, figures)
    texts = []
    for path in store.list("state/"):
        if path not in before and path.endswith(".words"):
            content = store.get(path)
            ends = np.flatnonzero(np.frombuffer(content, np.uint8) == 10) + 1
            offsets = pa.py_buffer(np.concatenate([[0], ends]).astype(np.int64))
            texts.append(pa.Array.from_buffers(pa.large_string(), len(ends), [None, offsets, pa.py_buffer(content)]))
    table = pa.table({"record": pa.chunked_array(texts)})
    with duckdb.connect() as connection:
        connection.register("t", table)
        return connection.sql(f"SELECT record, from_json_strict(record, {record_structure(r.config)}) AS typed FROM t").to_arrow_table()


def main() -> None:
    given = options(__doc__, events=2_000_000, keys=659_571, state=1_000_000, read=330_000, rounds=3)
    kinds: dict[str, tuple[int, Any]] = {f"zstd 1, frames of {size}": (size, zstd(1)) for size in (64, 256, 1024)}
    kinds["zstd 3, frames of 64"] = (64, zstd(3))
    kinds["Arrow IPC of text, frames of 1024"] = (1024, ipc("record", None))
    kinds["Arrow IPC of typed values, frames of 1024"] = (1024, ipc("typed", None))
    kinds["Arrow IPC of typed values, zstd, frames of 1024"] = (1024, ipc("typed", "zstd"))
    took: dict[str, list[dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        records = records_of(Bench(Path(folder), given.events, given.keys, given.state, "parquet"))
        draw = np.random.default_rng(7)
        rows = np.sort(draw.choice(len(records), min(given.read, len(records)), replace=False))
        picked = draw.integers(0, len(records), LOOKUPS).tolist()
        for _ in range(given.rounds):
            took.setdefault("JSON lines, as now", []).append(lines(records, rows, picked, Path(folder)))
            for name, (size, codec) in kinds.items():
                took.setdefault(name, []).append(framed(records, size, codec, rows, picked, Path(folder)))
    medians = {name: {key: round(statistics.median(each[key] for each in all_), 3) for key in all_[0]} for name, all_ in took.items()}
    for name, figures in medians.items():
        print(f"    {name:50} {figures}", flush=True)
    result = {"sizes": {**vars(given), "out": None, "records": len(records)}, "pyarrow": pa.__version__, "medians": medians}
    write_figures(given.out, result)


if __name__ == "__main__":
    main()
