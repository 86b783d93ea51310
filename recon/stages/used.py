"""What a stage read and wrote, from its own results: the datasets of its lineage."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

from recon.stages.certify import Certified
from recon.stages.work import WindowResult
from recon.storage import layout
from recon.telemetry.datasets import Used

Results = Sequence[WindowResult[Any]]


def used_by(stage: str, results: Results = ()) -> tuple[list[Used], list[Used]]:
    """Inputs and outputs of a stage. Without ``results``, at its beginning, they have no figures."""
    if stage == "land":
        files = [file for result in results for file in result.made.files]
        found = Used(layout.EVENTS, None, *(_sum(file.bytes for file in files), len(files)) if results else (None, None))
        return [], [found]
    if stage == "reduce":
        return _reduced(results)
    if stage == "prefetch":
        rows, size = _of_blocks(results, "range_records_found"), _of_blocks(results, "range_bytes")
        return [Used(layout.STATELESS), Used(layout.STATE, rows, size)], [Used(layout.PREFETCHED, rows, size)]
    if stage == "merge":
        rows, size = _of_blocks(results, "range_records_written"), _of_blocks(results, "range_bytes")
        keys = _sum(int(result.made["keys"]) for result in results) if results else None
        return [Used(layout.STATELESS, keys), Used(layout.STATE)], [Used(layout.STATE, rows, size)]
    if stage == "index":
        entries = next((int(result.numbers["entries"]) for result in results if "entries" in result.numbers), None)
        return [Used(layout.STATE)], [Used(layout.INDEXED, entries)]
    certificates = [result.made.certificate for result in results if isinstance(result.made, Certified)]
    rows = _sum(int(one["in"]["rows"]) for one in certificates) if certificates else None
    ties = {f"rows and money of {one['window']} tie": bool(one["ties"]) for one in certificates}
    count = len(certificates) or None
    return [Used(layout.EVENTS, rows, checks=ties), Used(layout.STATE)], [Used(layout.CERTIFICATES, count, files=count)]


def _reduced(results: Results) -> tuple[list[Used], list[Used]]:
    if not results:
        return [Used(layout.EVENTS)], [Used(layout.STATELESS)]
    files = [file for result in results for file in result.made.files]
    rows, size = _sum(result.made.arrived.rows for result in results), _sum(int(file["bytes"]) for file in files)
    return [Used(layout.EVENTS, rows, size, len(files))], [Used(layout.STATELESS, _sum(result.made.keys for result in results))]


def _of_blocks(results: Results, name: str) -> int | None:
    """The sum of a figure of the blocks of windows; the windows of a block follow each other and have the same figures."""
    figures = [{key: value for key, value in result.numbers.items() if key.startswith("range_")} for result in results]
    blocks = [block for block, _ in groupby(block for block in figures if name in block)]
    return _sum(int(block[name]) for block in blocks) if blocks else None


def _sum(numbers: Iterable[int]) -> int:
    return sum(numbers)
