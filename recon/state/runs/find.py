"""Look-ups of a batch of hashes in the runs of a state."""

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
    """Where the records of a batch of hashes lie. Arrays of one length, one row a record, ordered by ``query``.

    ``query`` (i8): position of the hash in the batch; not in it: no record; several times: several keys of that hash.
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
    """For each hash (``hi``, ``lo``: u8, any order) all records of the newest of ``runs``, newest first, that holds it.

    By the invariant in ``recon.state.runs`` these are all live records of the hash; the caller compares the keys. Raises
    Damaged for hashes that are not what was written. Cost follows the number of hashes, and of blocks that they lie in.
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
        open_still = np.ones(len(left), dtype=bool)
        open_still[asked] = False
        left = left[open_still]
    kinds = {**COLUMNS, "query": "<i8"}
    joined = {name: np.concatenate([np.zeros(0, kinds[name]), *column]) for name, column in pieces.items()}
    order = np.argsort(joined["query"], kind="stable")
    joined = {name: column[order] for name, column in joined.items()}
    return RecordAddresses(tuple(part_files), part=joined.pop("file"), **joined)


def among(hi: Column, lo: Column, their_hi: Column, their_lo: Column) -> npt.NDArray[np.bool_]:
    """Which of the hashes (``hi``, ``lo``: u8, any order) are among others, which are sorted by (hi, lo)."""
    if not len(their_hi):
        return np.zeros(len(hi), dtype=bool)
    at = np.minimum(np.searchsorted(their_hi, hi), len(their_hi) - 1)
    found: npt.NDArray[np.bool_] = (their_hi[at] == hi) & (their_lo[at] == lo)
    # Nearly always that is all. Different hashes of one hi are neighbours; these are looked through one by one.
    rows = np.flatnonzero(~found & (their_hi[at] == hi))
    while len(rows):
        at[rows] += 1
        rows = rows[at[rows] < len(their_hi)]
        rows = rows[their_hi[at[rows]] == hi[rows]]
        found[rows] = their_lo[at[rows]] == lo[rows]
        rows = rows[~found[rows]]
    return found


def _rows_of(run: Run, hi: Column, lo: Column) -> tuple[Positions, Positions]:
    """For sorted hashes the rows of ``run`` that hold them: (positions in the hashes, rows), both ascending."""
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
        # Several entries of one hi are neighbours; the right lo may be any, or several, of them.
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
    """hi and lo of the blocks that sorted ``hi`` can lie in, checked against the guard.

    Where the run is mapped, the whole columns and None; else the blocks end to end, and the number of each.
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
