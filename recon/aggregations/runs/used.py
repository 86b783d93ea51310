"""What a run of an aggregation read and wrote: the datasets of its lineage."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from recon.aggregations.preconditions.snapshot import ALL
from recon.aggregations.runs.tracking import Run
from recon.aggregations.warehouse.names import table_dataset
from recon.storage import layout
from recon.telemetry import lineage
from recon.telemetry.datasets import Used

if TYPE_CHECKING:
    from recon.aggregations.runs.site import Aggregations


def used_by(site: Aggregations, run: Run, figures: Mapping[str, Any] | None = None) -> lineage.Datasets:
    """Inputs and outputs of a run; with figures once it has completed."""
    files: dict[str, dict[str, Mapping[str, Any]]] = {}
    for file in site.runs.files(run):  # a file that landed twice with equal rows is one
        path = str(file["landed_path"])
        files.setdefault(layout.REFERENCE if path.startswith(layout.REFERENCE) else layout.EVENTS, {})[path] = file
    table = table_dataset(site.config, str(run.definition["target"]))
    if figures is None:
        return [Used(folder) for folder in files], [Used(table)]
    inputs = [
        Used(folder, sum(int(file["kept"]) for file in found.values()), sum(int(file["size"]) for file in found.values()), len(found))
        for folder, found in files.items()
    ]
    return inputs, [Used(table, int(figures["rows"]))]


@contextmanager
def reported(site: Aggregations, run: Run) -> Iterator[lineage.Reported]:
    """A block that carries out a run, of which lineage is sent."""
    config = site.config
    grid, scope = config.grid, run.scope
    span = None if scope == ALL else (grid.parse(scope), grid.after(grid.parse(scope)))
    job = f"{config.name}.aggregations.{run.aggregation}"
    of = lineage.JobRun(job, config.location, span, lineage.parent_of(f"{config.name}.run"))
    with lineage.reported(config.observability.lineage, of, lambda: used_by(site, run)) as sent:
        yield sent
