"""Parts of a large landed file, which tasks read beside each other: row groups of Parquet, whole lines of uncompressed text.

A part of text begins after a line end. In JSON lines every line end is one of a record. In CSV a quoted field may hold line ends, so a part
begins after an even number of quotes, and what its reader finds decides: a part that ends outside quotes proves that the next one begins
with a record. Where that fails, and for every error, the file is read as a whole by one task, which reports what it finds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from recon.config import Config
from recon.engines.duckdb import window as one_window
from recon.errors import Damaged, WrongInput
from recon.intake.files import SourceFile
from recon.intake.files.delimited import delimiter_of
from recon.intake.files.formats import BOM, format_of
from recon.intake.files.jsonlines import absent_members
from recon.intake.files.quoting import OPEN_QUOTE, Dialect, Records
from recon.intake.manifests import LandedFile
from recon.storage import parquet
from recon.storage.disk_errors import filling
from recon.storage.parquet_parts import local_part
from recon.storage.port import NotFound, ObjectStore
from recon.storage.ranges import pieces

if TYPE_CHECKING:
    import duckdb

PARQUET_BYTES = 64 << 20
"""Target size of a part of Parquet, in compressed bytes of its row groups."""
TEXT_BYTES = 256 << 20
"""Target size of a part of text. A larger one means fewer pieces, of each of which every slice reads the footer."""
_HEADER_BYTES_MAX = 64 << 10
_LINES_TRIED = 1_000
"""Line ends in one block that are examined for an even number of quotes before them."""


class Uncertain(WrongInput):
    """A part of a file cannot be read alone."""


@dataclass(frozen=True)
class Part:
    """Row groups of a Parquet file, or bytes of a text file, from ``first`` to ``end``. ``line``: added to a line number of the text's
    local file, which begins with ``head``, it is the line of the whole file. ``last``: whether nothing follows."""

    first: int
    end: int
    line: int = 0
    head: bytes = b""
    last: bool = False


def part_bytes(config: Config, file: LandedFile) -> int | None:
    """The target size of a file's parts; None for a file that is small or that one task must read: a compressed one, and any where numbers
    of equal rows (``#`` in ``events.id``) are part of the identity."""
    form = format_of(file.name)
    size = PARQUET_BYTES if form.kind == "parquet" else TEXT_BYTES
    possible = form.codec is None and not one_window.event_spec(config).numbered
    return size if possible and size < file.bytes <= config.limits.bytes else None


def parts_of(store: ObjectStore, config: Config, item: tuple[LandedFile, int]) -> tuple[Part, ...]:
    """Reads a file once to compare its digest, and returns the parts of about so many bytes that it is read in; none where one task must
    read all of it, or where it is not what landed: that task reports it."""
    file, size = item
    kind, sha = format_of(file.name).kind, hashlib.sha256()
    try:
        if store.size(file.path) != file.bytes:
            return ()
        if kind == "parquet":
            found = _parts_of_groups(parquet.group_bytes(parquet.open_ranges(store, file.path)), size)
            for piece in pieces(store, file.path, file.bytes):
                sha.update(piece)
        else:
            found = _parts_of_text(store, config, file, size, sha)
    except (NotFound, Damaged, OSError):
        return ()
    return found if len(found) > 1 and sha.hexdigest() == file.digest else ()


def _parts_of_groups(sizes: Sequence[int], most: int) -> tuple[Part, ...]:
    """Consecutive row groups of together up to ``most`` bytes; a larger row group is a part of its own."""
    firsts, together = [0], 0
    for number, size in enumerate(sizes):
        if number > firsts[-1] and together + size > most:
            firsts.append(number)
            together = 0
        together += size
    ends = [*firsts[1:], len(sizes)]
    return tuple(Part(first, end, last=end == len(sizes)) for first, end in zip(firsts, ends, strict=True))


def _parts_of_text(store: ObjectStore, config: Config, file: LandedFile, size: int, sha: hashlib._Hash) -> tuple[Part, ...]:
    kind = format_of(file.name).kind
    head, place, feeds, quotes = b"\n", 0, 0, 0
    cuts = [(0, 0)]  # byte, and line ends before it
    for piece in pieces(store, file.path, file.bytes):
        sha.update(piece)
        if not place and kind != "json":
            head = piece[: piece.find(b"\n") + 1]
            if not _is_record(config, file, kind, head):
                return ()
        wanted = max(cuts[-1][0] + size - place, 0)
        while wanted < len(piece) and (cut := _cut(piece, wanted, None if kind == "json" else quotes)) is not None:
            cuts.append((place + cut, feeds + piece.count(b"\n", 0, cut)))
            wanted = cut + size
        place, feeds, quotes = place + len(piece), feeds + piece.count(b"\n"), quotes + piece.count(b'"')
    cuts = [cut for cut in cuts if cut[0] < place]
    ends = [*(first for first, _ in cuts[1:]), place]
    return tuple(
        Part(first, end, line - 1 if first else 0, head if first else b"", end == place)
        for (first, line), end in zip(cuts, ends, strict=True)
    )


def _is_record(config: Config, file: LandedFile, kind: str, line: bytes) -> bool:
    """Whether a header line is a record by itself, whatever follows."""
    if not line or len(line) > min(_HEADER_BYTES_MAX, config.limits.line):
        return False
    line = line.removeprefix(BOM)
    source = Records(file.name, iter([line]), Dialect(delimiter_of(kind)), config.limits.line)
    return b"".join(source) == line and not source.faults


def _cut(block: bytes, start: int, quotes: int | None) -> int | None:
    """The place after the first line end from ``start`` on, which has an even number of quotes before it; ``quotes``: those before the
    block, None where quotes do not matter. None where no such line end is found."""
    place = start
    for _ in range(_LINES_TRIED):
        end = block.find(b"\n", place) + 1
        if not end:
            return None
        if quotes is None:
            return end
        quotes += block.count(b'"', place if place > start else 0, end)
        if quotes % 2 == 0:
            return end
        place = end
    return None


def source_of(store: ObjectStore, config: Config, file: LandedFile, part: Part, scratch: Path) -> tuple[SourceFile, tuple[str, ...]]:
    """A part as a file for the intake; and the columns that no line of it has, in JSON lines, where the other parts may have them."""
    form = format_of(file.name)
    if form.kind == "parquet":
        groups = range(part.first, part.end)
        return SourceFile(file.name, local_part(store, file.path, scratch, groups), groups=groups), ()
    local = scratch / f"part-{part.first}"
    with filling(local, 0) as write:
        write(place := 0, part.head)
        place += len(part.head)
        for piece in pieces(store, file.path, part.end, part.first):
            write(place, piece)
            place += len(piece)
    source = SourceFile(file.name, local, partial=form.kind == "json")
    if form.kind != "json":
        return source, ()
    names = one_window.event_spec(config).names
    absent, there = absent_members(source, names, config.limits)
    return source, tuple(absent if absent or there else names)


def refuse_uncertain(connection: duckdb.DuckDBPyConnection, part: Part) -> None:
    """Raises Uncertain where the next part may begin inside a quoted field of this one."""
    if not part.last:
        open_quotes = connection.execute("SELECT 1 FROM landed_rejects WHERE reason = ? LIMIT 1", [OPEN_QUOTE]).fetchall()
        if open_quotes:
            raise Uncertain("a quoted field does not end in the part of the file that was read")
