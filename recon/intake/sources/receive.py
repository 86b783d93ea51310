"""Receives files: keeps their bytes under their digest and begins to track them. A file that was received before changes nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from recon.errors import WrongInput
from recon.intake.converters.port import Received
from recon.intake.converters.unpacking import ARCHIVES, unpack
from recon.intake.sources.inbox import Inbox, Item
from recon.intake.sources.load import Source, source_of
from recon.intake.sources.site import Intake
from recon.intake.sources.tracking import Tracked
from recon.storage import layout
from recon.storage.port import ObjectStore
from recon.storage.scratch import file_digest, scratch_folder

VERSION_DIGITS = 18


@dataclass(frozen=True)
class Receipt:
    """One received file. ``new``: whether it was not received before."""

    file: Tracked
    new: bool


def receive(intake: Intake, inbox: Inbox, item: Item) -> tuple[list[Receipt], list[str]]:
    """Receives a file of an inbox, or each file in it if it is an archive. Returns the receipts, and the names that no source matches.

    Raises TryAgain for a file that changes while it is copied: its writer is not done; WrongInput for an archive that is refused, of which
    nothing is received. An archive with such names is received again while a source has a mistake, since they may be for it."""
    with scratch_folder(intake.store) as folder:
        path = inbox.local(item, folder)
        receipts, unknown = _files_in(intake, item, unpack(item.name, path, intake.config.limits, folder))
        digest = _digest(path)
        if receipts and receipts[0].file.parent is not None:
            keep(intake.store, path, digest)
    if unknown and intake.broken:
        return receipts, unknown
    if receipts:
        intake.tracking.note_delivery(item.place, item.stamp, digest)
    inbox.received(item)
    return receipts, unknown


def _files_in(intake: Intake, item: Item, files: Sequence[Received]) -> tuple[list[Receipt], list[str]]:
    unknown: list[str] = []
    wanted: dict[tuple[str, str, str], tuple[Received, dict[str, Any]]] = {}
    for received in files:
        name = PurePosixPath(received.name).name
        source = source_of(sources_for(intake, item), name)
        if source is None:
            unknown.append(received.shown)
            continue
        identity = (source.name, name, _digest(received.path))
        if (other := _same_file(source, identity, wanted)) is not None:
            alike = "one name, so the second would replace the first"
            if identity in wanted:
                alike = "equal names and bytes, so they count as one file"
            raise WrongInput(
                f"{received.parent}: {other} and {received.name} have {alike}; ask the sender for names that "
                "differ, or take one of them out"
            )
        size = received.path.stat().st_size
        wanted[identity] = received, {**_version_of(source, name), "parent": _folder_of(received), "size": size}
    return [_receipt(intake, identity, *rest) for identity, rest in wanted.items()], unknown


def _same_file(source: Source, identity: tuple[str, str, str], wanted: Mapping[tuple[str, str, str], tuple[Received, Any]]) -> str | None:
    """The member of an archive that another one, of this identity, would stand for: of equal name and bytes, or of equal name where the
    newer file replaces the older and nothing says which one is newer."""
    if identity in wanted:
        return wanted[identity][0].name
    if source.section.delivery != "snapshot" or source.section.version.column is not None:
        return None
    return next((received.name for known, (received, _) in wanted.items() if known[:2] == identity[:2]), None)


def _receipt(intake: Intake, identity: tuple[str, str, str], received: Received, fields: dict[str, Any]) -> Receipt:
    source, name, digest = identity
    keep(intake.store, received.path, digest)
    return Receipt(*intake.tracking.add({"source": source, "name": name, "digest": digest, **fields}, intake.run))


def _folder_of(received: Received) -> str | None:
    """The archive of a file, and its folder in it."""
    folders = PurePosixPath(received.name).parent
    if received.parent is None:
        return None
    return received.parent if str(folders) == "." else f"{received.parent}/{folders}"


def _version_of(source: Source, name: str) -> dict[str, Any]:
    """``series`` and ``version`` of a file, from its name."""
    found = source.match(name)
    assert found is not None, "source_of has matched the name"
    pattern, parts = found
    if (part := source.section.version.part) is None:
        return {"series": name, "version": None}
    if not parts[part].isdecimal() or len(parts[part]) > VERSION_DIGITS:
        raise WrongInput(f"{name}: its version {parts[part]!r} is no number; see {source.path}: version")
    return {"series": pattern.without(name, part), "version": int(parts[part])}


def _digest(path: Path) -> str:
    try:
        return file_digest(path)
    except OSError as error:
        raise WrongInput(f"{path}: can't be read: {error.strerror}") from None


def keep(store: ObjectStore, path: Path, digest: str) -> None:
    """Keeps the bytes of a local file in the store, once per digest."""
    if next(iter(store.list(layout.received(digest))), None) is None:
        store.copy_in(layout.received_file(digest, layout.new_attempt(), path.name), path)


def fresh(intake: Intake, items: Iterable[Item]) -> list[Item]:
    """The archives and the files of sources that are new in their place or have changed."""
    stamps = intake.tracking.stamps()
    return [item for item in items if is_wanted(intake, item) and (item.message or stamps.get(item.place) != item.stamp)]


def is_wanted(intake: Intake, item: Item) -> bool:
    """Whether a file is an archive, or a source's pattern matches its name."""
    archive = PurePosixPath(item.name).suffix.lower() in ARCHIVES
    return archive or any(source.match(item.name) for source in sources_for(intake, item).values())


def sources_for(intake: Intake, item: Item) -> dict[str, Source]:
    """The sources that may take a file: that for which it was made, or those of received files. So nobody can send a file of breaks."""
    return {name: source for name, source in intake.sources.items() if (name == item.of if item.of else source.breaks is None)}
