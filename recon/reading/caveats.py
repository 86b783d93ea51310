"""Caveats restrict an answer: missing files, unreadable rows, windows not processed yet, changed rules."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from recon.config import Config
from recon.planning import quarantine
from recon.planning.due import Due, due
from recon.reading.not_landed import not_landed
from recon.state.timeline import Mark, State
from recon.storage.port import ObjectStore

if TYPE_CHECKING:
    from recon.intake.sources.tracking import Tracked

_NAMED_MAX = 3


@dataclass(frozen=True)
class Caveat:
    """A restriction of an answer. ``wrong``: a person has to act, so a command does not report success."""

    kind: str
    text: str
    windows: tuple[str, ...] = ()
    wrong: bool = True


def caveats(store: ObjectStore, config: Config, state: State, waiting: Due | None = None) -> list[Caveat]:
    """What is missing, unreadable, in conflict or not done yet, the gravest first. ``waiting``: the windows that are due, if known."""
    waiting = due(store, config, state) if waiting is None else waiting
    found = [_changed_rules(config, state), _nothing_processed(state, waiting)]
    found += [_marked(state, *mark) for mark in _MARKS]
    return [caveat for caveat in (*found, *waiting_caveats(store, config, state, waiting), *_received(store, config)) if caveat is not None]


def _changed_rules(config: Config, state: State) -> Caveat | None:
    if not state.rules or state.rules == config.rules_version:
        return None
    return Caveat(
        "rules_changed",
        f"the rules in {config.path.name} changed since commit {state.commit:,} (version {state.rules}, now {config.rules_version}): "
        "nothing is processed until 'recon rebuild'; 'recon rebuild --preview' shows what would change",
    )


def _nothing_processed(state: State, waiting: Due) -> Caveat | None:
    if state.windows:
        return None
    landed = bool(waiting.ready or waiting.open)
    text = "no window has been processed yet" + ("" if landed else ", and none holds files")
    return Caveat("nothing_processed", text, wrong=False)


_MARKS = (
    (Mark.ALL_REJECTED, "all_rejected", "every row of {} was rejected; 'recon rejects' says why", True),
    (Mark.SHORT, "short", "SHORT: {} {} closed with fewer files than expected; land the missing files, then 'recon run'", True),
    (Mark.CONFLICTS, "conflicts", "{} {} events in conflict: one id with different values or keys; 'recon duplicates' lists them", False),
    (Mark.REJECTED, "rejected", "{} {} rejected rows, which count in no artifact; 'recon rejects' lists them", False),
)


def _marked(state: State, mark: Mark, kind: str, text: str, wrong: bool) -> Caveat | None:
    windows = sorted(name for name, window in state.windows.items() if window.has(mark))
    if kind == "rejected":  # windows with every row rejected have a caveat of their own
        windows = [name for name in windows if not state.windows[name].has(Mark.ALL_REJECTED)]
    if not windows:
        return None
    verb = {"short": ("was", "were")}.get(kind, ("holds", "hold"))[len(windows) > 1]
    return Caveat(kind, text.format(named(windows), verb), tuple(windows), wrong)


def waiting_caveats(store: ObjectStore, config: Config, state: State, waiting: Due) -> Iterable[Caveat]:
    """Closed windows that are not processed, and why, as far as that is known; and open windows that hold files."""
    if waiting.bad:
        unreadable = tuple(waiting.bad)
        first_reason = without_window(waiting.bad[unreadable[0]], unreadable[0])
        yield Caveat("damaged", f"{named(unreadable)} cannot be read: {first_reason}", unreadable)
    bad = {}
    quarantined = quarantine.windows(store) if waiting.ready else frozenset[str]()
    for manifest in waiting.ready:
        if manifest.window in quarantined:
            reason = quarantine.read(store, config.grid.parse(manifest.window), manifest.revision, config.judged_by)
            if reason is not None:
                bad[manifest.window] = reason
    if bad:
        first = next(iter(bad.values()))
        yield Caveat("quarantined", f"{named(list(bad))} could not be processed: {without_window(first.reason, first.window)}", tuple(bad))
    ready = [manifest.window for manifest in waiting.ready if manifest.window not in bad]
    if ready:
        yield Caveat("waiting", f"{named(ready)} {'waits' if len(ready) == 1 else 'wait'} for 'recon run'", tuple(ready), wrong=False)
    if waiting.open:
        holds = "is open and holds files" if len(waiting.open) == 1 else "are open and hold files"
        yield Caveat("open", f"{named(waiting.open)} {holds}; close a complete window with 'recon close W'", waiting.open, wrong=False)


def _received(store: ObjectStore, config: Config) -> Iterable[Caveat]:
    """Sources with a mistake, and received files that are not in their window. Where the database is away, nobody knows of any."""
    found = not_landed(store, config)
    for name, error in found.broken.items():
        yield Caveat("source_broken", f"the source {name} takes no file: {error}")
    if found.unknown is not None:
        yield Caveat("files_unknown", f"whether received files are missing in their windows is not known: {found.unknown}")
    for name, bad in found.stopped.items():
        text = f"the source {name} is stopped by {bad.shown}: its other files wait until that is corrected, retried or discarded"
        yield Caveat("source_stopped", text)
    if rejected := found.rejected:
        why = f"'recon files show {rejected[0].id}'" if len(rejected) == 1 else "'recon files list --state rejected'"
        yield Caveat("files_rejected", f"{_some(rejected)} rejected and not corrected; {why} says why", _windows(rejected))
    if found.open:
        text = f"{_some(found.open)} received and not landed yet; 'recon files list' says why, 'recon land --from INBOX' goes on"
        yield Caveat("files_open", text, _windows(found.open), wrong=False)


def _some(files: Sequence[Tracked]) -> str:
    """``the file A is``, ``5 files (A, B, C …) are``."""
    if len(files) == 1:
        return f"the file {files[0].shown} is"
    more = " …" if len(files) > _NAMED_MAX else ""
    return f"{len(files):,} files ({', '.join(file.shown for file in files[:_NAMED_MAX])}{more}) are"


def _windows(files: Sequence[Tracked]) -> tuple[str, ...]:
    return tuple(sorted({file.window for file in files if file.window is not None}))


def without_window(reason: str, window: str) -> str:
    """A reason without its leading window name, for a sentence that names the window already."""
    return reason.removeprefix(f"window {window}: ")


def named(windows: Sequence[str]) -> str:
    """``window A``, ``windows A and B``, ``5 windows (A, B, C …)``."""
    if len(windows) == 1:
        return f"window {windows[0]}"
    if len(windows) <= _NAMED_MAX:
        return f"windows {', '.join(windows[:-1])} and {windows[-1]}"
    return f"{len(windows):,} windows ({', '.join(windows[:_NAMED_MAX])} …)"
