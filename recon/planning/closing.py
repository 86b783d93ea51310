"""Closing: when a window's files count as complete, and why a window is not processed yet."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import count

from recon.config import Config
from recon.errors import Damaged, TryAgain, WrongUsage
from recon.intake.batches import close_if
from recon.intake.manifests import Manifest, read_manifest
from recon.intake.sources.folder import has_sources
from recon.model.windows import name_of
from recon.planning import quarantine
from recon.state import reduced
from recon.state.timeline import State
from recon.storage.port import ObjectStore


@dataclass(frozen=True)
class Closed:
    """A window that this call closed, and the reason in its manifest."""

    window: str
    reason: str


def close_due(store: ObjectStore, config: Config, now: datetime, windows: Iterable[str]) -> list[Closed]:
    """Closes the ``windows`` (names) that have the expected number of files, or whose deadline has passed.

    A deadline also closes a window that is short or empty. Returns the windows that this call closed."""
    closed = []
    for name in windows:
        window = config.grid.parse(name)
        try:
            manifest, changed = close_if(store, window, lambda manifest: _due(config, manifest, now), _expected(config, window))
        except Damaged:  # reported when it is processed; the others are closed
            continue
        except TryAgain:  # the database that knows what is missing is away: the window stays open
            continue
        if changed:
            closed.append(Closed(name, manifest.reason))
    return closed


def past_deadline(config: Config, state: State, now: datetime, after: datetime | None = None) -> Iterator[str]:
    """Names of the windows whose deadline has passed, in order of time, from the one after ``after`` on; else after the watermark.

    ``close_due`` closes all of them for good, so the last one is the next call's ``after``."""
    if config.closing.deadline is None:
        return
    if after is None and state.watermark:
        after = config.grid.parse(state.watermark)
    first = 0 if after is None else config.grid.index(after) + 1
    for index in count(first):
        window = config.grid.at(index)
        if now < _deadline(config, window, config.closing.deadline):
            return
        if not _is_closed(state, name_of(window)):
            yield name_of(window)


def has_passed(config: Config, name: str, now: datetime) -> bool:
    """Whether a window's deadline has passed; False without a deadline."""
    closing = config.closing
    return closing.deadline is not None and now >= _deadline(config, config.grid.parse(name), closing.deadline)


def close_by_hand(store: ObjectStore, config: Config, window: datetime, reason: str = "") -> tuple[Manifest, bool]:
    """Closes a window. Returns its manifest and whether this call changed it.

    Raises WrongUsage where it is short of files, or lacks one that a source expects by name, and no reason is given."""
    named = _missing(config, window)

    def why(manifest: Manifest) -> str:
        if named and not reason.strip():
            raise WrongUsage(
                f"window {manifest.window} lacks {', '.join(named)}; land what is missing, or say with --reason why it is closed without"
            )
        expected, received = config.closing.files, len(manifest.received)
        if expected is not None and received < expected and not reason.strip():
            missing = expected - received
            raise WrongUsage(
                f"window {manifest.window} holds {_files(config, manifest)}, {missing} {'is' if missing == 1 else 'are'} missing; "
                "land what is missing, or say with --reason why it is closed without"
            )
        return reason

    return close_if(store, window, why, _expected(config, window))


def _missing(config: Config, window: datetime) -> list[str]:
    """The files that the sources expect in a window by name and that have not landed."""
    if not has_sources(config):
        return []
    from recon.intake.sources.closing import missing_by_name

    return missing_by_name(config, window)


def _expected(config: Config, window: datetime) -> Callable[[Manifest], int | None]:
    """The number of files that a window should hold: as configured, and those that its sources expect by name."""

    def expected(manifest: Manifest) -> int | None:
        if not (named := _missing(config, window)):
            return config.closing.files
        return max(config.closing.files or 0, len(manifest.received) + len(named))

    return expected


