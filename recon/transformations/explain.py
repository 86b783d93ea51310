"""What a request will take, before it is carried out: engine, plan, and the bytes of memory and disk, from the sizes of its inputs."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pydantic import ByteSize, TypeAdapter

from recon.errors import OutOfCapacity
from recon.transformations.engines.choice import Choice, chosen, shown
from recon.transformations.inputs.files import Part
from recon.transformations.inputs.opening import Opened
from recon.transformations.operations.port import Operation
from recon.transformations.operations.table import Table
from recon.transformations.request.model import Request

_BYTES = {"integer": 8, "text": 24, "boolean": 1, "date": 4, "timestamp": 8}
"""Bytes of a value as DuckDB has it in memory; a text with 24 characters or fewer."""
_HEAD = 1 << 16
_SPILLED = 0.25
"""The share of ``disk`` below which a disk is too small. Temporary files are compressed, and columns that nothing reads again are not
stored: 5 M rows and 50 operations took a sixth of it (docs/benchmarks.md)."""


@dataclass(frozen=True)
class Step:
    """An operation as it will be done. ``made``: the SELECTs of its relations."""

    number: int
    operation: Operation
    table: Table
    made: tuple[tuple[str, str, bool], ...]

    @property
    def how(self) -> str:
        """For people."""
        if self.table.columns is None:
            return "columns depend on the data"
        return "in one pass with those around it" if self.operation.KEEPS_ROWS else "reads a table that is stored before it"


@dataclass(frozen=True)
class Explained:
    """``rows``: of each input, estimated. ``outputs``: path, table and format of each. ``memory``, ``disk``: bytes that are wanted at most,
    for tables that are stored and for what is sorted or joined. ``free``: bytes on the disk of temporary files."""

    choice: Choice
    rows: dict[str, int]
    steps: list[Step]
    outputs: list[dict[str, str]]
    memory: int
    disk: int
    free: int

    def refuse_too_little(self) -> None:
        """Raises OutOfCapacity where the disk of temporary files is too small for DuckDB; Spark's is on other machines."""
        least = int(self.disk * _SPILLED)
        if self.choice.name == "duckdb" and least > self.free:
            raise OutOfCapacity(
                f"at least {shown(least)} of disk are wanted in {tempfile.gettempdir()}, and {shown(self.free)} are free; free some room, "
                "set TMPDIR to a larger disk, or write a greater memory_limit, then run the same again"
            )

    def as_json(self) -> dict[str, Any]:
        return {
            "engine": self.choice.name,
            "why": self.choice.why,
            "rows": self.rows,
            "operations": [
                {"number": one.number, "operation": one.operation.KIND, "table": one.table.name, "how": one.how, "tasks": self._tasks(one)}
                for one in self.steps
            ],
            "outputs": self.outputs,
            "memory_bytes": self.memory,
            "disk_bytes": self.disk,
            "free_bytes": self.free,
        }

    def _tasks(self, step: Step) -> str | None:
        """How Spark's tasks share the work; None for another engine."""
        if self.choice.name != "spark":
            return None
        from recon.transformations.engines.numbering import numbered
        from recon.transformations.engines.spark.cutting import cut_of
        from recon.transformations.engines.views import NAME

        found = set()
        for _, select, _ in step.made:
            select = getattr(numbered(select), "select", select)
            found.add(cut_of(select, set(NAME.findall(select))).kind)
        return "one task" if "whole" in found else "tasks by keys" if "keys" in found else "all tasks"


def explained(inputs: Iterable[Opened], request: Request, steps: list[Step]) -> Explained:
    """What a request will take. ``steps``: its operations."""
    opened = list(inputs)
    rows = {one.name: _rows_of(one) for one in opened}
    choice = chosen(request, sum(one.size for one in opened))
    limit = TypeAdapter(ByteSize).validate_python(request.memory_limit)
    counts = dict(rows)
    live = {one.name: counts[one.name] * _width(Table(one.name, "", one.columns)) for one in opened}
    most = sum(live.values())
    for step in steps:
        operation = step.operation
        counts[step.table.name] = max(counts[name] for name in operation.inputs)
        live[step.table.name] = counts[step.table.name] * _width(step.table)
        # While a table is made, the one before it is still there.
        most = max(most, sum(live.values()) + live[step.table.name])
    outputs = [{"path": output.path, "table": output.table, "format": output.kind} for output in request.outputs]
    return Explained(choice, rows, steps, outputs, min(most, limit), max(0, most - limit), shutil.disk_usage(tempfile.gettempdir()).free)


def _width(table: Table) -> int:
    """Bytes of a row; of a table whose columns depend on the data, of 20 numbers."""
    if table.columns is None:
        return 160
    return 8 + sum(_BYTES.get(one.type.kind, 8 if one.type.precision <= 18 else 16) + (one.error is not None) for one in table.columns)


def _rows_of(one: Opened) -> int:
    """The rows of an input, estimated: of files that are not here, by the first and by their bytes."""
    rows = sum(map(_rows, one.parts))
    return rows * one.size // max(1, one.files[0].size) if one.apart else rows


def _rows(part: Part) -> int:
    """The rows of a file, estimated from its head unless it says them."""
    from recon.storage import parquet

    if part.layout.kind == "parquet":
        return int(parquet.open_file(part.path).metadata.num_rows)
    size = part.path.stat().st_size
    with part.path.open("rb") as file:
        head = file.read(_HEAD)
    return max(1, size * max(1, head.count(b"\n")) // max(1, len(head)))
