"""The artifacts that one window touched, and those that one commit wrote, at the cost of these alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from recon.config import Config
from recon.engines.existing import ExistingPlaces, find_existing, touched_hashes
from recon.errors import WrongInput, WrongUsage
from recon.reading.artifacts import BATCH_RECORDS, table_of
from recon.state.runs import RecordAddresses, open_run, read_records
from recon.state.timeline import State, Timeline
from recon.storage.port import NotFound, ObjectStore

if TYPE_CHECKING:
    import pyarrow as pa


def of_windows(store: ObjectStore, config: Config, state: State, windows: Sequence[str]) -> pa.Table:
    """The artifacts, as they are now, of the keys that the committed revisions of some windows have; columns and order as in
    recon.reading.artifacts. Keys that a window no longer has, since it was corrected, are not among them. Raises WrongInput where a
    window is not committed."""
    if missing := next((window for window in windows if window not in state.windows), None):
        raise WrongInput(f"{missing}: not committed yet; 'recon status {missing}' says what it waits for")
    hi, lo = touched_hashes(store, [state.windows[window].folder for window in windows])
    return _laid_out(store, config, state, find_existing(store, [run.path for run in state.runs], hi, lo))


def of_commit(store: ObjectStore, config: Config, timeline: Timeline, commit: int) -> pa.Table:
    """The artifacts that a commit wrote, as it wrote them; columns and order as in recon.reading.artifacts. No rows for a commit that
    changed no artifact.

    Raises WrongUsage where there is no such commit or it switched to a rebuild, WrongInput where its part-files were compacted since."""
    entry = timeline.entry(commit)
    if entry is None:
        raise WrongUsage(f"there is no commit {commit}; the newest is {timeline.head().commit}")
    if entry.generation is not None:
        raise WrongUsage(f"commit {commit} switched to a rebuild, so that every artifact may have changed; read all of them")
    state = timeline.at(commit)
    if entry.kind != "merge" or not entry.runs_added:
        return _laid_out(store, config, state, None)
    try:
        found = open_run(store, entry.runs_added[0].path).entries()
        addresses = RecordAddresses(found.part_files, np.arange(len(found)), found.file, found.offset, found.length, found.check)
        return _laid_out(store, config, state, ExistingPlaces(found.hi, found.lo, addresses))
    except NotFound:
        windows = ", ".join(sorted(entry.windows)[:3])
        raise WrongInput(
            f"the part-files of commit {commit} were compacted since; read what its windows touched, as it is now: {windows}"
        ) from None


def _laid_out(store: ObjectStore, config: Config, state: State, places: ExistingPlaces | None) -> pa.Table:
    with table_of(store, config, state, records=iter(()) if places is None else records_at(store, places)) as connection:
        return connection.sql("FROM artifacts ORDER BY key").to_arrow_table()


def records_at(store: ObjectStore, places: ExistingPlaces) -> Iterator[pa.Table]:
    """hi, lo and record, some at a time."""
    import pyarrow as pa

    found = places.found
    columns = (places.hi, places.lo, found.part, found.offset, found.length, found.check)
    for start in range(0, len(places.hi), BATCH_RECORDS):
        hi, lo, *address = (column[start : start + BATCH_RECORDS] for column in columns)
        records = read_records(store, RecordAddresses(found.part_files, np.arange(len(hi)), *address))
        yield pa.table({"hi": pa.array(hi), "lo": pa.array(lo), "record": records})
