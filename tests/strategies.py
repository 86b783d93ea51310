"""Random histories of a small reconciliation, and the standard rules that tests name.

Few keys, ids, times and amounts, so that duplicates, conflicts, ties and horizon edges come up in most histories.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime, timedelta
from functools import reduce
from typing import Any

from hypothesis import strategies as st
from oracle import Control, Event, Measure, Rules, Scope

START = datetime(2026, 11, 1, tzinfo=UTC)
EVERY = timedelta(hours=1)

STANDARD_YAML = """\
name: orders
store: ./data
key: order_id
windows: {start: 2026-11-01T00:00Z, every: 1h}
events:
  types: {amount: "decimal(18,2)"}
  id: event_id
  time: booked_at
  dedupe: 2h
measures:
  billed: {sum: amount, where: "event_type = 'INVOICE'"}
  paid: {sum: amount, where: "event_type = 'PAYMENT'"}
  lines: {count: "*"}
  amounts: {count: amount}
  smallest: {min: amount}
  largest: {max: amount}
  opening: {first: amount}
  latest: {last: event_type}
derived:
  balance: coalesce(billed, 0) - coalesce(paid, 0)
  unexplained: balance - largest
status:
  - {MATCHED: "balance = 0"}
  - {UNPAID: "paid is null"}
  - {BREAK: "true"}
control: {rows: {count: "*"}, amount: {sum: amount, by: currency}}
"""

CURRENCY_YAML = STANDARD_YAML.replace("  id: event_id\n", "  id: event_id\n  currency: currency\n")
NUMBERED_YAML = STANDARD_YAML.replace("  id: event_id\n", '  id: [event_type, event_id, "#"]\n')
"""Two columns and the number of a row among the equal rows of its file make the id: numbers that re-sent files share."""
SHORT_YAML = STANDARD_YAML + "closing: {files: 2}\n"
FOLDERS = ("site", "currency=EUR", "key=7", "hi=9", "a[b]", "100%", "ü", "it's {x}", "file=*")


def _is_type(event_type: str) -> Any:
    return lambda row: None if row["event_type"] is None else row["event_type"] == event_type


def _balance(scope: Scope) -> Any:
    return (0 if scope["billed"] is None else scope["billed"]) - (0 if scope["paid"] is None else scope["paid"])


def _unexplained(scope: Scope) -> Any:
    return None if scope["largest"] is None else scope["balance"] - scope["largest"]


STANDARD_RULES = Rules(
    key=("order_id",),
    types={"amount": ("decimal", 18, 2), "event_type": "text", "currency": "text"},
    id="event_id",
    time="booked_at",
    dedupe=timedelta(hours=2),
    measures=(
        Measure("billed", "sum", "amount", _is_type("INVOICE")),
        Measure("paid", "sum", "amount", _is_type("PAYMENT")),
        Measure("lines", "count"),
        Measure("amounts", "count", "amount"),
        Measure("smallest", "min", "amount"),
        Measure("largest", "max", "amount"),
        Measure("opening", "first", "amount"),
        Measure("latest", "last", "event_type"),
    ),
    derived=(("balance", _balance), ("unexplained", _unexplained)),
    status=(
        ("MATCHED", lambda scope: scope["balance"] == 0),
        ("UNPAID", lambda scope: scope["paid"] is None),
        ("BREAK", lambda scope: True),
    ),
    control=(Control("rows", "count"), Control("amount", "sum", "amount", "currency")),
)
CURRENCY_RULES = replace(STANDARD_RULES, currency="currency")


# ---- rows and files --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """One row as text; None is null, which CSV writes as empty."""

    order_id: str | None = "A"
    event_id: str | None = "1"
    event_type: str | None = "INVOICE"
    amount: str | None = "10.00"
    currency: str | None = "EUR"
    booked_at: str | None = "2026-11-01T00:10:00Z"


COLUMNS = tuple(column.name for column in fields(Row))
FORMATS = ("csv", "jsonl", "jsonl-numbers")

_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")


def to_csv(rows: Sequence[Row], extra: str = "extra") -> str:
    """A header and the rows; row i (from 0) stands on line i + 2. ``extra`` names an empty column that no rule uses."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*COLUMNS, extra])
    for row in rows:
        writer.writerow([*("" if value is None else value for value in _values(row).values()), ""])
    return text.getvalue()


