"""Artifacts as streams: the values in the header of each record, without folding its contributions again.

Records are in order of the hash of their keys. For some keys, a range of keys or some windows, the hashes are found first, in the key
columns of reduced windows, and only the records of these hashes are read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np

from recon.config import Config
from recon.config.form import form_of
from recon.engines.existing import find_existing
from recon.model.form import BLOCK
from recon.reading.scans.selection import ROWS, Selection, Site, ahead
from recon.state import reduced
from recon.state.amplification import StoredBytes
from recon.state.runs import RecordAddresses, among, merged_plan, open_runs, read_records
from recon.state.runs.entries import hash_order
from recon.storage import parquet
from recon.storage.hashing import hash_of, salt_of
from recon.storage.scratch import scratch_folder

if TYPE_CHECKING:
    import pyarrow as pa

    from recon.records.decode import Decoder
    from recon.records.ranges import Bools, Ints

_BATCH_BYTES = 32 << 20
"""Bytes of records in memory, unless a single one is larger."""
_HASHES_AT_ONCE = 1 << 20
_FILE_BYTES = 1 << 16
"""What the reading of one window's key columns costs at the least, in bytes."""


def schema(config: Config) -> pa.Schema:
    """The columns of ``recon export``."""
    import pyarrow as pa

    from recon.records.columns import arrow_type

    form = form_of(config)
    text = ("key", "status", *(("currency",) if form.currency else ()))
    values = [(item.name, arrow_type(item)) for item in (*form.measures, *form.derived)]
    windows = [("windows", pa.int64()), ("first_window", pa.string()), ("last_window", pa.string())]
    return pa.schema([*((name, pa.string()) for name in text), *values, *windows])


def tables(site: Site, selection: Selection, wanted: pa.Schema) -> Iterator[pa.Table]:
    """The artifacts that are asked for, a batch of records at a time."""
    import pyarrow as pa

    from recon.records.columns import words_of
    from recon.records.decode import Decoder

    form = form_of(site.config)
    for records in _records(site, selection):
        words, start, _ = words_of(records)
        decoder = Decoder(form, words, start)
        chosen: Bools = (decoder.kept > 0) | (decoder.flags & BLOCK > 0)
        if selection.has_keys:
            chosen &= np.asarray(selection.of_keys(decoder.keys()).to_numpy(zero_copy_only=False), bool)
        if not chosen.all():
            decoder = Decoder(form, words, start[chosen])
        columns = _columns(site.config, decoder)
        yield pa.table([columns[name]() for name in wanted.names], names=wanted.names)


def _columns(config: Config, decoder: Decoder) -> Mapping[str, Callable[[], pa.Array]]:
    """Column → how it is decoded, so that no other is."""
    from recon.records.columns import array_of
    from recon.records.decode import statuses_of

    form = form_of(config)
    slots = decoder.header_slots()
    named = dict(zip((item.name for item in form.slots), zip(form.slots, slots, strict=True), strict=True))
    found: dict[str, Callable[[], Any]] = {name: partial(array_of, *slot) for name, slot in named.items()}
    spans = cache(lambda: _spans(decoder))
    return {
        **found,
        "key": decoder.keys,
        "status": lambda: statuses_of(form, decoder),
        "currency": lambda: _currencies(decoder),
        "windows": lambda: spans()[0],
        "first_window": lambda: spans()[1],
        "last_window": lambda: spans()[2],
    }


def _spans(decoder: Decoder) -> tuple[pa.Array, pa.Array, pa.Array]:
    """The number of windows of each record, the first and the last. All records have contributions or a block."""
    import pyarrow as pa

    from recon.records.columns import names
    from recon.records.ranges import before

    kept, (window, *_), blocks = decoder.kept, decoder.contributions(), decoder.blocks()
    begin = before(kept)
    count, first, last = kept.copy(), np.zeros(len(kept), np.int64), np.zeros(len(kept), np.int64)
    some = np.flatnonzero(kept)
    first[some], last[some] = window[begin[some]], window[begin[some] + kept[some] - 1]
    block_first, block_last, windows, *_ = blocks.spans
    count[blocks.rows] += windows
    first[blocks.rows] = block_first
    alone = kept[blocks.rows] == 0
    last[blocks.rows[alone]] = block_last[alone]
    return pa.array(count), names(first), names(last)


