"""Writes the outputs of a request and its certificate."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recon.errors import WrongInput
from recon.storage.scratch import file_digest
from recon.transformations.engines.figures import Figures, figures_of, sums_in
from recon.transformations.engines.port import Engine
from recon.transformations.inputs.files import Scratch
from recon.transformations.making import Making
from recon.transformations.operations.table import Table
from recon.transformations.outputs import shown
from recon.transformations.outputs.places import placed
from recon.transformations.outputs.workbook import refuse_columns, refuse_rows, write_workbook
from recon.transformations.request.files import Objects
from recon.transformations.request.model import Request
from recon.transformations.request.outputs import Output

Certified = Callable[[list[dict[str, Any]]], dict[str, Any]]
"""The figures of the outputs → the certificate."""


@dataclass
class Outputs:
    """``certificate``: the path of its file, None where none is asked for."""

    engine: Engine
    making: Making
    request: Request
    folder: Path
    certificate: str | None

    def __post_init__(self) -> None:
        self._split: dict[str, tuple[Table, Table]] = {}
        self._counted: dict[tuple[Any, ...], Figures] = {}

    def write(self, s3: tuple[Scratch, Objects], check: Callable[[], None], certified: Certified) -> dict[str, Any]:
        """Writes all files, each beside its place, those for S3 in a scratch folder; when all are there and ``check`` has nothing
        against it, each takes its place. Returns the certificate.

        Raises WrongInput where an error is a reason to fail, or where rows do not fit."""
        outputs = self.request.outputs
        for output in outputs:
            self.making.settled(self.making.tables[output.table])
            self._refuse(output, self.making.tables[output.table])
        paths = [path for path, _ in paths_of(self.request, self.certificate)]
        with placed(paths, self.folder, *s3) as new:
            certificate = certified([self._written(output, new) for output in outputs])
            if self.certificate is not None:
                new[self.certificate].write_text(json.dumps(certificate, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
            check()
        return certificate

    def _refuse(self, output: Output, table: Table) -> None:
        found = self._figures(table, self._sums_before(output, table))
        errors = found.errors
        if errors and self.request.on_error == "fail":
            first = next(iter(errors.items()))
            raise WrongInput(f"output {output.path}: column {first[0]!r} has errors: {first[1]}; nothing was written")
        refuse_columns(output, table)
        good = self._good(table)
        refuse_rows(output, found.rows if good is table else self._figures(good).rows)

    def _figures(self, table: Table, sums: bool = True) -> Figures:
        counted = table.relation, table.columns, sums
        if counted not in self._counted:
            self._counted[counted] = figures_of(self.engine, table.relation, table.known, table.known if sums else ())
        return self._counted[counted]

    def _sums_before(self, output: Output, table: Table) -> bool:
        """Whether sums are of the table, and not read from the file that is written: names that differ in their case only are one to the
        engine there."""
        distinct = len({column.name.casefold() for column in table.known}) == len(table.known)
        return not (self.engine.late and output.kind == "parquet" and distinct and self.request.on_error != "reject")

    def _good(self, table: Table) -> Table:
        """The rows that are written."""
        return table if self.request.on_error != "reject" else self._halves(table)[0]

    def _halves(self, table: Table) -> tuple[Table, Table]:
        """The rows without an error, and those with one."""
        if table.relation not in self._split:
            halves = []
            for name, select in (("good", shown.without_errors(table)), ("bad", shown.with_errors(table))):
                relation = f"{name}_{table.relation}"
                self.engine.make(relation, select, stored=False)
                halves.append(Table(table.name, relation, table.columns))
            self._split[table.relation] = (halves[0], halves[1])
        return self._split[table.relation]

    def _written(self, output: Output, new: Mapping[str, Path]) -> dict[str, Any]:
        table = self.making.tables[output.table]
        good = self._good(table)
        more = self._write(output, good, new[output.path])
        before = self._sums_before(output, table)
        found = self._figures(good, before)
        sums = found.sums if before else sums_in(self.engine, new[output.path], table.known)
        figures = {"path": output.path, "digest": file_digest(new[output.path]), "rows": found.rows, "sums": sums}
        if self.request.on_error == "reject":
            bad, path = self._halves(table)[1], new[output.rejects]
            self.engine.copy(shown.as_rejects(bad, output.guard), path, ".csv")
            rejected = self._figures(bad)
            more["rejects"] = {"path": output.rejects, "digest": file_digest(path), "rows": rejected.rows, "sums": rejected.sums}
            found = rejected
        return {**figures, "errors": found.errors, **more}

    def _write(self, output: Output, table: Table, new: Path) -> dict[str, Any]:
        """Writes a table. Returns the figures that only its format has."""
        errors = self.request.on_error == "text"
        match output.kind:
            case "parquet":
                self.engine.copy(shown.as_values(table), new, ".parquet")
                return {}
            case "xlsx":
                with closing(self.engine.rows(shown.with_codes(table))) as rows:
                    cells = write_workbook(output, table, rows, new, errors)
                return {"sheets": cells.sheets, "numbers_as_text": cells.as_text}
            case kind:
                self.engine.copy(shown.as_text(table, output.guard, errors), new, f".{kind}")
                counts = shown.count_of_guarded(table) if output.guard else []
                return {"texts_guarded": sum(map(int, self.engine.totals(table.relation, counts))) if counts else 0}


def paths_of(request: Request, certificate: str | None) -> list[tuple[str, str]]:
    """The path of each file that is written, and what it is."""
    found: list[tuple[str, str]] = []
    for number, output in enumerate(request.outputs, 1):
        found.append((output.path, f"output {number}"))
        if request.on_error == "reject":
            found.append((output.rejects, f"the rejects of output {number}"))
    return found if certificate is None else [*found, (certificate, "certificate")]