def to_jsonl(rows: Sequence[Row], numbers: bool, extra: str = "extra") -> str:
    """JSON lines; row i stands on line i + 1. ``numbers``: amounts and ids are JSON numbers where they can be."""
    lines = []
    for row in rows:
        members = [
            f"{json.dumps(column)}: {value if numbers and _is_number(column, value) else json.dumps(value)}"
            for column, value in {**_values(row), extra: None}.items()
        ]
        lines.append("{" + ", ".join(members) + "}\n")
    return "".join(lines)


def _values(row: Row) -> dict[str, str | None]:
    return {column: getattr(row, column) for column in COLUMNS}


def _is_number(column: str, value: str | None) -> bool:
    return column in ("amount", "event_id") and value is not None and _NUMBER.fullmatch(value) is not None


@dataclass(frozen=True)
class File:
    """A file to land. It has an empty column of its own name, so that files of different names differ in digest too."""

    stem: str
    rows: tuple[Row, ...]
    format: str = "csv"

    @property
    def name(self) -> str:
        return f"{self.stem}.{'csv' if self.format == 'csv' else 'jsonl'}"

    @property
    def content(self) -> bytes:
        if self.format == "csv":
            return to_csv(self.rows, self.name).encode()
        return to_jsonl(self.rows, self.format == "jsonl-numbers", self.name).encode()

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    def events(self, window: int, order: int = 0) -> list[Event]:
        """Its events as the file number ``order`` of a window, in the order of landing."""
        first_line = 2 if self.format == "csv" else 1
        return [Event(at(window), self.name, order, line, _values(row)) for line, row in enumerate(self.rows, first_line)]


def events_of(window: int, files: Sequence[File]) -> list[Event]:
    """The events of a window's files, in their order of landing."""
    return [event for order, file in enumerate(files) for event in file.events(window, order)]


def at(window: int) -> datetime:
    """Start of the window number ``window``, from 0."""
    return START + window * EVERY


# ---- operations and what they leave behind ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Land:
    """Puts ``file`` into an open or closed window; the same file again changes nothing."""

    window: int
    file: File


@dataclass(frozen=True)
class Close:
    window: int


@dataclass(frozen=True)
class Replace:
    """Puts ``file`` in the place of the landed file ``old``."""

    window: int
    old: str
    file: File


@dataclass(frozen=True)
class Unland:
    """Takes the landed file ``name`` back; a window may be left without files."""

    window: int
    name: str


@dataclass(frozen=True)
class Replay:
    """Marks a window that has been run to be processed again by the next run that it is in."""

    window: int


@dataclass(frozen=True)
class Run:
    """Merges those of ``windows`` that are closed and not yet done, in one range; the others are left alone."""

    windows: tuple[int, ...]


Operation = Land | Close | Replace | Unland | Replay | Run


@dataclass(frozen=True)
class State:
    """What lies in the windows, and what has been run. A closed window stays closed when files come or go later.

    ``revisions``: every committed list of files per window, oldest first, a replay's too. ``pending``: to be run.
    ``processed``: the windows that the last operation committed; empty unless it is a Run.
    """

    files: dict[int, tuple[File, ...]] = field(default_factory=dict)
    closed: frozenset[int] = frozenset()
    pending: frozenset[int] = frozenset()
    revisions: dict[int, tuple[tuple[File, ...], ...]] = field(default_factory=dict)
    processed: tuple[int, ...] = ()

    def current_events(self) -> list[Event]:
        """Events of the current revision of every window, run or not, closed or not."""
        return [event for window, files in self.files.items() for event in events_of(window, files)]

    def committed_events(self) -> list[Event]:
        """Events of the last committed revision of every window: what the store answers from."""
        return [event for revisions in self.committed_revisions().values() for event in revisions[-1]]

    def committed_revisions(self) -> dict[datetime, list[list[Event]]]:
        """Per window the events of each committed revision, oldest first: what the oracle's ``withdrawn`` takes."""
        return {at(window): [events_of(window, files) for files in revisions] for window, revisions in self.revisions.items()}


