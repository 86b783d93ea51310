"""Refuses work on records that an earlier version of Recon wrote."""

from __future__ import annotations

from recon.model.form import refuse_json_lines
from recon.state.runs import Run, open_runs
from recon.state.timeline import State
from recon.storage.open import FORMAT, format_of
from recon.storage.port import ObjectStore


def refuse_earlier_records(store: ObjectStore, state: State) -> None:
    """Raises JsonLines where records of a state are JSON lines. Stores of this version's format are not looked at."""
    if format_of(store) != FORMAT:
        for run in open_runs(store, [run.path for run in state.runs]):
            refuse_part_files(run)


def refuse_part_files(run: Run) -> None:
    """Raises JsonLines where a part-file of a run has JSON lines."""
    for part_file in run.part_files:
        refuse_json_lines(part_file)
