"""The audit log: one line of JSON for each answer, on disk before the answer is sent."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol


class Log(Protocol):
    """Where an audit log goes."""

    def add(self, line: Mapping[str, Any]) -> None:
        """Adds a line, which is kept when this returns. Raises OSError."""
        ...


class Audit:
    """A file that lines are added to, by any number of processes. Raises OSError where it cannot be opened."""

    def __init__(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self._file = file
        self.add({"event": "start", "process": os.getpid()})

    def add(self, line: Mapping[str, Any]) -> None:
        """Adds a line with the time, and waits until it is on disk. The file is opened for each, so that it may be moved away meanwhile.
        Control characters are escaped, so that no text makes a line of its own."""
        text = json.dumps({"time": datetime.now(UTC).isoformat(timespec="milliseconds"), **line}, ensure_ascii=True)
        descriptor = os.open(self._file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
        try:
            data = f"{text}\n".encode("ascii")
            while data:
                data = data[os.write(descriptor, data) :]
            os.fdatasync(descriptor) if hasattr(os, "fdatasync") else os.fsync(descriptor)
        finally:
            os.close(descriptor)
