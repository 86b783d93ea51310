"""recon transform: one request of spreadsheet operations."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from recon.cli.options import Common, config_path, flat
from recon.cli.progress import Bar
from recon.cli.screen import as_json, count, number, say, table
from recon.errors import WrongUsage

if TYPE_CHECKING:
    from recon.api import Reconciliation
    from recon.transformations.request.inputs import Input
    from recon.transformations.request.model import Request

S3 = "s3://"


@flat
def transform(
    file: Annotated[str, typer.Argument(metavar="FILE", help="The request, YAML or JSON; see docs/transformations.md.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check the request, show its tables and propose types.")] = False,
    out: Annotated[str | None, typer.Option("--out", metavar="FILE", help="With --dry-run: write the request with these types.")] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Show engine, plan, memory and disk; read no rows, write nothing.")] = False,
    certificate: Annotated[str | None, typer.Option("--certificate", metavar="FILE", help="Write the certificate there, as JSON.")] = None,
    *,
    common: Common,
) -> None:
    """Look up, compute and pivot files as a spreadsheet would.

    Exact, and at any size that the disk holds. --json prints the certificate. --config is for inputs that a reconciliation has.

    \b
    recon transform request.yaml --dry-run --out typed.yaml
    recon transform request.yaml
    """
    from recon.config import yaml_file
    from recon.operations.transforming import site_of
    from recon.transformations.run import carry_out, read_request, request_in
    from recon.transformations.site import Site

    if out is not None and not dry_run:
        raise WrongUsage("--out writes the request with proposed types, so it needs --dry-run; outputs are named in the request")

    request = request_in(yaml_file.read(Path(file), "see docs/transformations.md for an example", "name the file of a request"))
    opened = _reconciliation(request, common)

    def fetch(given: Input, folder: Path) -> Path | str:
        from recon.operations.request_inputs import fetching

        return fetching(common.opened())(given, folder)

    site = Site(fetch) if opened is None else site_of(opened)
    if dry_run:
        from recon.cli.transform_trial import try_request

        try_request(Path(file), None if out is None else Path(out), common.json, site)
        return
    if certificate is not None and not certificate.startswith(S3):
        certificate = str(Path(certificate).absolute())
    if explain:
        from recon.cli.transform_explained import say_explained
        from recon.transformations.run import explained

        say_explained(explained(read_request(Path(file), certificate, site)), common.json)
        return
    with Bar("transform") as bar:
        done = opened.transform(file, certificate, bar) if opened else carry_out(read_request(Path(file), certificate, site), bar)
    if common.json:
        as_json(done)
        return
    _say(done)
    if (written := certificate or request.certificate) is not None:
        say(f"certificate: {written}")


def _reconciliation(request: Request, common: Common) -> Reconciliation | None:
    """The reconciliation whose settings of S3 and Spark count: only for a request that needs some, and where there is one."""
    places = [*(path for given in request.inputs.values() for path in given.path), *(output.path for output in request.outputs)]
    if common.config is None and request.engine != "spark" and not any(place.startswith(S3) for place in places):
        return None
    try:
        path = config_path(common.config)
    except WrongUsage:
        return None
    import recon

    return recon.open(path)


def _say(certificate: dict[str, Any]) -> None:
    for given in certificate["inputs"]:
        if given["errors"]:
            say(f"{given['input']}: {_errors(given['errors'])}")
    rows = [
        (one["number"], one["operation"], one["table"], number(one["rows_in"]), number(one["rows_out"]), _errors(one["errors"]))
        for one in certificate["operations"]
    ]
    if rows:
        table(("no.", "operation", "table", "rows in", "rows out", "new errors"), rows, ["no.", "rows in", "rows out"])
    for written in certificate["outputs"]:
        parts = [f"{written['path']}: {count(written['rows'], 'row')}", *_notes(written)]
        say("; ".join(part for part in parts if part))


def _notes(written: dict[str, Any]) -> list[str]:
    """What is worth knowing of an output."""
    rejects = written.get("rejects")
    notes = [_errors(written["errors"])]
    if rejects is not None:
        notes = [f"{count(rejects['rows'], 'row')} with errors in {rejects['path']}", *(notes if rejects["rows"] else [])]
    if written.get("sheets", 1) > 1:
        notes.append(f"{written['sheets']} sheets")
    if written.get("numbers_as_text"):
        notes.append(f"{number(written['numbers_as_text'])} numbers of more than 15 digits as text")
    if written.get("texts_guarded"):
        notes.append(f"{number(written['texts_guarded'])} texts that look like formulas got an apostrophe (guard: false leaves them)")
    return notes


def _errors(errors: dict[str, dict[str, dict[str, int]]]) -> str:
    """``each: 3 #DIV/0!, first in row 17``."""
    return "; ".join(
        f"{column}: {number(found['count'])} {kind}, first in row {found['first_row']}"
        for column, kinds in errors.items()
        for kind, found in kinds.items()
    )
