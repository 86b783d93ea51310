"""Completeness of a window: expected, received, late, duplicate and rejected, in files, rows and money."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from recon.config import Config
from recon.intake.manifests import LandedFile, Manifest, read_manifest
from recon.model.totals import Totals, declared_totals, total_of
from recon.model.windows import name_of
from recon.planning import quarantine
from recon.state import reduced
from recon.state.committed import committed_figures
from recon.state.timeline import State
from recon.storage import parquet
from recon.storage.port import ObjectStore


def completeness(
    store: ObjectStore,
    config: Config,
    state: State,
    window: datetime,
    manifest: Manifest | None,
    committed: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """``expected``, ``received``, ``late``, ``duplicates`` and ``rejected`` of a window. Files are those of the newest ``manifest``; rows
    and control totals are those of the committed revision, null before there is one. Expected totals are those that the senders declared,
    null if there are none.

    ``committed``: the figures of the committed revision, if read already. Late files landed after the window was closed (``closed_by``:
    when, by whom, why). ``quarantined``: why the newest revision could not be processed."""
    files = manifest.files if manifest else ()
    first_closed = None if manifest is None or not manifest.closed else _first_closed(store, window, manifest)
    on_time = {file.path for file in (first_closed.files if first_closed else files)}
    late = [file for file in files if file.path not in on_time]
    committed = committed or committed_figures(store, state, [name_of(window)]).get(name_of(window))
    figures = reduced.read(store, committed["folder"]) if committed else None
    declared = [totals for file in files if file.expect and (totals := declared_totals(file.expect)) is not None]
    return {
        "expected": {
            "files": manifest.expected if manifest is not None and manifest.closed else config.closing.files,
            "declared_by": len(declared),
            **(total_of(declared).to_json() if declared else {"rows": None}),
        },
        "received": {
            "files": len(manifest.received) if manifest else 0,
            "bytes": sum(file.bytes for file in files),
            "corrections": [{"name": file.name, "reason": file.reason, "by": file.by} for file in files if file.reason],
            **(committed["arrived"] if committed else {"rows": None}),
        },
        "late": {"files": [file.name for file in late], **(_late_totals(store, config, figures, late) if figures else {"rows": None})},
        "duplicates": _duplicates(committed).to_json() if committed else {"rows": None},
        "rejected": {
            "files": [file["name"] for file in figures.files if file["rejected"]] if figures else [],
            **(committed["rejected"] if committed else {"rows": None}),
        },
        "closed_by": None
        if first_closed is None
        else {name: getattr(first_closed, name) for name in ("revision", "time", "by", "cause", "reason")},
        "quarantined": _quarantined(store, config, state, window, manifest),
    }


def _duplicates(committed: Mapping[str, Any]) -> Totals:
    """Duplicates within the window and of earlier windows."""
    return Totals.from_json(committed["duplicates"]) + Totals.from_json(committed["suppressed"])


def _first_closed(store: ObjectStore, window: datetime, newest: Manifest) -> Manifest:
    """The manifest that closed the window, found by bisection: a closed window stays closed."""
    low, high, found = 1, newest.revision, newest
    while low < high:
        middle = (low + high) // 2
        manifest = read_manifest(store, window, middle)
        if manifest is not None and manifest.closed:
            high, found = middle, manifest
        else:
            low = middle + 1
    return found


def _late_totals(store: ObjectStore, config: Config, figures: reduced.Figures, late: Sequence[LandedFile]) -> dict[str, Any]:
    """Rows and control totals of the late files in the committed revision, with duplicates and rejected rows."""
    digests = {file.digest for file in late}
    ranks = [rank for rank, file in enumerate(figures.files) if file["digest"] in digests]
    rows = sum(int(figures.files[rank]["rows"]) for rank in ranks)
    if not ranks:
        return figures.arrived.nothing().to_json()
    from recon.engines.duckdb import reduce
    from recon.engines.duckdb.session import connect
    from recon.storage.scratch import scratch_folder

    with scratch_folder(store) as scratch, connect(store, config, scratch) as connection:
        files = (reduced.local_file(store, figures.folder, name, scratch) for name in (reduced.EVENTS, reduced.SET_ASIDE))
        events, aside = (parquet.scan(file) for file in files)
        source = f"(FROM (FROM {events} UNION ALL BY NAME FROM {aside}) WHERE file IN ({', '.join(map(str, ranks))}))"
        return Totals(rows, reduce.totals_of(connection, config, source).money).to_json()


def _quarantined(store: ObjectStore, config: Config, state: State, window: datetime, manifest: Manifest | None) -> dict[str, Any] | None:
    if manifest is None or state.revision(manifest.window) >= manifest.revision:
        return None
    wrong = quarantine.read(store, window, manifest.revision, config.judged_by)
    return None if wrong is None else asdict(wrong)
