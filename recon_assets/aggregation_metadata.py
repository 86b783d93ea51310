"""Metadata of a table of the warehouse: what the last run of its aggregation read, computed and changed, and a masked sample."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import dagster as dg

from recon.aggregations.definitions.load import Definition
from recon.aggregations.preconditions.conditions import TRIES
from recon.aggregations.preconditions.snapshot import split
from recon.aggregations.runs.site import Aggregations
from recon.aggregations.runs.tracking import Run
from recon.config.sections import MeasureSection
from recon.storage import layout
from recon_assets.intake_metadata import masked

_SAMPLE_ROWS, _FILES_MAX, _COLUMNS_MAX = 3, 50, 20
_FIGURES = ("rows_in", "rows_used", "rows_left_out", "inserted", "updated", "deleted")


def of_run(site: Aggregations, run: Run) -> dict[str, Any]:
    """Metadata of a completed run: its figures, its files by version, its certificate, and the first rows of the table, masked."""
    figures, target = run.figures, str(run.figures["target"])
    files, versions = site.runs.files(run), {int(text.partition(".")[0]): text for text in split(run.versions)}
    shown: dict[str, Any] = {
        "table": f"{target} in {site.warehouse.shown}",
        "dagster/row_count": figures["rows"],
        **{name: figures[name] for name in _FIGURES if name in figures},
        **_totals(figures.get("totals", {})),
        "run": run.id,
        "attempt": run.attempt,
        "files": len(files),
        "file_names": _listed([f"{file['name']} (version {versions[file['id']]})" for file in files]),
        "certificate": layout.load_certificate(run.aggregation, run.scope, run.id),
    }
    if run.started_at is not None and run.ended_at is not None:
        shown["seconds"] = round((run.ended_at - run.started_at).total_seconds(), 3)
    shown |= figures.get("place", {})
    if run.reason:
        shown["note"] = run.reason
    if aside := [f"{one['condition']}: {one['set_aside']}" for one in site.runs.answers(run) if _counts(one)]:
        shown["set_aside"] = "; ".join(aside)
    if sample := _sample(site.warehouse.sample(target, run.scope, _SAMPLE_ROWS)):
        shown["sample"] = dg.MetadataValue.md(sample)
    return shown


def _counts(answer: Mapping[str, Any]) -> bool:
    """Whether a condition was set aside that says something about the input."""
    return bool(answer["set_aside"]) and answer["condition"] != TRIES


def _totals(totals: Mapping[str, str]) -> dict[str, Any]:
    """The sums of the table's rows, exact as text, and again as numbers, which the UI plots."""
    if not totals:
        return {}
    exact = ", ".join(f"{name} {Decimal(value):,}" for name, value in totals.items())
    return {"totals": exact, **{f"total_{name}": float(value) for name, value in totals.items()}}


def _listed(names: list[str]) -> str:
    return ", ".join(names[:_FILES_MAX]) + (f" and {len(names) - _FILES_MAX:,} more" if len(names) > _FILES_MAX else "") or "none"


def _sample(rows: list[dict[str, Any]]) -> str:
    """The rows as a table in which letters are x and digits 0."""
    if not rows:
        return ""
    columns = list(rows[0])[:_COLUMNS_MAX]
    lines = [" | ".join(columns), " | ".join("---" for _ in columns)]
    lines += [" | ".join(masked(row[name]) for name in columns) for row in rows]
    return "\n".join(f"| {line} |" for line in lines)


def columns_of(definition: Definition) -> dg.TableSchema:
    """The columns of the target."""
    keys = [dg.TableColumn(name, str(kind), "key") for name, kind in definition.key_types.items()]
    kinds = {measure.name: str(measure.type) for measure in definition.config.measures}
    measures = [dg.TableColumn(name, kinds.get(name, ""), _described(measure)) for name, measure in definition.section.measures.items()]
    return dg.TableSchema([*keys, *measures])


def _described(measure: MeasureSection) -> str:
    kind, column = measure.kinds[0]
    return f"{kind} of {column}" + (f" where {measure.where}" if measure.where else "")