def why_not(store: ObjectStore, config: Config, state: State, window: datetime, now: datetime) -> str:
    """One sentence on why a window is not processed, or that it is: ``… is not closed: 3 of 4 files, 812,000 bytes``."""
    name = name_of(window)
    if window > now:
        return f"{name} has not begun"
    manifest = read_manifest(store, window)
    if manifest is None:
        return f"{name} is not closed: {_files(config, None)}{_closes(config, window, now)}"
    committed = state.revision(name)
    still_open = f"not closed: {_holds(store, config, state, window, manifest)}{_closes(config, window, now)}"
    if committed >= manifest.revision:
        done = f"{name} is done: revision {committed} is in commit {state.windows[name].commit}"
        if manifest.short:
            return f"{done}, but SHORT: it was closed with {_files(config, manifest)}; land what is missing, and the next run counts it"
        return done if manifest.closed else f"{done}, but {still_open}"
    if not processed(config, state, manifest):
        return f"{name} is {still_open}"
    wrong = quarantine.read(store, window, manifest.revision, config.judged_by)
    if wrong is not None:
        return f"{name} could not be processed at {wrong.time}: {wrong.reason.removeprefix(f'window {name}: ')}"
    waits = "a run" if state.rules in ("", config.rules_version) else "'recon rebuild', since the rules changed"
    is_closed = "closed" if manifest.closed else "open"
    return f"{name} is {is_closed} and waits for {waits}: revision {manifest.revision}, {_files(config, manifest)}"


def processed(config: Config, state: State, manifest: Manifest) -> bool:
    """Whether a revision that is not committed is to be processed: the window is closed, open ones are processed, too, or it holds a
    correction, which counts at the next run though the window is still filling. What is processed open stays open."""
    corrected = any(file.reason for file in manifest.files)
    # An open window whose last file was taken back must lose its events.
    takes_back = bool(state.revision(manifest.window))
    return manifest.closed or corrected or takes_back or (config.closing.process_open and bool(manifest.files))


def _due(config: Config, manifest: Manifest, now: datetime) -> str | None:
    """The reason for which a window closes now, None if it does not."""
    closing, files = config.closing, _files(config, manifest)
    if closing.files is not None and len(manifest.received) >= closing.files:
        return files
    if closing.deadline is not None and has_passed(config, manifest.window, now):
        return f"deadline {_length(closing.deadline)} after the window's end; {files}"
    return None


def _deadline(config: Config, window: datetime, waited: timedelta) -> datetime:
    return config.grid.after(window) + waited


def _is_closed(state: State, name: str) -> bool:
    committed = state.windows.get(name)
    return committed is not None and committed.closed


def _files(config: Config, manifest: Manifest | None) -> str:
    """``3 of 4 files``; without an expected number ``3 files``."""
    received, expected = len(manifest.received) if manifest else 0, config.closing.files
    if manifest is not None and manifest.closed:
        expected = manifest.expected
    corrections = len(manifest.files) - received if manifest else 0
    corrected = f" and {corrections:,} correction{'' if corrections == 1 else 's'}" if corrections else ""
    if expected is not None:
        return f"{received:,} of {expected:,} file{'' if expected == 1 else 's'}{corrected}"
    return (f"{received:,} file{'' if received == 1 else 's'}" if received else "no files") + corrected


def _holds(store: ObjectStore, config: Config, state: State, window: datetime, manifest: Manifest) -> str:
    """Files, and read and declared rows where both are known, else bytes."""
    files, received = _files(config, manifest), manifest.received
    if not received:
        return files
    declared = [file.declared_rows for file in received if file.declared_rows is not None]
    if len(declared) < len(received):
        return f"{files}, {sum(file.bytes for file in received):,} bytes"
    read = reduced.find(store, window, manifest.revision, config.rules_version)
    if read is None and (committed := state.windows.get(manifest.window)) is not None:
        read = reduced.read(store, committed.folder)
    if read is None:
        return f"{files}, {sum(declared):,} rows declared"
    rows = {str(file["digest"]): int(file["rows"]) for file in read.files}
    return f"{files}, {sum(rows.get(file.digest, 0) for file in received):,} of {sum(declared):,} rows"


def _closes(config: Config, window: datetime, now: datetime) -> str:
    if config.closing.deadline is None:
        return ""
    deadline = _deadline(config, window, config.closing.deadline)
    return f"; its deadline {'passed at' if now >= deadline else 'is'} {name_of(deadline)}"


def _length(length: timedelta) -> str:
    """In the notation of recon.yaml: 30m, 2h, 1d."""
    minutes = int(length.total_seconds()) // 60
    for unit, size in (("d", 1440), ("h", 60)):
        if minutes % size == 0:
            return f"{minutes // size}{unit}"
    return f"{minutes}m"
