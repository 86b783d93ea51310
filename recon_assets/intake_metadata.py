"""Metadata of received and clean files: rows, rejects by reason, arrivals beside what is expected, and masked samples."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import dagster as dg

from recon.intake.files.parquet import LINE
from recon.intake.manifests import read_manifest
from recon.intake.sources.arrivals import arrivals, last_seen
from recon.intake.sources.records import record_counts
from recon.intake.sources.site import Intake
from recon.intake.sources.tracking import OPEN, Tracked
from recon.model.windows import name_of
from recon.storage import parquet
from recon.storage.scratch import local_copy, scratch_folder

_SAMPLE_ROWS, _BAR = 3, 20


def of_received(intake: Intake, window: datetime, files: Sequence[Tracked]) -> dict[str, Any]:
    """Files and bytes by state, and a line for each expected file."""
    states: Counter[str] = Counter(file.state for file in files)
    shown: dict[str, Any] = {"files": len(files), "bytes": sum(file.size for file in files), "states": dg.MetadataValue.json(dict(states))}
    if chart := arrival_chart(intake, window):
        shown["arrivals"] = dg.MetadataValue.md(chart)
    return shown


def of_clean(intake: Intake, window: datetime, files: Sequence[Tracked]) -> dict[str, Any]:
    """Rows landed and rejected, the reasons, and a sample of clean rows in which letters are x and digits 0."""
    landed = [file for file in files if file.state == "landed"]
    reasons: Counter[str] = Counter()
    for file in files:
        reasons.update(file.figures.get("reasons", {}))
    reported = {check: entry["rows"] for file in landed for check, entry in file.figures.get("reported", {}).items()}
    shown: dict[str, Any] = {
        "files": len(landed),
        "rows": sum(file.rows or 0 for file in landed),
        "dagster/row_count": sum(file.kept or 0 for file in landed),
        "rejected_rows": sum(file.rejected_rows or 0 for file in landed),
        "rejected_files": sum(file.state == "rejected" for file in files),
        "superseded_files": sum(file.state == "superseded" for file in files),
    }
    if reasons:
        shown["reasons"] = dg.MetadataValue.json(dict(reasons.most_common(20)))
    if reported:
        shown["reported"] = dg.MetadataValue.json(reported)
    if landed and (sample := _sample(intake, window, landed[0])):
        shown["sample"] = dg.MetadataValue.md(sample)
    return shown


def of_stored(intake: Intake, window: datetime, files: Sequence[Tracked]) -> dict[str, Any]:
    """Files and records in the record store."""
    counts = record_counts(intake, files)
    return {"files": len(counts), "dagster/row_count": sum(each.rows for each in counts)}


def in_progress(intake: Intake, files: Sequence[Tracked]) -> int:
    """Records that are neither finished nor dead, of the files that land when all are."""
    return sum(each.in_progress for each in record_counts(intake, [file for file in files if file.state in OPEN]))


def of_processed(intake: Intake, window: datetime, files: Sequence[Tracked]) -> dict[str, Any]:
    """Records in = finished + dead + in progress."""
    counts = record_counts(intake, files)
    return {
        "records": sum(each.rows for each in counts),
        "dagster/row_count": sum(each.finished for each in counts),
        "dead": sum(each.dead for each in counts),
        "discarded": sum(each.discarded for each in counts),
        "in_progress": sum(each.in_progress for each in counts),
    }


def arrival_chart(intake: Intake, window: datetime) -> str:
    """A bar of how many expected files have landed, and the missing ones; "" where none is expected."""
    expected = arrivals(intake.config.grid, intake.sources, window, intake.tracking.files(window=name_of(window)))
    if not expected:
        return ""
    missing = tuple(arrival.name for arrival in expected if arrival.file is None)
    earlier = {file.name: file for file in intake.tracking.files(name=missing)} if missing else {}
    here = sum(arrival.file is not None for arrival in expected)
    filled = _BAR * here // len(expected)
    lines = [f"`{'█' * filled}{'░' * (_BAR - filled)}` {here} of {len(expected)} expected files"]
    lines += [f"- missing: {arrival.missing}{last_seen(earlier.get(arrival.name))}" for arrival in expected if arrival.file is None]
    return "\n".join(lines)


def _sample(intake: Intake, window: datetime, file: Tracked) -> str:
    manifest = read_manifest(intake.store, window)
    landed = next((other for other in manifest.files if other.name == file.landed_as), None) if manifest else None
    if landed is None:
        return ""
    with scratch_folder(intake.store) as folder:
        opened = parquet.open_file(local_copy(intake.store, landed.path, folder))
        batch = next(opened.iter_batches(_SAMPLE_ROWS), None)
        rows = [] if batch is None else batch.drop_columns([LINE]).to_pylist()
    if not rows:
        return ""
    lines = [" | ".join(rows[0]), " | ".join("---" for _ in rows[0])]
    lines += [" | ".join(masked(value) for value in row.values()) for row in rows]
    return "\n".join(f"| {line} |" for line in lines)


def masked(value: object) -> str:
    """A value whose form can be seen and whose content cannot: letters are x, digits 0."""
    text = "" if value is None else str(value)
    return re.sub(r"[^\W\d_]", "x", re.sub(r"\d", "0", text)).replace("|", "\\|")[:40]
