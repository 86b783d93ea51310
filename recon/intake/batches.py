"""Land: files come into a window, are replaced, taken back, closed and marked for another run. Every change is a new revision.

A manifest is the complete list of a window's files at one revision, put once under its number; two who land at the same moment
race for the number and the loser starts over, so neither's file is lost.
"""

from __future__ import annotations

import getpass
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as Collection
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path, PurePath
from typing import Any

from recon.errors import Damaged, TryAgain, WrongInput, WrongUsage
from recon.intake import landing_log
from recon.model.totals import declared_text, declared_totals
from recon.model.windows import Grid, name_of
from recon.state import revisions
from recon.storage import documents, layout, numbered, sealing
from recon.storage.port import AlreadyExists, NotFound, ObjectStore
from recon.storage.scratch import file_digest, object_digest
from recon.storage.sealing import sealed, unsealed

_BLOCK_BYTES = 1 << 20
CORRECTION = "correction-"
"""What the names of the files of corrections begin with."""


@dataclass(frozen=True)
class LandedFile:
    """One file of a window: its name as landed, SHA-256, size, where its bytes lie, and the totals that its sender declared.

    ``reason`` and ``by`` stand for a correction only: why it was made, and its maker."""

    name: str
    digest: str
    bytes: int
    path: str
    expect: dict[str, Any] = field(default_factory=dict)
    reason: str = ""
    by: str = ""

    @property
    def declared_rows(self) -> int | None:
        """How many rows its sender declared; None where that is not said, or is no number of rows."""
        rows = self.expect.get("rows")
        return rows if isinstance(rows, int) and not isinstance(rows, bool) and rows >= 0 else None


@dataclass(frozen=True)
class Manifest:
    """One revision of a window. ``cause``: land, replace, unland, correct, close or replay. ``expected``: files that the window was
    expected to hold when it was closed, None where no number was configured.

    ``previous``: digest of the manifest before, "" in the first one; None in manifests of stores of format 3. ``digest``: of the bytes of
    this one, which are stored with a seal."""

    window: str
    revision: int
    files: tuple[LandedFile, ...]
    closed: bool
    cause: str
    reason: str = ""
    by: str = ""
    time: str = ""
    expected: int | None = None
    previous: str | None = None
    digest: str = ""

    def to_json(self) -> bytes:
        body = {**self.__dict__, "files": [file.__dict__ for file in self.files]}
        body.pop("digest")
        return sealed(body, indent=1)

    @property
    def short(self) -> bool:
        """Whether the window is closed and lacks files that were expected."""
        return self.closed and self.expected is not None and len(self.received) < self.expected

    @property
    def received(self) -> tuple[LandedFile, ...]:
        """The files that senders landed: all but the corrections."""
        return tuple(file for file in self.files if not file.reason)


@dataclass(frozen=True)
class Landing:
    """What one call did: the manifest that now stands, what was added under which name, and what was there already."""

    manifest: Manifest
    added: tuple[str, ...]
    already: tuple[tuple[str, str], ...] = ()
    """(file given, name under which the same bytes had landed)"""
    changed: bool = True
    """Whether there is a new revision: also where the same file only got other declared totals, or the window was closed."""


def operator() -> str:
    """Who acts: the user whose rights the process has. Never taken from an argument, nor from the environment ($LOGNAME, $USER), which
    anybody can set."""
    try:
        import pwd
    except ImportError:  # Windows, where the environment is all there is
        return getpass.getuser()
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:  # a container that runs as a number without a name
        return f"uid {os.geteuid()}"


def read_manifest(store: ObjectStore, window: datetime, revision: int | None = None) -> Manifest | None:
    """The newest manifest of a window (or that of ``revision``), None if nothing ever landed there."""
    path = numbered.newest(store, layout.manifests(window)) if revision is None else layout.manifest(window, revision)
    return manifest_of(path, store.get(path)) if path else None


