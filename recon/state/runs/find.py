"""Looks a batch of hashes up in the runs of a state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recon.state.runs.entries import COLUMNS, Column, hash_order
from recon.state.runs.file import BLOCK, Run

Positions = npt.NDArray[np.int64]
_PLACE = ("file", "offset", "length", "check")


@dataclass(frozen=True)
class RecordAddresses:
    """The addresses of the records of a batch of hashes: arrays of one length, one row per record, ordered by ``query``.

    ``query`` (i8): position of the hash in the batch. A hash without record has no row; several keys with one hash have several rows.
    ``part`` (u4): position in ``part_files``. ``offset`` (u8), ``length`` (u4), ``check`` (u4): see Entries.
    """

    part_files: tuple[str, ...]
    query: Positions
    part: Column
    offset: Column
    length: Column
    check: Column

    def __len__(self) -> int:
        return len(self.query)


def find_many(runs: Sequence[Run], hi: Column, lo: Column) -> RecordAddresses:
    """For each hash (``hi``, ``lo``: u8, any order) all records in the newest run that has it. ``runs``: newest first.

    By the invariant in ``recon.state.runs`` these are all live records of the hash; the caller compares the keys. Raises Damaged. The cost
    is proportional to the number of hashes and of their blocks.
    """
    hi, lo = np.asarray(hi, dtype=np.uint64), np.asarray(lo, dtype=np.uint64)
    left = hash_order(hi, lo)
    pieces: dict[str, list[Column]] = {"query": [], **{name: [] for name in _PLACE}}
    part_files: list[str] = []
    for run in runs:
        if not len(left):
            break
        asked, rows = _rows_of(run, hi[left], lo[left])
        place = {name: run.gather(name, rows) for name in _PLACE}
        if len(rows) and int(place["file"].max()) >= len(run.part_files):
            run.part_file(int(place["file"].max()))
        place["file"] = place["file"] + np.uint32(len(part_files))
        part_files += run.part_files
        pieces["query"].append(left[asked])
        for name in _PLACE:
            pieces[name].append(place[name])
        not_found = np.ones(len(left), dtype=bool)
        not_found[asked] = False
        left = left[not_found]
    kinds = {**COLUMNS, "query": "<i8"}
    joined = {name: np.concatenate([np.zeros(0, kinds[name]), *column]) for name, column in pieces.items()}
    order = np.argsort(joined["query"], kind="stable")
    joined = {name: column[order] for name, column in joined.items()}
    return RecordAddresses(tuple(part_files), part=joined.pop("file"), **joined)


def among(hi: Column, lo: Column, their_hi: Column, their_lo: Column) -> npt.NDArray[np.bool_]:
    """Which of the hashes (``hi``, ``lo``: u8, any order) are in ``their_hi``, ``their_lo``, which are sorted by (hi, lo)."""
    if not len(their_hi):
        return np.zeros(len(hi), dtype=bool)
    at = np.minimum(np.searchsorted(their_hi, hi), len(their_hi) - 1)
    found: npt.NDArray[np.bool_] = (their_hi[at] == hi) & (their_lo[at] == lo)
    # That is nearly always all. Different hashes with one hi are neighbours, which are compared one by one.
    rows = np.flatnonzero(~found & (their_hi[at] == hi))
    while len(rows):
        at[rows] += 1
        rows = rows[at[rows] < len(their_hi)]
        rows = rows[their_hi[at[rows]] == hi[rows]]
        found[rows] = their_lo[at[rows]] == lo[rows]
        rows = rows[~found[rows]]
    return found


def _rows_of(run: Run, hi: Column, lo: Column) -> tuple[Positions, Positions]:
    """For sorted hashes, the rows of ``run`` with them: (positions in the hashes, rows), both ascending."""
    all_hi, all_lo, base = _hashes_near(run, hi)
    if not len(all_hi):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    low = np.searchsorted(all_hi, hi)
    last = len(all_hi) - 1
    same_hi = np.flatnonzero((all_hi[np.minimum(low, last)] == hi) & (low <= last))
    low = low[same_hi]
    tied = (low < last) & (all_hi[np.minimum(low + 1, last)] == hi[same_hi])
    single = ~tied & (all_lo[low] == lo[same_hi])
    asked, rows = same_hi[single], low[single]
    if bool(tied.any()):
        # Several entries with one hi are neighbours; any number of them may have the right lo.
        high = np.searchsorted(all_hi, hi[same_hi[tied]], side="right")
        counts = high - low[tied]
        each = np.repeat(same_hi[tied], counts)
        every = np.arange(len(each)) - np.repeat(np.cumsum(counts) - counts, counts) + np.repeat(low[tied], counts)
        right = all_lo[every] == lo[each]
        asked, rows = np.concatenate([asked, each[right]]), np.concatenate([rows, every[right]])
        order = np.lexsort((rows, asked))
        asked, rows = asked[order], rows[order]
    return asked, rows if base is None else base[rows // BLOCK] * BLOCK + rows % BLOCK


def _hashes_near(run: Run, hi: Column) -> tuple[Column, Column, Positions | None]:
    """hi and lo of the blocks that may contain sorted ``hi``, checked against the guard.

    For a mapped run, the complete columns and None; else the blocks end to end, and their numbers.
    """
    first = np.maximum(np.searchsorted(run.fence, hi) - 1, 0)
    last = np.searchsorted(run.fence, hi, side="right")
    blocks = len(run.fence)
    begins, ends = np.bincount(first, minlength=blocks + 1), np.bincount(last, minlength=blocks + 1)
    near = np.flatnonzero(np.cumsum(begins - ends)[:blocks] > 0)
    gap = run.gap_max_bytes // (BLOCK * 8)
    cuts = np.flatnonzero(np.diff(near) > gap + 1)
    starts, stops = near[np.append(0, cuts + 1)[: len(near)]], near[np.append(cuts, len(near) - 1)[: len(near)]] + 1
    groups = run.hashes_of(list(zip(starts.tolist(), stops.tolist(), strict=True)))
    if run.is_mapped:
        return run.column("hi", 0, run.count), run.column("lo", 0, run.count), None
    base = np.concatenate([np.zeros(0, np.int64), *(np.arange(*span) for span in zip(starts, stops, strict=True))])
    empty = np.zeros(0, np.uint64)
    return np.concatenate([empty, *(g[0] for g in groups)]), np.concatenate([empty, *(g[1] for g in groups)]), base