def _currencies(decoder: Decoder) -> pa.Array:
    """The currencies of each record, sorted and joined by a comma and a blank."""
    import pyarrow as pa
    import pyarrow.compute as pc

    from recon.records.columns import sets_of

    rows = np.repeat(np.arange(len(decoder.kept)), decoder.kept)
    blocks = decoder.blocks()
    texts = [slots[0].text for slots in (decoder.contribution_slots(), blocks.slots)]
    encoded = pc.dictionary_encode(pa.concat_arrays([text for text in texts if text is not None]))
    sets = sets_of(encoded.dictionary).to_pylist()
    of, code = np.concatenate([rows, blocks.rows]), encoded.indices.to_numpy()
    pairs = np.unique(np.stack([of, code]), axis=1)
    begin = np.searchsorted(pairs[0], np.arange(len(decoder.kept) + 1))
    known: dict[tuple[int, ...], str] = {}
    found = []
    for a, b in zip(begin.tolist(), begin[1:].tolist(), strict=False):
        codes = tuple(pairs[1, a:b].tolist())
        if codes not in known:
            known[codes] = ", ".join(sorted({currency for code in codes for currency in sets[code]}))
        found.append(known[codes])
    return pa.array(found, pa.string())


def _records(site: Site, selection: Selection) -> Iterator[Any]:
    """The records that may be asked for, in batches, in order of hash."""
    if not site.state.runs:
        return
    if not selection.has_keys and selection.windows is None:
        yield from _all_records(site)
        return
    chosen = selection.committed(site.state)
    live = StoredBytes.of(site.state.totals).live
    if selection.windows is None and selection.keys is None and len(chosen) * _FILE_BYTES > live:
        yield from _all_records(site)
        return
    hi, lo = _hashes(site, selection)
    for start in range(0, len(hi), _HASHES_AT_ONCE):
        part = slice(start, start + _HASHES_AT_ONCE)
        found = find_existing(site.store, [run.path for run in site.state.runs], hi[part], lo[part]).found
        yield from _read(site, found.part_files, (found.part, found.offset, found.length, found.check))


def _all_records(site: Site) -> Iterator[Any]:
    runs = open_runs(site.store, (run.path for run in site.state.runs))
    with scratch_folder(site.store) as scratch, open(scratch / "live", "w+b") as file:
        live = merged_plan(runs, file)
        for piece in live.pieces():
            yield from _read(site, live.part_files, tuple(piece.column(name) for name in ("file", "offset", "length", "check")))


def _read(site: Site, part_files: tuple[str, ...], place: tuple[Any, ...]) -> Iterator[Any]:
    """Records by their part-file, offset, length and check, some at a time."""
    ends = np.cumsum(place[2].astype(np.int64))
    start = 0
    while start < len(ends):
        most = int(np.searchsorted(ends, (ends[start - 1] if start else 0) + _BATCH_BYTES, side="right"))
        stop = min(start + ROWS, max(most, start + 1))
        here = [column[start:stop] for column in place]
        yield read_records(site.store, RecordAddresses(part_files, np.arange(stop - start), *here))
        start = stop


def _hashes(site: Site, selection: Selection) -> tuple[Any, Any]:
    """The hashes of the keys that are asked for, sorted, each once. Memory: 16 bytes for each of them."""
    if selection.keys is not None:
        salt = salt_of(site.store)
        pairs = sorted({hash_of(key, salt) for key in selection.keys})
        hi, lo = (np.array(column, np.uint64) for column in (zip(*pairs, strict=True) if pairs else ((), ())))
        if selection.windows is None:
            return hi, lo
        touched = _touched(site, selection)
        both = among(hi, lo, *touched)
        return hi[both], lo[both]
    return _touched(site, selection)


def _touched(site: Site, selection: Selection) -> tuple[Any, Any]:
    """The hashes of the keys in a range of keys that the windows have."""
    ranged = selection.key_range is not None
    columns = ["hi", "lo", "key"] if ranged else ["hi", "lo"]

    def of_window(folder: str) -> tuple[Ints, Ints]:
        table = parquet.open_ranges(site.store, folder + reduced.ARTIFACTS).read(columns)
        if ranged:
            table = table.filter(selection.of_keys(table.column("key")))
        return table.column("hi").to_numpy(), table.column("lo").to_numpy()

    folders = (window.folder for window in selection.committed(site.state).values())
    merged, waiting, rows = _distinct([]), list[tuple[Any, Any]](), 0
    for found in ahead(of_window, folders):
        waiting.append(found)
        rows += len(found[0])
        if rows > max(_HASHES_AT_ONCE, len(merged[0])):  # so that each hash is sorted a few times, however many windows there are
            merged, waiting, rows = _distinct([merged, *waiting]), [], 0
    return _distinct([merged, *waiting])


def _distinct(parts: Sequence[tuple[Any, Any]]) -> tuple[Any, Any]:
    """The hashes (hi, lo) of all parts, sorted, each once."""
    hi, lo = (np.concatenate([np.zeros(0, np.uint64), *(part[half] for part in parts)]) for half in (0, 1))
    order = hash_order(hi, lo)
    hi, lo = hi[order], lo[order]
    fresh = np.ones(len(hi), bool)
    fresh[1:] = (hi[1:] != hi[:-1]) | (lo[1:] != lo[:-1])
    return hi[fresh], lo[fresh]
