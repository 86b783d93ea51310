"""Readers of a reconciliation that sleep, die, fill memory, or fail, as the window of an input says; for tests of the service's worker."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from recon.errors import TryAgain
from recon.service.site import Service
from recon.service.worker import Worker

CALM = "calm"
"""A file in the service's folder: from now on all are well."""


def request(what: str, **more: Any) -> bytes:
    """A request whose process does ``what`` while it reads."""
    given = {"inputs": {"t": {"from": "artifacts", "window": what}}, "operations": [], "outputs": [{"table": "t", "path": "out.csv"}]}
    return json.dumps({**given, **more}).encode()


def open_readers(config: Path) -> Any:
    return _Odd(config.parent)


class _Odd:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def export(self, file: str | Path, *, through: str | None = None) -> int:
        ways: dict[str, Callable[[], None]] = {
            "sleep": self._sleep,
            "deaf": self._deaf,
            "memory": self._memory,
            "die": lambda: os.kill(os.getpid(), signal.SIGKILL),
            "busy": _busy,
            "wait": self._wait,
            "other error": self._other_error,
            "wait and fail": self._wait_and_fail,
        }
        if not (self._folder / CALM).exists():
            ways[str(through)]()
        pq.write_table(pa.table({"a": ["x"], "by": [str(os.getpid())]}), file)
        return 1

    def export_breaks(self, file: str | Path, *, through: str | None = None) -> int:
        raise NotImplementedError

    def intake(self) -> Any:
        raise NotImplementedError

    def _note(self, *pids: int) -> None:
        (self._folder / "pids").mkdir(exist_ok=True)
        for pid in (os.getpid(), *pids):
            (self._folder / "pids" / str(pid)).touch()

    def _sleep(self) -> None:
        self._note()
        time.sleep(600)

    def _deaf(self) -> None:
        """Hears no SIGTERM, nor does its child; both write files."""
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        self._note(child.pid)
        time.sleep(600)

    def _other_error(self) -> None:
        """As an engine that is interrupted: its own error takes the place of the cancellation."""
        try:
            self._sleep()
        except BaseException as error:
            raise ValueError("the connection is busy") from error

    def _memory(self) -> None:
        kept = bytearray(os.urandom(1 << 20) * 900)
        self._note()
        time.sleep(600)
        del kept

    def _wait(self) -> None:
        self._note()
        while not (self._folder / "go").exists():
            time.sleep(0.05)

    def _wait_and_fail(self) -> None:
        self._wait()
        raise ValueError("what no one foresaw")


def _busy() -> None:
    raise TryAgain("the warehouse is away")


def service_at(config: Path) -> Service:
    """The service with such readers."""
    from recon.config.load import load_place

    return Service(load_place(config), open_readers)


if __name__ == "__main__":  # a worker that may be killed, suspended, or told to end
    from recon.service.worker import stop_on_signals

    made = Worker(service_at(Path(sys.argv[1])))
    stop_on_signals(made)
    made.work(grace_s=0.3)
