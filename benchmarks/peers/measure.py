"""What a step costs: wall and CPU seconds, memory, bytes written, of this process and of servers that work for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil


class Meter:
    """Stages by name, each with wall_s, cpu_s and mb_written. ``server``: a process whose family works for this one."""

    def __init__(self, server: int | None = None) -> None:
        self.stages: dict[str, dict[str, float]] = {}
        self._server = psutil.Process(server) if server else None

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        cpu, written, wall = self._cpu(), self._written(), time.perf_counter()
        yield
        figures = {
            "wall_s": time.perf_counter() - wall,
            "cpu_s": self._cpu() - cpu,
            "mb_written": (self._written() - written) / 1e6,
        }
        held = self.stages.setdefault(name, dict.fromkeys(figures, 0.0))
        for figure, value in figures.items():
            held[figure] = round(held[figure] + value, 3)

    def _cpu(self) -> float:
        own = time.process_time()
        if self._server is None:
            return own
        # Sessions and vacuums that ended are counted in their parent.
        ended = self._server.cpu_times()
        return own + ended.children_user + ended.children_system + sum(_spent(process) for process in self._family())

    def _written(self) -> int:
        return sum(_io(pid) for pid in ("self", *(str(p.pid) for p in self._family())))

    def _family(self) -> list[psutil.Process]:
        return [] if self._server is None else [self._server, *self._server.children(recursive=True)]


def _spent(process: psutil.Process) -> float:
    """CPU seconds of a process; 0 where it has ended meanwhile."""
    try:
        spent = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(spent.user + spent.system)


def _io(pid: str) -> int:
    try:
        lines = Path(f"/proc/{pid}/io").read_text().splitlines()
    except OSError:
        return 0
    figures = dict(line.split(": ") for line in lines)
    return int(figures["write_bytes"])


class Memory:
    """Peak memory of this process while the block runs, looked at 20 times a second: ``anonymous`` is what cannot be given back by dropping
    pages of files; ``resident`` counts mapped files in."""

    def __init__(self) -> None:
        self.anonymous = self.resident = 0.0
        self._over = threading.Event()

    def __enter__(self) -> Memory:
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: Any) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while True:
            lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
            anonymous, resident = (int(lines[name].split()[0]) / 1e6 for name in ("RssAnon", "VmRSS"))
            self.anonymous, self.resident = max(self.anonymous, anonymous), max(self.resident, resident)
            if self._over.wait(0.05):
                return

    def figures(self) -> dict[str, float]:
        return {"anonymous_gb": round(self.anonymous, 2), "resident_gb": round(self.resident, 2)}


def percentiles(seconds: list[float]) -> dict[str, float]:
    """p50 and p99 in milliseconds."""
    times = sorted(seconds)
    return {
        "p50_ms": round(1000 * times[len(times) // 2], 3),
        "p99_ms": round(1000 * times[min(len(times) - 1, int(len(times) * 0.99))], 3),
    }


def drop_caches() -> bool:
    """Whether the operating system's cache of file pages was emptied: that takes root."""
    try:
        psutil.os.sync()
        Path("/proc/sys/vm/drop_caches").write_text("1")
    except OSError:
        return False
    return True


def disk(folder: Path) -> dict[str, float]:
    """Bytes on disk and files below a folder."""
    files = [path.stat() for path in folder.rglob("*") if path.is_file()]
    return {"disk_mb": round(sum(file.st_blocks * 512 for file in files) / 1e6, 1), "files": len(files)}
