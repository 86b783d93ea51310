"""Standard output and error of a command that may be closed, or whose reader may go away: the work is done all the same."""

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
    """``sys.stdout`` and ``sys.stderr`` that take every line, until the block ends. A stream that a caller has put in the place of the
    process's own, as pytest does, stays."""
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
    """Opens what is closed of descriptors 0, 1 and 2. Else the next file that is opened takes such a number, and what anybody writes to
    standard output lands in that file."""
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
        except OSError as error:  # such as a full disk: the answer is lost, and said to be
            self._lead_to_nowhere()
            name = f"standard {'output' if self.fileno() == 1 else 'error'}"
            raise OSError(error.errno, error.strerror, name) from error

    def _lead_to_nowhere(self) -> None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.fileno())
        os.close(nowhere)
