"""Checks copied runs and part-files in the target, before a commit there refers to them."""

from __future__ import annotations

from collections.abc import Callable, Collection

import numpy as np

from recon.errors import ConnectionLost, Damaged
from recon.state.forms import form_of_part
from recon.state.runs import RecordAddresses, Run, open_run, read_records
from recon.state.timeline import State
from recon.storage.port import ObjectStore
from recon.storage.scratch import object_digest

ENTRIES_AT_ONCE = 200_000


def check_records(source: ObjectStore, target: ObjectStore, state: State, new: Collection[str]) -> None:
    """Reads the runs of ``state`` that are among ``new``, and the head and the records of its new part-files, from ``target``. Removes a
    damaged object there: nothing refers to it yet. Raises Damaged if the source's object is damaged, too, else ConnectionLost."""
    fresh = frozenset(new)
    for ref in state.runs:
        if ref.path in fresh:
            _checked(source, target, ref.path, lambda path=ref.path: open_run(target, path).verify())  # type: ignore[misc]
        run = open_run(target, ref.path)
        if not fresh.isdisjoint(run.part_files):
            for start in range(0, run.count, ENTRIES_AT_ONCE):
                _check_records(source, target, run, start, fresh)
            run.release()


def _check_records(source: ObjectStore, target: ObjectStore, run: Run, start: int, fresh: frozenset[str]) -> None:
    """Checks the records of a range of a run's entries. Records of one part-file are in the order of the entries."""
    stop = min(start + ENTRIES_AT_ONCE, run.count)
    file, offset, length, check = (run.column(name, start, stop) for name in ("file", "offset", "length", "check"))
    for number in np.unique(file).tolist():
        path = run.part_file(number)
        if path in fresh:
            rows = np.flatnonzero(file == number)
            order = np.arange(len(rows))
            found = RecordAddresses((path,), order, np.zeros(len(rows), np.uint32), offset[rows], length[rows], check[rows])
            _checked(source, target, path, lambda path=path, found=found: _read(target, path, found))  # type: ignore[misc]


def _read(store: ObjectStore, part_file: str, found: RecordAddresses) -> None:
    form_of_part(store, part_file)
    read_records(store, found)


def _checked(source: ObjectStore, target: ObjectStore, path: str, read: Callable[[], object]) -> None:
    try:
        read()
    except Damaged:
        size = source.size(path)
        same = size == target.size(path) and object_digest(source, path) == object_digest(target, path)
        target.delete(path)
        if same:
            raise
        raise ConnectionLost(f"{path}: it arrived otherwise than it was sent and was removed again; run the same again") from None
