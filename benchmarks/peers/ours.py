"""This project: pre-fetch, merge, index and compaction, as ``recon run`` calls them.

It always does the whole job: contributions with the hashes of their ids, duplicates across windows, derived values, status, ties,
lineage. So there is one state for both leagues.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.compute
import pyarrow.ipc
import pyarrow.parquet  # noqa: F401 - loaded here, so that no stage pays for it

import recon
from benchmarks.peers.measure import Meter
from benchmarks.peers.peer import CONTRIBUTION, SAME, SUMS, TYPES, Row, contribution
from benchmarks.peers.workload import CONFIG, MEASURES, START, Window, Workload, write_events
from recon.engines.select import engine_of
from recon.operations.upkeep import sweep_store
from recon.planning import due
from recon.stages.merge import merge_windows
from recon.stages.reduce import reduce_windows
from recon.state import reduced
from recon.state.compaction import compact, is_due
from recon.state.tiers import merge_tiers
from recon.state.timeline import Timeline


class Ours:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        if not (folder / "recon.yaml").exists():
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "recon.yaml").write_text(CONFIG)
        self._recon = recon.open(folder / "recon.yaml")

    def reduce(self, window: Window, scratch: Path, meter: Meter) -> Path:
        """Makes the window's events, lands and reduces them; the file of its stateless artifacts."""
        file = scratch / f"events-{window.number}.parquet"
        write_events(window, file)
        with meter.stage("land"):
            self._recon.land([file], window=window.name, close=True)
        with meter.stage("reduce"):
            (figures,) = self._reduced()
        file.unlink()
        artifacts = self._recon.store().local(figures.folder + reduced.ARTIFACTS)
        assert artifacts is not None
        return artifacts

    def _reduced(self) -> list[reduced.Figures]:
        store = self._recon.store()
        return reduce_windows(store, self._recon.config, due.due(store, self._recon.config, Timeline(store).head()).ready)

    def load(self, workload: Workload, scratch: Path) -> list[dict[str, Any]]:
        """The state to begin with: every base window and every worn window, each by the way that batches go. Figures of the worn ones."""
        worn = list(workload.worn())
        figures = []
        for window in (*workload.base(), *worn):
            meter = Meter()
            self.reduce(window, scratch, meter)
            done = self.batch(meter)
            if window in worn:
                figures.append({**done, "stages": meter.stages})
            # Gives back what nobody reads any more, as the nightly upkeep does.
            sweep_store(self._recon.store(), self._recon.config, Timeline(self._recon.store()), datetime.now(UTC))
        return figures

    def batch(self, meter: Meter) -> dict[str, Any]:
        """The window that is reduced and not merged yet. Returns what compaction and the merge did, in bytes."""
        r = self._recon
        store, timeline = r.store(), Timeline(r.store())
        with meter.stage("find"):
            reduced = self._reduced()
        with meter.stage("pre-fetch"):
            fetched = engine_of(r.config).prefetch(store, r.config, timeline.head(), reduced)
        before = _bytes(timeline)
        with meter.stage("merge"):
            merged = merge_windows(store, r.config, timeline, reduced, fetched)
        store.delete(fetched.path)
        after = _bytes(timeline)
        with meter.stage("index"):
            merge_tiers(store, r.config, timeline)
        figures = {
            "written": merged.bytes,
            "superseded": merged.bytes - (after["live"] - before["live"]),
            "freed": 0,
        }
        if is_due(r.config, timeline.head()):
            with meter.stage("compaction"):
                compact(store, r.config, timeline)
            figures["freed"] = after["parts"] - _bytes(timeline)["parts"]
        return figures | {f"{name}_bytes": value for name, value in _bytes(timeline).items()}

    def compact(self, meter: Meter) -> None:
        """Whether it is due or not."""
        with meter.stage("compaction"):
            compact(self._recon.store(), self._recon.config, Timeline(self._recon.store()), always=True)

    def slices(self, workload: Workload, folder: Path) -> list[Path]:
        """The state as rows for the peers, in files of about a million keys, in order of the hash of the key."""
        timeline = Timeline(self._recon.store())
        windows = timeline.head().windows
        scans = []
        for name in sorted(windows):
            file = self._recon.store().local(windows[name].folder + reduced.ARTIFACTS)
            number = int((self._recon.config.grid.parse(name) - START).total_seconds() // 3600)
            scans.append(f"SELECT hi, key, CAST({contribution(number)} AS {CONTRIBUTION}) AS c FROM read_parquet('{file}')")
        totals = ", ".join(f"CAST(sum(c.{name}) AS {kind}) AS {name}" for name, kind in TYPES.items())
        count = -(-workload.state // 1_000_000)
        files = []
        for number in range(count):
            low, high = (number * 2**64 // count, (number + 1) * 2**64 // count)
            files.append(folder / f"state-{number:02d}.parquet")
            with duckdb.connect(config={"threads": 2, "memory_limit": "6GB"}) as connection:
                connection.execute(f"""
                    COPY (SELECT key, {totals}, list(c ORDER BY c.w) AS contributions FROM ({" UNION ALL ".join(scans)})
                          WHERE hi >= {low} AND hi < {high} GROUP BY key) TO '{files[-1]}' (FORMAT parquet)""")
        return files

    def maintain(self, meter: Meter) -> None:
        with meter.stage("sweep"):
            self._recon.compact()

    def open(self) -> None:
        self._recon.state()

    def look_up(self, key: str) -> Row | None:
        found = self._recon.show(key)
        return (*(found["measures"].get(name) for name in MEASURES), len(found["contributions"]))

    def sums(self) -> list[str]:
        file = self._folder / "all.parquet"
        file.unlink(missing_ok=True)
        self._recon.export(file)
        with duckdb.connect(config={"threads": 2}) as connection:
            sums = [str(value) for value in connection.execute(f"{SUMS} '{file}'").fetchone() or ()]
        file.unlink()
        return sums


def _bytes(timeline: Timeline) -> dict[str, int]:
    return dict(timeline.head().totals.get("bytes", {"parts": 0, "live": 0}))


def comparable(row: Sequence[Any] | None, league: str, ours: bool = False) -> list[str] | None:
    """What a look-up came to, in one form for all: the measures as text, in the league ``same`` the number of contributions behind them."""
    if row is None:
        return None
    values = [None if value is None else str(value) for value in (row[:4] if ours else row[1:5])]
    if league == SAME:
        values.append(str(row[4] if ours else len(row[5])))
    return [str(value) for value in values]
