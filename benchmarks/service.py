"""The service under load and kills: requests of 273 B to 200 MB from ten owners, ten at a time, while workers, their processes and the
server are killed at random. Each must end once, with the right result, and nothing may be left over.

    python benchmarks/service.py [--requests 1500] [--over 600] [--kill-every 20] [--seed 20] [--out FILE.json]

`recon serve` with its worker, and one worker more, run as processes. Requests are sent over HTTP with an Idempotency-Key, again where the
server was killed, evenly over ``--over`` seconds. One in 25 is wrong, one in 25 is cancelled at a random moment, one in three is copied to
its owner's folder. Answers are compared with sums that are known beforehand. Then one owner sends a thousand at once, and another one.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import shutil
import statistics
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import psutil
import yaml
from served_site import OWNERS, Site, insist, kind_of, until

import recon
from recon.service import figures
from recon.service.scratch import PREFIX
from recon.service.submissions import ENDED, Holder, Submission

SIZES = {273: 45.0, 10_000: 20.0, 100_000: 15.0, 1_000_000: 12.0, 10_000_000: 6.0, 70_000_000: 1.3, 200_000_000: 0.7}
"""Bytes of an input → its share of the requests, in percent."""
ADMIN = Holder("", frozenset({"admin"}))
PATIENCE_S = 3600.0
END_S = 30.0
"""How long processes may take to end on a busy machine after the service has."""


@dataclass
class Sent:
    """A request that was sent. ``wrong``: it must fail. ``cancel``: somebody asked for its end. ``name``: of the first answer."""

    number: int
    owner: str
    size: int
    wrong: bool
    cancel: bool
    copied: bool
    name: str = ""


@dataclass
class Inputs:
    """Files of the sizes, each with the sums that a request over it must give."""

    folder: Path
    sizes: dict[int, float]
    answers: dict[int, dict[str, Decimal]] = field(default_factory=dict)

    def make(self) -> None:
        for size in self.sizes:
            rows = max(1, round((size - 4) / 10.7))
            table = f"SELECT 'k' || i % 7 AS a, CAST(i % 9973 AS DECIMAL(18,2)) / 100 AS b FROM range({rows}) AS t(i)"
            table = f"SELECT a, CAST(b AS DECIMAL(18,2)) AS b FROM ({table})"
            duckdb.sql(f"COPY ({table}) TO '{self.folder / str(size)}.csv' (HEADER)")
            self.answers[size] = dict(duckdb.sql(f"SELECT a, sum(b) FROM ({table}) GROUP BY a").fetchall())

    def body(self, one: Sent, out: Path) -> dict[str, Any]:
        column = "c" if one.wrong else "b"
        group = {"group": {"table": "t", "by": ["a"], "values": {"total": {"sum": column}}}}
        given = {"path": str(self.folder / f"{one.size}.csv"), "types": {"b": "decimal(18,2)"}}
        to = f"{out}/{one.owner}/{one.number}/sums.csv" if one.copied else "sums.csv"
        return {"inputs": {"t": given}, "operations": [group], "outputs": [{"table": "t", "path": to}]}

    def right(self, size: int, content: bytes) -> bool:
        header, *lines = content.decode().splitlines()
        return header == "a,total" and {a: Decimal(b) for a, b in (line.split(",") for line in lines)} == self.answers[size]


def planned(count: int, sizes: dict[int, float], chance: random.Random) -> list[Sent]:
    """The requests: each size at least once, the others by their shares."""
    chosen = [*sizes, *chance.choices(list(sizes), list(sizes.values()), k=count - len(sizes))]
    chance.shuffle(chosen)
    return [
        Sent(n, chance.choice(OWNERS), size, chance.random() < 0.04, chance.random() < 0.04, n % 3 == 0) for n, size in enumerate(chosen)
    ]


def send(site: Site, inputs: Inputs, some: list[Sent], over_s: float, chance: random.Random) -> None:
    """Sends requests evenly over a time; those that are to be cancelled, soon after."""
    began, cancelling = time.monotonic(), list[threading.Timer]()
    for number, one in enumerate(some):
        time.sleep(max(0.0, began + over_s * number / len(some) - time.monotonic()))
        key = {"Idempotency-Key": f"soak-{one.number}"}
        answer = insist(site, one.owner, "POST", "/v1/requests", json=inputs.body(one, site.folder / "out"), headers=key)
        assert answer.status_code == 202, answer.text
        one.name = answer.json()["name"]
        if one.cancel:
            path = f"/v1/requests/{one.name}/cancel"
            cancelling.append(threading.Timer(chance.uniform(0, 6), insist, (site, one.owner, "POST", path)))
            cancelling[-1].start()
    for each in cancelling:
        each.join()


@contextmanager
def killing(site: Site, every_s: float, chance: random.Random) -> Iterator[Counter[str]]:
    """Kills something at random moments during the block."""
    done, over = Counter[str](), threading.Event()
    ways = site.kills(chance)

    def kill() -> None:
        while not over.wait(every_s * chance.uniform(0.5, 1.5)):
            name = chance.choice(list(ways))
            with suppress(KeyError, psutil.Error):
                if ways[name]() is not None:
                    done[name] += 1

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    try:
        yield done
    finally:
        over.set()
        thread.join()


def judged(site: Site, inputs: Inputs, some: list[Sent]) -> list[str]:
    """What is wrong with the requests that were sent: lost, twice, without a reason, or with a wrong result."""
    wrong: list[str] = []
    stored = {one.name: one for one in site.service.requests.all(ADMIN, most=1_000_000)}
    if len(stored) != len(some) or {one.name for one in some} != set(stored):
        wrong.append(f"{len(some)} were sent, {len(stored)} are there")
    for sent in some:
        one = stored[sent.name]
        states = [event.state for event in site.service.requests.events(one)]
        if one.state not in ENDED or sum(state in ENDED for state in states) != 1:
            wrong.append(f"{sent}: {one.state}, {states}")
        if one.state in ("failed", "dead") and not one.reason:
            wrong.append(f"{sent}: {one.state} without a reason")
        ends = {"failed", "dead"} if sent.wrong else {"done", "dead"}
        if one.state not in ends | ({"cancelled"} if sent.cancel else set()):
            wrong.append(f"{sent}: {one.state}: {one.reason}")
        if one.state == "done":
            wrong += differing(site, inputs, sent, one)
    return wrong


def differing(site: Site, inputs: Inputs, sent: Sent, one: Submission) -> list[str]:
    """What is wrong with the results of a request that is done."""
    found = site.service.results.open(site.service.results.link(one, "sums.csv"))
    if found is None or not inputs.right(sent.size, b"".join(bytes(piece) for piece in found[2])):
        return [f"{sent}: its result is {'gone' if found is None else 'wrong'}"]
    copy = site.folder / "out" / sent.owner / str(sent.number) / "sums.csv"
    if sent.copied and not (copy.is_file() and inputs.right(sent.size, copy.read_bytes())):
        return [f"{sent}: its copy is not there, or wrong"]
    return []


def left_over(site: Site) -> list[str]:
    """Files of results that no request that is done has, temporary files, folders of processes; processes, once the service has ended and
    the next worker would have begun."""
    places = {one.place for one in site.service.requests.all(ADMIN, "done", most=1_000_000)}
    results = site.folder / ".recon" / "results"
    strays = [str(file) for file in results.glob("results/*") if file.name not in places]
    strays += [str(file) for file in (site.folder / "out").rglob(".*")]
    with suppress(SystemExit):
        until(lambda: not site.tree(), END_S, "no process is left")
    site.sweep()
    strays += [str(file) for file in (site.folder / "scratch").glob(f"{PREFIX}*")]
    return strays + [f"{one.pid} {kind_of(one)}" for one in site.tree()]


def flooded(site: Site, inputs: Inputs, count: int) -> dict[str, float]:
    """One owner sends many small requests, then another one: how long the one takes, and how many ended before it."""
    first, second = OWNERS[:2]
    body = inputs.body(Sent(0, first, 273, False, False, False), site.folder / "out")
    holders = [Holder(owner, frozenset({"submit", "read-own"})) for owner in (first, second)]
    for _ in range(count):
        site.service.submit(holders[0], json.dumps(body).encode())
    before = len(site.service.requests.all(Holder(first, frozenset({"read-own"})), "done", most=1_000_000))
    began = time.monotonic()
    one, _ = site.service.submit(holders[1], json.dumps(body).encode())
    until(lambda: (found := site.service.requests.find(ADMIN, one.name)) is not None and found.ended, 600, "the one is done")
    took = time.monotonic() - began
    after = len(site.service.requests.all(Holder(first, frozenset({"read-own"})), "done", most=1_000_000))
    return {"flood": count, "one_took_s": round(took, 2), "others_ended_meanwhile": after - before}


def cpu_beside(site: Site, inputs: Inputs, count: int) -> dict[str, float]:
    """CPU seconds of a small request in the service, of its process alone, and of the same work in a program that has everything loaded."""
    body = json.dumps(inputs.body(Sent(0, OWNERS[0], 273, False, False, False), site.folder / "out")).encode()

    def used() -> float:
        total = 0.0
        for one in site.tree():
            times = one.cpu_times()
            total += times.user + times.system + (times.children_user + times.children_system if kind_of(one) == "forkserver" else 0)
        return total

    before, ones = used(), []
    for _ in range(count):
        ones.append(site.service.submit(Holder(OWNERS[0], frozenset({"submit"})), body)[0])
        until(lambda: (found := site.service.requests.find(ADMIN, ones[-1].name)) is not None and found.ended, 120, "a small one ends")
    time.sleep(2)
    whole = (used() - before) / count
    request = {**json.loads(body), "outputs": [{"table": "t", "path": "sums.csv"}]}
    work = []
    for number in range(3):
        (folder := site.folder / f"work{number}").mkdir()
        (folder / "request.yaml").write_text(yaml.safe_dump(request))
        start = time.process_time()
        recon.open(site.folder / "recon.yaml").transform(folder / "request.yaml")
        work.append(time.process_time() - start)
    own = statistics.median(found.figures["cpu_s"] for one in ones if (found := site.service.requests.find(ADMIN, one.name)))
    found = {"whole_cpu_s": whole, "process_cpu_s": own, "work_cpu_s": min(work), "beside_cpu_s": whole - min(work)}
    return {name: round(value, 3) for name, value in found.items()}


def soak(
    folder: Path, count: int, over_s: float, kill_every_s: float, seed: int, sizes: dict[int, float] = SIZES, small_up_to: str = "64MB"
) -> dict[str, Any]:
    """The load with the kills; figures, and what is ``wrong``."""
    chance = random.Random(seed)
    site = Site(folder, small_up_to)
    inputs = Inputs(folder / "in", sizes)
    inputs.make()
    some, load = planned(count, sizes, chance), [os.getloadavg()[0]]
    began = time.monotonic()
    site.start()
    try:
        with killing(site, kill_every_s, chance) as kills:
            send(site, inputs, some, over_s, chance)
            load.append(os.getloadavg()[0])
        names = {one.name for one in some}
        until(lambda: not names & {each for owner in OWNERS for each in site.service.requests.active(owner)}, PATIENCE_S, "all end")
    finally:
        site.stop()
    load.append(os.getloadavg()[0])
    states = Counter(one.state for one in site.service.requests.all(ADMIN, most=1_000_000))
    found = {"requests": count, "took_s": round(time.monotonic() - began), "kills": dict(kills), "states": dict(states)}
    counted = {name: value for name, value in figures.figures(site.service).items() if name not in ("owners", "days")}
    return {**found, "load": load, "service": counted, "wrong": judged(site, inputs, some), "left": left_over(site)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=1500)
    parser.add_argument("--over", type=float, default=600.0, help="seconds over which they are sent")
    parser.add_argument("--kill-every", type=float, default=20.0, help="seconds between two kills, on average")
    parser.add_argument("--flood", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=20)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="recon-soak-"))
    (quiet := folder / "quiet").mkdir()
    (loud := folder / "loud").mkdir()
    site = Site(quiet, "64MB")
    inputs = Inputs(quiet / "in", {273: 1.0})
    inputs.make()
    site.start()
    try:
        calm = {"cpu": cpu_beside(site, inputs, 20), "fair": flooded(site, inputs, given.flood)}
    finally:
        site.stop()
    found = {"machine": f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}", **calm}
    found |= soak(loud, given.requests, given.over, given.kill_every, given.seed)
    text = json.dumps(found, indent=2, default=str)
    print(text)
    if given.out:
        given.out.write_text(text + "\n")
    shutil.rmtree(folder, ignore_errors=True)
    if found["wrong"] or found["left"]:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
