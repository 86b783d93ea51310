"""Delta Lake (delta-rs): MERGE, and OPTIMIZE and VACUUM now and then.

Source of the way: the pages "Merging a table" and "Optimize" of the documentation of deltalake. It has no index; a look-up reads the
files of which the statistics do not exclude the key.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import duckdb
import pyarrow as pa
from deltalake import DeltaTable, QueryBuilder, write_deltalake

from benchmarks.peers.measure import Meter
from benchmarks.peers.peer import RAW, SAME, SIGNED_IDS, SUMS, Row, added, after_replay, arriving, columns
from benchmarks.peers.workload import MEASURES

_VALUES = ", ".join(f"'{name}': c.{name}" for name in MEASURES)
_SIGNED = f"{{'w': c.w, 'n': c.n, 'ids': {SIGNED_IDS.replace('(ids', '(c.ids')}, {_VALUES}}}"
"""It has no unsigned numbers: a bit of each hash is left out."""


class Delta:
    def __init__(self, folder: Path, league: str) -> None:
        self._place, self._league = str(folder / "totals"), league

    def load(self, slices: Sequence[Path]) -> None:
        kept = (
            columns(RAW) if self._league == RAW else [*columns(RAW), f"list_transform(contributions, lambda c: {_SIGNED}) AS contributions"]
        )
        for file in slices:
            with duckdb.connect(config={"threads": 2}) as connection:
                write_deltalake(self._place, connection.sql(f"SELECT {', '.join(kept)} FROM '{file}'").to_arrow_table(), mode="append")

    def batch(self, artifacts: Path, window: int, meter: Meter) -> None:
        changes = {name: added("target", "source", name) for name in MEASURES}
        if self._league == SAME:
            changes["contributions"] = "array_concat(target.contributions, source.contributions)"
        with meter.stage("upsert"), duckdb.connect(config={"threads": 2}) as connection:
            source = connection.sql(arriving(artifacts, self._league, window, signed=True)).to_arrow_table()
            self._merge(source).when_matched_update(changes).when_not_matched_insert_all().execute()

    def _merge(self, source: object):  # type: ignore[no-untyped-def]
        table = DeltaTable(self._place)
        return table.merge(source, predicate="target.key = source.key", source_alias="source", target_alias="target")

    def replay(self, artifacts: Path, window: int, meter: Meter) -> None:
        with meter.stage("upsert"), duckdb.connect(config={"threads": 2}) as connection:
            connection.register("old", DeltaTable(self._place).to_pyarrow_dataset())
            changed = connection.sql(after_replay("old", artifacts, window, signed=True)).to_arrow_table()
            self._merge(changed).when_matched_update_all().when_not_matched_insert_all().execute()

    def maintain(self, meter: Meter) -> None:
        with meter.stage("maintenance"):
            DeltaTable(self._place).optimize.compact()
            DeltaTable(self._place).vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)

    def open(self) -> None:
        self._opened = QueryBuilder().register("totals", DeltaTable(self._place))

    def look_up(self, key: str) -> Row | None:
        rows = pa.table(
            self._opened.execute(f"SELECT {', '.join(columns(self._league))} FROM totals WHERE key = '{key}'").read_all()
        ).to_pylist()
        return tuple(rows[0].values()) if rows else None

    def sums(self) -> list[str]:
        self.open()
        query = SUMS.replace("sum(", "sum(totals.") + "totals"
        (row,) = pa.table(self._opened.execute(query).read_all()).to_pylist()
        return [str(value) for value in row.values()]
