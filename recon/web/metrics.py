"""Figures for Prometheus, without names of owners and requests."""

from __future__ import annotations

from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily

from recon.config.observability import Metrics as Settings

METHODS = ("GET", "POST", "DELETE")


class Metrics:
    """The figures of one server."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._answers = Counter("recon_http_answers", "Answers", ["method", "route", "status"], registry=self._registry)
        self._seconds = Histogram(
            "recon_http_seconds", "Seconds from a request to the begin of its answer", ["route"], registry=self._registry
        )

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Counts an answer. ``route``: its template, "" where there is none."""
        named = route or "none"
        self._answers.labels(method if method in METHODS else "other", named, str(status)).inc()
        self._seconds.labels(named).observe(seconds)

    def text(self, requests: dict[tuple[str, str], int]) -> bytes:
        """All figures. ``requests``: state and lane → number of requests in the database."""
        states = GaugeMetricFamily("recon_requests", "Requests in the database", labels=["state", "lane"])
        for (state, lane), count in sorted(requests.items()):
            states.add_metric([state, lane], count)
        return generate_latest(self._registry) + generate_latest(_Only(states))


def of_daemon(settings: Settings) -> bytes:
    """The figures that the daemon's sensor wrote; empty where they are not to be served, or there are none."""
    if not settings.serve or settings.file is None:
        return b""
    try:
        return Path(settings.file).read_bytes()
    except OSError:
        return b""


class _Only:
    """A registry of one figure, as it is now."""

    def __init__(self, family: GaugeMetricFamily) -> None:
        self._family = family

    def collect(self) -> list[GaugeMetricFamily]:
        return [self._family]
