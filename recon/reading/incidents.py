"""Incidents: what a person has to act on, each with a key that stays the same while it lasts, so that it is reported once.

Texts go to systems outside of Recon: they name windows, files and sources, and no event.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime

from recon.config import Config
from recon.errors import Damaged
from recon.intake.sources.late import late_files
from recon.intake.sources.site import Intake
from recon.intake.sources.standing import standing_of, stopped
from recon.planning import quarantine
from recon.planning.due import Due, due, peek
from recon.planning.freshness import freshness
from recon.reading.caveats import without_window
from recon.reading.faults import Looked
from recon.state.certificates import read_certificate, ties
from recon.state.committed import committed_figures
from recon.state.timeline import Mark, State
from recon.storage.port import ObjectStore
from recon.storage.redact import shareable

_WINDOWS_MAX = 1_000
"""The newest windows of each kind that are looked at."""
_NAMED_MAX = 5


@dataclass(frozen=True)
class Incident:
    """``key``: begins with the kind. ``about``: the window, file or run. ``text``: what happened, as sentences; it may read the store.
    ``next_step``: what to do."""

    key: str
    about: str
    text: Callable[[], str]
    next_step: str

    @property
    def kind(self) -> str:
        return self.key.partition(":")[0]


def of_windows(store: ObjectStore, config: Config, state: State, now: datetime) -> Iterator[Incident]:
    """Changed rules, windows that could not be processed, that are short or had all rows rejected, and a late watermark."""
    if state.rules and state.rules != config.rules_version:
        yield _changed_rules(config, state)
    yield from _not_processed(store, config, due(store, config, state, windows=peek(store, state)))
    yield from _marked(store, state, Mark.SHORT, _short)
    yield from _marked(store, state, Mark.ALL_REJECTED, _all_rejected)
    found = freshness(store, config, state, now)
    if not found.fresh:
        at = f"The watermark is {found.watermark}" if found.watermark else "No window is complete yet"
        allowed = f"{_hours(found.lag.total_seconds())} behind, {_hours(found.allowed.total_seconds())} are allowed"
        text = shareable(f"{at}: {allowed}. {found.waits_for}.")
        yield Incident(
            "late",
            found.watermark,
            _said(text),
            "Find out why this window's files are missing, or land them; `recon status` lists the others.",
        )


def of_certificates(store: ObjectStore, config: Config, looked: Looked) -> list[Incident]:
    """Windows whose newest certificate does not tie, or cannot be read. ``looked``: see recon.reading.faults."""
    return [_untied(store, config, name) for name in looked.untied]


def of_sources(intake: Intake, now: datetime) -> Iterator[Incident]:
    """Late files, rejected files that nothing has corrected, and sources that take no file."""
    for name, error in intake.broken.items():
        text = shareable(f"The source {name} takes no file: {error}")
        yield Incident(f"source_broken:{name}", name, _said(text), f"Correct `sources/{name}.yaml`; `recon source list` checks it.")
    late: dict[tuple[str, str], list[str]] = {}
    for found in late_files(intake, now):
        late.setdefault((found.source, found.window), []).append(found.text)
    for (source, window), texts in late.items():
        files = "1 file is" if len(texts) == 1 else f"{len(texts):,} files are"
        listed = "; ".join(texts[:_NAMED_MAX]) + (" …" if len(texts) > _NAMED_MAX else "")
        text = f"The source {source} is late: {files} missing in window {window}: {listed}."
        step = f"Ask the sender for it; `recon status {window}` lists what is missing."
        yield Incident(f"source_late:{source}:{window}", f"{source} in {window}", _said(text), step)
    standing = standing_of(intake)
    stopping = {bad.id: name for name, bad in stopped(intake, standing).items()}
    for file in standing.rejected:
        stops = f" The source {stopping[file.id]} takes no other file until then." if file.id in stopping else ""
        text = shareable(f"The file {file.shown} was rejected: {file.reason.removeprefix(f'{file.shown}: ')}") + stops
        step = f"`recon files show {file.id}` says why. Have it corrected and sent again, or `recon files discard {file.id}`."
        yield Incident(f"file_rejected:{file.id}", f"{file.shown} ({file.id})", _said(text), step)


def _changed_rules(config: Config, state: State) -> Incident:
    text = f"The rules in {config.path.name} changed since commit {state.commit:,}: no window is processed."
    step = "`recon rebuild --preview` shows what would change, `recon rebuild` applies it; or put the rules back."
    return Incident(f"rules_changed:{config.rules_version}", config.path.name, _said(text), step)


def _not_processed(store: ObjectStore, config: Config, waiting: Due) -> Iterator[Incident]:
    for name, why in waiting.bad.items():
        text = shareable(f"Window {name} cannot be read: {without_window(why, name)}")
        yield Incident(f"damaged:{name}", name, _said(text), "Restore the file that is named from a copy; `recon verify` finds others.")
    quarantined = quarantine.windows(store) if waiting.ready else frozenset[str]()
    for manifest in waiting.ready:
        if manifest.window not in quarantined:
            continue
        found = quarantine.read(store, config.grid.parse(manifest.window), manifest.revision, config.judged_by)
        if found is not None:
            name, why = found.window, without_window(found.reason, found.window)
            text = shareable(f"Window {name} could not be processed and is in quarantine: {why}")
            step = f"Correct the file, then `recon land FILE --window {name} --replace NAME`. `recon status {name}` has the full reason."
            yield Incident(f"quarantined:{name}:{found.revision}", name, _said(text), step)


def _marked(store: ObjectStore, state: State, mark: Mark, make: Callable[[ObjectStore, State, str], Incident]) -> Iterator[Incident]:
    names = sorted(name for name, window in state.windows.items() if window.has(mark))
    return (make(store, state, name) for name in names[-_WINDOWS_MAX:])


def _short(store: ObjectStore, state: State, name: str) -> Incident:
    def text() -> str:
        figures = committed_figures(store, state, [name])[name]
        return f"Window {name} is SHORT: it was closed with {figures['received']} of {figures['expected']} files."

    step = f"Land the missing files with `recon land FILE --window {name}`: the next run counts them."
    return Incident(f"short:{name}:{state.revision(name)}", name, text, step)


def _all_rejected(store: ObjectStore, state: State, name: str) -> Incident:
    def text() -> str:
        rows = committed_figures(store, state, [name])[name]["rejected"]["rows"]
        return f"Every row of window {name} was rejected, {rows:,} in all: nothing of it counts."

    step = f"`recon rejects {name}` has the reason of each row; land a corrected file with `--replace`."
    return Incident(f"all_rejected:{name}:{state.revision(name)}", name, text, step)


def _untied(store: ObjectStore, config: Config, name: str) -> Incident:
    def text() -> str:
        try:
            certificate = read_certificate(store, config.grid.parse(name))
        except Damaged as error:
            return shareable(f"The certificate of window {name} cannot be read: {error}")
        differences = "; ".join(ties(certificate)) if certificate else ""
        number = f"Certificate {certificate['number']}" if certificate else "The certificate"
        return f"{number} of window {name} does not tie: {shareable(differences) or 'it says so itself'}."

    step = "Something in the store is damaged: run `recon verify`, and close no period on this window until it ties."
    return Incident(f"does_not_tie:{name}", name, text, step)


def _said(text: str) -> Callable[[], str]:
    return lambda: text


def _hours(seconds: float) -> str:
    """``51 h 15 min``."""
    minutes = int(seconds) // 60
    return f"{minutes // 60:,} h {minutes % 60:02d} min"
