"""Ties a merge's slices and makes the timeline entry of its commit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from recon.config import Config
from recon.engines.port import Moved, Recount, Slice
from recon.errors import WrongInput
from recon.model import conflicts
from recon.model.totals import Totals, exact_sum, sum_measures, total_of
from recon.state.certificates import watermark_after
from recon.state.committed import OF_COMMIT, committed_figures
from recon.state.reduced import Figures
from recon.state.timeline import Entry, State
from recon.storage.port import ObjectStore


@dataclass(frozen=True)
class Merged:
    """What one merge did. ``commit`` is None where nothing was left to do: these revisions were committed already."""

    commit: int | None
    windows: tuple[str, ...] = ()
    keys: int = 0
    written: int = 0
    bytes: int = 0
    recounted: tuple[str, ...] = ()
    attempts: int = 1


def _entry(store: ObjectStore, config: Config, state: State, todo: Sequence[Figures], slices: Sequence[Slice], writer: str) -> Entry:
    """The timeline entry of the commit. Raises WrongInput naming every total that does not tie."""
    windows, wrong = {}, []
    differing = conflicts.total_of(s.conflicts for s in slices)
    for figures in todo:
        moved = [s.moved[figures.window] for s in slices if figures.window in s.moved]
        suppressed = figures.accepted.nothing() + total_of(part.totals for part in moved)
        counted = figures.accepted - suppressed
        in_records = sum(s.counted[figures.window].rows for s in slices if figures.window in s.counted)
        held_back = sum(s.suppressed.get(figures.window, 0) for s in slices)
        measures = sum_measures([s.measures[figures.window] for s in slices if figures.window in s.measures])
        if (in_records, held_back) != (counted.rows, suppressed.rows):
            wrong.append(
                f"{figures.window}: {in_records} + {held_back} rows in the artifacts, {counted.rows} + {suppressed.rows} in the events"
            )
        elsewhere = sum_measures([part.measures for part in moved])
        # User logic may change a measure at will, so that parts no longer add up to the total.
        if not (config.logic and moved):
            wrong += [
                f"{figures.window}: {name} {measures.get(name, 0)} + {elsewhere.get(name, 0)} ≠ {total}"
                for name, total in figures.measures.items()
                if exact_sum((measures.get(name, 0), elsewhere.get(name, 0))) != Decimal(total)
            ]
        committed = _committed(config, figures, suppressed, counted, measures or figures.measures)
        windows[figures.window] = {**committed, "conflicts": conflicts.changed({}, figures.window, differing)}
    recounted = {}
    changes_between = conflicts.difference(differing, conflicts.total_of(s.conflicts_before for s in slices))
    outside = sorted({*(name for s in slices for name in s.moved), *(name for pair in changes_between for name in pair)} - set(windows))
    for name, before in committed_figures(store, state, outside).items():
        moved = [s.moved[name] for s in slices if name in s.moved]
        changes = [s.recounted[name] for s in slices if name in s.recounted]
        recounted[name] = {
            **_recounted(before, moved, changes, sorted(windows)),
            "conflicts": conflicts.changed(before.get("conflicts", {}), name, changes_between),
        }
        wrong += [f"{name}: recounted, {what}" for what in _recount_differences(config, moved, changes)]
    if wrong:
        raise WrongInput(f"the merge does not tie ({'; '.join(wrong)}); nothing was committed; run 'recon verify'")
    statuses = dict(state.totals.get("statuses", {}))
    for found in slices:
        for status, change in found.statuses.items():
            statuses[status] = statuses.get(status, 0) + change
    totals: dict[str, Any] = {"statuses": {status: count for status, count in sorted(statuses.items()) if count}}
    watermark = watermark_after(config, state, {name: committed["closed"] for name, committed in windows.items()})
    return Entry("merge", writer, config.rules_version, windows, recounted, totals=totals, watermark=watermark)


def _committed(config: Config, figures: Figures, suppressed: Totals, counted: Totals, measures: Mapping[str, str | int]) -> dict[str, Any]:
    """The figures of a window in the timeline entry."""
    return {
        "revision": figures.revision,
        "folder": figures.folder,
        "reduced": figures.digest,
        "content": figures.content,
        "closed": figures.closed,
        "expected": figures.expected,
        "received": figures.received,
        "short": figures.short,
        "cause": figures.cause,
        "reason": figures.reason,
        "keys": figures.keys,
        "arrived": figures.arrived.to_json(),
        "accepted": figures.accepted.to_json(),
        "duplicates": figures.duplicates.to_json(),
        "conflicting": figures.conflicting,
        "two_keys": figures.two_keys,
        "unusual": figures.unusual,
        "rejected": figures.rejected.to_json(),
        **({"source_rejected": figures.source_rejected} if figures.source_rejected else {}),
        "unreadable": figures.unreadable,
        "without_amount": figures.without_amount,
        "suppressed": suppressed.to_json(),
        "counted": counted.to_json(),
        "measures": dict(measures),
        **({"amounts": [item.name for item in config.measures if item.is_amount]} if config.events.currency else {}),
    }


def _recount_differences(config: Config, moved: Sequence[Moved], changes: Sequence[Recount]) -> list[str]:
    """Differences between what a window outside the range lost in the artifacts and the totals of its events that moved."""
    rows, events = sum(change.rows for change in changes), -total_of(part.totals for part in moved).rows
    found = [] if rows == events else [f"{rows} rows in the artifacts for {events} in the events"]
    if config.logic:  # which may change a measure at will, so that parts no longer add up to the total
        return found
    kept, gone = sum_measures([c.measures for c in changes]), sum_measures([part.measures for part in moved])
    for name in {**kept, **gone}:
        if exact_sum((kept.get(name, 0), gone.get(name, 0))):
            found.append(f"{name} {kept.get(name, 0)} in the artifacts for less {gone.get(name, 0)} in the events")
    return found


def _recounted(before: Mapping[str, Any], moved: Sequence[Moved], changes: Sequence[Recount], by: Sequence[str]) -> dict[str, Any]:
    """The new figures of a window outside the range, some of whose events became duplicates of the range's events, or stopped being so."""
    change = total_of(part.totals for part in moved)
    measures = sum_measures([before["measures"], *(change.measures for change in changes)])
    named = ", ".join(by[:3]) + (f" and {len(by) - 3} more" if len(by) > 3 else "")
    return {
        **{field: value for field, value in before.items() if field not in OF_COMMIT},
        "suppressed": (Totals.from_json(before["suppressed"]) + change).to_json(),
        "counted": (Totals.from_json(before["counted"]) - change).to_json(),
        "measures": measures,
        "cause": "recount",
        "reason": f"{'duplicates' if moved else 'conflicts'} changed by {named}",
    }
