"""A real Dagster daemon over a small reconciliation, for the tests of what only several processes show.

The daemon looks at its sensors every two seconds (fault_site), so that a window goes through its four stages in a few seconds.
"""

from __future__ import annotations

import ctypes
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import dagster as dg
import histories
import psutil
import strategies as s
from folders import ROOT, SUPPORT

from recon.intake.manifests import read_manifest
from recon.model.windows import name_of
from recon.state import reduced
from recon.state.certificates import uncertified
from recon.storage import lease
from recon.storage.lease import LeaseHolder
from recon_assets.partitions import RANGE_END, RANGE_START
from resources.dagster_instance import open_instance

HEARTBEAT_S = 6
LOOKS_MAX = 1200
"""Looks of a daemon at its sensors while a test waits in vain, at most six in two seconds. As a count it gives a slow machine more time."""
SILENT_S_MAX = 300.0
"""Longer without a line in its log, a daemon hangs."""
STOP_S_MAX = 20.0
KEYS = 7
PATH = os.pathsep.join([str(SUPPORT / "fault_site"), str(ROOT)])
"""PYTHONPATH of Dagster's processes."""
_LOGIC = '''
import time
from pathlib import Path

HOLD = Path(__file__).with_name("hold")

def judge(table, stage):
    """Changes nothing; waits while hold/<stage>-<key> stands for a key of the table."""
    while any((HOLD / f"{stage}-{key}").exists() for key in table.column("key").to_pylist() if key.startswith("W")):
        time.sleep(0.02)
    return table
'''


