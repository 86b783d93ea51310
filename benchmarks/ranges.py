"""The merge of several windows in one range, beside the same windows one after another; of a late window; and of a window again.

    python benchmarks/ranges.py [--state 1000000] [--events 2000000] [--keys 659571] [--windows 5] [--out FILE.json]

The batches are those of benchmarks/peers: half of their keys are new. Prints wall and CPU seconds of pre-fetch and merge. A window again is
once a replay, which changes nothing, and once a correction, in which each event has another amount.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
from command_line import options, write_figures
from core import timed
from peers.workload import RULES, Window, Workload, write_events

import recon
from recon.engines.select import engine_of
from recon.planning import due
from recon.stages.merge import merge_windows
from recon.stages.reduce import reduce_windows
from recon.state.reduced import Figures
from recon.state.timeline import Timeline


def main() -> None:
    asked = options(__doc__, state=1_000_000, events=2_000_000, keys=659_571, windows=5)
    workload = Workload(asked.state, asked.events, asked.keys)
    batches = [workload.batch(number) for number in range(1, asked.windows + 1)]
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="recon-ranges-") as name:
        files = {window.name: Path(name, f"{window.number}.parquet") for window in (*workload.base(), *batches)}
        for window in (*workload.base(), *batches):
            write_events(window, files[window.name])
        together = _opened(Path(name, "together"), workload, files)
        _merge(together, _reduced(together, batches, files), found, f"{asked.windows} windows in one range")
        alone = _opened(Path(name, "alone"), workload, files)
        late, last = batches[-2], batches[-1]
        for window in (*batches[:-2], last):
            _merge(alone, _reduced(alone, [window], files), found, f"window {window.number} alone")
        _merge(alone, _reduced(alone, [late], files), found, "a late window")
        alone.replay(last.name, reason="benchmark")
        _merge(alone, _reduced(alone, [], files), found, "a window again, a replay")
        alone.land([_corrected(files[last.name])], window=last.name, close=True)
        alone.unland(files[last.name].name, window=last.name, reason="benchmark")
        _merge(alone, _reduced(alone, [], files), found, "a window again, corrected")
    write_figures(asked.out, {"sizes": {k: getattr(asked, k) for k in ("state", "events", "keys", "windows")}, "figures": found})


def _opened(folder: Path, workload: Workload, files: dict[str, Path]) -> recon.Reconciliation:
    """A store with the base windows."""
    folder.mkdir()
    (folder / "recon.yaml").write_text(RULES)
    r = recon.open(folder / "recon.yaml")
    _merge(r, _reduced(r, list(workload.base()), files), {}, "base")
    return r


def _reduced(r: recon.Reconciliation, windows: Sequence[Window], files: dict[str, Path]) -> list[Figures]:
    for window in windows:
        r.land([files[window.name]], window=window.name, close=True)
    return reduce_windows(r.store(), r.config, due.due(r.store(), r.config, Timeline(r.store()).head()).ready)


def _merge(r: recon.Reconciliation, figures: list[Figures], found: dict[str, Any], what: str) -> None:
    print(f"  {what}", flush=True)
    timeline, of = Timeline(r.store()), {}
    with timed(of, "pre-fetch"):
        fetched = engine_of(r.config).prefetch(r.store(), r.config, timeline.head(), figures)
    with timed(of, "merge"):
        merged = merge_windows(r.store(), r.config, timeline, figures, fetched)
    r.store().delete(fetched.path)
    found[what] = of | {"keys": merged.keys, "written": merged.written, "bytes": merged.bytes}


def _corrected(file: Path) -> Path:
    """The events of a file, each with another amount."""
    other = file.with_stem(f"{file.stem}-corrected")
    duckdb.execute(f"COPY (SELECT * REPLACE (CAST(amount + 1 AS DECIMAL(18, 2)) AS amount) FROM '{file}') TO '{other}' (FORMAT parquet)")
    return other


if __name__ == "__main__":
    main()