def manifest_of(path: str, body: bytes) -> Manifest:
    """A manifest from its bytes. Raises Damaged where they are no manifest, or not what was written."""
    with documents.damaged(path, documents.RESTORE):
        return replace(documents.checked(unsealed(body), Manifest), digest=sealing.digest_of(body))


def landed_windows(store: ObjectStore) -> dict[str, int]:
    """Window name → newest revision, for every window that anything ever landed in, in order of time."""
    newest: dict[str, int] = {}
    for path in store.list(layout.EVENTS):
        folder, _, rest = path[len(layout.EVENTS) :].partition("/")
        if rest.startswith("manifests/"):
            start = datetime.strptime(folder, "%Y-%m-%dT%H%MZ").replace(tzinfo=UTC)
            newest[name_of(start)] = numbered.number_of(path)
    return newest


def land(
    store: ObjectStore,
    window: datetime,
    files: Sequence[Path],
    *,
    close: bool = False,
    expected: int | None = None,
    replacing: str | None = None,
    expect: Mapping[str, Any] | None = None,
    inspect: Callable[[str, Path], None],
) -> Landing:
    """Puts files into a window. The same bytes again are a no-op; any other file adds, under a name that is free in the window.

    ``expected``: files that a window is to hold, noted where ``close`` closes it. ``expect``: totals that the sender declared for each
    file. ``replacing`` names the one file (as landed) whose place the given one takes. ``inspect(name, path)`` refuses what cannot be
    read as its name says, before anything is written. Raises WrongUsage (no such file) and WrongInput (refused by ``inspect``).
    """
    if replacing is not None and len(files) != 1:
        raise WrongUsage("--replace takes exactly one new file for the one that it replaces")
    for file in files:
        if file.is_dir():
            raise WrongUsage(f"{file}: this is a folder; name the files in it")
        if not file.is_file():
            raise WrongUsage(f"{file}: there is no such file; name a file that can be read")
    before = _newest(store, window)
    stored: dict[str, LandedFile] = {}
    already: list[tuple[str, str]] = []
    known = {landed.digest: landed.name for landed in before.files if landed.name != replacing}
    declared = dict(expect or {})
    if declared_totals(declared) is None:
        raise WrongUsage(f"expect: {declared_text(declared)} are not all numbers; write them as {{'rows': 3, 'amount': '75.00'}}")
    looked_at = [(file, _inspected(file, inspect)) for file in files]
    given = {digest for _, digest in looked_at}
    if replacing is not None and _has_replaced(store, window, before, replacing, given):
        replacing = None  # said once more, perhaps as the answer to the first call was lost
        known = {landed.digest: landed.name for landed in before.files}
    for file, digest in looked_at:
        if digest in known:
            already.append((file.name, known[digest]))
            continue
        path = layout.landed_file(window, digest, layout.new_attempt(), file.name)
        size = _copy(store, file, path, digest)
        stored[digest] = LandedFile(file.name, digest, size, path, declared)
        known[digest] = file.name

    def change(current: Manifest) -> Manifest | None:
        kept = [landed for landed in current.files if landed.name != replacing]
        if replacing is not None and len(kept) == len(current.files):
            raise WrongUsage(_no_such_file(current, replacing))
        # Totals declared for a file that is there already are not dropped: they are what it is held to from now on.
        kept = [replace(file, expect=declared) if declared and file.digest in given else file for file in kept]
        here = {landed.digest for landed in kept}
        # The order of landing decides between rows of equal time: a corrected file takes the place of the one that it replaces.
        place = [landed.name for landed in current.files].index(replacing) if replacing is not None else len(kept)
        for digest, landed in stored.items():
            if digest not in here:
                kept.insert(place, replace(landed, name=_free_name(landed.name, [other.name for other in kept])))
                place += 1
        if tuple(kept) == current.files and (current.closed or not close):
            return None
        cause = "replace" if replacing else "close" if tuple(kept) == current.files else "land"
        closes = close and not current.closed
        noted = expected if closes else current.expected
        return replace(current, files=tuple(kept), closed=current.closed or close, expected=noted, cause=cause, reason="")

    manifest, changed = _revise(store, window, change)
    digests = set(stored)
    added = tuple(landed.name for landed in manifest.files if landed.digest in digests)
    return Landing(manifest, added, tuple(already), changed)


