"""A service of ten owners in a folder, as processes that may be killed and are started again."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import psutil
import yaml

import recon
from recon.service import site
from recon.service.scratch import dead_workers
from recon.service.site import Service

ROOT = Path(__file__).resolve().parents[1]
OWNERS = tuple(f"owner{number}" for number in range(10))
Kill = Callable[[], str | None]


class Site:
    """A service in a folder with its server and a worker beside it, which are started again when they were killed."""

    def __init__(self, folder: Path, small_up_to: str) -> None:
        self.folder, self.port = folder, free_port()
        for name in ("in", "out", "scratch"):
            (folder / name).mkdir()
        rights = {"read": f"{folder}/in", "a_minute": 100_000}
        owners = {owner: {**rights, "write": f"{folder}/out/{owner}"} for owner in OWNERS}
        for owner in OWNERS:
            (folder / "out" / owner).mkdir()
        section = {"owners": owners, "small_up_to": small_up_to}
        (folder / "recon.yaml").write_text(
            "name: soak\nstore: ./data\nkey: id\nwindows: {start: 2026-11-01T00:00Z, every: 1h}\nmeasures: {n: {count: '*'}}\n"
            + yaml.safe_dump({"service": section})
        )
        self.service: Service = recon.open(folder / "recon.yaml").service()
        self.tokens = {owner: self.service.tokens.add(owner, ("submit", "read-own"), timedelta(days=1)) for owner in OWNERS}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._stopping = False
        self._kept = [threading.Thread(target=self._keep, args=(name,), daemon=True) for name in ("server", "worker")]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _command(self, name: str) -> list[str]:
        options = ["serve", "--port", str(self.port)] if name == "server" else ["requests", "work"]
        return [sys.executable, "-m", "recon.cli", *options, "--config", str(self.folder / "recon.yaml")]

    def _keep(self, name: str) -> None:
        env = {**os.environ, "RECON_SCRATCH": str(self.folder / "scratch"), "PYTHONPATH": str(ROOT)}
        with (self.folder / f"{name}.log").open("ab") as log:
            while not self._stopping:
                process = subprocess.Popen(self._command(name), stdout=log, stderr=log, env=env, start_new_session=True)
                self.processes[name] = process
                process.wait()

    def start(self) -> None:
        for each in self._kept:
            each.start()
        until(lambda: self._answers(), 180, "the server answers")

    def _answers(self) -> bool:
        with suppress(httpx.HTTPError):
            return httpx.get(f"{self.url}/health/live", timeout=5).is_success
        return False

    def stop(self) -> None:
        self._stopping = True
        for process in self.processes.values():
            process.terminate()
        for each in self._kept:
            each.join(90)

    def sweep(self) -> None:
        """As the next worker does: folders of one that was killed last; files that no request names, which it leaves alone for an hour."""
        os.environ["RECON_SCRATCH"] = str(self.folder / "scratch")
        with dead_workers():
            pass
        del os.environ["RECON_SCRATCH"]
        site.ORPHAN = timedelta(0)
        self.service.sweep()

    def tree(self) -> list[psutil.Process]:
        """All processes of the service: servers, workers, the processes that requests are forked from, and those of requests."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.environ().get("RECON_SCRATCH") == str(self.folder / "scratch"):
                    found.append(process)
        return found

    def kills(self, chance: random.Random) -> dict[str, Kill]:
        """What may be killed, and how."""

        def whole(name: str) -> Kill:
            return lambda: self._kill(self.processes[name].pid)

        def some(words: str) -> Kill:
            def kill() -> str | None:
                found = [one for one in self.tree() if words in kind_of(one)]
                return self._kill(chance.choice(found).pid) if found else None

            return kill

        return {
            "server": whole("server"),
            "worker": whole("worker"),
            "server's worker": some("beside"),
            "forkserver": some("forkserver"),
            "request": some("request"),
        }

    def _kill(self, pid: int) -> str | None:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            return str(pid)
        return None


def kind_of(process: psutil.Process) -> str:
    """``server``, ``worker``, ``beside`` (the server's worker), ``forkserver``, ``request`` or ``other``."""
    with suppress(psutil.Error):
        words, parent = " ".join(process.cmdline()), process.parent()
        above = " ".join(parent.cmdline()) if parent is not None else ""
        if "multiprocessing.forkserver" in words:
            return "request" if "multiprocessing.forkserver" in above else "forkserver"
        if "requests work" in words:
            return "beside" if " serve " in above else "worker"
        return "server" if " serve " in words else "other"
    return "other"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def until(true: Callable[[], bool], seconds: float, what: str) -> None:
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            raise SystemExit(f"not within {seconds:.0f} s: {what}")
        time.sleep(0.2)


def insist(site: Site, owner: str, method: str, path: str, **given: Any) -> httpx.Response:
    """Asks until the server answers: it may have been killed."""
    headers = {"Authorization": f"Bearer {site.tokens[owner]}", **given.pop("headers", {})}
    end = time.monotonic() + 600
    while True:
        with suppress(httpx.HTTPError):
            answer = httpx.request(method, site.url + path, headers=headers, timeout=30, follow_redirects=True, **given)
            if answer.status_code < 500:
                return answer
        if time.monotonic() > end:
            raise SystemExit(f"{method} {path} was not answered for ten minutes")
        time.sleep(0.5)
