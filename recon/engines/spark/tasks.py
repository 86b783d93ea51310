"""Tasks of Spark that run the library's own code on one file, window or slice each, on whatever executor they land.

An item may be carried out more than once: Spark retries what failed, runs slow tasks twice if told to, and starts again what a dead
worker had. So an item's function writes under names that no other attempt has (``layout.new_attempt``), and *answers* with them. Of the
answers Spark gives the driver exactly one an item. What other attempts wrote is named by nobody.
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
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class _Failed:
    """What went wrong with an item for a reason that another try would find again."""

    error: ReconError


def in_tasks(config: Config, what: str, function: Callable[[ObjectStore, Config, Item], Answer], items: Sequence[Item]) -> list[Answer]:
    """One answer per item, in order. ``function`` must stand in a module of this library. Raises the first item's ReconError; the others
    are carried out all the same."""
    answers = attempted(config, what, function, items)
    for answer in answers:
        if isinstance(answer, ReconError):
            raise answer
    return answers  # type: ignore[return-value]


def attempted(
    config: Config, what: str, function: Callable[[ObjectStore, Config, Item], Answer], items: Sequence[Item]
) -> list[Answer | ReconError]:
    """The same, with an item's ReconError in place of its answer."""
    if not items:
        return []
    context = open_session(config.engine).sparkContext
    context.setJobDescription(f"recon: {what}")
    with telling(what):
        answers: list[Any] = context.parallelize(list(items), len(items)).mapPartitions(partial(_carry_out, config, function)).collect()
    return [answer.error if isinstance(answer, _Failed) else answer for answer in answers]


@contextmanager
def telling(what: str) -> Iterator[None]:
    """What Spark gives up for reasons of its own (executors that are gone, Python processes that were killed) as one line."""
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
    """Tasks that run side by side."""
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
                raise  # Spark tries it again, perhaps on another machine
            traceback.print_exc()
            yield _Failed(failure)


def on_executor(config: Config) -> tuple[ObjectStore, Config]:
    """The store, opened here and checked to be this reconciliation's, and the configuration with the limits of one task."""
    os.environ.setdefault("RECON_SCRATCH", _local_disk())
    return open_for(config), replace(config, threads=1, memory_limit=config.engine.memory_limit)


def _local_disk() -> str:
    """Where Spark keeps its own intermediate files on this machine."""
    named = os.environ.get("SPARK_LOCAL_DIRS") or os.environ.get("LOCAL_DIRS") or tempfile.gettempdir()
    return named.split(",")[0]
