"""Carries out a request: checks all that can be known, reads the inputs, makes one table after the other, writes outputs and
certificate."""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import ByteSize, TypeAdapter

from recon.config import mistakes, yaml_file
from recon.errors import ReconError, WrongInput, WrongUsage
from recon.model.progress import Progress, silent
from recon.transformations import explain
from recon.transformations.engines.choice import chosen, session
from recon.transformations.engines.port import Engine
from recon.transformations.explain import Explained, Step
from recon.transformations.formulas.settings import Settings
from recon.transformations.inputs.files import Scratch
from recon.transformations.inputs.opening import Find, Opened, Places, find_inputs, open_inputs
from recon.transformations.making import Making
from recon.transformations.operations.port import Operation, Plan
from recon.transformations.operations.table import Table
from recon.transformations.outputs.places import place_of, refuse_places
from recon.transformations.outputs.workbook import refuse_columns, refuse_rows
from recon.transformations.outputs.write import Outputs, paths_of
from recon.transformations.request.files import AS_USUAL, Objects
from recon.transformations.request.model import Request
from recon.transformations.site import Site

ALONE = Site()


@dataclass(frozen=True)
class Asked:
    """A request that has been read and checked. ``folder``: paths are relative to it. ``scratch``: has what was fetched and unpacked.
    ``objects``: those in S3. ``certificate``: the path of its file, None where it has none."""

    request: Request
    folder: Path
    digest: str
    settings: Settings
    inputs: dict[str, Opened]
    scratch: Scratch
    objects: Objects = AS_USUAL
    certificate: str | None = None


def read_request(path: Path, certificate: str | None = None, site: Site = ALONE) -> Asked:
    """A request from a YAML or JSON file. ``certificate``: where its certificate is written, instead of where it says.

    Raises WrongUsage for the first mistake, with its place; no input is read further than its head."""
    asked = unchecked_request(path, certificate, site)
    tables_of(asked)
    return asked


def unchecked_request(path: Path, certificate: str | None = None, site: Site = ALONE) -> Asked:
    """A request whose operations and outputs are not yet checked against its inputs. Raises WrongUsage."""
    file = yaml_file.read(path, "see docs/transformations.md for an example", "name the file of a request")
    request = site.fill(request_in(file))
    return asked_of(request, path.parent, digest_of(file.content), certificate or request.certificate, site)


def digest_of(content: dict[str, Any]) -> str:
    """SHA-256 of a request's content, in hex; the order of its names means nothing."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def asked_of(request: Request, folder: Path, digest: str, certificate: str | None, site: Site, find: Find | None = None) -> Asked:
    """A request with its inputs opened. ``folder``: paths are relative to it. ``find``: finds the files of its paths, in place of
    ``found_files``. Raises WrongUsage."""
    scratch, objects = Scratch(), Objects(site.s3)
    found = find_inputs(request.inputs, Places(folder, scratch, objects, site.fetch, find))
    # Spark's machines fetch objects in S3 by themselves.
    apart = chosen(request, sum(file.size for files in found.values() for file in files)).name == "spark"
    inputs = open_inputs(request.inputs, found, scratch, apart)
    return Asked(request, folder, digest, request.settings(datetime.now(UTC).date()), inputs, scratch, objects, certificate)


def request_in(file: yaml_file.File) -> Request:
    """The request. Raises WrongUsage; a mistake in an operation names its number, from 1, and its kind, as later ones do."""
    try:
        return mistakes.validated(file, Request)
    except WrongUsage as error:
        named = re.sub(r"operations\[(\d+)\]\.(\w+)\b", lambda found: f"operation {int(found[1]) + 1} ({found[2]}): ", str(error), count=1)
        raise WrongUsage(named.replace("): .", "): ").replace("): :", "):")) from None


def tables_of(asked: Asked) -> dict[str, Table]:
    """All tables at the end, from columns and types only. A table whose columns depend on data ends the checks of what follows from it.

    Raises WrongUsage for the first operation that does not fit, and for an output that would take the place of another file."""
    _refuse_paths(asked)
    tables = {name: Table(name, f"i_{name}", opened.columns) for name, opened in asked.inputs.items()}
    tables |= {step.table.name: step.table for step in _steps(asked)}
    for output in asked.request.outputs:
        refuse_columns(output, tables[output.table])
    return tables


def _steps(asked: Asked) -> list[Step]:
    """The operations in order, from columns and types only. Raises WrongUsage for the first that does not fit."""
    tables = {name: Table(name, f"i_{name}", opened.columns) for name, opened in asked.inputs.items()}
    steps, made = list[Step](), 0
    for number, operation in enumerate(asked.request.operations, 1):
        new = operation.as_ or operation.table
        plan, table = Plan(tables, asked.settings, None, made), Table(new, "", None)
        if all(tables[name].columns is not None for name in operation.inputs):
            with _naming(number, operation):
                table = _renamed(operation.apply(plan, tables[operation.table]), new)
        made += len(plan.made)
        tables = {**tables, new: table}
        steps.append(Step(number, operation, table, tuple(plan.made)))
    return steps


def explained(asked: Asked) -> Explained:
    """What the request will take. Raises as ``tables_of``."""
    return explain.explained(asked.inputs.values(), asked.request, _steps(asked))


def _refuse_paths(asked: Asked) -> None:
    """Raises WrongUsage for an output that is an input, or another output, and for one that cannot be written."""
    taken = {
        place_of(file.url or str(file.path), asked.folder): f"the input {name}"
        for name, opened in asked.inputs.items()
        for file in opened.files
    }
    paths = paths_of(asked.request, asked.certificate)
    for path, what in paths:
        place = place_of(path, asked.folder)
        if place in taken:
            raise WrongUsage(f"{what}: {path} is {taken[place]}; choose another path")
        taken[place] = what
    refuse_places([path for path, _ in paths], asked.folder, asked.objects)


def _renamed(table: Table, name: str) -> Table:
    return Table(name, table.relation, table.columns)


@contextmanager
def _naming(number: int, operation: Operation) -> Iterator[None]:
    """Puts the operation's number and kind before an error."""
    try:
        yield
    except ReconError as error:
        raise type(error)(f"operation {number} ({operation.KIND}): {error}") from None


