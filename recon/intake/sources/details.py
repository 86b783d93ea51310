"""What is known of one received file: its states, runs, figures and rejected rows, and the original text of any row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from recon.errors import WrongUsage
from recon.intake.sources.convert import opened
from recon.intake.sources.site import Intake, of_file, received_file
from recon.intake.sources.tracking import STATES, Tracked
from recon.storage import parquet
from recon.storage.scratch import local_copy, scratch_folder


def details(intake: Intake, file: Tracked) -> dict[str, Any]:
    """All of a file as JSON: its columns, ``times`` of its states, ``runs`` and ``rejects``."""
    times = {state: at for state in STATES if (at := getattr(file, f"{state}_at", None)) is not None}
    shown = {name: value for name, value in vars(file).items() if not name.endswith("_at") and name != "reconciliation"}
    return {
        **shown,
        "times": dict(sorted(times.items(), key=lambda entry: entry[1])),
        "runs": intake.tracking.runs(file),
        "rejects": rejects(intake, file),
    }


def rejects(intake: Intake, file: Tracked) -> list[dict[str, Any]]:
    """The rows that the source rejected: line, place, reason, raw."""
    if file.rejects is None:
        return []
    with scratch_folder(intake.store) as folder:
        return rejected_rows(local_copy(intake.store, file.rejects, folder))


def rejected_rows(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = parquet.read(path).to_pylist()
    return rows


def original(intake: Intake, file: Tracked, line: int) -> str:
    """The original text of the row in a line of a received file. Raises WrongUsage where no row begins there."""
    import numpy as np

    source = of_file(intake, file)
    with scratch_folder(intake.store) as folder:
        conversion = opened(intake.config, source, received_file(intake, file, folder), folder)
        for batch in conversion.batches():
            lines = batch.column(0).to_numpy()
            place = int(np.searchsorted(lines, line))
            if place < len(lines) and lines[place] == line:
                for raws in conversion.raw(np.array([line]), batch.column(1).to_numpy()[place : place + 1]):
                    return str(raws.column("raw")[0].as_py())
    raise WrongUsage(f"{file.shown}: no row begins in line {line}")
