"""One object per artifact: a JSON file a key, replaced by a rename.

Of the state and of each batch only one key in ``share(state)`` is carried out, since a state of millions of files takes hours to make;
costs are multiplied. Sums can't be compared for it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from hashlib import md5
from pathlib import Path

import duckdb

from benchmarks.peers.measure import Meter
from benchmarks.peers.peer import Row, arriving
from benchmarks.peers.workload import MEASURES


def share(state: int) -> int:
    """One key in how many: some 20,000 of the state are made."""
    return max(1, state // 20_000)


class Objects:
    def __init__(self, folder: Path, league: str, state: int) -> None:
        self._folder, self._league = folder / "objects", league
        self._taken = f"md5_number(key) % {share(state)} = 0"

    def load(self, slices: Sequence[Path]) -> None:
        with duckdb.connect() as connection:
            for file in slices:
                for key, *values in connection.execute(f"SELECT key, {', '.join(MEASURES)} FROM '{file}' WHERE {self._taken}").fetchall():
                    self._put(
                        key, {name: str(value) for name, value in zip(MEASURES, values, strict=True) if value is not None}, durable=False
                    )

    def _file(self, key: str) -> Path:
        name = md5(key.encode()).hexdigest()
        return self._folder / name[:2] / name[2:4] / name

    def _put(self, key: str, held: dict[str, object], durable: bool = True) -> None:
        file = self._file(key)
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.with_suffix(".new").open("w") as out:
            json.dump({"key": key, **held}, out)
            if durable:
                out.flush()
                os.fsync(out.fileno())
        file.with_suffix(".new").rename(file)

    def batch(self, artifacts: Path, window: int, meter: Meter) -> None:
        from decimal import Decimal

        with meter.stage("upsert"), duckdb.connect() as connection:
            query = f"SELECT * FROM ({arriving(artifacts, 'same', window)}) WHERE {self._taken}"
            for key, *values, contributions in connection.execute(query).fetchall():
                file = self._file(key)
                held = json.loads(file.read_text()) if file.exists() else {}
                for name, value in zip(MEASURES, values, strict=True):
                    if value is not None:
                        held[name] = str(Decimal(held.get(name, 0)) + value)
                if self._league == "same":
                    held.setdefault("contributions", {})[str(window)] = {name: str(value) for name, value in contributions[0].items()}
                self._put(key, held)

    def replay(self, artifacts: Path, window: int, meter: Meter) -> None:
        """Not carried out."""

    def maintain(self, meter: Meter) -> None:
        """Nothing to do."""

    def open(self) -> None:
        """Nothing to do."""

    def look_up(self, key: str) -> Row | None:
        file = self._file(key)
        return tuple(json.loads(file.read_text()).values()) if file.exists() else None

    def sums(self) -> list[str]:
        return []