def carry_out(asked: Asked, progress: Progress = silent) -> dict[str, Any]:
    """Carries out a request and returns its certificate. Raises WrongInput for data that do not allow it; then no output is written."""
    request, inputs = asked.request, list(asked.inputs.values())
    plan = explained(asked)
    plan.refuse_too_little()
    with (
        tempfile.TemporaryDirectory(prefix="recon-transform-") as scratch,
        session(request, plan.choice, asked.folder, Path(scratch), asked.objects) as engine,
    ):
        memory = int(TypeAdapter(ByteSize).validate_python(request.memory_limit)) if engine.name == "duckdb" else None
        making = Making(
            engine, lambda tables, query, first: Plan(tables, asked.settings, query, first, memory=memory), _needed_later(request)
        )
        read = [_loaded(asked, engine, making, one, progress) for one in inputs]
        _refuse_rows(request, {figures["input"]: figures["rows"] for figures in read})
        for number, operation in enumerate(request.operations, 1):
            _report(engine, progress, f"{number} {operation.KIND}", number / (len(request.operations) + 2))
            with _naming(number, operation):
                making.apply(number, operation)
        _report(engine, progress, "write", (len(request.operations) + 1) / (len(request.operations) + 2))
        figures = {
            "request": asked.digest,
            "as_of": asked.settings.today.isoformat(),
            "holidays": [day.isoformat() for day in asked.settings.holidays],
            "engine": engine.name,
            "inputs": read,
            "operations": making.steps,
        }
        outputs = Outputs(engine, making, request, asked.folder, asked.certificate)
        return outputs.write(
            (asked.scratch, asked.objects), lambda: _refuse_changed(inputs, read), lambda written: {**figures, "outputs": written}
        )


def _refuse_rows(request: Request, rows: dict[str, int | None]) -> None:
    """Raises WrongInput, before anything is computed, for a workbook of too many rows, where their number is known.
    ``rows``: of the inputs."""
    for operation in request.operations:
        rows[operation.as_ or operation.table] = rows[operation.table] if operation.KEEPS_ROWS else None
    for output in request.outputs:
        if request.on_error != "reject" and (known := rows[output.table]) is not None:
            refuse_rows(output, known)


def _needed_later(request: Request) -> list[set[str]]:
    """For each operation, the tables that later operations or outputs read."""
    needed = {output.table for output in request.outputs}
    found = []
    for operation in reversed(request.operations):
        found.append(set(needed))
        needed |= set(operation.inputs)
    return found[::-1]


def _report(engine: Engine, progress: Progress, what: str, share: float) -> None:
    """Says what is begun; the engine says it again while it works on it, so that a long operation is seen to be alive."""
    progress("transform", what, share)
    engine.watch = lambda done: progress("transform", f"{what} {done:.0%}" if done else what, share)


def _loaded(asked: Asked, engine: Engine, making: Making, one: Opened, progress: Progress) -> dict[str, Any]:
    path = asked.request.inputs[one.name].shown
    _report(engine, progress, f"read {path}", 0.0)
    digests = one.digests()
    figures = making.loaded(engine.load(one.name, one))
    digests = one.digests() if one.apart else digests
    files = [{"file": file.shown, "digest": digest} for file, digest in zip(one.files, digests, strict=True)]
    digest = digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
    more: dict[str, Any] = {"files": files} if len(files) > 1 else {}
    if one.deleted:
        more["marked_as_deleted"] = one.deleted
    return {"input": one.name, "path": path, "digest": digest, **more, "rows": figures.rows, "sums": figures.sums, "errors": figures.errors}


def _refuse_changed(inputs: Sequence[Opened], read: Sequence[dict[str, Any]]) -> None:
    """Raises WrongInput for an input that is no longer what was read."""
    for one, figures in zip(inputs, read, strict=True):
        before = [file["digest"] for file in figures.get("files", [figures])]
        for file, old, new in zip(one.files, before, one.digests(), strict=True):
            if old != new:
                raise WrongInput(f"input {one.name}: {file.shown} changed while it was read; nothing was written; run the same again")
