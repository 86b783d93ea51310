"""Land, replace, take back, correct, close and replay: each change of a window is a new revision with a manifest of its own.

Two callers who change a window at the same moment race for the next revision number. The loser starts over, so neither change is lost.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as Collection
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from pathlib import Path, PurePath
from typing import Any

from recon.errors import TryAgain, WrongInput, WrongUsage
from recon.intake import manifests
from recon.intake.manifests import LandedFile, Manifest, read_manifest
from recon.intake.revise import newest_manifest, revise
from recon.model.totals import declared_text, declared_totals
from recon.model.windows import Grid, name_of
from recon.state import revisions
from recon.storage import layout
from recon.storage.port import AlreadyExists, NotFound, ObjectStore
from recon.storage.scratch import file_digest, object_digest

_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class LandOptions:
    """``close``: closes the window. ``expected``: the number of files that a window should hold, recorded when it is closed.
    ``replacing``: the file (name as landed) that the one given file replaces. ``expect``: totals that the sender declared for each file.
    ``origin``: of a source's clean file; see LandedFile."""

    close: bool = False
    expected: int | None = None
    replacing: str | None = None
    expect: Mapping[str, Any] = field(default_factory=dict)
    origin: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Landing:
    """The result of one call: the newest manifest, and the names under which files were added."""

    manifest: Manifest
    added: tuple[str, ...]
    already: tuple[tuple[str, str], ...] = ()
    """(file given, name under which the same bytes had landed)"""
    changed: bool = True
    """Whether there is a new revision: also where the same file only got other declared totals, or the window was closed."""


def land(
    store: ObjectStore, window: datetime, files: Sequence[Path], inspect: Callable[[str, Path], None], options: LandOptions | None = None
) -> Landing:
    """Puts files into a window. The same bytes again are a no-op; any other file is added, under a name that is free in the window.

    ``inspect(name, path)`` raises WrongInput for a file that does not have the format that its name says; nothing is written then. Raises
    WrongUsage for a file that does not exist.
    """
    options = options or LandOptions()
    _refuse_paths(files, options)
    before = newest_manifest(store, window)
    if declared_totals(options.expect) is None:
        raise WrongUsage(f"expect: {declared_text(options.expect)} are not all numbers; write them as {{'rows': 3, 'amount': '75.00'}}")
    inspected = [(file, _inspected(file, inspect)) for file in files]
    given = {digest for _, digest in inspected}
    if options.replacing is not None and _has_replaced(store, window, before, options.replacing, given):
        options = replace(options, replacing=None)  # the same call again, perhaps because the reply to the first was lost
    known = {landed.digest: landed.name for landed in before.files if landed.name != options.replacing}
    stored: dict[str, LandedFile] = {}
    already: list[tuple[str, str]] = []
    for file, digest in inspected:
        if digest in known:
            already.append((file.name, known[digest]))
            continue
        path = layout.landed_file(window, digest, layout.new_attempt(), file.name)
        size = _copy(store, file, path, digest)
        stored[digest] = LandedFile(file.name, digest, size, path, dict(options.expect), origin=dict(options.origin))
        known[digest] = file.name
    manifest, changed = revise(store, window, partial(_with_files, stored=stored, given=given, options=options))
    added = tuple(landed.name for landed in manifest.files if landed.digest in stored)
    return Landing(manifest, added, tuple(already), changed)


def _refuse_paths(files: Sequence[Path], options: LandOptions) -> None:
    if options.replacing is not None and len(files) != 1:
        raise WrongUsage("--replace takes exactly one new file for the one that it replaces")
    for file in files:
        if file.is_dir():
            raise WrongUsage(f"{file}: this is a folder; name the files in it")
        if not file.is_file():
            raise WrongUsage(f"{file}: there is no such file; name a file that can be read")


