"""Index: merges the runs, which lead from keys to records, into tiers where that is due, and brings the DynamoDB table up to date."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

from recon.config import Config
from recon.metering import prices
from recon.serving.sync import Synced, is_synced, sync
from recon.stages.ready import committed_windows
from recon.stages.request import Numbers
from recon.stages.work import WindowResult, Windows, Work, range_name
from recon.state import amplification
from recon.state.compaction import Compacted, compact_in_run
from recon.state.tiers import TiersMerged, merge_tiers, note_indexed
from recon.state.timeline import State


def index(work: Work, windows: Windows) -> Iterator[WindowResult[Mapping[str, Any]]]:
    """Yields each window's committed figures, and the figures of the index as the numbers of each.

    Raises kinds of TryAgain while DynamoDB is away: by then the runs are merged, and the windows noted as indexed."""
    committed = committed_windows(work, windows)
    start = time.perf_counter()
    work.progress("index", range_name(windows), 0)
    with work.report.timed("index", work.store) as spent:
        compacted = compact_in_run(work.store, work.config, work.timeline)
        indexed = merge_tiers(work.store, work.config, work.timeline)
    state = work.head()
    for name, figures in committed.items():
        note_indexed(work.store, work.config.grid.parse(name), int(figures["commit"]))
    with work.report.timed("index", work.store) as spent_on_table:
        synced = sync(work.store, work.config, work.timeline)
    numbers: Numbers = {
        "runs": indexed.runs,
        "runs_merged": indexed.merged,
        "entries": sum(run.entries for run in state.runs),
        "range_seconds": round(time.perf_counter() - start, 3),
        **_amplification(work.config, state, compacted, indexed),
        **_table(synced),
        **prices.figures(spent.usage + spent_on_table.usage, work.config.prices),
    }
    for name, figures in committed.items():
        yield WindowResult(name, figures, numbers)


def index_late(work: Work) -> None:
    """Brings the DynamoDB table up to the newest commit where an earlier run could not, or where the section ``index`` is new."""
    if not is_synced(work.store, work.config, work.timeline):
        with work.report.timed("index", work.store):
            sync(work.store, work.config, work.timeline)


def _amplification(config: Config, state: State, compacted: Compacted, indexed: TiersMerged) -> Numbers:
    """Space and write amplification, which of the two is bounded, and what compaction did for it."""
    found = amplification.figures(config, state.totals)
    amplified = {"disk_to_live": found["disk"], "written_to_changed": found["writes"]}
    return {
        **{name: value for name, value in amplified.items() if value is not None},
        "bounded": f"{found['bound']}, {found[found['bound'] + '_bound']} times",
        "part_files_compacted": compacted.rewritten,
        "part_files_given_up": compacted.dropped,
        "put_off": compacted.put_off or indexed.put_off,
    }


def _table(synced: Synced | None) -> Numbers:
    """The index table: the commit that it has reached, what was written, and its cost by the prices of the configuration."""
    if synced is None:
        return {}
    per_million = synced.cost_per_million_usd
    return {
        "table": synced.table or "no table is complete yet; another process is filling one",
        "table_commit": synced.commit,
        "table_filled_anew": synced.filled,
        "table_shares": synced.shares,
        "table_updates": synced.items,
        "table_updates_refused": synced.refused,
        "table_tombstones": synced.tombstones,
        "table_write_units": synced.units,
        "table_cost_usd": f"{synced.cost_usd:f}",
        **({} if per_million is None else {"table_cost_per_million_updates_usd": f"{per_million:f}"}),
        "table_seconds": synced.seconds,
    }
