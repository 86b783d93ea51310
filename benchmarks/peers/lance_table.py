"""Lance: merge_insert, a BTREE index on the key, compaction and index updates now and then.

Source of the way: the pages "Merge insert", "Scalar index" and "Compaction" of Lance's documentation. merge_insert replaces rows, it does
not add to them, so that the rows that stand are read first, by a join in DuckDB, as "Integrations: DuckDB" has it. ``use_index(False)``
is the faster way by far for batches of this size, as one try by hand into 3 M rows showed. The memory pool is
raised, since the default of 300 MB ends such a merge with "Resources exhausted".
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

os.environ.setdefault("LANCE_MEM_POOL_SIZE", str(4 << 30))

import duckdb
import lance

from benchmarks.peers.measure import Meter
from benchmarks.peers.peer import SUMS, Row, after_batch, after_replay, columns


class Lance:
    def __init__(self, folder: Path, league: str) -> None:
        self._place, self._league = str(folder / "totals.lance"), league

    def load(self, slices: Sequence[Path]) -> None:
        for number, file in enumerate(slices):
            rows = duckdb.sql(f"SELECT {', '.join(columns(self._league))} FROM '{file}'").to_arrow_table()
            lance.write_dataset(rows, self._place, mode="append" if number else "create")
        lance.dataset(self._place).create_scalar_index("key", "BTREE")

    def batch(self, artifacts: Path, window: int, meter: Meter) -> None:
        self._upsert(lambda old: after_batch(old, artifacts, self._league, window), meter)
        # A key that is not in the index yet is looked for by a scan.
        with meter.stage("index"):
            lance.dataset(self._place).optimize.optimize_indices()

    def replay(self, artifacts: Path, window: int, meter: Meter) -> None:
        self._upsert(lambda old: after_replay(old, artifacts, window), meter)

    def _upsert(self, rows, meter: Meter) -> None:  # type: ignore[no-untyped-def]
        with meter.stage("upsert"), duckdb.connect(config={"threads": 2, "memory_limit": "8GB"}) as connection:
            table = lance.dataset(self._place)
            connection.register("old", table.scanner(columns=columns(self._league)).to_reader())
            changed = connection.sql(rows("old")).to_arrow_table()
            table.merge_insert("key").use_index(False).when_matched_update_all().when_not_matched_insert_all().execute(changed)

    def maintain(self, meter: Meter) -> None:
        with meter.stage("maintenance"):
            table = lance.dataset(self._place)
            table.optimize.compact_files()
            table.optimize.optimize_indices()
            lance.dataset(self._place).cleanup_old_versions(older_than=timedelta(0))

    def open(self) -> None:
        self._opened = lance.dataset(self._place)

    def look_up(self, key: str) -> Row | None:
        rows = self._opened.to_table(columns=columns(self._league), filter=f"key = '{key}'").to_pylist()
        return tuple(rows[0].values()) if rows else None

    def sums(self) -> list[str]:
        with duckdb.connect(config={"threads": 2}) as connection:
            connection.register("totals", lance.dataset(self._place).scanner(columns=columns("raw")).to_reader())
            return [str(value) for value in connection.execute(SUMS + "totals").fetchone() or ()]
