"""Runs the library's own code in Spark tasks, on one file, window or slice each.

An item may be processed more than once: Spark retries failed tasks, runs slow tasks twice if configured to, and restarts the tasks of a
dead worker. So an item's function writes under names that no other attempt has (``layout.new_attempt``), and returns these names. The
driver gets exactly one result per item; no commit names what other attempts wrote.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from math import isqrt
from typing import TYPE_CHECKING, Any, TypeVar

from recon.config import Config
from recon.engines.blame import blamed
from recon.engines.spark.session import open_session
from recon.errors import ConnectionLost, ReconError, WrongInput
from recon.storage.open import open_for
from recon.storage.port import ObjectStore
from recon.telemetry import logs

if TYPE_CHECKING:
    from pyspark import SparkContext
    from pyspark.core.broadcast import Broadcast

_LOG = logging.getLogger("recon.tasks")
Result = TypeVar("Result")
Sum = TypeVar("Sum")


@dataclass(frozen=True)
class Job:
    """``what``: its name, in Spark's pages and in messages. ``shared``: what its tasks have in common, sent to each machine once."""

    config: Config
    what: str
    shared: object = None


@dataclass(frozen=True)
class _Failed:
    """The error of an item that another attempt would meet again."""

    error: ReconError


def in_tasks(config: Config, what: str, function: Callable[..., Result], items: Sequence[Any], shared: object = None) -> list[Result]:
    """One result per item, in order. ``function`` must be in a module of this library: it gets the store, the configuration, ``shared``
    unless that is None, and the item. ``shared`` is sent to each machine once. Raises the first item's ReconError after all items were
    processed."""
    return _good(attempted(config, what, function, items, shared))


def attempted(
    config: Config, what: str, function: Callable[..., Result], items: Sequence[Any], shared: object = None
) -> list[Result | ReconError]:
    """As ``in_tasks``, with the ReconError of a failed item in place of its result."""
    if not items:
        return []
    with _described(config, what) as context, _sent(context, shared) as sent:
        task = partial(_logged, what, logs.carried(), partial(_carry_out, config, function, sent))
        results: list[Any] = context.parallelize(list(items), len(items)).mapPartitions(task).collect()
    return [result.error if isinstance(result, _Failed) else result for result in results]


def summed_in_tasks(
    job: Job, function: Callable[..., tuple[Result, Sum]], items: Sequence[Any], add: Callable[[Sum, Sum], Sum]
) -> tuple[list[Result], Sum]:
    """As ``in_tasks``, for at least one item. ``function`` returns a result and figures. Tasks add the figures up, so that the driver gets
    their sum only."""
    groups = max(1, isqrt(len(items)))
    both = partial(_added, add)
    with _described(job.config, job.what) as context, _sent(context, job.shared) as sent:
        logged = partial(_logged, job.what, logs.carried(), partial(_carry_out, job.config, function, sent))
        task = partial(_numbered, logged, groups)
        done = context.parallelize(list(enumerate(items)), len(items)).mapPartitions(task)
        ((results, total),) = done.reduceByKey(both, groups).map(_as_one).reduceByKey(both, 1).values().collect()
    return _good([result for _, result in sorted(results, key=lambda result: result[0])]), total


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


@contextmanager
def _described(config: Config, what: str) -> Iterator[SparkContext]:
    context = open_session(config.engine).sparkContext
    context.setJobDescription(f"recon: {what}")
    with telling(what):
        yield context


@contextmanager
def _sent(context: SparkContext, shared: object) -> Iterator[Broadcast[Any] | None]:
    """``shared``, for the tasks of the block."""
    if shared is None:
        yield None
        return
    sent = context.broadcast(shared)
    try:
        yield sent
    finally:
        sent.destroy()


def _good(results: Sequence[Any]) -> list[Any]:
    for result in results:
        if isinstance(result, ReconError):
            raise result
    return list(results)


@dataclass(frozen=True)
class Logged:
    """A task over batches of rows, whose logs have the fields of the driver's, as they are when this is made. ``what``: its name."""

    what: str
    task: Callable[[Iterator[Any]], Iterator[Any]]
    log: Mapping[str, Any] = field(default_factory=logs.carried)

    def __call__(self, batches: Iterator[Any]) -> Iterator[Any]:
        with _fields_of_task(self.log):
            try:
                yield from self.task(batches)
            except Exception as error:
                if logs.on():
                    _LOG.error("%s: failed: %s", self.what, type(error).__name__, exc_info=error)
                raise
            if logs.on():
                _LOG.info("%s: a part is done", self.what)


@contextmanager
def _fields_of_task(log: Mapping[str, Any]) -> Iterator[None]:
    """The fields of the driver's logs, the number of the task and its attempt."""
    from pyspark import TaskContext

    here = TaskContext.get()
    number, attempt = (None, None) if here is None else (here.partitionId(), here.attemptNumber() + 1)
    with logs.continued(log, task=number, attempt=attempt):
        yield


def _logged(what: str, log: Mapping[str, Any], task: Callable[[Iterable[Any]], Iterator[Any]], items: Iterable[Any]) -> Iterator[Any]:
    """The results of a task, whose logs have the fields of the driver's (``log``), the number of the task and its attempt."""
    with _fields_of_task(log):
        for result in task(items):
            if logs.on():
                _LOG.info("%s: %s", what, f"failed: {type(result.error).__name__}" if isinstance(result, _Failed) else "a part is done")
            yield result


def _carry_out(config: Config, function: Callable[..., Any], sent: Broadcast[Any] | None, items: Iterable[Any]) -> Iterator[Any]:
    store, own = on_executor(config)
    given = () if sent is None else (sent.value,)
    for item in items:
        try:
            yield function(store, own, *given, item)
        except ReconError as error:
            yield _Failed(error)
        except Exception as error:
            failure = blamed(error, "a task of Spark failed")
            logs.unexpected(_LOG, "a task failed", error)
            if not isinstance(failure, WrongInput):
                raise  # Spark retries the task, perhaps on another machine
            yield _Failed(failure)


def _numbered(task: Callable[[Iterable[Any]], Iterator[Any]], groups: int, items: Iterable[tuple[int, Any]]) -> Iterator[Any]:
    """The number of a group of items; with it, each item's number and result, and its figures."""
    for number, item in items:
        (done,) = task([item])
        result, figures = (done.error, None) if isinstance(done, _Failed) else done
        yield number % groups, ([(number, result)], figures)


def _added(add: Callable[[Any, Any], Any], one: tuple[list[Any], Any], other: tuple[list[Any], Any]) -> tuple[list[Any], Any]:
    """Two groups as one. A failed item has no figures."""
    total = one[1] if other[1] is None else other[1] if one[1] is None else add(one[1], other[1])
    return one[0] + other[0], total


def _as_one(group: tuple[int, Any]) -> tuple[int, Any]:
    return 0, group[1]


def on_executor(config: Config) -> tuple[ObjectStore, Config]:
    """The store, opened on this executor and checked to be this reconciliation's, and the configuration with the limits of one task."""
    os.environ.setdefault("RECON_SCRATCH", local_disk())
    return open_for(config), replace(config, threads=1, memory_limit=config.engine.memory_limit)


def local_disk() -> str:
    """The folder of Spark's intermediate files on this machine."""
    named = os.environ.get("SPARK_LOCAL_DIRS") or os.environ.get("LOCAL_DIRS") or tempfile.gettempdir()
    return named.split(",")[0]
