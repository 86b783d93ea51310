"""Files whose rows are in groups with control totals, such as a bank's statements: what their converters share.

The file is read twice: first to tie the groups, then for the rows, so that those of a group that does not tie are rejected however many
there are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from recon.intake.converters.port import Control

_BATCH_ROWS = 16_384


@dataclass(frozen=True)
class Row:
    """``values``: a text or None per name; empty for a row that can't be read. ``groups``: that it belongs to, such as its statement."""

    line: int
    span: int
    values: tuple[str | None, ...]
    problem: str | None = None
    groups: tuple[object, ...] = ()


@dataclass(frozen=True)
class Tie:
    """The control total of a group. ``subject``: its name in the reason, such as "statement 7". ``missing``: the reason where there is no
    figure to tie to."""

    group: object
    subject: str
    control: Control
    missing: str | None = None

    @property
    def reason(self) -> str | None:
        """Why the group's rows are rejected; None if it ties."""
        if self.missing is not None:
            return f"{self.subject}: {self.missing}"
        if self.control.ties:
            return None
        return f"{self.subject} does not tie: {self.control.what} declared {self.control.declared}, its rows give {self.control.computed}"


def tied_batches(first: Iterator[Row | Tie], second: Iterator[Row | Tie], width: int, controls: list[Control]) -> Iterator[Any]:
    """Batches of the rows of two equal readings. Fills ``controls``."""
    reasons: dict[object, str] = {}
    controls.clear()
    for event in first:
        if isinstance(event, Tie):
            controls.append(event.control)
            if (reason := event.reason) is not None:
                reasons.setdefault(event.group, reason)
    rows: list[Row] = []
    for event in second:
        if isinstance(event, Row):
            rows.append(event)
            if len(rows) == _BATCH_ROWS:
                yield _batch(rows, reasons, width)
                rows = []
    if rows:
        yield _batch(rows, reasons, width)


def _batch(rows: list[Row], reasons: dict[object, str], width: int) -> Any:
    import pyarrow as pa

    problems = [row.problem or next((reasons[group] for group in row.groups if group in reasons), None) for row in rows]
    nothing = (None,) * width
    columns = zip(*(row.values or nothing for row in rows), strict=True)
    arrays = [
        pa.array([row.line for row in rows], pa.int64()),
        pa.array([row.span for row in rows], pa.int32()),
        pa.array(problems, pa.string()),
        *(pa.array(column, pa.string()) for column in columns),
    ]
    return pa.record_batch(arrays, names=["line", "span", "problem", *(f"t{position}" for position in range(width))])
