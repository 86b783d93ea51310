"""Pre-fetch: the keys of a range of windows → their standing artifacts, found once and laid into one file for the merge.

Belongs here: which keys a range touches, and reading their records. Does not belong here: replacing contributions (recon.merge).

The keys are those of the new *and* of the committed revision of each window. The file names the commit it was read at; the merge
reads anew what later commits touched. Bytes read follow the keys of the batch, never the size of the state. In a folder, where the
merge can map the part-files, the file holds the places of the records; from object storage, the records themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from recon.engines.existing import find_standing, touched_keys
from recon.engines.prefetched import Prefetched, prefetched_meta, write_prefetched
from recon.engines.select import engine_of
from recon.state.reduced import Figures
from recon.state.timeline import State
from recon.storage.port import ObjectStore

if TYPE_CHECKING:
    from recon.config import Config


def prefetch(store: ObjectStore, state: State, range_figures: Sequence[Figures], config: Config | None = None) -> Prefetched:
    """Finds the standing artifacts of every key that the range touches, as of ``state``, for one file, by the engine of ``config``.

    The file is Arrow IPC, in order of (hi, lo): hi, lo (uint64) and record (JSON line); in a folder hi, lo and the columns of a run's
    entries in place of the record."""
    if config is not None and config.engine.kind != "duckdb":
        return engine_of(config).prefetch(store, config, state, range_figures)
    hi, lo = touched_keys(store, state, range_figures)
    standing = find_standing(store, [run.path for run in state.runs], hi, lo)
    return write_prefetched(store, standing, prefetched_meta(state, range_figures, len(hi)))
