"""One step of the benchmark in a process of its own, so that memory and CPU are this step's alone.

It is asked for by JSON on standard input and prints its figures as one JSON line.
"""

from __future__ import annotations

import json
import random
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.peers import measure
from benchmarks.peers.measure import Memory, Meter
from benchmarks.peers.ours import Ours, comparable
from benchmarks.peers.workload import Workload, key_of

PEERS = ("DuckDB MERGE", "DuckDB ON CONFLICT", "Delta MERGE", "Lance merge_insert", "PostgreSQL ON CONFLICT", "one object per artifact")
OURS = "recon"


def open_peer(name: str, league: str, folder: Path, address: str, state: int) -> Any:
    """Only what is asked for is loaded: it counts into the step's memory."""
    if name.startswith("DuckDB"):
        from benchmarks.peers import duck

        return duck.Conflicted(folder, league) if name.endswith("CONFLICT") else duck.Merged(folder, league)
    if name.startswith("Delta"):
        from benchmarks.peers.delta import Delta

        return Delta(folder, league)
    if name.startswith("Lance"):
        from benchmarks.peers.lance_table import Lance

        return Lance(folder, league)
    if name.startswith("PostgreSQL"):
        from benchmarks.peers.postgresql import PostgreSQL

        return PostgreSQL(folder, league, address)
    from benchmarks.peers.objects import Objects

    return Objects(folder, league, state)


def main() -> None:
    asked = json.load(sys.stdin)
    folder, scratch = Path(asked["folder"]), Path(asked["scratch"])
    folder.mkdir(parents=True, exist_ok=True)
    ours = asked["peer"] == OURS
    peer: Any = (
        Ours(folder) if ours else open_peer(asked["peer"], asked["league"], folder, asked.get("address", ""), asked["workload"]["state"])
    )
    meter = Meter(asked.get("server"))
    with Memory() as memory:
        result = {**_do(asked, peer, ours, scratch, meter)}
    result |= {"stages": meter.stages, "memory": memory.figures()}
    print(json.dumps(result))


def _do(asked: dict[str, Any], peer: Any, ours: bool, scratch: Path, meter: Meter) -> dict[str, Any]:
    workload, number = Workload(**asked["workload"]), asked.get("number", 0)
    match asked["do"]:
        case "load" if ours:
            worn = peer.load(workload, scratch)
            return {"worn": worn, "slices": [] if asked["alone"] else [str(file) for file in peer.slices(workload, scratch)]}
        case "load":
            peer.load([Path(file) for file in asked["slices"]])
        case "reduce":
            return {"artifacts": str(peer.reduce(workload.batch(number), scratch, meter))}
        case "batch" if ours:
            return dict(peer.batch(meter))
        case "compact":
            peer.compact(meter)
        case "batch":
            peer.batch(Path(asked["artifacts"]), workload.batch(number).number, meter)
        case "replay":
            peer.replay(Path(asked["artifacts"]), workload.batch(number).number, meter)
        case "maintain":
            peer.maintain(meter)
        case "sums":
            return {"sums": peer.sums()}
        case "look up":
            return _look_up(peer, workload.known(number), asked["league"], asked["peer"])
    return {}


def _look_up(peer: Any, keys: int, league: str, name: str) -> dict[str, Any]:
    """1,000 random keys, in a process that has just begun and with the cache of pages emptied, and the same keys again."""
    draw = random.Random(7)
    asked = [key_of(draw.randrange(keys)) for _ in range(1000)]
    cold = measure.drop_caches()
    peer.open()
    found, timed = [], []
    for key in asked:
        start = time.perf_counter()
        found.append(peer.look_up(key))
        timed.append(time.perf_counter() - start)
        if time.perf_counter() - start > 0.25 and len(timed) >= 20:
            break  # a scan a look-up: twenty tell it
    warm = []
    for key in asked[: len(timed)]:
        start = time.perf_counter()
        peer.look_up(key)
        warm.append(time.perf_counter() - start)
    values = [] if name == PEERS[-1] else [comparable(row, league, name == OURS) for row in found]
    return {"cold" if cold else "cold, cache kept": measure.percentiles(timed), "warm": measure.percentiles(warm), "values": values}


if __name__ == "__main__":
    main()