def _with_files(current: Manifest, stored: Mapping[str, LandedFile], given: Collection[str], options: LandOptions) -> Manifest | None:
    """``current`` with the ``stored`` files (by digest) added; None where nothing changes. ``given``: digests of all files of the call."""
    replacing, declared = options.replacing, dict(options.expect)
    kept = [landed for landed in current.files if landed.name != replacing]
    if replacing is not None and len(kept) == len(current.files):
        raise WrongUsage(_no_such_file(current, replacing))
    # Totals declared for a file that has landed before replace its earlier ones, and so does its origin.
    kept = [
        replace(file, expect=declared or file.expect, origin=dict(options.origin) or file.origin) if file.digest in given else file
        for file in kept
    ]
    here = {landed.digest for landed in kept}
    # The order of landing decides between rows of equal time: a corrected file takes the place of the file that it replaces.
    place = [landed.name for landed in current.files].index(replacing) if replacing is not None else len(kept)
    for digest, landed in stored.items():
        if digest not in here:
            kept.insert(place, replace(landed, name=_free_name(landed.name, [other.name for other in kept])))
            place += 1
    if tuple(kept) == current.files and (current.closed or not options.close):
        return None
    cause = "replace" if replacing else "close" if tuple(kept) == current.files else "land"
    expected = options.expected if options.close and not current.closed else current.expected
    return replace(current, files=tuple(kept), closed=current.closed or options.close, expected=expected, cause=cause, reason="")


def _inspected(file: Path, inspect: Callable[[str, Path], None]) -> str:
    """The digest of a file that ``inspect`` accepts, taken first, so that the bytes copied later are those inspected."""
    try:
        digest = file_digest(file)
    except OSError as error:
        raise WrongInput(f"{file.name}: can't be read from {file}: {error.strerror}") from None
    inspect(file.name, file)
    return digest


def _copy(store: ObjectStore, file: Path, path: str, digest: str) -> int:
    """Copies a file into the store and returns its size in bytes. Raises TryAgain where its bytes no longer have ``digest``: another
    process is still writing the file."""
    sha = hashlib.sha256()

    def chunks() -> Iterator[bytes]:
        try:
            with file.open("rb", buffering=0) as stream:
                while block := stream.read(_BLOCK_BYTES):
                    sha.update(block)
                    yield block
        except OSError as error:
            raise WrongInput(f"{file.name}: can't be read from {file}: {error.strerror}") from None

    size = store.put_new(path, chunks())
    if sha.hexdigest() != digest:
        store.delete(path)
        raise TryAgain(f"{file}: it changed while it was landed, and nothing was; land it again when its writer is done")
    return size


def unland(store: ObjectStore, window: datetime, name: str, reason: str) -> Manifest:
    """Takes a file (name as landed) back out of a window; its bytes stay for the record. A reason is required. The same call again
    changes nothing."""
    if not reason.strip():
        raise WrongUsage("--reason: say why the file is taken back; the certificate will name it")

    def change(current: Manifest) -> Manifest | None:
        kept = tuple(landed for landed in current.files if landed.name != name)
        revised = replace(current, files=kept, cause="unland", reason=f"{name}: {reason}")
        if len(kept) == len(current.files):
            if _removed_by(store, window, current, name) == (revised.cause, revised.reason):
                return None
            raise WrongUsage(_no_such_file(current, name))
        return revised

    return revise(store, window, change)[0]


def land_correction(store: ObjectStore, window: datetime, file: Path, reason: str, attempt: str) -> Manifest:
    """Adds a file of corrections, under a new name, with the reason and the user who makes it. Returns the manifest that has it as its
    last file. With the same ``attempt`` it is added once, however often the call is repeated."""
    digest = file_digest(file)
    path = layout.landed_file(window, digest, attempt, file.name)
    with suppress(AlreadyExists):
        store.copy_in(path, file)
    landed = LandedFile(file.name, digest, file.stat().st_size, path, reason=reason, by=manifests.operator())

    def change(current: Manifest) -> Manifest | None:
        if any(other.path == path for other in current.files):
            return None
        return replace(current, files=(*current.files, landed), cause="correct", reason=reason)

    current, changed = revise(store, window, change)
    earlier = () if changed else (read_manifest(store, window, revision) for revision in range(1, current.revision))
    return next((manifest for manifest in earlier if manifest and manifest.files and manifest.files[-1].path == path), current)


