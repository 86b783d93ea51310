"""Opens Spark with the configuration's settings and the settings that results depend on."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

from recon.config.settings import Engine
from recon.engines.spark.java import use_java
from recon.errors import WrongUsage
from recon.vocabulary.spark import SETTINGS as MEANING

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

MEND = "pip install 'dagster-recon[spark]'"
SETTINGS = {
    **MEANING,
    # Dates of any year are what they are: nothing of a Julian calendar.
    "spark.sql.parquet.datetimeRebaseModeInRead": "CORRECTED",
    # Partitions are the stages' own, by hash: none is to be joined with another.
    "spark.sql.adaptive.enabled": "false",
    "spark.sql.execution.arrow.maxRecordsPerBatch": "20000",
}


def open_session(engine: Engine) -> SparkSession:
    """A session with its own settings, in this process's Spark (of spark-submit, Dagster's resource or an earlier call), or else in a
    new one by ``engine``. Raises WrongUsage where pyspark or Java is missing."""
    try:
        from pyspark.sql import SparkSession
    except ImportError:
        raise WrongUsage(f"engine: kind: spark needs pyspark: {MEND}") from None
    running = SparkSession.getActiveSession()
    session = _start(engine) if running is None else running.newSession()
    for name, value in SETTINGS.items():
        session.conf.set(name, value)
    return session


def settings_of(engine: Engine) -> dict[str, str]:
    """The settings of a new Spark: where it runs, and those of ``engine`` in the configuration."""
    found = {"spark.app.name": "recon", "spark.master": engine.master, "spark.ui.enabled": "false", "spark.ui.showConsoleProgress": "false"}
    if engine.master.startswith("local"):
        found |= {"spark.driver.host": "127.0.0.1", "spark.driver.bindAddress": "127.0.0.1"}
    return {**found, **engine.settings}


def prepare() -> None:
    """Sets, before this process starts Java, which Java it uses and which Python its tasks run."""
    use_java()
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)


@contextmanager
def _interrupted_later() -> Iterator[None]:
    """Ctrl-C waits until Java is there: pyspark removes the file by which Java names its port when it is interrupted before, and Java then
    stays behind for ever."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    seen: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        seen.append(number)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGINT) is note:  # else Spark's own, which ends its jobs
            signal.signal(signal.SIGINT, before)
    if seen:
        raise KeyboardInterrupt


def _start(engine: Engine) -> SparkSession:
    from pyspark.sql import SparkSession

    builder = SparkSession.builder
    if "PYSPARK_GATEWAY_PORT" in os.environ:  # spark-submit has started Java, and says where to run
        settings = dict(engine.settings)
    else:
        prepare()
        settings = settings_of(engine)
    for name, value in settings.items():
        builder = builder.config(name, value)
    with _interrupted_later():
        session = builder.getOrCreate()
    session.sparkContext.setLogLevel("ERROR")
    return session
