"""Takes a clean file's records through the queue, where its source names a function that works on each: in this process, or on AWS."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import cast

from recon.errors import TryAgain, WrongInput, WrongUsage
from recon.intake.queues.embedded import record_queues
from recon.intake.queues.finished import write_finished
from recon.intake.queues.opening import send_file
from recon.intake.queues.parcels import file_of
from recon.intake.queues.port import Counts, Process
from recon.intake.queues.whole import through_queue
from recon.intake.sources.convert import Converted
from recon.intake.sources.load import Source
from recon.intake.sources.site import Intake
from recon.intake.sources.tracking import Tracked
from recon.logic.call import function_of
from recon.storage import layout


class InQueue(TryAgain):
    """Functions on AWS, or another process, work on a file's records. This is no failed try: the file is taken up when they are done."""


def worked_on(intake: Intake, source: Source, file: Tracked, made: Converted, folder: Path) -> Converted:
    """``made`` with the records that the source's function has finished in place of its rows; itself where the source names none.

    Goes on where an earlier call was stopped. A record that failed three times is a dead letter ('recon dlq'), counted as ``dead`` and
    not landed. Raises InQueue while functions on AWS or another process work on some of the records."""
    if source.process is None or not made.figures.kept:
        return made
    worked = folder / "worked"
    worked.mkdir(exist_ok=True)
    name, out = records_file(intake, source, file), worked / made.clean.name
    if on_aws(intake):
        counts = _through_functions(intake, name, made.clean, out)
    else:
        queues = record_queues(intake.database, intake.config.name)
        counts = through_queue(queues, name, made.clean, out, partial(_process_of, intake))
        if not counts.done:
            raise InQueue(_waits(counts))
    _tie(counts, made)
    made.clean, made.figures.kept, made.figures.dead = out, counts.finished, counts.dead
    return made


def on_aws(intake: Intake) -> bool:
    """Whether functions on AWS work on the records."""
    return intake.config.records.table is not None


def _through_functions(intake: Intake, name: str, clean: Path, out: Path) -> Counts:
    """The counts of a file whose records are all finished or dead; the finished ones in ``out``. Sends the file first if it was not sent.
    Raises InQueue."""
    if not intake.records.started(name):
        start(intake, name, clean)
    counts = intake.records.counts(name)
    if not counts.done:
        raise InQueue(_waits(counts))
    write_finished(intake.records, name, clean, out)
    return counts


def start(intake: Intake, name: str, clean: Path) -> None:
    """Has the functions on AWS take a clean file through the queue. A process that dies before the file is noted as begun leaves that to
    the next, which sends it again."""
    path = layout.clean(layout.new_attempt())
    intake.store.copy_in(path, clean)
    send_file(intake.config, name, clean.name, f"{intake.config.store.rstrip('/')}/{path}")
    intake.records.begin(name, clean.name)


def waits(intake: Intake, file: Tracked) -> str | None:
    """What a converted file waits for: the records that functions on AWS still work on. None for any other file."""
    source = intake.sources.get(file.source)
    if file.state != "converted" or source is None or source.process is None or not on_aws(intake):
        return None
    name = records_file(intake, source, file)
    if not intake.records.started(name) or (counts := intake.records.counts(name)).done:
        return None
    return _waits(counts)


def _waits(counts: Counts) -> str:
    if not counts.rows:
        return "its records are on their way to the queue; run the same again"
    known = f"{counts.rows:,}" if counts.complete else f"at least {counts.rows:,}"
    return (
        f"{counts.in_progress:,} of {known} records are in progress; run the same again; 'recon dlq resend' where their messages were lost"
    )


def records_file(intake: Intake, source: Source, file: Tracked) -> str:
    """The name of a file's records in the record store. Other rules make other records, so their digest is a part of it."""
    return file_of(intake.config.name, source.name, f"{file.digest}-{source.rules[:16]}")


def record_counts(intake: Intake, files: Sequence[Tracked]) -> list[Counts]:
    """The counts of the files whose records went through the queue."""
    found = []
    for file in files:
        source = intake.sources.get(file.source)
        if source is not None and source.process is not None and file.state != "superseded":
            found.append(intake.records.counts(records_file(intake, source, file)))
    return found


def _tie(counts: Counts, made: Converted) -> None:
    if counts.rows != made.figures.kept or counts.finished + counts.dead != counts.rows:
        raise WrongInput(
            f"{made.clean.name}: {made.figures.kept:,} clean rows, but the queue had {counts.rows:,} records, {counts.finished:,} finished "
            f"and {counts.dead:,} dead; report this with the file"
        )


def _process_of(intake: Intake, name: str) -> Process:
    """The function of a source, also of another source of the site whose records wait in the queue."""
    source = intake.source(name, f"sources/{name}.yaml")
    if source.process is None:
        raise WrongUsage(f"sources/{name}.yaml: its records wait in the queue, and it names no 'process'; restore it")
    return cast(Process, function_of(source.process))
