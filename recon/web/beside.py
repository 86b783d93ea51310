"""The worker beside a server: a process that is started again when it ends, and ends when the server does."""

from __future__ import annotations

import ctypes
import logging
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

PAUSES_S = (1.0, 2.0, 5.0, 10.0, 30.0)
"""Before a worker is started again that ended soon."""
LONG_S = 60.0
STOP_S = 40.0
"""How long it may take to finish requests or hand them back."""
_PR_SET_PDEATHSIG = 1
_LOG = logging.getLogger("recon.web")


@contextmanager
def worker_beside(command: Sequence[str]) -> Iterator[None]:
    """Keeps a worker running during the block."""
    beside = _Beside(command)
    thread = threading.Thread(target=beside.keep, name="worker", daemon=True)
    thread.start()
    try:
        yield
    finally:
        beside.stop()
        thread.join(STOP_S + 5)


class _Beside:
    def __init__(self, command: Sequence[str]) -> None:
        self._command, self._stopping = command, threading.Event()
        self._process: subprocess.Popen[bytes] | None = None

    def keep(self) -> None:
        """Starts the worker, and again whenever it ends, until ``stop``. Its parent is this thread, which lives as long as the server."""
        short = 0
        while not self._stopping.is_set():
            began = time.monotonic()
            # A group of its own: Ctrl-C is the server's, which tells the worker.
            ending = _end_with_parent if sys.platform == "linux" else None
            self._process = subprocess.Popen(self._command, process_group=0, preexec_fn=ending)  # noqa: S603 - Recon's own command
            if self._stopping.is_set():
                self._process.terminate()
            status = self._process.wait()
            if not self._stopping.is_set():
                short = 0 if time.monotonic() - began > LONG_S else short + 1
                pause = PAUSES_S[min(short, len(PAUSES_S)) - 1] if short else 0.0
                _LOG.error("the worker ended with status %d; it is started again in %d s", status, pause)
                self._stopping.wait(pause)

    def stop(self) -> None:
        """Tells the worker to finish; kills it where it does not."""
        self._stopping.set()
        process = self._process
        if process is None:
            return
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()


def _end_with_parent() -> None:
    """In the worker: the system sends SIGTERM when the server is gone, however it went."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
