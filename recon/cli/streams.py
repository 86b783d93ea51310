"""Standard output and error that never fail a command: if they are closed or their reader goes away, the work is done all the same."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

_STREAMS = ("stdout", "stderr")


@contextmanager
def lasting_streams() -> Iterator[None]:
    """Replaces ``sys.stdout`` and ``sys.stderr`` by streams that accept every line, until the block ends. Keeps a stream that a caller has
    installed, as pytest does."""
    _fill_closed_descriptors()
    before = {name: getattr(sys, name) for name in _STREAMS}
    try:
        for number, name in enumerate(_STREAMS, start=1):
            if before[name] is None or before[name] is getattr(sys, f"__{name}__"):
                setattr(sys, name, _lasting(number, before[name]))
            elif hasattr(before[name], "reconfigure"):
                before[name].reconfigure(errors="backslashreplace")
        yield
    finally:
        for name in _STREAMS:
            getattr(sys, name).flush()
        for name, stream in before.items():
            setattr(sys, name, stream)


def _fill_closed_descriptors() -> None:
    """Opens descriptors 0, 1 and 2 if they are closed. Otherwise the next file to be opened gets such a number, and writes to standard
    output end up in that file."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one


def _lasting(number: int, like: TextIO | None) -> TextIO:
    # A file name need not be text, and still has to be named.
    encoding = like.encoding if like is not None else "utf-8"
    file = _Lasting(number, "wb", closefd=False)
    return io.TextIOWrapper(
        io.BufferedWriter(file), encoding=encoding, errors="backslashreplace", line_buffering=number == 2 or file.isatty()
    )


class _Lasting(io.FileIO):
    """A descriptor that leads to nowhere once its reader has gone away (``recon … | head -1``)."""

    def write(self, content: Any) -> int:
        try:
            return super().write(content)
        except BrokenPipeError:
            self._lead_to_nowhere()
            return memoryview(content).nbytes
        except OSError as error:  # such as a full disk: the answer is lost, which the error reports
            self._lead_to_nowhere()
            name = f"standard {'output' if self.fileno() == 1 else 'error'}"
            raise OSError(error.errno, error.strerror, name) from error

    def _lead_to_nowhere(self) -> None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.fileno())
        os.close(nowhere)
