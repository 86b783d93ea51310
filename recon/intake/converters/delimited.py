"""CSV, TSV and other delimited text, with a header or with declared columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from recon.config.settings import Limits
from recon.errors import WrongInput, WrongUsage
from recon.intake.converters.layouts import Delimited
from recon.intake.converters.port import Received
from recon.intake.converters.text import TextFile
from recon.intake.files.delimited import batches_of, header_in
from recon.intake.files.inspect import header_elsewhere, require_names
from recon.intake.files.quoting import Dialect, Records


class DelimitedRows(TextFile):
    """One row a record; see ``recon.intake.files.quoting`` for how a faulty quote is kept from taking other rows with it."""

    def __init__(self, received: Received, layout: Delimited, declared: Sequence[str] | None, limits: Limits) -> None:
        super().__init__(received, limits)
        self._dialect = Dialect(layout.delimiter, layout.quotes, layout.header, layout.skip)
        if layout.header:
            self.names: Sequence[str] = self._header(declared or ())
        elif declared:
            self.names = tuple(declared)
        else:
            raise WrongUsage(f"{self.name}: a file without a header needs declared columns")

    def _header(self, needed: Sequence[str]) -> Sequence[str]:
        where = f"line {self._dialect.skip + 1}"
        names = header_in(self.name, self.head, self._dialect)
        if "\0" in "".join(names):
            raise WrongInput(f"{self.name}: {where}: the header has NUL characters, as UTF-16 text does; declare that encoding")
        elsewhere = header_elsewhere(self.head, needed, self._dialect) if needed and not set(needed) <= set(names) else None
        if elsewhere:
            raise WrongInput(f"{self.name}: the header is line {elsewhere}; write skip: {elsewhere - 1}")
        if not any(names):
            raise WrongInput(
                f"{self.name}: {where}: a header is declared, and there is none; write header: false, or how many lines to skip"
            )
        require_names(self.name, f"{where}: the header", names, needed, self._dialect.delimiter)
        return tuple(names)

    def batches(self) -> Iterator[Any]:
        source = Records(self.name, self.text(), self._dialect, self.limits.line)
        return batches_of(source, list(self.names), range(len(self.names)), self.limits)
