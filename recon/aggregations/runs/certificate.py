"""The certificate of a load: what went in, what came out, and that both tie; numbered by the run, never overwritten."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from recon.aggregations.preconditions.snapshot import version
from recon.aggregations.runs.tracking import Run
from recon.storage import documents, layout
from recon.storage.port import AlreadyExists

if TYPE_CHECKING:
    from recon.aggregations.runs.site import Aggregations


def put_certificate(site: Aggregations, run: Run, figures: Mapping[str, Any]) -> None:
    """Puts the certificate of a run whose load has committed. ``figures``: of the run, as ``carry_out`` makes them."""
    files = site.runs.files(run)
    body = {
        "aggregation": run.aggregation,
        "scope": run.scope,
        "run": run.id,
        "load": run.load,
        "rules": figures["rules"],
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "files": [
            {"file": file["name"], "version": version(file["id"], file["landings"]), "digest": file["digest"], "rows": file["kept"]}
            for file in files
        ],
        "figures": {name: value for name, value in figures.items() if name != "rules"},
        "ties": figures["rows_in"] == sum(int(file["kept"]) for file in {file["landed_path"]: file for file in files}.values()),
    }
    with suppress(AlreadyExists):  # by the same run, whose process died after it
        documents.put(site.intake.store, layout.load_certificate(run.aggregation, run.scope, run.id), body, **documents.INDENTED)
