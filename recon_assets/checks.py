"""Checks that report, where people look for it, what the stages have enforced.

Belongs here: reading figures and saying whether they hold. Does not belong here: enforcing anything; the stages do that before they
commit, and a failed check here would mean that a store was changed by other hands.

A check has no partitions: over a range, Dagster knows one result only, so the windows that fail stand in its metadata. Run alone,
without windows, a check goes through all that the timeline holds.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg

from recon.config import Config
from recon.errors import NotReady
from recon.freshness import Freshness, freshness
from recon.readiness import committed_windows, reduced_batches, unfilled
from recon.stateless import Figures
from recon.timeline import committed_figures
from recon.totals import Totals
from recon.windows import name_of
from recon.work import Work
from recon_assets.assets import asset_key
from recon_assets.failures import COMPUTE, told_to_dagster
from recon_assets.grid import PARTITION, RANGE_START, windows_asked
from resources.stores import resource_key

Window = tuple[str, Mapping[str, Any]]
_FAILING_MAX = 100
FRESHNESS, FRESHNESS_OF = "watermark_is_fresh", "window_certificates"


@dataclass(frozen=True)
class StageCheck:
    """A check of one asset: what is wrong with each window, in words; empty if nothing is."""

    name: str
    asset: str
    severity: dg.AssetCheckSeverity
    description: str
    figures: Callable[[Work, list[datetime]], Iterator[Window]]
    fault: Callable[[Mapping[str, Any]], str]


def _reduced(work: Work, windows: list[datetime]) -> Iterator[Window]:
    for figures in reduced_batches(work, windows):
        yield figures.window, _as_held(figures)


def _as_held(figures: Figures) -> Mapping[str, Any]:
    return {"unreadable": figures.unreadable, "rejected": figures.rejected.to_json()}


def _committed(work: Work, windows: list[datetime]) -> Iterator[Window]:
    yield from committed_windows(work, windows).items()


def _filled(spec: StageCheck, work: Work, windows: list[datetime]) -> Iterator[Window]:
    """The windows of a run but those that its stages have skipped."""
    try:
        yield from spec.figures(work, windows)
    except NotReady as error:
        skipped = unfilled(work, error.windows)
        rest = [window for window in windows if name_of(window) not in skipped]
        if not skipped or not rest:
            raise
        yield from spec.figures(work, rest)


def _does_not_tie(held: Mapping[str, Any]) -> str:
    out = [Totals.from_json(held[side]) for side in ("counted", "duplicates", "suppressed", "rejected")]
    return "; ".join(Totals.from_json(held["arrived"]).differences(out[0] + out[1] + out[2] + out[3]))


def _unreadable(held: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} of {count} rejected rows" for name, count in sorted(held["unreadable"].items()) if count)


STAGE_CHECKS = (
    StageCheck(
        "amounts_are_readable",
        "stateless_artifacts",
        dg.AssetCheckSeverity.WARN,
        "Every rejected row has an amount that could be read and so stands in the totals. Rows without one are counted, not summed.",
        _reduced,
        _unreadable,
    ),
    StageCheck(
        "windows_tie",
        "window_certificates",
        dg.AssetCheckSeverity.ERROR,
        "Per window, rows in = accepted + duplicates + rejected, and the same for money, per currency.",
        _committed,
        _does_not_tie,
    ),
)


def reconciliation_checks(config: Config) -> list[dg.AssetChecksDefinition]:
    """The checks of a reconciliation's assets."""
    return [*(_check(config, spec) for spec in STAGE_CHECKS), _freshness_check(config)]


def _check(config: Config, spec: StageCheck) -> dg.AssetChecksDefinition:
    store = resource_key(config.name)

    @dg.asset_check(
        asset=asset_key(config.name, spec.asset),
        name=spec.name,
        description=spec.description,
        required_resource_keys={store},
    )
    def check(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        with told_to_dagster(context, COMPUTE):
            work: Work = getattr(context.resources, store).work(config)
            tags = context.run.tags
            with work.noting_errors():
                if RANGE_START in tags or PARTITION in tags:
                    held = _filled(spec, work, windows_asked(config.grid, tags, datetime.now(UTC)))
                else:
                    state = work.head()
                    held = iter(committed_figures(work.store, state, state.windows).items())
                return _result(spec, held)

    return check


def _freshness_check(config: Config) -> dg.AssetChecksDefinition:
    store = resource_key(config.name)

    @dg.asset_check(
        asset=asset_key(config.name, FRESHNESS_OF),
        name=FRESHNESS,
        description="The watermark, up to which every window is closed and done, is not later than `freshness` allows. It looks at the "
        "time of the look, whichever windows a run has taken.",
        required_resource_keys={store},
    )
    def check(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        with told_to_dagster(context, COMPUTE):
            work: Work = getattr(context.resources, store).work(config)
            with work.noting_errors():
                found = freshness(work.store, config, work.head(), datetime.now(UTC))
                return freshness_verdict(found)

    return check


def freshness_verdict(found: Freshness) -> dg.AssetCheckResult:
    """What the check says, whoever asks: a run or the sensor."""
    return dg.AssetCheckResult(
        passed=found.fresh,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"watermark {found.watermark or 'none yet'}, {_length(found.lag)} behind, {_length(found.allowed)} allowed; "
        f"{found.waits_for}",
        metadata={
            "watermark": found.watermark or "none yet",
            "lag_seconds": int(found.lag.total_seconds()),
            "allowed_seconds": int(found.allowed.total_seconds()),
            "next_window_waits_for": found.waits_for,
        },
    )


def _length(length: timedelta) -> str:
    """``2 d 03:15 h``."""
    minutes = int(length.total_seconds()) // 60
    days, rest = divmod(minutes, 24 * 60)
    return f"{f'{days} d ' if days else ''}{rest // 60:02d}:{rest % 60:02d} h"


def _result(spec: StageCheck, windows: Iterator[Window]) -> dg.AssetCheckResult:
    checked, failing, first, last = 0, {}, "", ""
    for name, held in windows:
        checked, first, last = checked + 1, min(first or name, name), max(last, name)
        if fault := spec.fault(held):
            failing[name] = fault
    shown = sorted(failing)[:_FAILING_MAX]
    return dg.AssetCheckResult(
        passed=not failing,
        severity=spec.severity,
        description="; ".join(f"{name}: {failing[name]}" for name in shown[:5]) or None,
        metadata={
            "windows_checked": checked,
            "windows_failing": len(failing),
            "first_window": first or "none",
            "last_window": last or "none",
            "failing": dg.MetadataValue.json({name: failing[name] for name in shown}),
        },
    )
