"""What the UI shows of a transformation's run: files, figures, errors, totals, and the first rows, masked."""

import csv
import time
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any

import dagster as dg

from recon.model.progress import Progress
from recon.transformations.formulas.tree import ERRORS
from recon.transformations.request.files import S3
from recon.transformations.request.model import Request
from recon_assets.intake_metadata import masked

PREVIEW_ROWS, PREVIEWS_MAX, NAMED_MAX, FILES_MAX = 5, 5, 20, 20
PREVIEW_COLUMNS_MAX = 8
"""Columns of a preview; of a longer one the UI shows a link in its place."""
PROGRESS_S = 2.0
"""Between two lines of progress: each is a transaction of Dagster's storage."""
MASKED = "The first {rows} rows. Letters are shown as x, digits as 0; the file has the values."


def place_of(request: Path, path: str) -> str:
    """Where a path of a request leads: an absolute path, or an address in S3."""
    return path if path.startswith(S3) else str((request.parent / path).resolve())


def logged_progress(context: dg.AssetExecutionContext) -> Progress:
    """Progress as lines of a run's log, at most one in two seconds."""
    said = [float("-inf")]

    def progress(stage: str, windows: str, share: float) -> None:
        if (now := time.monotonic()) - said[0] >= PROGRESS_S:
            said[0] = now
            context.log.info(f"{windows} ({share:.0%} of the request is done)")

    return progress


def errors_of(certificate: Mapping[str, Any]) -> list[str]:
    """``out/aged.csv: total: 3 #N/A, first in row 7``."""
    return [
        f"{path}: {column}: {found['count']:,} {kind}, first in row {found['first_row']:,}"
        for path, column, kind, found in _errors(certificate)
    ]


def verdict(certificate: Mapping[str, Any]) -> str:
    """The description of the check: errors, where rejected rows are, and what to do."""
    found = errors_of(certificate)
    if not found:
        return "no errors"
    more = [f"and {len(found) - NAMED_MAX:,} more; the certificate has all"] if len(found) > NAMED_MAX else []
    rejects = [f"rejected rows: {one['rows']:,}, in {one['path']}" for one in _rejects(certificate)]
    next_step = "IFNA or IFERROR in a formula gives such a value another, and on_error in the request says what is written"
    return "; ".join([*found[:NAMED_MAX], *more, *rejects[:NAMED_MAX], next_step])


def metadata(path: Path, request: Request, certificate: Mapping[str, Any], file: str) -> dict[str, Any]:
    """What the UI shows of a run. Values are masked, as everywhere in the UI; totals are not. ``file``: the certificate's path."""
    outputs = certificate["outputs"]
    kinds = dict[str, int]()
    for _, _, kind, found in _errors(certificate):
        kinds[kind] = kinds.get(kind, 0) + found["count"]
    shown: dict[str, Any] = {
        "dagster/row_count": outputs[0]["rows"],
        "outputs": _md(("file", "rows", "rejected rows", "values in error"), map(_output, outputs)),
        **_files(path, "output_file", [one["path"] for one in outputs]),
        **_files(path, "rejects_file", [one["path"] for one in _rejects(certificate)]),
        "operations": _md(("no.", "operation", "table", "rows in", "rows out", "new errors"), map(_operation, certificate["operations"])),
        "inputs": _md(("input", "files", "rows", "errors"), map(_input, certificate["inputs"])),
    }
    if totals := [*_totals(certificate)]:
        shown["totals"] = _md(("of", "column", "total"), totals)
    shown |= {"errors": sum(kinds.values()), "errors_by_kind": ", ".join(f"{count:,} {kind}" for kind, count in kinds.items()) or "none"}
    if kinds:
        shown["errors_by_column"] = _md(("file", "column", "error", "values", "first in row"), _errors_by_column(certificate))
    shown |= {"as_of": certificate["as_of"], "engine": certificate["engine"], **_files(path, "certificate", [file])}
    if preview := _previews(path, request):
        shown["preview"] = dg.MetadataValue.md(preview)
    return shown


