"""Which engine carries out a request, and why."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from recon.transformations.engines.duckdb import DuckDB
from recon.transformations.engines.port import Engine
from recon.transformations.request.files import S3, Objects
from recon.transformations.request.model import Request


@dataclass(frozen=True)
class Choice:
    """``name``: duckdb or spark; ``why``: for people."""

    name: str
    why: str


def chosen(request: Request, size: int) -> Choice:
    """The engine of a request. ``size``: bytes of all inputs."""
    if request.engine != "auto":
        return Choice(request.engine, f"engine: {request.engine}")
    inputs = f"the inputs have {shown(size)}, {{}} spark.above: {shown(request.spark.above)}"
    if size > request.spark.above:
        return Choice("spark", inputs.format("more than"))
    return Choice("duckdb", inputs.format("not more than"))


@contextmanager
def session(request: Request, choice: Choice, folder: Path, scratch: Path, objects: Objects) -> Iterator[Engine]:
    """A session of the engine. ``folder``: of the request; ``scratch``: on this machine alone. Raises WrongUsage where the engine is not
    installed."""
    if choice.name == "duckdb":
        with DuckDB.session(scratch, request.memory_limit) as engine:
            yield engine
        return
    from recon.transformations.engines.spark.engine import Spark

    shared = _shared(request.spark.shared, folder if os.access(folder, os.W_OK) else scratch)
    with Spark.session(shared, request.spark.as_engine(), scratch, objects) as spark:
        yield spark


def _shared(place: str | None, folder: Path) -> str:
    """Where the machines of Spark put pieces of outputs. ``folder``: that of the request, or one of this machine alone."""
    if place is None:
        return str(folder)
    return place if place.startswith(S3) else str(folder / place)


def shown(count: int) -> str:
    """Bytes for people, such as 1.5 GB."""
    if count < 1000:
        return f"{count} bytes"
    size, unit = float(count), "bytes"
    for larger in ("kB", "MB", "GB", "TB"):
        if size >= 1000:
            size, unit = size / 1000, larger
    return f"{size:.3g} {unit}"
