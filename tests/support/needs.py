"""What a test needs beside this process: a server, a Dagster daemon, Spark, other processes; and whether it compares all records of
a store, which takes long. It is read from the test's own code.

From the test function and its fixtures we follow every name to the functions and classes of the tests' own modules. A test that can reach
one of ``STARTERS`` gets the marker of that name, and ``make check`` leaves it out.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

import pytest
from folders import TESTS

STARTERS = {
    "daemon": {"daemons.Site.start", "webserver.served"},
    "spark": {"cluster.cluster", "open_session", "kind: spark", "in_spark", "-XX:+UseSerialGC"},
    "server": {"loopback.running", "web_site.serving", "postgres.server", "ThreadingHTTPServer", "ThreadedMotoServer", "mock_aws"},
    "process": {"subprocess.run", "subprocess.Popen", "os.fork", "Worker"},
    "oracle": {"histories.follow", "histories.check_store", "histories.records"},
}
"""Marker → functions, names in the tests' code, and engines in their configurations."""


def mark(items: Iterable[pytest.Item]) -> None:
    """Adds to each test the markers of what it needs."""
    for item in items:
        for name in needs_of(item):
            item.add_marker(name)


def needs_of(item: pytest.Item) -> list[str]:
    """The markers of a test, in the order of STARTERS."""
    info = getattr(item, "_fixtureinfo", None)
    fixtures = [one.func for found in info.name2fixturedefs.values() for one in found] if info else []
    given = getattr(item, "callspec", None)
    reached = _Reached()
    reached.follow([getattr(item, "function", None), *fixtures, *(given.params.values() if given else ())])
    if "getfixturevalue" in reached.found:
        reached.follow(_fixtures_by_name(item, reached.texts))
    return [name for name, starters in STARTERS.items() if starters & reached.found]


def _fixtures_by_name(item: pytest.Item, names: Iterable[str]) -> Iterator[Any]:
    """The functions of those fixtures that have one of the names, and of those that they ask for."""
    todo, seen = list(names), set[str]()
    while todo:
        name = todo.pop()
        if name not in seen:
            seen.add(name)
            for one in item.session._fixturemanager.getfixturedefs(name, item) or ():
                yield one.func
                todo += one.argnames


class _Reached:
    """Everything that a test can reach by name. ``found``: qualified names of functions, names in their code, and kinds of engines.
    ``texts``: the texts in the code."""

    def __init__(self) -> None:
        self.found: set[str] = set()
        self.texts: set[str] = set()
        self._seen: set[int] = set()
        self._classes: list[type] = []

    def follow(self, values: Iterable[Any]) -> None:
        todo = list(values)
        while todo:
            for value in todo:
                self._seen.add(id(value))
            further = [one for value in todo for one in self._beyond(value)]
            todo = [one for one in (*further, *self._methods()) if id(one) not in self._seen]

    def _beyond(self, value: Any) -> Iterator[Any]:
        """What is one step further."""
        if isinstance(value, str):
            self.texts.add(value)
            self.found |= {text for text in STARTERS["spark"] if text in value}
        elif isinstance(value, Mapping):
            yield from value.values()
        elif isinstance(value, (list, tuple, set)) and type(value).__module__ == "builtins":  # Dagster's keys are tuples of another kind
            yield from value
        elif isinstance(value, type) and _ours(value):
            self._classes.append(value)
            self.found |= {one.__name__ for one in value.__bases__}
            yield from value.__bases__
        elif callable(value):
            function = _function(value)
            if function is not None and _ours(function):
                self.found.add(f"{function.__module__}.{function.__qualname__}")
                yield from self._named(function)
        elif getattr(value, "kind", None) == "spark":  # settings of an engine
            self.found.add("kind: spark")

    def _named(self, function: FunctionType) -> Iterator[Any]:
        """The values of all names and texts in a function's code."""
        names, texts = _words(function.__code__)
        self.found |= names
        yield from texts
        yield from (cell.cell_contents for cell in function.__closure__ or () if _filled(cell))
        for name in names:
            value = function.__globals__.get(name)
            if isinstance(value, ModuleType):
                self.found |= {f"{value.__name__}.{one}" for one in names if one in vars(value)}
                yield from (vars(value)[one] for one in names if one in vars(value) and _ours(value))
            elif value is not None:
                yield value

    def _methods(self) -> Iterator[Any]:
        """The methods of all classes so far that somebody names, and those that Python calls itself."""
        for one in self._classes:
            for name, method in vars(one).items():
                if name in self.found or name.startswith("__"):
                    yield getattr(method, "fget", None) or getattr(method, "__func__", method)


def _filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:
        return False


def _function(value: Any) -> FunctionType | None:
    """The function that somebody wrote, below decorators, fixtures and hypothesis."""
    value = getattr(value, "_fixture_function", value)
    if (hypothesis := getattr(value, "hypothesis", None)) is not None:
        value = getattr(hypothesis, "inner_test", value)
    value = inspect.unwrap(value) if callable(value) else value
    value = getattr(value, "__func__", value)
    return value if isinstance(value, FunctionType) else None


@cache
def _words(code: CodeType) -> tuple[frozenset[str], tuple[str, ...]]:
    """All names in the code, of inner functions too, and all texts."""
    names, texts = set(code.co_names), []
    for one in code.co_consts:
        if isinstance(one, CodeType):
            inner, more = _words(one)
            names |= inner
            texts += more
        elif isinstance(one, str):
            texts.append(one)
    return frozenset(names), tuple(texts)


def _ours(value: Any) -> bool:
    """Whether a function, a class or a module is in the tests' folder."""
    module = value if isinstance(value, ModuleType) else sys.modules.get(getattr(value, "__module__", None) or "")
    return _below(getattr(module, "__file__", None))


@cache
def _below(file: str | None) -> bool:
    return file is not None and TESTS in Path(file).resolve().parents
