"""A lock on a file: one process at a time, ended with its process, on Unix and by what Windows has in its place."""

from __future__ import annotations

import errno
import fcntl
import importlib.util
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from recon.database import locks

HOLDING = """
import sys, time
from pathlib import Path
from recon.database.locks import only_one
with only_one(Path(sys.argv[1])):
    print("in", flush=True)
    time.sleep(60)
"""


def entered(only_one: Callable[[Path], Any], path: Path) -> threading.Event:
    """Set when a thread that waits for the lock has it."""
    event = threading.Event()

    def enter() -> None:
        with only_one(path):
            event.set()

    threading.Thread(target=enter, daemon=True).start()
    return event


def test_a_lock_ends_with_its_process(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    holder = subprocess.Popen([sys.executable, "-c", HOLDING, str(path)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "in\n"
        waiting = entered(locks.only_one, path)
        assert not waiting.wait(0.2)
        holder.send_signal(signal.SIGKILL)
        assert waiting.wait(30)
    finally:
        holder.kill()
        holder.wait()


def windows(monkeypatch: pytest.MonkeyPatch, raises: list[int]) -> ModuleType:
    """The module as Windows imports it. Its ``msvcrt`` locks by flock; ``raises``: errors of the first calls, as after ten seconds."""
    msvcrt: Any = ModuleType("msvcrt")
    msvcrt.LK_LOCK, msvcrt.LK_UNLCK = 1, 0

    def locking(descriptor: int, mode: int, size: int) -> None:
        assert size == 1
        assert os.lseek(descriptor, 0, os.SEEK_CUR) == 0
        if raises and mode == msvcrt.LK_LOCK:
            raise OSError(raises.pop(), "in use")
        fcntl.flock(descriptor, fcntl.LOCK_EX if mode == msvcrt.LK_LOCK else fcntl.LOCK_UN)

    msvcrt.locking = locking
    monkeypatch.setitem(sys.modules, "msvcrt", msvcrt)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "platform", "win32")
        spec = importlib.util.spec_from_file_location("locks_of_windows", str(locks.__file__))
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return module


def test_windows_waits_as_long_as_the_lock_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = windows(monkeypatch, [errno.EDEADLK, errno.EACCES])
    with module.only_one(tmp_path / "lock"):
        waiting = entered(module.only_one, tmp_path / "lock")
        assert not waiting.wait(0.2)
    assert waiting.wait(30)


def test_windows_raises_what_is_no_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = windows(monkeypatch, [errno.EBADF])
    with pytest.raises(OSError, match="in use"), module.only_one(tmp_path / "lock"):
        time.sleep(0)
