"""A clean file through the embedded queue, from its records to the Parquet file of those that are finished."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from recon.intake.queues.clean import clean
from recon.intake.queues.embedded import AGAIN_S, RecordQueues, drain
from recon.intake.queues.finished import write_finished
from recon.intake.queues.port import Counts, Process
from recon.storage import parquet


def through_queue(
    queues: RecordQueues, file: str, clean_file: Path, out: Path, process_of: Callable[[str], Process], again_s: float = AGAIN_S
) -> Counts:
    """Takes the rows of ``clean_file`` (LINE, then texts) through their source's function and writes the finished ones to ``out``, with the
    same metadata. ``process_of``: the function of a source; other files' messages that wait are worked on, too.
    ``again_s``: see drain().

    Goes on where an earlier call was stopped: what is finished is not processed again. Returns the counts: dead records are not in
    ``out``, and ``done`` is false where another process still works on some. Raises TryAgain where the database is away."""
    with parquet.open_file(clean_file) as source:
        clean(queues.records, queues.store_queue, file, clean_file.name, source.iter_batches())
    drain(queues, process_of, again_s=again_s)
    counts = queues.records.counts(file)
    write_finished(queues.records, file, clean_file, out)
    return counts
