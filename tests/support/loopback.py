"""Real servers on the loopback, for tests: a free port, a process that ends with the test, waiting until it answers."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from daemons import end_with_parent

from jobs.ui import is_free

START_S_MAX = 120.0
STOP_S_MAX = 20.0


PORTS = range(10_000, 32_000)
"""Below the ports that Linux gives to connections and to servers that ask for any port."""


def free_port() -> int:
    """A port of 127.0.0.1 on which no process listens. It is chosen at random: a server binds it seconds later, and tests that run at the
    same time must not choose the same port meanwhile."""
    while not is_free(port := random.SystemRandom().choice(PORTS)):
        pass
    return port


@contextmanager
def running(
    command: Sequence[str | Path], folder: Path, ready: Callable[[], bool], environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """The process of ``command`` from when ``ready`` is first true until the end of the block. Its output goes to <name>.log in ``folder``.

    It is the first of a process group, which is ended as a whole. ``ready`` may raise OSError while nobody listens."""
    log = folder / f"{Path(command[0]).name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(part) for part in command],
            stdout=output,
            stderr=output,
            cwd=folder,
            env=None if environment is None else dict(environment),
            preexec_fn=_own_group,
        )
    try:
        _wait_for(process, ready, log)
        yield process
    finally:
        _end(process)


def _own_group() -> None:
    os.setpgid(0, 0)
    end_with_parent()


def _wait_for(process: subprocess.Popen[bytes], ready: Callable[[], bool], log: Path) -> None:
    end = time.monotonic() + START_S_MAX
    while True:
        try:
            if ready():
                return
            why = "it is not ready"
        except OSError as error:
            why = str(error)
        if process.poll() is not None or time.monotonic() > end:
            raise AssertionError(f"{log.stem} does not start: {why}\n{log.read_text(errors='replace')[-4000:]}")
        time.sleep(0.05)


def _end(process: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        try:
            process.wait(STOP_S_MAX)
        except subprocess.TimeoutExpired:
            continue
        break
    process.wait()


def listens(port: int) -> bool:
    """Whether somebody listens on this port of 127.0.0.1. Raises OSError where nobody does."""
    with socket.create_connection(("127.0.0.1", port), 1):
        return True
