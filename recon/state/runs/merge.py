"""Merges runs, in stretches of the hash space: of each hash, the entries of the newest run that has it.

Memory holds the entries of one stretch. The rows to keep, 4 bytes an entry, are written to a file if there is one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO, overload

import numpy as np
import numpy.typing as npt

from recon.state.runs.entries import COLUMNS, Column, Entries, check_together, hash_order

# Target number of entries, of all runs together, in one stretch of the hash space.
MERGE_STRETCH_ENTRIES = 1 << 19

Rows = npt.NDArray[np.uint32]


class RowsInFile(Sequence[Rows]):
    """Row numbers, stretch by stretch, in a file."""

    def __init__(self, file: BinaryIO) -> None:
        """``file``: empty, open for writing and reading; the caller closes and removes it."""
        self._file, self._ends = file, [0]

    def append(self, rows: Rows) -> None:
        self._file.write(rows.data)
        self._ends.append(self._ends[-1] + len(rows))

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, number: int) -> Rows: ...
    @overload
    def __getitem__(self, number: slice) -> Sequence[Rows]: ...
    def __getitem__(self, number: int | slice) -> Rows | Sequence[Rows]:
        if isinstance(number, slice):
            return [self[position] for position in range(*number.indices(len(self)))]
        if not 0 <= number < len(self):
            raise IndexError(number)
        first, end = self._ends[number : number + 2]
        self._file.seek(first * 4)
        return np.frombuffer(self._file.read((end - first) * 4), np.uint32)


@dataclass(frozen=True)
class MergePlan:
    """Which entries of several runs a merge keeps, without the entries themselves.

    ``stretches``: for each stretch of the hash space, the rows of every run; entries with one ``hi`` are in one stretch. ``kept``: for each
    stretch, the rows to keep, in order, as positions in the concatenated rows of the runs. ``numbers``: per run, part-file → new number.
    """

    runs: Sequence[Entries]
    stretches: tuple[tuple[slice, ...], ...]
    kept: Sequence[Rows]
    count: int
    part_files: tuple[str, ...]
    numbers: tuple[Rows, ...]
    release: Callable[[], None]

    def __len__(self) -> int:
        return self.count

    def pieces(self) -> Iterator[MergedPiece]:
        """The stretches, in order of hash."""
        for stretch, kept in zip(self.stretches, self.kept, strict=True):
            yield MergedPiece(self, stretch, kept)
            self.release()

    def column(self, name: str) -> Iterator[Column]:
        """The merged column, stretch by stretch."""
        for piece in self.pieces():
            yield piece.column(name)


@dataclass(frozen=True)
class MergedPiece:
    """One stretch of a merge. Its columns are computed on demand."""

    plan: MergePlan
    stretch: tuple[slice, ...]
    kept: Rows

    def __len__(self) -> int:
        return len(self.kept)

    def column(self, name: str) -> Column:
        parts = [getattr(run, name)[rows] for run, rows in zip(self.plan.runs, self.stretch, strict=True)]
        if name == "file":
            parts = [numbers[part] for numbers, part in zip(self.plan.numbers, parts, strict=True)]
        taken: Column = np.concatenate(parts)[self.kept].astype(COLUMNS[name], copy=False)
        return taken

    def only(self, rows: npt.NDArray[np.int64]) -> MergedPiece:
        """The piece with only these rows."""
        return MergedPiece(self.plan, self.stretch, self.kept[rows])


def plan_merge(runs: Sequence[Entries], kept: RowsInFile | None = None, release: Callable[[], None] = lambda: None) -> MergePlan:
    """What a merge of ``runs`` (at least one), newest first, keeps: of each hash, all entries of the newest run with it.

    ``kept``: stores the rows to keep; by default memory. ``release``: called after each stretch.
    Raises WrongInput if entries of one hash are in two part-files, which violates the invariant.
    """
    rows_kept: RowsInFile | list[Rows] = [] if kept is None else kept
    largest = max(runs, key=len)
    count = max(1, -(-sum(len(run) for run in runs) // MERGE_STRETCH_ENTRIES))
    borders = largest.hi[[len(largest) * i // count for i in range(1, count)]]
    cuts = [[0, *np.searchsorted(run.hi, borders).tolist(), len(run)] for run in runs]
    stretches = tuple(tuple(slice(cut[i], cut[i + 1]) for cut in cuts) for i in range(count))
    firsts = np.cumsum([0] + [len(run.part_files) for run in runs])
    all_files = [name for run in runs for name in run.part_files]
    used = np.zeros(len(all_files), dtype=bool)
    length = 0
    for stretch in stretches:
        rows, hi, lo = _newest_of(runs, stretch)
        file = np.concatenate([run.file[part] + first for run, part, first in zip(runs, stretch, firsts, strict=False)])[rows]
        check_together(hi, lo, file, all_files)
        used[file] = True
        length += len(rows)
        rows_kept.append(rows)
        release()
    names: dict[str, int] = {}
    new = np.array([names.setdefault(n, len(names)) if u else 0 for n, u in zip(all_files, used, strict=True)], np.uint32)
    numbers = tuple(new[firsts[i] : firsts[i + 1]] for i in range(len(runs)))
    return MergePlan(runs, stretches, rows_kept, length, tuple(names), numbers, release)


def _newest_of(runs: Sequence[Entries], stretch: Sequence[slice]) -> tuple[Rows, Column, Column]:
    """The rows to keep, their hi and their lo."""
    hi = np.concatenate([run.hi[rows] for run, rows in zip(runs, stretch, strict=True)])
    lo = np.concatenate([run.lo[rows] for run, rows in zip(runs, stretch, strict=True)])
    # The order is stable and the runs are newest first, so the first entry of each hash is of the newest run.
    order = hash_order(hi, lo)
    hi, lo = hi[order], lo[order]
    again = (hi[1:] == hi[:-1]) & (lo[1:] == lo[:-1])
    stays = np.ones(len(hi), dtype=bool)
    repeated = np.flatnonzero(again) + 1
    if len(repeated):
        age = np.repeat(np.arange(len(runs), dtype=np.uint32), [rows.stop - rows.start for rows in stretch])
        # For each repeated entry of a hash, the position of the first.
        begins = np.concatenate([[True], ~again])
        first = np.flatnonzero(begins)[np.cumsum(begins)[repeated] - 1]
        stays[repeated] = age[order[repeated]] == age[order[first]]
    return order[stays].astype(np.uint32), hi[stays], lo[stays]


def merge_entries(runs: Sequence[Entries]) -> Entries:
    """Several runs, newest first, as one: of each hash, all entries of the newest run that has it.

    By the invariant in ``recon.state.runs`` this is right even where different keys have one hash. It also joins the part-files of one
    commit, whose hashes are disjoint. Part-files without entries are not named.
    Raises WrongInput if entries of one hash are in two part-files, which violates the invariant.
    """
    if not runs:
        return Entries((), **{name: np.zeros(0, dtype=kind) for name, kind in COLUMNS.items()})
    plan = plan_merge(runs)
    return Entries(plan.part_files, **{name: np.concatenate(list(plan.column(name))) for name in COLUMNS})
