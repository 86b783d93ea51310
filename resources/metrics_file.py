"""Writes figures in Prometheus' text format into a file, for node_exporter's textfile collector and for ``recon serve``."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from recon.errors import WrongUsage
from recon.reading.monitored import Monitored

if TYPE_CHECKING:
    from prometheus_client.core import GaugeMetricFamily

_MODE = 0o644
"""node_exporter reads the file as another user."""


@dataclass(frozen=True)
class Money:
    """Sums of amounts as of a ``commit``: status, currency, artifacts, sum; see recon.reading.breaks.by_status."""

    commit: int
    rows: Sequence[tuple[str, str, int, Decimal | None]] = ()


Aggregated = Mapping[str, Mapping[str, int]]
"""Aggregation → state → windows."""


def text_of(
    reconciliation: str, found: Monitored, matched: str | None, money: Money | None, aggregations: Aggregated = MappingProxyType({})
) -> bytes:
    """The figures of one reconciliation. ``matched``: the status that is no break. ``money``: None leaves the sums out.

    Raises WrongUsage where the client library of Prometheus is not installed."""
    try:
        from prometheus_client import generate_latest
    except ModuleNotFoundError:
        raise WrongUsage("observability.metrics: prometheus_client is missing; pip install 'dagster-recon[observability]'") from None

    class Families:
        def collect(self) -> Iterable[GaugeMetricFamily]:
            yield from _families(reconciliation, found, matched, money)
            if aggregations:
                yield _of_aggregations(reconciliation, aggregations)

    return generate_latest(Families())


def write(path: Path, text: bytes) -> None:
    """Replaces the file, so that readers see the old figures or the new ones. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _MODE)
        with os.fdopen(descriptor, "wb") as file:
            file.write(text)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def _of_aggregations(reconciliation: str, aggregations: Aggregated) -> GaugeMetricFamily:
    from prometheus_client.core import GaugeMetricFamily

    help_text = "Windows of an aggregation that are not loaded, by state; late ones are in another state, too"
    made = GaugeMetricFamily("recon_aggregation_windows", help_text, labels=["reconciliation", "aggregation", "state"])
    for name, states in aggregations.items():
        for state, count in states.items():
            made.add_metric([reconciliation, name, state], count)
    return made


def _families(reconciliation: str, found: Monitored, matched: str | None, money: Money | None) -> Iterable[GaugeMetricFamily]:
    from prometheus_client.core import GaugeMetricFamily

    def family(
        name: str, help_text: str, rows: Iterable[tuple[Sequence[str], float | None]], labels: Sequence[str] = ()
    ) -> GaugeMetricFamily:
        made = GaugeMetricFamily(f"recon_{name}", help_text, labels=["reconciliation", *labels])
        for values, figure in rows:
            if figure is not None:
                made.add_metric([reconciliation, *values], figure)
        return made

    yield family(
        "windows", "Windows by state; a window may be in several", (((state,), n) for state, n in found.windows.items()), ["state"]
    )
    yield family("watermark_end_timestamp_seconds", "End of the newest window up to which all are done", [((), found.watermark_end)])
    yield family("freshness_allowed_seconds", "How far the watermark may be behind", [((), found.allowed_s)])
    yield family("commit", "Number of the newest commit", [((), found.commit)])
    yield family("commit_timestamp_seconds", "Time of the newest commit", [((), found.committed)])
    yield family("artifacts", "Artifacts by status", (((status,), n) for status, n in found.artifacts.items()), ["status"])
    breaks = ((((status,), n)) for status, n in found.artifacts.items() if status != matched)
    yield family("breaks", "Artifacts that are not matched, by status", breaks, ["status"])
    if money is not None:
        sums = (((status, currency), float(total)) for status, currency, _, total in money.rows if total is not None)
        yield family("money", "Sum of the amounts of artifacts by status, rounded", sums, ["status", "currency"])
        yield family("money_commit", "Number of the commit of recon_money", [((), money.commit)])
    yield family("written_timestamp_seconds", "When these figures were written", [((), time.time())])
