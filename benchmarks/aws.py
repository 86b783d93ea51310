"""The pipeline on S3, DynamoDB and Redis: requests, bytes and seconds per stage, what they cost, and look-ups with and without the cache.

    python benchmarks/aws.py [--state 200000] [--events 400000] [--keys 130000] [--small 2000] [--look-ups 500] [--out FILE.json]

SeaweedFS, DynamoDB Local and Valkey on this machine stand in for AWS: counts of requests and bytes are those that AWS would see, seconds
and latencies are not. A state is made, then a batch of ``--events`` events over ``--keys`` keys is taken in, half of them new, then a small
batch. Each is beside one object per artifact: a GET for each key touched, a PUT for each record written.
"""

from __future__ import annotations

import os
import platform
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

import seaweed
from command_line import options, write_figures
from core import make_events
from dynamodb_local import dynamodb_local, environment
from peers.workload import RULES
from valkey_server import valkey

import recon
from recon.metering.prices import as_text, price
from recon.metering.usage import Usage, requests_of, tally_of, usage_of
from recon.model.record import RecordAddress
from recon.reading.served import Known, find_served
from recon.serving.dynamodb import client_of
from recon.state.lookup import find_record
from recon.state.runs.file import open_run
from recon.state.runs.read import read_record
from recon.state.timeline import State, Timeline
from recon.storage.cache import uncached
from recon.storage.hashing import hash_of, salt_of
from recon.storage.port import ObjectStore

WINDOWS = ("2026-01-01T00:00Z", "2026-01-01T01:00Z", "2026-01-01T02:00Z")


def taken_in(r: Any, folder: Path, name: str, window: str, events: int, keys: int, first_key: int) -> dict[str, Any]:
    """One batch, landed and run by plain calls."""
    file = make_events(folder, name, events, keys, first_key, "parquet")
    before = usage_of(r.store(create=True))
    start = time.perf_counter()
    r.land([file], window=window, close=True)
    landed_s, landing = time.perf_counter() - start, usage_of(r.store()) - before
    report = asdict(r.run())
    assert not report["bad"], report["bad"]
    told_ = {what: report[what] for what in ("rows", "keys", "written", "bytes", "seconds", "requests", "prices")}
    print(f"  {name}: {report['rows']:,} events, {report['keys']:,} keys; USD {report['prices']['total']}", flush=True)
    for stage, seconds in report["seconds"].items():
        s3 = report["requests"].get(stage, {}).get("s3", {})
        asked = sum(one["requests"] for one in s3.values())
        print(f"    {stage:10} {seconds:7.2f} s {asked:6,} requests to S3, USD {report['prices']['stages'].get(stage, '0')}", flush=True)
    landing_told = {"seconds": landed_s, "price": as_text(price(landing, r.config.prices)), "requests": counted(landing)}
    return {**told_, "seconds": {stage: round(seconds, 2) for stage, seconds in report["seconds"].items()}, "landing": landing_told}


def counted(usage: Usage) -> dict[str, int]:
    return {f"{service}.{operation}": number for (service, operation), number in sorted(requests_of(usage).items())}


def looked_up(r: Any, store: ObjectStore, keys: list[str], look: Callable[[str], Any]) -> dict[str, Any]:
    """Latencies of look-ups, one after the other, and what each asks."""
    before, taken = usage_of(r.store()), []
    for key in keys:
        start = time.perf_counter()
        found = look(key)
        taken.append((time.perf_counter() - start) * 1000)
        assert found is not None, key
    asked = usage_of(r.store()) - before
    cuts = statistics.quantiles(taken, n=100)
    return {
        "p50_ms": round(cuts[49], 2),
        "p99_ms": round(cuts[98], 2),
        "requests_each": {what: round(count / len(keys), 2) for what, count in counted(asked).items()},
        "usd_per_million": as_text(price(asked, r.config.prices) * 1_000_000 / len(keys)),
    }


def ways(r: Any, keys: list[str], client: Any) -> dict[str, Any]:
    """Each way of looking keys up, without the cache, with an empty one, and with one that has them."""
    cached = r.store()
    bare, timeline, known = uncached(cached), Timeline(cached), Known()
    state: State = timeline.head()
    places = {key: place_of(bare, state, key) for key in keys}
    found: dict[str, Any] = {}
    looks: dict[str, Callable[[ObjectStore], Callable[[str], Any]]] = {
        "through the runs": lambda store: lambda key: find_record(store, state, key),
        "through DynamoDB": lambda store: lambda key: find_served(store, timeline, key, lambda: client, known).record,
        "the record alone": lambda store: lambda key: read_record(store, places[key]),
    }
    for way, look in looks.items():
        cached.records._connected().flushall()
        for name, store in (("without", bare), ("empty", cached), ("warm", cached)):
            found.setdefault(way, {})[name] = one = looked_up(r, store, keys, look(store))
            print(f"  {way:18} {name:8} p50 {one['p50_ms']:7.2f} ms, p99 {one['p99_ms']:7.2f} ms {one['requests_each']}", flush=True)
    return found


def place_of(store: ObjectStore, state: State, key: str) -> RecordAddress:
    for run in state.runs:
        if hits := open_run(store, run.path).find(*hash_of(key, salt_of(store))):
            return hits[0]
    raise AssertionError(key)


def main() -> None:
    given = options(__doc__, state=200_000, events=400_000, keys=130_000, small=2_000, look_ups=500)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="recon-aws-")))
        endpoint = stack.enter_context(dynamodb_local(folder))
        stack.enter_context(environment(endpoint))
        s3 = stack.enter_context(seaweed.server())
        redis = stack.enter_context(valkey(folder))
        os.environ.update(s3.environment)
        bucket = s3.bucket()
        text = RULES.replace("store: ./data", f"store: s3://{bucket}/benchmark")
        text += f"cache: {{kind: redis, url: '{redis.url}'}}\nindex: {{kind: dynamodb, table: {bucket}}}\n"
        (folder / "recon.yaml").write_text(text)
        r = recon.open(folder / "recon.yaml")
        batches = {
            "state": taken_in(r, folder, "state", WINDOWS[0], given.state, given.state, 0),
            "batch": taken_in(r, folder, "batch", WINDOWS[1], given.events, given.keys, given.state - given.keys // 2),
            "small": taken_in(r, folder, "small", WINDOWS[2], given.small, given.small // 2, given.state // 2),
        }
        keys = [f"ORD-{number:09}" for number in random.Random(1).sample(range(given.state), given.look_ups)]
        result = {
            "sizes": {name: getattr(given, name) for name in ("state", "events", "keys", "small", "look_ups")},
            "machine": f"{os.cpu_count()} cores, Python {platform.python_version()}",
            "batches": batches,
            "look_ups": ways(r, keys, client_of(r.store(), r.config)),
        }
        assert tally_of(r.store()) is not None
    write_figures(given.out, result)


if __name__ == "__main__":
    main()