def end_with_parent() -> None:
    """Call this in a process that was just forked. Where Linux can, the process ends when its parent does, even a parent that was killed.

    SIGINT and SIGTERM get their default actions, as in a terminal. A shell's background job ignores SIGINT, a Dagster run gives SIGTERM the
    handler of SIGINT, and a process inherits what its parent ignores."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


class Site:
    """A reconciliation ``orders`` in a folder, the oracle's state of it, and whatever daemon runs over it."""

    def __init__(self, folder: Path, more: str = "", dagster_yaml: str = "", env: Mapping[str, str] | None = None) -> None:
        """``dagster_yaml``: what the instance's settings hold beside the usual ones."""
        self.folder, self.env = folder, dict(env or {})
        (folder / "orders_logic.py").write_text(_LOGIC)
        for name in ("hold", "faults/kill", "faults/break"):
            (folder / name).mkdir(parents=True)
        self.r = histories.open_in(folder, s.STANDARD_YAML + "logic: orders_logic:judge\n" + more)
        self.state = s.State()
        self.home = folder / ".dagster"
        self.home.mkdir()
        (self.home / "dagster.yaml").write_text((ROOT / "dagster.yaml").read_text() + dagster_yaml)
        self.log = folder / "daemon.log"
        self._daemon: subprocess.Popen[bytes] | None = None
        self._instance: dg.DagsterInstance | None = None
        self._stack = ExitStack()

    # ---- windows

    def carry_out(self, *operations: s.Operation) -> None:
        for operation in operations:
            histories.carry_out(self.r, operation)
            self.state = s.apply(self.state, operation)

    def land(self, *windows: int) -> None:
        for window in windows:
            self.carry_out(s.Land(window, file_of(window)), s.Close(window))

    def hold(self, stage: str, window: int) -> None:
        """Keeps whatever run comes to this window at ``reduce`` or ``merge`` there."""
        (self.folder / "hold" / f"{stage}-W{window}").touch()

    def release(self, stage: str, window: int) -> None:
        (self.folder / "hold" / f"{stage}-W{window}").unlink()

    def kill_at(self, path: str) -> None:
        """The next process that writes an object whose path begins so kills itself before."""
        (self.folder / "faults" / "kill" / path.replace("/", "+")).touch()

    def has_killed(self, path: str) -> bool:
        return not (self.folder / "faults" / "kill" / path.replace("/", "+")).exists()

    # ---- processes

    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "DAGSTER_HOME": str(self.home),
            "RECON_CONFIG": str(self.r.config.path),
            "RECON_TICK_S": "1",
            "RECON_HEARTBEAT_S": str(HEARTBEAT_S),
            "RECON_WAIT_S": "1",
            "RECON_TEST_FAULTS": str(self.folder / "faults"),
            "PYTHONPATH": PATH,
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            **self.env,
        }

    def start(self) -> None:
        """``dagster-daemon`` in a process group of its own, with its code server and its runs.

        Dagster's storage is made before, as ``dagster dev`` does it: a daemon and its code server that make the tables at once leave a
        version table in SQLite that no later start accepts."""
        self.instance()
        command = [sys.executable, "-m", "dagster._daemon", "run", "-w", str(ROOT / "workspace.yaml")]
        if self.env.get("RECON_LOG"):  # as a container has it
            command = ["sh", str(ROOT / "infra" / "docker" / "entrypoint.sh"), "dagster-daemon", *command[3:]]
        with self.log.open("ab") as out:
            settings: dict[str, Any] = {"cwd": self.folder, "env": self.environment(), "stdout": out, "stderr": out}
            self._daemon = subprocess.Popen(command, **settings, start_new_session=True, preexec_fn=end_with_parent)

    def stop(self) -> None:
        """As a person or a supervisor stops it."""
        if self._daemon is not None:
            self._end(signal.SIGTERM)

    def kill(self) -> None:
        """As a power cut ends it: the daemon, its code server and all its runs."""
        self._end(signal.SIGKILL)

    def _end(self, how: signal.Signals) -> None:
        """Signals the whole group and returns when no process of it is left: the code server and runs may outlive the daemon. After
        STOP_S_MAX what is left is killed."""
        assert self._daemon is not None
        group, end = self._daemon.pid, time.monotonic() + STOP_S_MAX
        os.killpg(group, how)
        with suppress(subprocess.TimeoutExpired):
            self._daemon.wait(STOP_S_MAX)
        while (left := _processes_of(group)) and time.monotonic() < end:
            time.sleep(0.1)
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self._daemon.wait()
        self._daemon = None

    def python(self, *arguments: str) -> subprocess.Popen[str]:
        """A Python process beside the daemon, in the same surroundings."""
        pipe, command = subprocess.PIPE, [sys.executable, *arguments]
        return subprocess.Popen(command, cwd=self.folder, env=self.environment(), stdout=pipe, stderr=pipe, text=True)

    # ---- looking on

    def wait_for(self, what: Callable[[], Any], told: str) -> Any:
        """The first true answer. Fails once the daemon has ended, hangs, or has looked at its sensors LOOKS_MAX times since the call."""
        first, logged, heard = _looks(self._logged()), b"", time.monotonic()
        while not (found := what()):
            if (now := self._logged()) != logged:
                logged, heard = now, time.monotonic()
            waits = _looks(logged) < first + LOOKS_MAX and time.monotonic() - heard < SILENT_S_MAX
            assert waits, f"waited in vain for {told}\n{self.story()}"
            assert self._daemon is None or self._daemon.poll() is None, f"the daemon ended by itself\n{self.log.read_text()[-4000:]}"
            time.sleep(0.4)
        return found

    def _logged(self) -> bytes:
        return self.log.read_bytes() if self.log.exists() else b""

    def start_and_wait_in_reduce(self, window: int) -> LeaseHolder:
        """Starts the daemon on windows 0 and 1. Its first run then waits in reduce, until ``window`` is released there."""
        self.hold("reduce", window)
        self.land(0, 1)
        self.start()
        holder: LeaseHolder = self.wait_for(lambda: self.at("reduce"), "the range to be reduced")
        return holder

    def story(self) -> str:
        """All runs, and the end of the daemon's log."""
        runs = [(run.job_name, span(run), run.status.value, run.tags.get("recon/failure")) for run in self.instance().get_runs()]
        log = self.log.read_text(errors="replace") if self.log.exists() else ""
        kept = [line for line in re.sub(r"\x1b\[[0-9;]*m", "", log).splitlines() if "ASSET_MATERIALIZATION" not in line]
        return "\n".join([f"done: {sorted(self.r.state().windows)}", *map(str, runs), *kept[-80:]])

    def instance(self) -> dg.DagsterInstance:
        """The daemon's instance, opened once: opening it takes a tenth of a second of a core."""
        if self._instance is None:
            before = {name: os.environ.get(name) for name in ("DAGSTER_HOME", *self.env)}
            os.environ.update({**self.env, "DAGSTER_HOME": str(self.home)})
            try:
                self._instance = self._stack.enter_context(open_instance(self.r.config.path))
            finally:
                for name, value in before.items():
                    if value is None:
                        os.environ.pop(name, None)
                    else:
                        os.environ[name] = value
        return self._instance

    def close_instance(self) -> None:
        self._stack.close()
        self._instance = None

    def runs(self, job: str = "") -> list[dg.DagsterRun]:
        """Oldest first."""
        return list(reversed(self.instance().get_runs(dg.RunsFilter(job_name=f"orders_{job}") if job else None)))

    def run(self, run_id: str) -> dg.DagsterRun:
        run = self.instance().get_run_by_id(run_id)
        assert run is not None
        return run

    def at(self, stage: str, unlike: str = "") -> LeaseHolder | None:
        """Who is at a stage, if it is another run than ``unlike``."""
        holding = lease.current(self.r.store(), f"stages/{stage}")
        return holding if holding is not None and not holding.expired and holding.holder != unlike else None

    def reduced(self, *windows: int) -> bool:
        store, rules = self.r.store(), self.r.config.rules_version
        manifests = [read_manifest(store, s.at(window)) for window in windows]
        return all(m and reduced.find(store, s.at(w), m.revision, rules) for w, m in zip(windows, manifests, strict=True))

    def skipped(self, sensor: str, text: str) -> bool:
        """Whether a tick of the sensor has said so."""
        return any(f"orders_{sensor}_sensor skipped" in line and text in line for line in self.log.read_text(errors="replace").splitlines())

    def done(self) -> bool:
        """Whether every window that has landed is committed at its newest revision, and certified."""
        state, store = self.r.state(), self.r.store()
        manifests = [read_manifest(store, s.at(window)) for window in sorted(self.state.files)]
        return all(m and state.revision(m.window) == m.revision for m in manifests) and not uncertified(store, self.r.config, state)

    def check(self) -> None:
        """The store's result is the oracle's over all that has landed."""
        self.state = s.apply(self.state, s.Run(tuple(self.state.files)))
        histories.check_store(self.r, self.state)


