"""One verification: where it reads, computes and reports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recon.config import Config
from recon.storage.port import ObjectStore
from recon.verification.findings import Findings
from recon.verification.timeline import History

if TYPE_CHECKING:
    import duckdb


@dataclass
class RecordsRead:
    """The result of reading all records. ``live``: number of entries that no newer run supersedes. ``lost``: hashes (hi, lo) of live
    records that cannot be read. ``runs_lost``: number of unreadable runs; with any, it is not known which other entries are live."""

    live: int = 0
    lost: list[tuple[int, int]] = field(default_factory=list)
    runs_lost: int = 0

    @property
    def complete(self) -> bool:
        return not self.lost and not self.runs_lost


@dataclass(frozen=True)
class Proof:
    """A verification under way. ``scratch``: a folder for local copies. ``newest``: window → its newest certificate. ``damaged``: paths of
    landed files whose bytes are not those that landed. ``records``: filled by the check of the records."""

    store: ObjectStore
    config: Config
    connection: duckdb.DuckDBPyConnection
    history: History
    scratch: Path
    findings: Findings
    newest: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    damaged: frozenset[str] = frozenset()
    records: RecordsRead = field(default_factory=RecordsRead)

    def number(self, window: str) -> int:
        """The number of a window in the grid."""
        return self.config.grid.index(self.config.grid.parse(window))
