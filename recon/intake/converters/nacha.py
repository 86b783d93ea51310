"""ACH files of NACHA: a row is an entry (record 6) with the fields of its batch header (5), and its addenda (7) as one text.

Each batch ends with a control record (8), each file with another (9). They are tied in a first pass over the file, so that the second
can reject the rows of a batch that does not tie, however large it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from recon.config.settings import Limits
from recon.errors import WrongInput
from recon.intake.converters.lines import Lines, batch
from recon.intake.converters.nacharecords import BATCH, BATCH_END, FILE, FILE_END, Place, Records, Totals, declared_totals
from recon.intake.converters.port import Control, Received
from recon.intake.converters.text import TextFile
from recon.intake.files.formats import line_too_long
from recon.intake.files.inspect import require_names

_HEADER = {
    "batch": (88, 94),
    "service_class": (2, 4),
    "sec_code": (51, 53),
    "company_name": (5, 20),
    "company_data": (21, 40),
    "company_id": (41, 50),
    "description": (54, 63),
    "descriptive_date": (64, 69),
    "effective_date": (70, 75),
    "settlement_date": (76, 78),
    "originating_bank": (80, 87),
}
"""Columns from the batch header, with their characters."""
_ENTRY = {
    "transaction_code": (2, 3),
    "routing_number": (4, 12),
    "account": (13, 29),
    "individual_id": (40, 54),
    "individual_name": (55, 76),
    "discretionary": (77, 78),
    "trace": (80, 94),
}
_INTERNATIONAL = {"account": (40, 74), "individual_id": (0, 0), "individual_name": (0, 0)}
"""Of entries in batches of IAT; the name is in their addenda."""
NAMES = (*_HEADER, *_ENTRY, "direction", "amount", "addenda")
WHAT = "entries, hash, debits, credits"
_BLOCK_BYTES = 2 << 20


class NachaRows(TextFile):
    """``amount`` is in dollars without a sign, ``direction`` is credit or debit, from the transaction code."""

    def __init__(self, received: Received, declared: Sequence[str] | None, limits: Limits) -> None:
        super().__init__(received, limits)
        self.names: Sequence[str] = NAMES
        require_names(self.name, "a NACHA file", NAMES, declared or ())
        start = self.head.lstrip("\n\r ").partition("\n")[0].rstrip()
        if start[:1] != "1":
            raise WrongInput(f"{self.name}: line 1: it does not begin with a file header (record 1); is it a NACHA file?")
        if len(start) > 94:
            raise WrongInput(f"{self.name}: line 1 has {len(start):,} characters; expected records of 94, each ended by a line feed")

    def batches(self) -> Iterator[Any]:
        ties = _Ties(self.name)
        place = Place()
        for lines in self._blocks():
            ties.read(Records(lines, place))
        ties.end()
        self.controls = ties.controls
        place = Place()
        for lines in self._blocks():
            found = _rows(Records(lines, place), ties)
            if found.num_rows:
                yield found

    def _blocks(self) -> Iterator[Lines]:
        """Blocks of lines, cut where no addenda of an entry follow."""
        rest, number = b"", 1
        for first, block in self.line_blocks(_BLOCK_BYTES):
            number = number if rest else first
            block = rest + block
            cut = _last_group(block)
            rest = block[cut:]
            if len(rest) > self.limits.line:
                raise line_too_long(self.name, number + block.count(b"\n", 0, cut), self.limits.line)
            if cut:
                yield Lines(block[:cut], number)
                number += block.count(b"\n", 0, cut)
        if rest:
            yield Lines(rest, number)


def _last_group(block: bytes) -> int:
    """Where the last record that is no addenda begins."""
    place = len(block)
    while place:
        place = block.rfind(b"\n", 0, place - 1) + 1
        if block[place : place + 1] != b"7":
            return place
    return 0


@dataclass
class _Ties:
    """Ties batches and files to their control records. ``batches`` and ``files``: number → why its rows are rejected."""

    name: str
    controls: list[Control] = field(default_factory=list)
    batches: dict[int, str] = field(default_factory=dict)
    files: dict[int, str] = field(default_factory=dict)
    _batch: int = 0  # the batch that is open; 0: none
    _number: str = ""
    _totals: Totals = field(default_factory=Totals)
    _file: int = 0
    _begun: bool = False  # whether the file has records that a control record must follow
    _declared: Totals = field(default_factory=Totals)  # the sum of the file's batch controls
    _computed: Totals = field(default_factory=Totals)  # the sum of what its batches have
    _count: int = 0  # of batches in the file

    def read(self, records: Records) -> None:
        before, *after = records.segments()
        self._totals.add(before)
        for row, totals in zip(records.borders.tolist(), after, strict=True):
            kind, text = int(records.kind[row]), records.lines.text[row].as_py().rstrip("\n")
            where = f"line {records.lines.numbers[row]:,}"
            if kind == BATCH_END and self._batch:
                self._end_batch(text, where)
            elif kind != BATCH_END:
                self._leave_open()
            if kind == FILE_END:
                self._end_file(text, where)
            elif kind == FILE and self._begun:
                self._end_file(None, where)
            elif kind == BATCH:
                self._begun, self._count = True, self._count + 1
                self._batch, self._number, self._totals = int(records.batch[row]), text[87:94], Totals()
            self._totals.add(totals)

    def end(self) -> None:
        self._leave_open()
        if self._begun:
            self._end_file(None, "at the end")

    def _end_batch(self, text: str, where: str) -> None:
        declared, named = declared_totals(text, 5, (6, 12)), text[87:94]
        shown = "unreadable" if declared is None else str(declared)
        if named != self._number:
            shown += f", of batch {named!r}"
        control = Control(f"{where}, batch {self._number}", WHAT, shown, str(self._totals))
        self.controls.append(control)
        if not control.ties:
            self.batches[self._batch] = (
                f"batch {self._number} does not tie: its control record has {shown}; its records have {self._totals}"
            )
        self._declared.add(declared or self._totals)
        self._computed.add(self._totals)
        self._batch = 0

    def _leave_open(self) -> None:
        """Ends a batch that has no control record."""
        if self._batch:
            self.batches[self._batch] = f"batch {self._number} has no control record (8); send the whole file again"
            self._computed.add(self._totals)
            self._declared.add(self._totals)
            self._batch = 0

    def _end_file(self, text: str | None, where: str) -> None:
        """A file control ties to its batches' control records or to their entries, so that a batch that does not tie is alone rejected."""
        declared = declared_totals(text, 14, (8, 12)) if text is not None else None
        batches = int(text[1:7]) if text is not None and text[1:7].isdigit() else None
        shown = "no control record" if text is None else "unreadable" if declared is None else f"{batches} batches, {declared}"
        ties = declared is not None and batches == self._count and str(declared) in (str(self._declared), str(self._computed))
        figures = f"{self._count} batches, {self._computed}"
        self.controls.append(Control(f"{where}, file", f"batches, {WHAT}", figures if ties else shown, figures))
        if not ties:
            reason = "the file has no control record (9): it is cut off; send it again" if text is None else ""
            self.files[self._file] = reason or f"the file does not tie: its control record has {shown}; its records have {figures}"
        self._file, self._begun, self._count = self._file + 1, False, 0
        self._declared, self._computed = Totals(), Totals()


