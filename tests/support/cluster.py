"""A standalone Spark cluster of a master and two workers on the loopback, real processes, for tests and the benchmark."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from loopback import free_port

from recon.engines.spark.java import find_java

START_S_MAX = 120


@dataclass
class Cluster:
    """Running processes. Each is the first of its own process group, so that a worker's executors die with it."""

    master: str
    folder: Path
    environment: dict[str, str]
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def kill(self, name: str) -> None:
        """SIGKILL to a daemon and all that it started."""
        process = self.processes.pop(name)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def submit(self, arguments: Sequence[str | Path], **settings: str) -> subprocess.Popen[str]:
        """spark-submit in client mode, its stdout and stderr piped. ``settings``: Spark's, with _ for the dots."""
        given = {"spark.driver.host": "127.0.0.1", "spark.driver.memory": "512m", "spark.executor.memory": "512m"}
        given |= {"spark.ui.enabled": "false"}
        given |= {f"spark.{name.replace('_', '.')}": value for name, value in settings.items()}
        options = [word for name, value in given.items() for word in ("--conf", f"{name}={value}")]
        command = [f"{self.environment['SPARK_HOME']}/bin/spark-submit", "--master", self.master, *options, *map(str, arguments)]
        return subprocess.Popen(command, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def start(self, name: str, *arguments: str) -> None:
        command = [f"{self.environment['SPARK_HOME']}/bin/spark-class", f"org.apache.spark.deploy.{arguments[0]}", *arguments[1:]]
        with open(self.folder / f"{name}.log", "wb") as log:
            self.processes[name] = subprocess.Popen(command, env=self.environment, stdout=log, stderr=log, start_new_session=True)

    def await_log(self, name: str, text: str, times: int = 1) -> None:
        end = time.monotonic() + START_S_MAX
        while self.log(name).count(text) < times:
            assert self.processes[name].poll() is None, f"{name} ended: {self.log(name)[-2000:]}"
            assert time.monotonic() < end, f"{name} did not say {text!r}: {self.log(name)[-2000:]}"
            time.sleep(0.1)


@contextmanager
def cluster(folder: Path, workers: int = 2, memory: str = "1g") -> Iterator[Cluster]:
    """Starts it on free ports and stops it at the end, whatever happened. No process of it imports recon from this checkout's path."""
    spec = importlib.util.find_spec("pyspark")
    assert spec is not None
    assert spec.origin is not None
    port = free_port()
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {
        "SPARK_HOME": str(Path(spec.origin).parent),
        "JAVA_HOME": str(find_java().home),
        "PYSPARK_PYTHON": sys.executable,
        "SPARK_LOCAL_IP": "127.0.0.1",
        "SPARK_LOCAL_DIRS": str(folder / "local"),
        "SPARK_WORKER_DIR": str(folder / "work"),
        "SPARK_LOG_DIR": str(folder),
        "SPARK_DAEMON_MEMORY": "256m",
    }
    made = Cluster(f"spark://127.0.0.1:{port}", folder, environment)
    (folder / "local").mkdir()
    try:
        made.start("master", "master.Master", "--host", "127.0.0.1", "--port", str(port), "--webui-port", "0")
        made.await_log("master", "I have been elected leader")
        for number in range(workers):
            options = ("--host", "127.0.0.1", "--cores", "1", "--memory", memory, "--webui-port", "0")
            made.start(f"worker-{number}", "worker.Worker", *options, made.master)
        made.await_log("master", "Registering worker", workers)
        yield made
    finally:
        for process in made.processes.values():
            os.killpg(process.pid, signal.SIGKILL)
        for process in made.processes.values():
            process.wait()
