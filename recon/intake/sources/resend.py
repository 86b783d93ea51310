"""Sends records again whose messages were lost: a queue that was purged, or messages that outlived their retention."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from recon.errors import ReconError
from recon.intake.queues.clean import windows
from recon.intake.queues.parcels import Parcel, parcels_of
from recon.intake.sources.convert import convert
from recon.intake.sources.load import Source
from recon.intake.sources.records import on_aws, records_file, start
from recon.intake.sources.site import Intake, received_file
from recon.intake.sources.tracking import Tracked
from recon.storage import parquet
from recon.storage.scratch import scratch_folder

_PUT_AT_ONCE = 25


@dataclass
class Resent:
    """``reopened``: open records that were sent to be processed again. ``stored``: records of which only the message was there.
    ``begun``: files that are cleaned on from where they were. ``failed``: (name, reason)."""

    reopened: int = 0
    stored: int = 0
    begun: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)


def resend(intake: Intake, reason: str, name: str | None = None) -> Resent:
    """Sends again what is in progress of the files of a source, or of all. A record that a worker is at right now may be processed twice;
    one of the results counts. Raises WrongUsage for a source that does not exist or has a mistake."""
    only, done = {} if name is None else {"source": intake.source(name, f"--source {name}").name}, Resent()
    for file in intake.tracking.files(state=("converted", "landed"), **only):
        source = intake.sources.get(file.source)
        if source is None or source.process is None:
            continue
        try:
            _file(intake, source, file, reason, done)
        except ReconError as error:
            done.failed.append((file.shown, str(error)))
    return done


def _file(intake: Intake, source: Source, file: Tracked, reason: str, done: Resent) -> None:
    store, name = intake.records, records_file(intake, source, file)
    if not store.started(name) or (counts := store.counts(name)).done:
        return
    for parcel in store.open_parcels(name):
        done.reopened += parcel.count if store.reopen(parcel, reason) else 0
    with scratch_folder(intake.store) as folder:
        clean = convert(intake.config, source, received_file(intake, file, folder), file.digest, folder).clean
        if not counts.complete and on_aws(intake):  # embedded, the next delivery cleans on
            start(intake, name, clean)
            done.begun += 1
        done.stored += _put_missing(intake, name, clean)


def _put_missing(intake: Intake, name: str, clean: Path) -> int:
    """Stores the parcels that the cleaner has sent and the store has not seen; how many records."""
    store, records, waiting = intake.records, 0, list[Parcel]()
    sent_to, firsts = store.begin(name, clean.name).line, store.stored_firsts(name)
    with parquet.open_file(clean) as opened:
        for part in windows(opened.iter_batches()):
            waiting += [one for one in parcels_of(name, part) if one.last <= sent_to and one.first not in firsts]
            if len(waiting) >= _PUT_AT_ONCE:
                store.put(waiting)
                records, waiting = records + sum(one.count for one in waiting), []
    store.put(waiting)
    return records + sum(one.count for one in waiting)