def _inspected(file: Path, inspect: Callable[[str, Path], None]) -> str:
    """The digest of a file that ``inspect`` does not refuse, taken before, so that what is copied later is what was looked at."""
    try:
        digest = file_digest(file)
    except OSError as error:
        raise WrongInput(f"{file.name}: can't be read from {file}: {error.strerror}") from None
    inspect(file.name, file)
    return digest


def _copy(store: ObjectStore, file: Path, path: str, digest: str) -> int:
    """Copies a file into the store. Returns its bytes. Raises TryAgain where they are no longer those of ``digest``: somebody is still
    writing the file. What was copied of it is in no manifest then, and nobody reads it."""
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
    """Takes a file (name as landed) back out of a window; its bytes stay for the record. A reason is required. Said once more with the
    same reason it changes nothing."""
    if not reason.strip():
        raise WrongUsage("--reason: say why the file is taken back; the certificate will name it")

    def change(current: Manifest) -> Manifest | None:
        kept = tuple(landed for landed in current.files if landed.name != name)
        revised = replace(current, files=kept, cause="unland", reason=f"{name}: {reason}")
        if len(kept) == len(current.files):
            if _taken_out(store, window, current, name) == (revised.cause, revised.reason):
                return None
            raise WrongUsage(_no_such_file(current, name))
        return revised

    return _revise(store, window, change)[0]


def land_correction(store: ObjectStore, window: datetime, file: Path, reason: str, attempt: str) -> Manifest:
    """Puts a file of corrections (its name is new) into a window, with the reason and its maker. Returns the manifest that has it as its
    last file. With the same ``attempt`` it is put once, however often it is tried."""
    digest = file_digest(file)
    path = layout.landed_file(window, digest, attempt, file.name)
    with suppress(AlreadyExists):
        store.copy_in(path, file)
    landed = LandedFile(file.name, digest, file.stat().st_size, path, reason=reason, by=operator())

    def change(current: Manifest) -> Manifest | None:
        if any(other.path == path for other in current.files):
            return None
        return replace(current, files=(*current.files, landed), cause="correct", reason=reason)

    current, changed = _revise(store, window, change)
    earlier = () if changed else (read_manifest(store, window, revision) for revision in range(1, current.revision))
    return next((one for one in earlier if one is not None and one.files and one.files[-1].path == path), current)


def close(store: ObjectStore, window: datetime, reason: str = "") -> tuple[Manifest, bool]:
    """Closes a window. Returns its manifest and whether this call changed it. A window without any file closes as empty."""
    return close_if(store, window, lambda now: reason)


def close_if(
    store: ObjectStore, window: datetime, why: Callable[[Manifest], str | None], expected: int | None = None
) -> tuple[Manifest, bool]:
    """Closes an open window for the reason that ``why`` gives of its newest manifest, or leaves it where that is None. ``expected``: the
    number of files that it is to hold.

    ``why`` is asked again where another landed something in between. Returns the manifest and whether this call closed it."""

    def change(current: Manifest) -> Manifest | None:
        reason = None if current.closed else why(current)
        return None if reason is None else replace(current, closed=True, expected=expected, cause="close", reason=reason)

    return _revise(store, window, change)


def replay(store: ObjectStore, windows: Iterable[datetime], reason: str = "") -> list[Manifest]:
    """Marks windows to be processed again by the next run: each gets a new revision with the same files. One that is marked already and
    waits for its run stays as it is."""

    def change(current: Manifest, window: datetime) -> Manifest | None:
        marked = (current.cause, current.reason) == ("replay", reason) and revisions.waits(store, window, current.revision)
        return None if marked else replace(current, cause="replay", reason=reason)

    found = (window for window in windows if read_manifest(store, window) is not None)
    return [_revise(store, window, partial(change, window=window), give_up=True)[0] for window in found]