def _looks(logged: bytes) -> int:
    return logged.count(b"Checking for new runs for sensor")


def _processes_of(group: int) -> list[psutil.Process]:
    """The processes of a group that have not ended."""
    found = []
    for process in psutil.process_iter(["status"]):
        with suppress(ProcessLookupError):
            if process.info["status"] != psutil.STATUS_ZOMBIE and os.getpgid(process.pid) == group:
                found.append(process)
    return found


@contextmanager
def site(folder: Path, more: str = "", dagster_yaml: str = "", env: Mapping[str, str] | None = None) -> Iterator[Site]:
    """A site whose daemon, if one was started, ends with the block."""
    made = Site(folder, more, dagster_yaml, env)
    try:
        yield made
    finally:
        made.stop()
        made.close_instance()


def file_of(window: int, name: str = "file", amount: str = "25") -> s.File:
    """Seven shared keys with an event each, a key ``W<window>`` that no other window holds, and an event that two windows hold."""
    rows = [
        s.Row(f"K{key}", f"{name}-{window}-{key}", ("INVOICE", "PAYMENT")[(key + window) % 2], f"{key}.{amount}") for key in range(KEYS)
    ]
    own, shared = s.Row(f"W{window}", f"{name}-{window}", "INVOICE", "1.00"), s.Row("K0", f"twice-{window // 2}", "PAYMENT", "0.10")
    return s.File(f"{name}-{window}", (*rows, own, shared))


def span(run: dg.DagsterRun) -> tuple[str, str]:
    """The first and the last window that a run was asked for."""
    return run.tags.get(RANGE_START, ""), run.tags.get(RANGE_END, "")


def windows(first: int, last: int) -> tuple[str, str]:
    return name_of(s.at(first)), name_of(s.at(last))
