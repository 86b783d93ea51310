"""Which windows of a range are ready for a stage, by the store and its timeline, never by Dagster's event log.

A window whose newest revision is committed is done. A revision that arrives between two stages of a run waits for the next run: the
current run continues with the revision that it has reduced.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from recon.errors import NotReady
from recon.intake.manifests import Manifest, read_manifest
from recon.model.windows import name_of
from recon.planning.closing import processed, why_not
from recon.stages.work import Work
from recon.state import reduced
from recon.state.committed import committed_figures
from recon.state.reduced import Figures
from recon.state.timeline import State

_NAMED_MAX = 12


def closed_batches(work: Work, windows: Sequence[datetime]) -> list[Manifest]:
    """The newest manifest of each window. Raises NotReady naming the windows without files, and the open ones unless the
    configuration processes open windows."""
    state = work.head()
    missing: dict[datetime, str] = {}
    found: list[Manifest] = []
    for window in windows:
        manifest = read_manifest(work.store, window)
        if manifest is None:
            missing[window] = "nothing has landed"
        elif not processed(work.config, state, manifest):
            missing[window] = "still open"
        else:
            found.append(manifest)
    _refuse(work, missing, "land their files and close them ('recon land FILE --window W --close')")
    return found


def reduced_batches(work: Work, windows: Sequence[datetime]) -> list[Figures]:
    """Figures of each window's newest reduced revision, of the committed one where nothing newer has landed.

    Raises NotReady naming the windows without either."""
    state = work.head()
    missing: dict[datetime, str] = {}
    found: list[Figures] = []
    for window in windows:
        figures = _newest_reduced(work, state, window)
        if figures is None:
            missing[window] = "not reduced yet"
        else:
            found.append(figures)
    _refuse(work, missing, f"materialize {work.config.name}/stateless_artifacts for them first")
    return found


def committed_windows(work: Work, windows: Sequence[datetime]) -> dict[str, dict[str, Any]]:
    """Window name → its committed figures. Raises NotReady naming the windows that are not committed."""
    state = work.head()
    missing = {window: "not merged yet" for window in windows if name_of(window) not in state.windows}
    _refuse(work, missing, f"materialize {work.config.name}/stateful_artifacts for them first")
    return committed_figures(work.store, state, map(name_of, windows))


def unfilled(work: Work, windows: Sequence[str]) -> dict[str, str]:
    """The windows (by name) without files or still open → one sentence on what each waits for. No stage has anything to do for them."""
    state, now, found = work.head(), datetime.now(UTC), {}
    for name in windows:
        window = work.config.grid.parse(name)
        manifest = read_manifest(work.store, window)
        if manifest is None or not processed(work.config, state, manifest):
            found[name] = why_not(work.store, work.config, state, window, now)
    return found


def to_merge(state: State, figures: Sequence[Figures]) -> list[Figures]:
    """The windows of a range that are not committed yet."""
    return [window for window in figures if window.revision > state.revision(window.window)]


def _newest_reduced(work: Work, state: State, window: datetime) -> Figures | None:
    name = name_of(window)
    manifest = read_manifest(work.store, window)
    if manifest is None:
        return None
    for revision in range(manifest.revision, state.revision(name), -1):
        if figures := reduced.find(work.store, window, revision, work.config.rules_version):
            return figures
    if manifest.revision == state.revision(name):
        return reduced.read(work.store, state.windows[name].folder)
    return None


def _refuse(work: Work, missing: Mapping[datetime, str], next_step: str) -> None:
    """Raises NotReady in one line, with consecutive windows that wait for the same reason as one range."""
    if not missing:
        return
    blocks: list[tuple[datetime, datetime, str]] = []
    for window, reason in missing.items():
        if blocks and blocks[-1][2] == reason and window == work.config.grid.after(blocks[-1][1]):
            blocks[-1] = (blocks[-1][0], window, reason)
        else:
            blocks.append((window, window, reason))
    named = [f"{name_of(first)}{'' if first == last else f'..{name_of(last)}'} ({reason})" for first, last, reason in blocks[:_NAMED_MAX]]
    more = f" and {len(blocks) - _NAMED_MAX} more ranges" if len(blocks) > _NAMED_MAX else ""
    count = f"{len(missing)} window{'' if len(missing) == 1 else 's'} not ready"
    message = f"{work.config.name}: {count}: {', '.join(named)}{more}; {next_step}; nothing was done"
    raise NotReady(message, [name_of(window) for window in missing])
