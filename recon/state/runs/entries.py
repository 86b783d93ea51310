"""Index entries in memory, as six arrays sorted by (hi, lo), and the choice of runs to merge next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from recon.errors import WrongInput

# Column → its type in memory and on disk. An entry has ENTRY_BYTES.
COLUMNS = {"hi": "<u8", "lo": "<u8", "offset": "<u8", "length": "<u4", "file": "<u4", "check": "<u4"}
ENTRY_BYTES = 36
RECORD_LENGTH_MAX_BYTES = 2**30
# Smaller runs are on the lowest level when tiers are chosen.
TIER_ENTRIES_MIN = 4096

Column = npt.NDArray[Any]


@dataclass(frozen=True)
class Entries:
    """One entry per record: arrays of one length, sorted by (hi, lo), of the types of COLUMNS, possibly memory maps.

    ``hi``, ``lo``: the key's hash. ``file``: position in ``part_files``. ``offset``, ``length``: bytes.
    ``check``: CRC-32 of the record's bytes. All entries of one hash are in one part-file.
    """

    part_files: tuple[str, ...]
    hi: Column
    lo: Column
    offset: Column
    length: Column
    file: Column
    check: Column

    def __len__(self) -> int:
        return len(self.hi)


def hash_order(hi: Column, lo: Column) -> npt.NDArray[np.int64]:
    """The stable order by (hi, lo).

    Sorts by ``hi`` alone, which is fast on sorted runs, and then entries of equal ``hi`` by ``lo``.
    """
    order = np.argsort(hi, kind="stable")
    sorted_hi, sorted_lo = hi[order], lo[order]
    tied = sorted_hi[1:] == sorted_hi[:-1]
    if bool(np.any(tied & (sorted_lo[1:] < sorted_lo[:-1]))):
        rows = np.flatnonzero(np.concatenate([[False], tied]) | np.concatenate([tied, [False]]))
        order[rows] = order[rows][np.lexsort((sorted_lo[rows], sorted_hi[rows]))]
    return order


def entries_of(part_file: str, hi: Column, lo: Column, length: Column, check: Column, first: int = 0) -> Entries:
    """The entries of one part-file's records, which are given in their order in the file.

    ``hi``, ``lo``, ``check``: unsigned. ``length``: bytes of each record, 1 … 2³⁰. ``first``: the offset of the first record, which is the
    bytes of the part-file's head; each record begins where the one before it ends. Raises WrongInput naming the part-file for another
    length, or for arrays that are not of one length.
    """
    if not len(hi) == len(lo) == len(length) == len(check):
        raise WrongInput(
            f"{part_file}: {len(hi)} hashes (hi), {len(lo)} (lo), {len(length)} lengths and {len(check)} checks; "
            "give one of each for every record"
        )
    if len(length) and not 1 <= int(length.min()) <= int(length.max()) <= RECORD_LENGTH_MAX_BYTES:
        raise WrongInput(
            f"{part_file}: records of {length.min()} to {length.max()} bytes; 1 to {RECORD_LENGTH_MAX_BYTES} bytes are expected"
        )
    ends = np.uint64(first) + np.cumsum(length, dtype=np.uint64)
    columns = {"hi": hi, "lo": lo, "offset": ends - length.astype(np.uint64), "length": length, "check": check}
    order = hash_order(hi, lo)
    taken = {name: column[order].astype(COLUMNS[name], copy=False) for name, column in columns.items()}
    return Entries((part_file,), file=np.zeros(len(order), dtype=COLUMNS["file"]), **taken)


def check_together(hi: Column, lo: Column, file: Column, part_files: Sequence[str]) -> None:
    """Raises WrongInput, naming the part-files, where neighbouring entries of one hash are in two part-files."""
    same = np.flatnonzero((hi[1:] == hi[:-1]) & (lo[1:] == lo[:-1]))
    apart = same[file[same] != file[same + 1]]
    if len(apart):
        row = int(apart[0])
        raise WrongInput(
            f"{part_files[int(file[row])]} and {part_files[int(file[row + 1])]} both hold records of the hash "
            f"{(int(hi[row]) << 64) + int(lo[row]):032x}; one commit writes them into one part-file: run 'recon verify'"
        )


def choose_tiers(sizes: Sequence[int], fanout: int = 8) -> slice | None:
    """Which neighbouring runs to merge next: a slice of ``sizes`` (entries, newest first), or None when no merge is due.

    A run counts as large as the largest newer run, so that levels only grow with age and the runs of a level are neighbours, as
    newest-wins needs. All runs of the newest level with ``fanout`` runs are merged. So fewer than ``fanout`` runs stay on each of about
    log(state / TIER_ENTRIES_MIN) levels, and an entry is rewritten about once per level.
    """
    levels: list[int] = []
    for size in sizes:
        level, limit = 0, TIER_ENTRIES_MIN
        while size >= limit:
            level, limit = level + 1, limit * fanout
        levels.append(max(level, levels[-1] if levels else 0))
    for level in sorted(set(levels)):
        if levels.count(level) >= fanout:
            start = levels.index(level)
            return slice(start, start + levels.count(level))
    return None