def _files(path: Path, key: str, files: Sequence[str]) -> dict[str, Any]:
    """Where files are; the keys are numbered where there are several."""
    keys = [key] if len(files) == 1 else [f"{key}_{number}" for number in range(1, len(files) + 1)]
    places = [place_of(path, file) for file in files[:FILES_MAX]]
    return {key: place if place.startswith(S3) else dg.MetadataValue.path(place) for key, place in zip(keys, places, strict=False)}


def _errors(certificate: Mapping[str, Any]) -> Iterator[tuple[str, str, str, Mapping[str, Any]]]:
    for output in certificate["outputs"]:
        for column, kinds in output["errors"].items():
            for kind, found in kinds.items():
                yield output["path"], column, kind, found


def _rejects(certificate: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [output["rejects"] for output in certificate["outputs"] if output.get("rejects", {}).get("rows")]


def _errors_by_column(certificate: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    found = [*_errors(certificate)]
    for path, column, kind, counted in found[:NAMED_MAX]:
        yield path, column, kind, f"{counted['count']:,}", f"{counted['first_row']:,}"
    if len(found) > NAMED_MAX:
        yield f"and {len(found) - NAMED_MAX:,} more; the certificate has all", "", "", "", ""


def _totals(certificate: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """Sums of the number columns, those of the inputs first."""
    for given in (*certificate["inputs"], *certificate["outputs"]):
        of = f"input {given['input']}" if "input" in given else given["path"]
        for column, total in islice(given["sums"].items(), NAMED_MAX):
            yield of, column, f"{Decimal(total):,}"
        if len(given["sums"]) > NAMED_MAX:
            yield of, f"and {len(given['sums']) - NAMED_MAX:,} more; the certificate has all", ""


def _output(output: Mapping[str, Any]) -> tuple[str, ...]:
    errors = sum(found["count"] for kinds in output["errors"].values() for found in kinds.values())
    return output["path"], f"{output['rows']:,}", f"{output.get('rejects', {}).get('rows', 0):,}", f"{errors:,}"


def _operation(step: Mapping[str, Any]) -> tuple[str, ...]:
    counts = (f"{step['rows_in']:,}", f"{step['rows_out']:,}")
    return str(step["number"]), step["operation"], step["table"], *counts, _kinds(step["errors"])


def _input(given: Mapping[str, Any]) -> tuple[str, ...]:
    return given["input"], given["path"], f"{given['rows']:,}", _kinds(given["errors"])


def _kinds(errors: Mapping[str, Mapping[str, Any]]) -> str:
    found = [f"{column}: {found['count']:,} {kind}" for column, kinds in errors.items() for kind, found in kinds.items()]
    more = [f"and {len(found) - NAMED_MAX:,} more"] if len(found) > NAMED_MAX else []
    return "; ".join([*found[:NAMED_MAX], *more])


def _previews(path: Path, request: Request) -> str:
    """The first rows of each output, under its name where there are several."""
    found = {output.path: _preview(place_of(path, output.path), output.kind) for output in request.outputs}
    shown = [(name, table) for name, table in found.items() if table][:PREVIEWS_MAX]
    tables = [table if len(request.outputs) == 1 else f"`{name}`\n\n{table}" for name, table in shown]
    return "\n\n".join([MASKED.format(rows=PREVIEW_ROWS), *tables]) if tables else ""


def _preview(place: str, kind: str) -> str:
    """The first rows of an output in text, masked but for errors; "" for any other."""
    if place.startswith(S3) or kind not in ("csv", "tsv"):
        return ""
    with Path(place).open(encoding="utf-8", newline="") as file:
        rows = list(islice(csv.reader(file, delimiter="\t" if kind == "tsv" else ","), PREVIEW_ROWS + 1))
    if not rows:
        return ""
    heading, most = rows[0], PREVIEW_COLUMNS_MAX
    more = f"\n\nThe first {most} of {len(heading):,} columns." if len(heading) > most else ""
    values = ([value if value in ERRORS else masked(value) for value in row[:most]] for row in rows[1:])
    return _table(heading[:most], values) + more


def _md(heading: Sequence[str], rows: Any) -> dg.MarkdownMetadataValue:
    return dg.MetadataValue.md(_table(heading, rows))


def _table(heading: Sequence[str], rows: Any) -> str:
    """Markdown."""
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(text: object) -> str:
    return str(text).replace("|", "\\|").replace("\n", " ")
