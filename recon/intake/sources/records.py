"""Takes a clean file's records through the queue, where its source names a function that works on each."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import cast

from recon.errors import TryAgain, WrongInput, WrongUsage
from recon.intake.queues.embedded import record_queues
from recon.intake.queues.parcels import file_of
from recon.intake.queues.port import Counts, Process
from recon.intake.queues.whole import through_queue
from recon.intake.sources.convert import Converted
from recon.intake.sources.load import Source
from recon.intake.sources.site import Intake
from recon.intake.sources.tracking import Tracked
from recon.logic.call import function_of


def worked_on(intake: Intake, source: Source, file: Tracked, made: Converted, folder: Path) -> Converted:
    """``made`` with the records that the source's function has finished in place of its rows; itself where the source names none.

    Goes on where an earlier call was stopped. A record that failed three times is a dead letter ('recon dlq'), counted as ``dead`` and
    not landed. Raises TryAgain while another process works on some of the records."""
    if source.process is None or not made.figures.kept:
        return made
    worked = folder / "worked"
    worked.mkdir(exist_ok=True)
    queues = record_queues(intake.database, intake.config.name)
    out = worked / made.clean.name
    counts = through_queue(queues, records_file(intake, source, file), made.clean, out, partial(_process_of, intake))
    if not counts.done:
        raise TryAgain(f"{counts.in_progress:,} of {counts.rows:,} records are in progress in another process; run the same again")
    _tie(counts, made)
    made.clean, made.figures.kept, made.figures.dead = out, counts.finished, counts.dead
    return made


def records_file(intake: Intake, source: Source, file: Tracked) -> str:
    """The name of a file's records in the record store. Other rules make other records, so their digest is a part of it."""
    return file_of(intake.config.name, source.name, f"{file.digest}-{source.rules[:16]}")


def record_counts(intake: Intake, files: Sequence[Tracked]) -> list[Counts]:
    """The counts of the files whose records went through the queue."""
    store, found = record_queues(intake.database, intake.config.name).records, []
    for file in files:
        source = intake.sources.get(file.source)
        if source is not None and source.process is not None and file.state != "superseded":
            found.append(store.counts(records_file(intake, source, file)))
    return found


def _tie(counts: Counts, made: Converted) -> None:
    if counts.rows != made.figures.kept or counts.finished + counts.dead != counts.rows:
        raise WrongInput(
            f"{made.clean.name}: {made.figures.kept:,} clean rows, but the queue had {counts.rows:,} records, {counts.finished:,} finished "
            f"and {counts.dead:,} dead; report this with the file"
        )


def _process_of(intake: Intake, name: str) -> Process:
    """The function of a source, also of another source of the site whose records wait in the queue."""
    source = intake.sources.get(name)
    if source is None or source.process is None:
        raise WrongUsage(f"sources/{name}.yaml: its records wait in the queue, and it names no 'process'; restore it")
    return cast(Process, function_of(source.process))
