"""Receives files: keeps their bytes under their digest and begins to track them. A file that was received before changes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from recon.errors import TryAgain, WrongInput
from recon.intake.sources.load import Source, source_of
from recon.intake.sources.tracking import Tracked, Tracking
from recon.storage import layout
from recon.storage.port import ObjectStore
from recon.storage.scratch import file_digest


@dataclass(frozen=True)
class Receipt:
    """One received file. ``new``: whether it was not received before."""

    file: Tracked
    new: bool


def receive(tracking: Tracking, store: ObjectStore, sources: Mapping[str, Source], path: Path, run: str) -> list[Receipt]:
    """Receives a local file; none where no source's pattern matches its name.

    Raises TryAgain for a file that changes while it is read: its writer is not done."""
    source = source_of(sources, path.name)
    if source is None:
        return []
    before = stamp_of(path)
    digest = _digest(path)
    keep(store, path, digest)
    if stamp_of(path) != before:
        raise TryAgain(f"{path}: it changed while it was read, and was not received; run the same again when its writer is done")
    receipt = _tracked(tracking, source, path.name, digest, path.stat().st_size, run)
    tracking.note_delivery(str(path.absolute()), before, digest)
    return [receipt]


def _tracked(tracking: Tracking, source: Source, name: str, digest: str, size: int, run: str) -> Receipt:
    found = source.match(name)
    assert found is not None, "source_of has matched the name"
    pattern, parts = found
    part, version = source.section.version, None
    if part is not None:
        if not parts[part].isdecimal() or len(parts[part]) > 18:
            raise WrongInput(f"{name}: its version {parts[part]!r} is no number; see {source.path}: version")
        version = int(parts[part])
    series = name if part is None else pattern.without(name, part)
    fields = {"source": source.name, "name": name, "series": series, "version": version, "digest": digest, "size": size}
    return Receipt(*tracking.add(fields, run))


def _digest(path: Path) -> str:
    try:
        return file_digest(path)
    except OSError as error:
        raise WrongInput(f"{path}: can't be read: {error.strerror}") from None


def keep(store: ObjectStore, path: Path, digest: str) -> None:
    """Keeps the bytes of a local file in the store, once per digest."""
    if next(iter(store.list(layout.received(digest))), None) is None:
        store.copy_in(layout.received_file(digest, layout.new_attempt(), path.name), path)


def kept(store: ObjectStore, digest: str) -> str:
    """The path of kept bytes. Raises WrongInput where they are gone."""
    found = next(iter(store.list(layout.received(digest))), None)
    if found is None:
        raise WrongInput(f"received bytes {digest[:16]} are gone from the store; restore them from a copy, or deliver the file again")
    return found


def stamp_of(path: Path) -> str:
    """Size and time of change of a local file: equal stamps mean equal bytes. Raises WrongInput where it is gone."""
    try:
        status = path.stat()
    except OSError as error:
        raise WrongInput(f"{path}: {error.strerror}; name a file that can be read") from None
    return f"{status.st_size} {status.st_mtime_ns}"


def waiting(tracking: Tracking, sources: Mapping[str, Source], folder: Path) -> Iterator[Path]:
    """The files of a folder that match a source and are new there or have changed, in order of name. Folders in it, links and hidden files
    are left out."""
    stamps = tracking.stamps()
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.is_symlink() or not path.is_file():
            continue
        if stamps.get(str(path.absolute())) != stamp_of(path) and source_of(sources, path.name) is not None:
            yield path