def apply(state: State, operation: Operation) -> State:
    """The state after one operation. Pure, so that strategies and tests step through histories alike."""
    if isinstance(operation, Run):
        processed = tuple(sorted(state.pending & set(operation.windows)))
        done = {w: (*state.revisions.get(w, ()), state.files.get(w, ())) for w in processed}
        return replace(
            state,
            pending=state.pending - set(processed),
            revisions={**state.revisions, **done},
            processed=processed,
        )
    window = operation.window
    state = replace(state, processed=())
    if isinstance(operation, Close):
        return replace(state, closed=state.closed | {window}, pending=state.pending | {window})
    if isinstance(operation, Replay):
        return replace(state, pending=state.pending | {window})
    files = state.files.get(window, ())
    if isinstance(operation, Land):
        changed = files if operation.file in files else (*files, operation.file)
    else:
        gone = operation.old if isinstance(operation, Replace) else operation.name
        instead = (operation.file,) if isinstance(operation, Replace) else ()
        changed = tuple(other for file in files for other in (instead if file.name == gone else (file,)))
    if changed == files:
        return state
    to_run = {window} & state.closed
    return replace(state, files={**state.files, window: changed}, pending=state.pending | to_run)


@dataclass(frozen=True)
class History:
    """Operations, each applicable where it stands: only landed files are replaced, only run windows replayed."""

    operations: tuple[Operation, ...]

    def states(self) -> list[State]:
        """The state after each operation."""
        state, after = State(), []
        for operation in self.operations:
            state = apply(state, operation)
            after.append(state)
        return after


def current_events(history: History) -> list[Event]:
    """Events of the current revision of every window at the end; in a settled history all of them are committed."""
    return history.states()[-1].current_events()


# ---- strategies ------------------------------------------------------------------------------------------------------

# In every pool the first is the plainest, which is what hypothesis shrinks to; what stands twice comes up more often.
KEYS = ("A", "A", "A", "B", 'k,"é"')
IDS = ("1", "1", "2", "2", "x-3", None)
EVENT_TYPES = ("INVOICE", "INVOICE", "PAYMENT", "PAYMENT", "REFUND", None)
AMOUNTS = ("10.00", "10.00", "10", "-2.50", "0.01", "1E1", "1.500", "9999999999999999.99", None)
CURRENCIES = ("EUR", "EUR", "USD", None)
TIMES = (
    "2026-11-01T00:10:00Z",
    "2026-11-01T01:10:00+01:00",  # the same instant as the first
    "2026-11-01 00:20:00.000001Z",
    "2026-11-01",
    None,
)
BAD = (
    ("amount", "abc"),
    ("amount", "1.005"),
    ("amount", "10000000000000000.00"),
    ("amount", "1,000.00"),
    ("order_id", None),
    ("booked_at", "yesterday"),
    ("booked_at", "2026-11-01T00:10:00"),  # of no zone
    ("booked_at", "2026-02-30T00:00:00Z"),
)
GOOD_TO_BAD = 6

# Strategies that depend on nothing are made once: making them anew for every draw took most of a test's time.
_GOOD_ROWS = st.builds(
    Row,
    order_id=st.sampled_from(KEYS),
    event_id=st.sampled_from(IDS),
    event_type=st.sampled_from(EVENT_TYPES),
    amount=st.sampled_from(AMOUNTS),
    currency=st.sampled_from(CURRENCIES),
    booked_at=st.sampled_from(TIMES),
)
_SPOILED = st.sampled_from((None,) * GOOD_TO_BAD * len(BAD) + BAD)
_ROWS = st.tuples(_GOOD_ROWS, _SPOILED).map(lambda drawn: _spoil(*drawn))
_SOME_ROWS = {least: st.lists(_ROWS, min_size=least, max_size=5) for least in (0, 1)}


