"""What a peer is, and the SQL that most of them share.

Leagues. *raw*: one row a key with its totals, nothing else. *same*: the row also holds its contributions, one a window (its number, events,
hashes of their ids, measures), as this project's artifacts do, so that a window can be taken out again. Peers are spared finding duplicates
across windows, derived values, the status, certificates and lineage.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from benchmarks.peers.measure import Meter
from benchmarks.peers.workload import MEASURES

RAW, SAME = "raw", "same"
CONTRIBUTION = "STRUCT(w INTEGER, n BIGINT, ids UBIGINT[], billed DECIMAL(38,2), paid DECIMAL(38,2), refunded DECIMAL(38,2), lines BIGINT)"
TYPES = {"billed": "DECIMAL(38,2)", "paid": "DECIMAL(38,2)", "refunded": "DECIMAL(38,2)", "lines": "BIGINT"}

SIGNED_IDS = "list_transform(ids, lambda i: (i & 9223372036854775807)::BIGINT)"

Row = tuple[Any, ...]


class Peer(Protocol):
    """One way to keep the state, in one folder. A step opens it, does its work and closes it; figures go to the meter by stage."""

    def load(self, slices: Sequence[Path]) -> None:
        """The state to begin with, from files of ``columns``. Not measured."""

    def batch(self, artifacts: Path, window: int, meter: Meter) -> None:
        """One window's reduced rows, the window not having been there before."""

    def replay(self, artifacts: Path, window: int, meter: Meter) -> None:
        """The same window again: whatever it had added is replaced. Only in the league ``same``."""

    def maintain(self, meter: Meter) -> None:
        """What its documentation asks to be done now and then. Once after ten batches."""

    def open(self) -> None:
        """Ready for look-ups."""

    def look_up(self, key: str) -> Row | None:
        """The totals of a key, and in the league ``same`` its contributions too."""

    def sums(self) -> list[str]:
        """Number of keys and the sum of each measure, as text."""


def columns(league: str) -> list[str]:
    return ["key", *MEASURES] + (["contributions"] if league == SAME else [])


def create_table(league: str, key: str = "") -> str:
    """DDL of DuckDB; ``key`` is put behind the key column."""
    listed = f", contributions {CONTRIBUTION}[]" if league == SAME else ""
    return f"CREATE TABLE totals (key VARCHAR {key}, {', '.join(f'{name} {kind}' for name, kind in TYPES.items())}{listed})"


def arriving(artifacts: Path, league: str, window: int, signed: bool = False) -> str:
    """SELECT of DuckDB: the rows of one window, as they are if nothing stood before. ``signed``: for a peer without unsigned numbers."""
    totals = ", ".join(f"CAST(m_{name} AS {kind}) AS {name}" for name, kind in TYPES.items())
    kind = CONTRIBUTION.replace("UBIGINT", "BIGINT") if signed else CONTRIBUTION
    listed = f", [CAST({contribution(window, SIGNED_IDS if signed else 'ids')} AS {kind})] AS contributions" if league == SAME else ""
    return f"SELECT key, {totals}{listed} FROM read_parquet('{artifacts}')"


def contribution(window: int, ids: str = "ids") -> str:
    """SQL: what a row of stateless artifacts adds to its key."""
    values = ", ".join(f"'{name}': m_{name}" for name in MEASURES)
    return f"{{'w': {window}, 'n': n, 'ids': {ids}, {values}}}"


def added(old: str, new: str, name: str) -> str:
    """SQL: the measure of both, where either may be null."""
    return f"coalesce({old}.{name} + {new}.{name}, {new}.{name}, {old}.{name})"


def after_batch(old: str, artifacts: Path, league: str, window: int) -> str:
    """SELECT of DuckDB: whole rows of the touched keys, for peers that can only replace rows. ``old``: a relation of the state."""
    listed = ", list_concat(o.contributions, a.contributions) AS contributions" if league == SAME else ""
    totals = ", ".join(f"CAST({added('o', 'a', name)} AS {kind}) AS {name}" for name, kind in TYPES.items())
    return f"SELECT a.key, {totals}{listed} FROM ({arriving(artifacts, league, window)}) a LEFT JOIN {old} o ON o.key = a.key"


def after_replay(old: str, artifacts: Path, window: int, signed: bool = False) -> str:
    """SELECT of DuckDB: whole rows of the keys that the window has or had, with its contributions replaced and the totals taken anew."""
    totals = ", ".join(
        f"CAST(list_sum(list_transform(contributions, lambda c: c.{name})) AS {kind}) AS {name}" for name, kind in TYPES.items()
    )
    return f"""
        SELECT key, {totals}, contributions FROM (
            SELECT coalesce(o.key, a.key) AS key,
                   list_concat(list_filter(coalesce(o.contributions, []), lambda c: c.w <> {window}), coalesce(a.contributions, [])) AS
                   contributions FROM {old} o FULL JOIN ({arriving(artifacts, SAME, window, signed)}) a ON o.key = a.key
            WHERE a.key IS NOT NULL OR len(list_filter(o.contributions, lambda c: c.w = {window})) > 0)"""


SUMS = f"SELECT count(*), {', '.join(f'sum({name})' for name in MEASURES)} FROM "
