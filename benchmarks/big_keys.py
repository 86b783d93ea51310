"""One more window for a key that has very much behind it: CPU seconds and bytes written by pre-fetch and merge.

    python benchmarks/big_keys.py [--windows 10 1000 10000] [--events 1000000] [--more 5] [--out FILE.json]

The key has one event with an id in each of its windows of an hour. It is measured with a horizon of a day and of 31 days, with old
contributions carried forward and without (the constant set so high that no key is); then a key of which one window holds a million events.
The windows behind it are copies of one that was reduced, each with an id of its own, merged in long ranges; what is measured is the
ordinary merge of the next windows, one by one.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

import recon
from recon.api import Reconciliation
from recon.config import Config
from recon.engines.duckdb import carried_forward
from recon.engines.select import engine_of
from recon.model.windows import name_of
from recon.planning import due
from recon.stages.merge import merge_windows
from recon.stages.reduce import reduce_windows
from recon.state import reduced
from recon.state.reduced import Figures
from recon.state.timeline import Timeline
from recon.storage import layout
from recon.storage.hashing import hash_of, salt_of

CONFIG = """\
name: big_keys
store: ./data
key: account
windows: {start: 2020-01-01T00:00Z, every: 1h}
events: {types: {amount: "decimal(18,2)"}, id: event_id, time: booked_at, dedupe: DEDUPE}
measures: {total: {sum: amount}, largest: {max: amount}, latest: {last: amount}, lines: {count: "*"}}
status: [{POSITIVE: total > 0}]
control: {rows: {count: "*"}, amount: {sum: amount}}
"""
RANGE = 400
"""Windows that are merged at once where nothing is measured."""


def opened(folder: Path, dedupe: str) -> Reconciliation:
    folder.mkdir(exist_ok=True)
    (folder / "recon.yaml").write_text(CONFIG.replace("DEDUPE", dedupe))
    r = recon.open(folder / "recon.yaml")
    r.store(create=True)
    return r


def reduced_window(r: Reconciliation, rows: Sequence[str], number: int) -> Figures:
    """A window with these rows, landed and reduced."""
    window = name_of(r.config.grid.at(number))
    file = r.config.path.with_name(f"w{number}.csv")
    file.write_text("event_id,account,amount,booked_at\n" + "".join(rows))
    r.land([file], window, close=True)
    manifests = [one for one in due.due(r.store(), r.config, Timeline(r.store()).head()).ready if one.window == window]
    return reduce_windows(r.store(), r.config, manifests)[0]


def copied(r: Reconciliation, first: Figures, tables: dict[str, pa.Table], number: int) -> Figures:
    """The stateless files of another window, equal to those of ``first`` but for the name and for the id of its event."""
    folder = layout.stateless(r.config.grid.at(number), 1, r.config.rules_version, layout.new_attempt())
    own = f"event-{number}"
    _, hashed = hash_of(own, salt_of(r.store()))
    changed = {reduced.EVENTS: ("id", pa.array([own])), reduced.ARTIFACTS: ("ids", pa.array([[hashed]], pa.list_(pa.uint64())))}
    for name, table in tables.items():
        if name in changed:
            column, values = changed[name]
            place = table.schema.get_field_index(column)
            table = table.set_column(place, table.schema.field(column), values)
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink)
        r.store().put_new(folder + name, [memoryview(sink.getvalue())])
    return replace(first, window=name_of(r.config.grid.at(number)), folder=folder)


def one_more(r: Reconciliation, config: Config, timeline: Timeline, figures: Figures) -> dict[str, float]:
    """What pre-fetch and merge of one window cost."""
    cpu, wall = time.process_time(), time.perf_counter()
    fetched = engine_of(r.config).prefetch(r.store(), r.config, timeline.head(), [figures])
    merged = merge_windows(r.store(), config, timeline, [figures], fetched)
    r.store().delete(fetched.path)
    return {"cpu_s": time.process_time() - cpu, "wall_s": time.perf_counter() - wall, "bytes": merged.bytes}


def medians(costs: Sequence[dict[str, float]]) -> dict[str, float]:
    return {name: round(statistics.median(cost[name] for cost in costs), 3) for name in costs[0]}


def many_windows(folder: Path, counts: Sequence[int], more: int) -> list[dict[str, Any]]:
    """The key in so many windows, for each horizon, with folding and without."""
    r = opened(folder / "windows", "31d")
    first = reduced_window(r, ["event-0,ACCOUNT,1.00,2020-01-01T00:00:00Z\n"], 0)
    names = (reduced.EVENTS, reduced.ARTIFACTS, reduced.SET_ASIDE)
    tables = {name: pq.read_table(pa.BufferReader(r.store().get(first.folder + name))) for name in names}
    windows = [first, *(copied(r, first, tables, number) for number in range(1, max(counts) + more))]
    found = []
    for days in (1, 31):
        for folds in (True, False):
            # The horizon is no part of what was reduced; each has a timeline of its own in the one store.
            config = replace(r.config, events=replace(r.config.events, dedupe=timedelta(days=days)))
            timeline = Timeline(r.store(), layout.generation(f"{days}-{folds}"))
            with patch.object(carried_forward, "FOLD_MIN", carried_forward.FOLD_MIN if folds else 1 << 40):
                done = 0
                for count in sorted(counts):
                    for start in range(done, count, RANGE):
                        merge_windows(r.store(), config, timeline, windows[start : min(start + RANGE, count)])
                    cost = medians([one_more(r, config, timeline, windows[number]) for number in range(count, count + more)])
                    done = count + more
                    found.append({"horizon_days": days, "carried_forward": folds, "windows": count, **cost})
                    print(json.dumps(found[-1]), flush=True)
                # The same files as another revision: what the block, if there is one, must be opened for.
                again = medians([one_more(r, config, timeline, replace(windows[5], revision=2))])
                found.append({"horizon_days": days, "carried_forward": folds, "windows": done, "replayed": "the sixth", **again})
                print(json.dumps(found[-1]), flush=True)
    return found


def many_events(folder: Path, events: int, more: int) -> dict[str, Any]:
    """A key with so many events in one window, and one in each of the next."""
    r = opened(folder / "events", "31d")
    rows = [f"e{n},ACCOUNT,1.00,2020-01-01T00:00:00Z\n" for n in range(events)]
    timeline = Timeline(r.store())
    merge_windows(r.store(), r.config, timeline, [reduced_window(r, rows, 0)])
    next_ones = [reduced_window(r, [f"later-{n},ACCOUNT,1.00,2020-01-01T00:00:00Z\n"], n) for n in range(1, more + 1)]
    cost = medians([one_more(r, r.config, timeline, figures) for figures in next_ones])
    found = {"horizon_days": 31, "events_in_one_window": events, **cost}
    print(json.dumps(found), flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--windows", type=int, nargs="*", default=[10, 1_000, 10_000])
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--more", type=int, default=5)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    machine = {"cores": os.cpu_count(), "python": platform.python_version(), "duckdb": duckdb.__version__, "pyarrow": pa.__version__}
    with tempfile.TemporaryDirectory() as folder:
        found: dict[str, Any] = {"machine": machine}
        if options.windows:
            found["one more window, by windows behind it"] = many_windows(Path(folder), options.windows, options.more)
        if options.events:
            found["one more window, a window of many events behind it"] = many_events(Path(folder), options.events, options.more)
    if options.out:
        options.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