def close_if(
    store: ObjectStore, window: datetime, why: Callable[[Manifest], str | None], expected: Callable[[Manifest], int | None]
) -> tuple[Manifest, bool]:
    """Closes an open window for the reason that ``why`` returns for its newest manifest, or leaves it open where that is None. A window
    without any file closes as empty. ``expected``: the number of files that it should hold, asked where there is a reason.

    Both are called again where another writer changed the window meanwhile. Returns the manifest and whether this call closed it."""

    def change(current: Manifest) -> Manifest | None:
        reason = None if current.closed else why(current)
        return None if reason is None else replace(current, closed=True, expected=expected(current), cause="close", reason=reason)

    return revise(store, window, change)


def replay(store: ObjectStore, windows: Iterable[datetime], reason: str = "") -> list[Manifest]:
    """Marks windows to be processed again by the next run: each gets a new revision with the same files. A window that is marked already
    and not yet processed stays as it is."""

    def change(current: Manifest, window: datetime) -> Manifest | None:
        marked = (current.cause, current.reason) == ("replay", reason) and revisions.waits(store, window, current.revision)
        return None if marked else replace(current, cause="replay", reason=reason)

    found = (window for window in windows if read_manifest(store, window) is not None)
    return [revise(store, window, partial(change, window=window), allow_lost=True)[0] for window in found]


def refuse_unbegun(grid: Grid, window: datetime, now: datetime) -> None:
    """Raises WrongInput for a window that has not begun, and names the newest window that has."""
    if window > now:
        raise WrongInput(
            f"window {name_of(window)} has not begun yet (now {now:%Y-%m-%dT%H:%MZ}); the newest is {name_of(grid.last_begun(now))}"
        )


def _removed_by(store: ObjectStore, window: datetime, current: Manifest, name: str) -> tuple[str, str]:
    """Cause and reason of the newest manifest that no longer lists the file ``name``, ("", "") if none ever listed it."""
    later = current
    for revision in range(current.revision - 1, 0, -1):
        with suppress(NotFound):
            if (earlier := read_manifest(store, window, revision)) is None:
                continue
            if any(file.name == name for file in earlier.files):
                return later.cause, later.reason
            later = earlier
    return "", ""


def _has_replaced(store: ObjectStore, window: datetime, current: Manifest, name: str, given: Collection[str]) -> bool:
    """Whether the given file has replaced the file ``name`` already: the window lists its bytes, and once listed other bytes as
    ``name``."""
    digests = {file.name: file.digest for file in current.files}
    if not given & set(digests.values()):
        return False
    if digests.get(name) in given:
        return all(_intact(store, file) for file in current.files if file.name == name)
    return name not in digests and _removed_by(store, window, current, name)[0] == "replace"


def _intact(store: ObjectStore, file: LandedFile) -> bool:
    """Whether the store still has the bytes that landed. If not, landing the same file again puts them back."""
    try:
        return object_digest(store, file.path) == file.digest
    except NotFound:
        return False


def _free_name(name: str, taken: Sequence[str]) -> str:
    """``bank.csv.gz`` → ``bank~2.csv.gz`` where that name is taken: names as landed are unique in a window."""
    if name not in taken:
        return name
    stem, dot, suffixes = PurePath(name).name.partition(".")
    number = 2
    while (candidate := f"{stem}~{number}{dot}{suffixes}") in taken:
        number += 1
    return candidate


def _no_such_file(manifest: Manifest, name: str) -> str:
    names = ", ".join(file.name for file in manifest.files) or "no files"
    return f"{name}: window {manifest.window} holds no file landed under that name; it holds {names}"
