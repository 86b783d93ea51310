"""What a transformation read and wrote: the datasets of its lineage."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from recon.config import Place
from recon.storage import layout
from recon.telemetry import lineage
from recon.telemetry.datasets import Dataset, Used, dataset_at, dataset_of
from recon.transformations.request.files import S3
from recon.transformations.request.inputs import Input
from recon.transformations.request.model import Request

_PATTERN = re.compile(r"[*?\[]")
Table = Callable[[str], Dataset]
"""An aggregation's name → the table that it loads."""
Location = Callable[[str], str]
"""A path as a request has it → the place that is named to others: an absolute path, or an address in S3."""


@dataclass(frozen=True)
class Names:
    """How the places of a request are named. ``table``, ``read``, ``written``: of tables, of inputs' paths, of outputs' paths."""

    table: Table
    read: Location
    written: Location


def beside(folder: Path) -> Location:
    """Paths that are relative to a folder."""
    return lambda path: path if path.startswith(S3) else str((folder / path).absolute())


def location_of(place: Place) -> str:
    """The location of a reconciliation's store."""
    return place.store if place.store_path is None else str(place.store_path)


@contextmanager
def reported(place: Place, job: str, request: Callable[[], Request], names: Names) -> Iterator[lineage.Reported]:
    """A block that carries out a request, of which lineage is sent. ``job``: beside the reconciliation's name. ``request``: called only if
    lineage is sent."""
    run = lineage.JobRun(f"{place.name}.{job}", location_of(place), parent=lineage.parent_of(f"{place.name}.run"))
    with lineage.reported(place.observability.lineage, run, lambda: used_by(place, request(), names)) as sent:
        yield sent


def used_by(place: Place, request: Request, names: Names, certificate: Mapping[str, Any] | None = None) -> lineage.Datasets:
    """Inputs and outputs of a request; with figures by its certificate, once it is done."""
    done = certificate or {"inputs": [], "outputs": []}
    read = {one["input"]: one for one in done["inputs"]}
    inputs = [used for name, given in request.inputs.items() for used in _inputs(place, given, names, read.get(name))]
    outputs: list[Used] = []
    for number, output in enumerate(request.outputs):
        written = done["outputs"][number] if certificate else None
        outputs.append(Used(dataset_at(names.written(output.path)), None if written is None else int(written["rows"])))
        if request.on_error == "reject":
            rejected = None if written is None or "rejects" not in written else int(written["rejects"]["rows"])
            outputs.append(Used(dataset_at(names.written(output.rejects)), rejected))
    return _once(inputs), _once(outputs)


def _inputs(place: Place, given: Input, names: Names, read: Mapping[str, Any] | None) -> list[Used]:
    """The datasets of an input. Of several paths, only the whole input's figures are known, and none has them."""
    alone = read is not None and len(given.path) <= 1
    rows = int(read["rows"]) if read is not None and alone else None
    if given.from_ == "table":
        return [Used(names.table(str(given.table)), rows)]
    if given.from_ is not None:
        return [Used(dataset_of(location_of(place), layout.STATE), rows)]
    files = len(read.get("files", [read])) if read is not None and alone else None
    return [Used(dataset_at(_without_pattern(names.read(path))), rows, None, files) for path in given.path]


def _without_pattern(location: str) -> str:
    """The folder that a pattern such as ``bank/*.csv`` looks in."""
    parts = PurePosixPath(location.removeprefix(S3)).parts
    fixed = [part for number, part in enumerate(parts) if not any(_PATTERN.search(earlier) for earlier in parts[: number + 1])]
    return location if len(fixed) == len(parts) else f"{S3 if location.startswith(S3) else ''}{PurePosixPath(*fixed)}"


def _once(used: list[Used]) -> list[Used]:
    """Each dataset once: where two inputs, or outputs, are in one place, none of the figures is that of the dataset."""
    places = [one.place for one in used]
    return [Used(one.place) if places.count(one.place) > 1 else one for at, one in enumerate(used) if one.place not in places[:at]]
