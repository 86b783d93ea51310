"""The committed windows of a state in few bytes, for tasks on other machines. Nearly all tasks look up the windows of their range only."""

from __future__ import annotations

import json
import zlib
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from recon.state.timeline import CommittedWindow


class PackedWindows(Mapping[str, CommittedWindow]):
    """``windows``, of which only those named by ``near`` can be looked up without unpacking all others."""

    def __init__(self, windows: Mapping[str, CommittedWindow], near: Collection[str]) -> None:
        self._near = {name: windows.get(name) for name in near}
        self._count = len(windows)
        self._packed = zlib.compress(json.dumps([[name, *window] for name, window in windows.items()]).encode(), 1)
        self._unpacked: dict[str, CommittedWindow] | None = None

    def __getitem__(self, name: str) -> CommittedWindow:
        if name not in self._near:
            return self._all()[name]
        found = self._near[name]
        if found is None:
            raise KeyError(name)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return self._count

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_unpacked": None}

    def _all(self) -> dict[str, CommittedWindow]:
        if self._unpacked is None:
            self._unpacked = {name: CommittedWindow(*fields) for name, *fields in json.loads(zlib.decompress(self._packed))}
        return self._unpacked


class Folders(Mapping[str, str]):
    """The folders of the reduced files of ``windows``, by name, and those in ``new`` in place of theirs. None is looked up before it is
    asked for."""

    def __init__(self, windows: Mapping[str, CommittedWindow], new: Mapping[str, str] | None = None) -> None:
        self._windows, self._new = windows, new or {}

    def __getitem__(self, name: str) -> str:
        return self._new[name] if name in self._new else self._windows[name].folder

    def __iter__(self) -> Iterator[str]:
        return iter({**dict.fromkeys(self._windows), **dict.fromkeys(self._new)})

    def __len__(self) -> int:
        return len({*self._windows, *self._new})