def refuse_unbegun(grid: Grid, window: datetime, now: datetime) -> None:
    """Events can't land in a window that has not begun. Raises WrongInput naming the newest window that has."""
    if window > now:
        raise WrongInput(
            f"window {name_of(window)} has not begun yet (now {now:%Y-%m-%dT%H:%MZ}); the newest is {name_of(grid.last_begun(now))}"
        )


def _revise(
    store: ObjectStore, window: datetime, change: Callable[[Manifest], Manifest | None], give_up: bool = False
) -> tuple[Manifest, bool]:
    """Puts the next manifest of a window: ``change`` of the newest one, or nothing where it returns None. ``give_up``: see ``_newest``."""

    def put() -> tuple[Manifest, bool]:
        current = _newest(store, window, give_up)
        revised = change(current)
        if revised is None:
            return current, False
        now = max(datetime.now(UTC).isoformat(timespec="seconds"), current.time)  # the clocks of two machines differ
        revised = replace(revised, revision=current.revision + 1, by=operator(), time=now, previous=current.digest)
        body = revised.to_json()
        landing_log.note(store, window, revised.revision)
        store.put_new(layout.manifest(window, revised.revision), [body])
        return replace(revised, digest=sealing.digest_of(body)), True

    return numbered.put_next(put)


def _newest(store: ObjectStore, window: datetime, give_up: bool = False) -> Manifest:
    """The newest manifest of a window, revision 0 where nothing ever landed. One that is gone, as others say, is made again from them.

    Raises Damaged where that cannot be, unless ``give_up``: then the files of the newest that is there go on under its number."""
    none = Manifest(name_of(window), 0, (), closed=False, cause="")
    while True:
        current = read_manifest(store, window) or none
        known = revisions.known(store, window)
        if known <= current.revision:
            return current
        if (read_manifest(store, window) or none).revision == current.revision:
            break  # else it came between the two looks
    told = revisions.files_of(store, window, known)
    if told is not None:
        here = {file.name: file for file in current.files}
        files = (LandedFile(**file) for file in told[0])
        kept = tuple(replace(file, **_said(here.get(file.name), file)) for file in files)
        return replace(current, revision=known, files=kept, closed=told[1] or current.closed, expected=told[2], cause="", reason="")
    if give_up:
        return replace(current, revision=known)
    raise Damaged(
        f"{layout.manifest(window, known)}: the manifest is gone and nothing else says what it listed; restore it from a copy of the "
        f"store, or go on from revision {current.revision} with 'recon replay {name_of(window)}'"
    )


def _said(before: LandedFile | None, file: LandedFile) -> dict[str, Any]:
    """What only a manifest says of a file: the totals that its sender declared, and why and by whom a correction was made."""
    if before is not None and before.digest == file.digest:
        return {"expect": before.expect, "reason": before.reason, "by": before.by}
    return {"reason": "the manifest that said why is lost"} if file.name.startswith(CORRECTION) else {}


def _taken_out(store: ObjectStore, window: datetime, current: Manifest, name: str) -> tuple[str, str]:
    """Cause and reason of the newest manifest that no longer lists a file ``name``, ("", "") if none ever did."""
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
    """Whether the file ``name`` was replaced by the given one already: the window lists these bytes, and once listed ``name`` of others."""
    digests = {file.name: file.digest for file in current.files}
    if not given & set(digests.values()):
        return False
    if digests.get(name) in given:
        return all(_intact(store, file) for file in current.files if file.name == name)
    return name not in digests and _taken_out(store, window, current, name)[0] == "replace"


def _intact(store: ObjectStore, file: LandedFile) -> bool:
    """Whether the store has the bytes that landed. If not, the same file is landed once more, as the message about it advises."""
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
