"""Runs the library's own code in Spark tasks, on one file, window or slice each.

An item may be processed more than once: Spark retries failed tasks, runs slow tasks twice if configured to, and restarts the tasks of a
dead worker. So an item's function writes under names that no other attempt has (``layout.new_attempt``), and returns these names. The
driver gets exactly one result per item; no commit names what other attempts wrote.
"""

from __future__ import annotations

import os
import tempfile
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

from recon.config import Config
from recon.engines.blame import blamed
from recon.engines.spark.session import open_session
from recon.errors import ConnectionLost, ReconError, WrongInput
from recon.storage.open import open_for
from recon.storage.port import ObjectStore

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class _Failed:
    """The error of an item that another attempt would meet again."""

    error: ReconError


def in_tasks(config: Config, what: str, function: Callable[[ObjectStore, Config, Item], Result], items: Sequence[Item]) -> list[Result]:
    """One result per item, in order. ``function`` must be in a module of this library. Raises the first item's ReconError after all items
    were processed."""
    results = attempted(config, what, function, items)
    for result in results:
        if isinstance(result, ReconError):
            raise result
    return results  # type: ignore[return-value]


def attempted(
    config: Config, what: str, function: Callable[[ObjectStore, Config, Item], Result], items: Sequence[Item]
) -> list[Result | ReconError]:
    """As ``in_tasks``, with the ReconError of a failed item in place of its result."""
    if not items:
        return []
    context = open_session(config.engine).sparkContext
    context.setJobDescription(f"recon: {what}")
    with telling(what):
        results: list[Any] = context.parallelize(list(items), len(items)).mapPartitions(partial(_carry_out, config, function)).collect()
    return [result.error if isinstance(result, _Failed) else result for result in results]


@contextmanager
def telling(what: str) -> Iterator[None]:
    """Raises Spark's own failures (lost executors, killed Python processes) as ConnectionLost in one line."""
    from py4j.protocol import Py4JError
    from pyspark.errors import PySparkException

    try:
        yield
    except (Py4JError, PySparkException) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = next((line for line in reversed(lines) if "Error" in line or "Exception" in line), lines[0] if lines else "no reason")
        raise ConnectionLost(
            f"Spark could not carry out '{what}' ({reason[:300]}); nothing was committed; "
            "look at its executors' logs, then run the same again"
        ) from error


def parallelism(config: Config) -> int:
    """The number of tasks that run in parallel."""
    return int(open_session(config.engine).sparkContext.defaultParallelism)


def _carry_out(config: Config, function: Callable[[ObjectStore, Config, Any], Any], items: Iterable[Any]) -> Iterator[Any]:
    store, own = on_executor(config)
    for item in items:
        try:
            yield function(store, own, item)
        except ReconError as error:
            yield _Failed(error)
        except Exception as error:
            failure = blamed(error, "a task of Spark failed")
            if not isinstance(failure, WrongInput):
                raise  # Spark retries the task, perhaps on another machine
            traceback.print_exc()
            yield _Failed(failure)


def on_executor(config: Config) -> tuple[ObjectStore, Config]:
    """The store, opened on this executor and checked to be this reconciliation's, and the configuration with the limits of one task."""
    os.environ.setdefault("RECON_SCRATCH", local_disk())
    return open_for(config), replace(config, threads=1, memory_limit=config.engine.memory_limit)


def local_disk() -> str:
    """The folder of Spark's intermediate files on this machine."""
    named = os.environ.get("SPARK_LOCAL_DIRS") or os.environ.get("LOCAL_DIRS") or tempfile.gettempdir()
    return named.split(",")[0]
