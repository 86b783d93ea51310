"""Dead letters as people name and change them: SOURCE:DIGEST:LINE, with as many digits of the digest as tell files apart."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace

from recon.errors import WrongUsage
from recon.intake.queues.parcels import Record, records_of
from recon.intake.queues.port import DeadLetter, RecordStore

DIGITS = 12
_ID = re.compile(r"(?P<source>[A-Za-z0-9_-]+):(?P<digest>[0-9a-f]{1,64}):(?P<line>[0-9]+)\Z")


def id_of(letter: DeadLetter) -> str:
    """The name of a dead letter."""
    _, source, digest = letter.parcel.file.split("/")
    return f"{source}:{digest[:DIGITS]}:{letter.parcel.first}"


def listed(store: RecordStore, reconciliation: str, source: str | None = None, discarded: bool = False) -> Iterator[DeadLetter]:
    """The dead letters of a reconciliation, or of one of its sources, by file and line."""
    return store.dead_letters(f"{reconciliation}/{source}/" if source else f"{reconciliation}/", discarded)


def find(store: RecordStore, reconciliation: str, name: str) -> DeadLetter:
    """The dead letter of this name, discarded ones too. Raises WrongUsage if there is none, or several."""
    match = _ID.match(name)
    if match is None:
        raise WrongUsage(f"{name}: a dead letter is named SOURCE:DIGEST:LINE; 'recon dlq list' names them")
    prefix = f"{reconciliation}/{match['source']}/{match['digest']}"
    found = [one for one in store.dead_letters(prefix, discarded=True) if one.parcel.first == int(match["line"])]
    if len(found) != 1:
        what = "several files have records" if found else "there is no dead letter"
        raise WrongUsage(f"{name}: {what} of this name; 'recon dlq list --discarded' names them")
    return found[0]


def texts_of(letter: DeadLetter) -> list[Record]:
    """The records of a dead letter."""
    return records_of(letter.parcel).rows()


def edit(store: RecordStore, letter: DeadLetter, changes: Mapping[str, str | None], reason: str) -> None:
    """Changes texts of a single record; the store keeps the texts before. Raises WrongUsage for several records or an unknown column."""
    records = records_of(letter.parcel)
    if letter.parcel.count > 1:
        raise WrongUsage(f"{id_of(letter)}: it has {letter.parcel.count} records; redrive it, so that those that fail stand alone")
    for name in changes:
        if name not in records.names:
            raise WrongUsage(f"--set {name}: the file has no such column; its columns are {', '.join(records.names)}")
    columns = tuple([changes.get(name, column[0])] for name, column in zip(records.names, records.columns, strict=True))
    changed = replace(records, columns=columns).encoded()
    _changed(letter, store.edit(letter.parcel, changed, reason))


def redrive(store: RecordStore, letter: DeadLetter, reason: str) -> None:
    """Sends a dead letter through the process step again."""
    _changed(letter, store.redrive(letter.parcel, reason))


def discard(store: RecordStore, letter: DeadLetter, reason: str) -> None:
    """Gives a dead letter up. It stays in the list of the discarded, and counts as dead."""
    _changed(letter, store.discard(letter.parcel, reason))


def _changed(letter: DeadLetter, changed: bool) -> None:
    if not changed:
        raise WrongUsage(f"{id_of(letter)}: it is no longer dead, or was discarded; see 'recon dlq list --discarded'")
