"""Turns a text file of a declared encoding into UTF-8, and proposes an encoding."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from recon.config.settings import Limits
from recon.errors import WrongInput
from recon.intake.converters.port import Received
from recon.intake.converters.unpacking import unchanged
from recon.intake.files.formats import BLOCK_BYTES, BOM, blocks

_MARKS = {
    BOM: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""Byte order marks → the encoding; longer ones before those that they begin with."""
_SAMPLE_BYTES = 1 << 20
_USUAL = (
    "cp1252",
    "iso8859_15",
    "cp1250",
    "cp1251",
    "cp850",
    "cp437",
    "cp932",
    "euc_jp",
    "gb18030",
    "big5",
    "cp949",
    "utf_16_le",
    "utf_16_be",
)
"""What files come in. charset-normalizer knows many more, which it takes short texts for."""


def decode(received: Received, encoding: str, folder: Path, limits: Limits) -> Received:
    """The file as UTF-8 without a byte order mark: ``received`` itself where it is that already, else a new file in ``folder``.

    Raises WrongInput with the byte and the line where the file does not decode, and TryAgain if it is still being written."""
    name = codecs.lookup(encoding).name
    start = next(blocks(received.shown, received.path, None, 4), b"")
    marked = next((known for mark, known in _MARKS.items() if start.startswith(mark)), None)
    _agree(received, name, marked)
    with unchanged(received.shown, received.path):
        if name == "utf-8" and marked is None:
            for _ in _decoded(received, name, limits):
                pass
            return received
        target = folder / f"{received.path.name}.utf-8"
        with target.open("wb") as file:
            _write(file, received, "utf-8-sig" if name == "utf-8" else name, limits)
    return Received(received.name, target, received.parent)


def _agree(received: Received, name: str, marked: str | None) -> None:
    """Raises WrongInput if a byte order mark contradicts the encoding, or one is missing that only it can tell."""
    if marked is None and name in ("utf-16", "utf-32"):
        raise WrongInput(
            f"{received.shown}: byte 0: there is no byte order mark, so {name} leaves the order of bytes open; "
            f"declare {name}-le or {name}-be"
        )
    if marked is not None and not name.startswith(marked):
        raise WrongInput(
            f"{received.shown}: byte 0: it begins with the byte order mark of {marked}, the source declares {name}; declare {marked}"
        )


def _write(file: BinaryIO, received: Received, name: str, limits: Limits) -> None:
    line = 1
    for text in _decoded(received, name, limits):
        try:
            file.write(text.encode("utf-8"))
        except UnicodeEncodeError as error:
            line += text.count("\n", 0, error.start)
            raise WrongInput(
                f"{received.shown}: line {line}: half of a surrogate pair, which is no character; send the file again"
            ) from None
        line += text.count("\n")


def _decoded(received: Received, name: str, limits: Limits) -> Iterator[str]:
    """The text in blocks."""
    decoder = codecs.getincrementaldecoder(name)("strict")
    given, line = 0, 1  # bytes and lines before the current block
    for block, final in _with_last(blocks(received.shown, received.path, None, BLOCK_BYTES, limits)):
        waiting = len(decoder.getstate()[0])
        try:
            text = decoder.decode(block, final)
        except UnicodeDecodeError as error:
            line += error.object[: error.start].decode(error.encoding, "replace").count("\n")
            found = " ".join(f"{byte:02x}" for byte in error.object[error.start : error.start + 4])
            raise WrongInput(
                f"{received.shown}: byte {given - waiting + error.start:,} (line {line:,}): {found} is not {name} ({error.reason}); "
                "declare the file's encoding, or send it again"
            ) from None
        given += len(block)
        line += text.count("\n")
        yield text.removeprefix("\ufeff") if name in ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be") and given == len(block) else text


def _with_last(source: Iterator[bytes]) -> Iterator[tuple[bytes, bool]]:
    """The blocks, and an empty one that is the last."""
    for block in source:
        yield block, False
    yield b"", True


def propose_encoding(path: Path) -> str | None:
    """The likely encoding of a text file by its first MiB; None if nothing fits. For people to confirm, never to decode by."""
    from charset_normalizer import from_bytes

    with path.open("rb") as file:
        sample = file.read(_SAMPLE_BYTES)
    for mark, known in _MARKS.items():
        if sample.startswith(mark):
            return known
    try:
        codecs.getincrementaldecoder("utf-8")().decode(sample)
    except UnicodeDecodeError:
        best = from_bytes(sample, cp_isolation=list(_USUAL)).best()
        if best is None:
            return None
        same = next((name for name in _USUAL if name in best.could_be_from_charset), best.encoding)  # that give the same text
        return codecs.lookup(same).name
    return "utf-8"
