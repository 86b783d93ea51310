"""What a scan reads: its columns, its keys, its windows, and the state at which it reads them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from recon.config import Config
from recon.state.timeline import CommittedWindow, State
from recon.storage.port import ObjectStore

if TYPE_CHECKING:
    import pyarrow as pa

A = TypeVar("A")
B = TypeVar("B")

ROWS = 32_768
"""Rows of a record batch at the most, unless the reader asks for another number."""
_AT_ONCE = 4


@dataclass(frozen=True)
class Site:
    """Where a scan reads: a store at one state, with the rules that made that state."""

    store: ObjectStore
    config: Config
    state: State


@dataclass(frozen=True)
class Selection:
    """``columns``: in order, None for all. ``keys``: texts of keys, None for all. ``key_range``: the first and the last text, None where
    that end is open. ``windows``: the first and the last window by name, None for all."""

    columns: tuple[str, ...] | None = None
    keys: tuple[str, ...] | None = None
    key_range: tuple[str | None, str | None] | None = None
    windows: tuple[str, str] | None = None

    @property
    def has_keys(self) -> bool:
        """Whether only some keys are asked for."""
        return self.keys is not None or self.key_range is not None

    def committed(self, state: State) -> dict[str, CommittedWindow]:
        """The committed windows that are asked for, in order of time."""
        first, last = self.windows or ("", "~")
        return {name: state.windows[name] for name in sorted(state.windows) if first <= name <= last}

    def of_keys(self, keys: Any) -> Any:
        """Which of the texts of an Arrow array are asked for, as an Arrow array of booleans. Texts compare by their bytes in UTF-8."""
        import pyarrow as pa
        import pyarrow.compute as pc

        if self.keys is not None:
            return pc.is_in(keys, pa.array(self.keys, pa.string()))
        first, last = self.key_range or (None, None)
        found = pc.is_valid(keys)
        if first is not None:
            found = pc.and_(found, pc.greater_equal(keys, first))
        return found if last is None else pc.and_(found, pc.less_equal(keys, last))


def ahead(work: Callable[[A], B], items: Iterable[A]) -> Iterator[B]:
    """``work`` of each item, in order, with a few of them in progress at a time. Raises what ``work`` raises."""
    waiting: deque[Future[B]] = deque()
    with ThreadPoolExecutor(_AT_ONCE) as workers:
        try:
            for item in items:
                if len(waiting) == _AT_ONCE:
                    yield waiting.popleft().result()
                waiting.append(workers.submit(work, item))
            while waiting:
                yield waiting.popleft().result()
        finally:
            for left in waiting:
                left.cancel()


def only(schema: pa.Schema, columns: Sequence[str] | None) -> pa.Schema:
    """The fields of a schema that are asked for, in the order in which they are asked for."""
    import pyarrow as pa

    return schema if columns is None else pa.schema([schema.field(name) for name in columns])