def _spoil(row: Row, spoiled: tuple[str, str | None] | None) -> Row:
    return row if spoiled is None else replace(row, **{spoiled[0]: spoiled[1]})


def rows() -> st.SearchStrategy[Row]:
    """A row of the pools; one in seven is bad in one column."""
    return _ROWS


@st.composite
def files(draw: st.DrawFn, stem: str, formats: Sequence[str] = FORMATS) -> File:
    """A file of up to 5 rows: of none too if it is CSV and has its header; empty JSON lines would be no batch."""
    format = draw(st.sampled_from(formats))
    return File(stem, tuple(draw(_SOME_ROWS[0 if format == "csv" else 1])), format)


@st.composite
def batches(draw: st.DrawFn, max_windows: int = 6, formats: Sequence[str] = FORMATS) -> dict[int, tuple[File, ...]]:
    """1 to ``max_windows`` windows with 1 to 3 files each: for tests of order and grouping without corrections."""
    numbers = draw(st.lists(st.integers(0, max_windows - 1), min_size=1, max_size=max_windows, unique=True))
    return {
        window: tuple(draw(files(f"w{window}-{n}", formats=formats)) for n in range(draw(st.integers(1, 3)))) for window in sorted(numbers)
    }


@st.composite
def histories(draw: st.DrawFn, max_windows: int = 6, max_operations: int = 15, formats: Sequence[str] = FORMATS) -> History:
    """A file in every window, then applicable operations in random order; at the end all is closed and run."""
    windows = draw(st.integers(1, max_windows))
    operations: list[Operation] = [Land(window, draw(files(f"w{window}", formats=formats))) for window in range(windows)]
    state = reduce(apply, operations, State())
    for number in range(draw(st.integers(1, max_operations))):
        operation = draw(_operations(state, windows, f"f{number}", formats))
        operations.append(operation)
        state = apply(state, operation)
    settling = [Close(window) for window in _closable(state)]
    return History((*operations, *settling, Run(tuple(range(windows)))))


def _closable(state: State) -> list[int]:
    return [window for window in sorted(state.files) if state.files[window] and window not in state.closed]


@st.composite
def _operations(draw: st.DrawFn, state: State, windows: int, stem: str, formats: Sequence[str]) -> Operation:
    landed = [(window, file) for window, own in sorted(state.files.items()) for file in own]
    closable = _closable(state)
    roomy = [window for window in range(windows) if len(state.files.get(window, ())) < 3]
    possible = ["run"] * 2 if state.pending else []
    possible += ["land"] * 2 if roomy else []
    possible += ["land again", "replace", "unland"] if landed else []
    possible += ["close"] * 3 if closable else []
    possible += ["replay"] if state.revisions else []
    kind = draw(st.sampled_from(possible))
    if kind == "run":
        chosen = draw(st.sets(st.integers(0, windows - 1)))  # open and done ones may be among them
        return Run(tuple(sorted({draw(st.sampled_from(sorted(state.pending))), *chosen})))
    if kind == "land":
        return Land(draw(st.sampled_from(roomy)), draw(files(stem, formats=formats)))
    if kind == "close":
        return Close(draw(st.sampled_from(closable)))
    if kind == "replay":
        return Replay(draw(st.sampled_from(sorted(state.revisions))))
    window, file = draw(st.sampled_from(landed))
    if kind == "land again":
        return Land(draw(st.sampled_from([window, *roomy])), file)
    if kind == "replace":
        return Replace(window, file.name, draw(files(stem, formats=formats)))
    return Unland(window, file.name)