def _rows(records: Records, ties: _Ties) -> Any:
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    others = records.others()
    rows = np.flatnonzero(records.is_entry | others)
    problems, entry = records.problems, records.is_entry
    for reasons, numbers in ((ties.files, records.file), (ties.batches, records.batch)):
        for number in (set(np.unique(numbers[entry]).tolist()) if reasons else set()) & set(reasons):
            wanted = entry & (numbers == number) & (problems == None)  # noqa: E711
            problems[wanted] = reasons[number]
    headers = pa.array(records.headers, pa.string())
    texts = [_cut(headers, first, last).take(records.header[rows]) for first, last in _HEADER.values()]
    international = np.array([header[50:53] == "IAT" for header in records.headers])[records.header][rows]
    for name, (first, last) in _ENTRY.items():
        text = records.lines.slices(first, last, rows)
        if name in _INTERNATIONAL and international.any():
            first, last = _INTERNATIONAL[name]
            text = pc.if_else(international, records.lines.slices(first, last, rows) if first else "", text)
        texts.append(text)
    cents = pa.array(records.cents[rows])
    texts.append(pc.if_else(records.is_credit[rows], "credit", "debit"))
    texts.append(_dollars(cents))
    addenda, spans = _addenda(records, rows)
    texts.append(addenda)
    if others.any():
        texts = [pc.if_else(entry[rows], text, pa.scalar(None, pa.string())) for text in texts]
    return batch(records.lines.numbers[rows], spans, problems[rows], texts)


def _cut(text: Any, first: int, last: int) -> Any:
    import pyarrow.compute as pc

    return pc.ascii_trim(pc.utf8_slice_codeunits(text, first - 1, last), " ")


def _dollars(cents: Any) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    whole = pc.divide(cents, 100)
    part = pc.utf8_lpad(pc.subtract(cents, pc.multiply(whole, 100)).cast(pa.string()), 2, "0")
    return pc.binary_join_element_wise(whole.cast(pa.string()), part, ".")


def _addenda(records: Records, rows: Any) -> tuple[Any, Any]:
    """The payment information of each row's addenda, joined by line feeds, and the lines that each row takes."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    owner = records.owners()
    owned = np.flatnonzero(owner >= 0)
    spans = np.ones(len(rows), np.int32)
    if not len(owned):
        return pa.array(np.full(len(rows), ""), pa.string()), spans
    row = np.searchsorted(rows, owner[owned])
    offsets = np.searchsorted(row, np.arange(len(rows) + 1)).astype(np.int32)
    texts = records.lines.slices(4, 83, owned)
    joined = pc.binary_join(pa.ListArray.from_arrays(pa.array(offsets), texts), "\n")
    spans[row] = owned - owner[owned] + 1  # the last of each row counts
    return joined, spans
