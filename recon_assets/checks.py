"""Asset checks, which show in the UI what the stages found and enforced.

A check has no partitions: Dagster keeps only its newest result, whichever windows the run had. So a check evaluates the windows of the run
and all windows that the state marks as short, rejected or in conflict; otherwise a good window would turn the check green while another is
still incomplete. The failing windows are in the check's metadata. A check that runs without windows reads all windows.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg

from recon.config import Config
from recon.errors import NotReady
from recon.model import conflicts
from recon.model.totals import Totals
from recon.model.windows import name_of
from recon.planning.due import due, peek
from recon.planning.freshness import Freshness, freshness
from recon.reading.caveats import caveats
from recon.stages.ready import committed_windows, reduced_batches, unfilled
from recon.stages.work import Work
from recon.state.committed import committed_figures
from recon.state.reduced import Figures
from recon.state.timeline import Mark, State
from recon_assets.assets import asset_key
from recon_assets.partitions import PARTITION, RANGE_START, windows_asked
from recon_assets.retries import COMPUTE, errors_as_failures
from resources.stores import resource_key

Window = tuple[str, Mapping[str, Any]]
_FAILING_MAX = 100
_NAMED_MAX, _READ_MAX = 5, 1_000
FRESHNESS, FRESHNESS_OF = "watermark_is_fresh", "window_certificates"
PROCESSED = "windows_are_processed"
_NO_MARK = Mark(0)


@dataclass(frozen=True)
class StageCheck:
    """A check of one asset. ``fault``: describes what is wrong with a window, from its figures; "" if nothing is. ``mark``: the state's
    mark for windows that may fail."""

    name: str
    severity: dg.AssetCheckSeverity
    description: str
    fault: Callable[[Mapping[str, Any]], str]
    mark: Mark = _NO_MARK


def _does_not_tie(figures: Mapping[str, Any]) -> str:
    out = [Totals.from_json(figures[side]) for side in ("counted", "duplicates", "suppressed", "rejected")]
    return "; ".join(Totals.from_json(figures["arrived"]).differences(out[0] + out[1] + out[2] + out[3]))


def _unreadable(figures: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} of {count} rejected rows" for name, count in sorted(figures["unreadable"].items()) if count)


def _short(figures: Mapping[str, Any]) -> str:
    return f"closed with {figures['received']} of {figures['expected']} files" if figures.get("short") else ""


def _all_rejected(figures: Mapping[str, Any]) -> str:
    arrived, rejected = figures["arrived"]["rows"], figures["rejected"]["rows"]
    return f"every row was rejected, {rejected:,} in all" if rejected and rejected == arrived else ""


def _in_conflict(figures: Mapping[str, Any]) -> str:
    found = conflicts.certified(figures)
    texts = [f"{found['within']:,} duplicates differ from the row that counts"] if found["within"] else []
    texts += [f"{found['ids_under_two_keys']:,} ids are under two keys"] if found["ids_under_two_keys"] else []
    texts += [f"{rows:,} duplicates differ from rows of {other}" for other, rows in found.get("earlier", {}).items()]
    texts += [f"{rows:,} duplicates in {other} differ from its rows" for other, rows in found.get("later", {}).items()]
    return ", ".join(texts)


AMOUNTS = StageCheck(
    "amounts_are_readable",
    dg.AssetCheckSeverity.WARN,
    "Every rejected row has a readable amount, which is part of the totals. A row without a readable amount is counted but not summed.",
    _unreadable,
    Mark.REJECTED,
)
CERTIFICATE_CHECKS = (
    StageCheck(
        "windows_tie",
        dg.AssetCheckSeverity.ERROR,
        "Per window, rows in = accepted + duplicates + rejected, and the same for money, per currency.",
        _does_not_tie,
    ),
    StageCheck(
        "files_complete",
        dg.AssetCheckSeverity.ERROR,
        "No window was closed with fewer files than expected. Such a window is SHORT until the missing files are processed.",
        _short,
        Mark.SHORT,
    ),
    StageCheck(
        "rows_are_accepted",
        dg.AssetCheckSeverity.ERROR,
        "No window has all of its rows rejected. 'recon rejects W' lists file, line and reason of each rejected row.",
        _all_rejected,
        Mark.ALL_REJECTED,
    ),
    StageCheck(
        "duplicates_agree",
        dg.AssetCheckSeverity.WARN,
        "Duplicates are equal to the row that counts, within a window and across windows, and no window has an event id under two keys.",
        _in_conflict,
        Mark.CONFLICTS,
    ),
)


def reconciliation_checks(config: Config) -> list[dg.AssetChecksDefinition]:
    """The checks of a reconciliation's assets: one step per asset that has checks."""
    return [_amounts_check(config), _certificate_checks(config)]


def _amounts_check(config: Config) -> dg.AssetChecksDefinition:
    store, key = resource_key(config.name), asset_key(config.name, "stateless_artifacts")

    @dg.asset_check(asset=key, name=AMOUNTS.name, description=AMOUNTS.description, required_resource_keys={store})
    def check(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        with errors_as_failures(context, COMPUTE):
            work: Work = getattr(context.resources, store).work(config)
            with work.noting_errors():
                return _result(AMOUNTS, key, _figures(work, context.run.tags, _reduced), _marked(work, AMOUNTS.mark))

    return check


def _certificate_checks(config: Config) -> dg.AssetChecksDefinition:
    store, key = resource_key(config.name), asset_key(config.name, "window_certificates")
    others = {
        PROCESSED: "Every closed window could be processed. A window that could not is in quarantine until a corrected file has landed.",
        FRESHNESS: "The watermark is at most `freshness` behind the time of the check. Up to the watermark every window is closed and "
        "processed.",
    }
    described = {**{spec.name: spec.description for spec in CERTIFICATE_CHECKS}, **others}

    @dg.multi_asset_check(
        name=f"{config.name}_certificate_checks",
        specs=[dg.AssetCheckSpec(name, asset=key, description=text) for name, text in described.items()],
        required_resource_keys={store},
    )
    def checks(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        with errors_as_failures(context, COMPUTE):
            work: Work = getattr(context.resources, store).work(config)
            with work.noting_errors():
                figures = dict(_figures(work, context.run.tags, _committed))
                for spec in CERTIFICATE_CHECKS:
                    yield _result(spec, key, figures.items(), _marked(work, spec.mark))
                yield _processed(work, key)
                yield freshness_verdict(freshness(work.store, config, work.head(), datetime.now(UTC)), key)

    return checks


def _figures(work: Work, tags: Mapping[str, str], of: Callable[[Work, list[datetime]], Iterator[Window]]) -> Iterator[Window]:
    """The windows of the run without those that its stages skipped; all committed windows if the run names none."""
    if RANGE_START not in tags and PARTITION not in tags:
        state = work.head()
        yield from committed_figures(work.store, state, state.windows).items()
        return
    windows = windows_asked(work.config.grid, tags, datetime.now(UTC))
    try:
        yield from of(work, windows)
    except NotReady as error:
        skipped = unfilled(work, error.windows)
        rest = [window for window in windows if name_of(window) not in skipped]
        if not skipped or not rest:
            raise
        yield from of(work, rest)


def _reduced(work: Work, windows: list[datetime]) -> Iterator[Window]:
    for figures in reduced_batches(work, windows):
        yield figures.window, _as_committed(figures)


def _as_committed(figures: Figures) -> Mapping[str, Any]:
    return {"unreadable": figures.unreadable, "rejected": figures.rejected.to_json()}


def _committed(work: Work, windows: list[datetime]) -> Iterator[Window]:
    yield from committed_windows(work, windows).items()


def _marked(work: Work, mark: Mark) -> tuple[int, dict[str, dict[str, Any]]]:
    """The number of committed windows with the mark, and the figures of the newest of them."""
    state: State = work.head()
    names = sorted(name for name, window in state.windows.items() if mark and window.has(mark))
    return len(names), committed_figures(work.store, state, names[-_READ_MAX:])


def _processed(work: Work, key: dg.AssetKey) -> dg.AssetCheckResult:
    state = work.head()
    waiting = due(work.store, work.config, state, windows=peek(work.store, state))
    found = [caveat for caveat in caveats(work.store, work.config, state, waiting) if caveat.kind in ("quarantined", "damaged")]
    return dg.AssetCheckResult(
        asset_key=key,
        check_name=PROCESSED,
        passed=not found,
        description="; ".join(caveat.text for caveat in found) or None,
        metadata={"windows_failing": sum(len(caveat.windows) for caveat in found)},
    )


def freshness_verdict(found: Freshness, key: dg.AssetKey) -> dg.AssetCheckResult:
    """The result of the freshness check, for runs and for the sensor."""
    return dg.AssetCheckResult(
        asset_key=key,
        check_name=FRESHNESS,
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


def _result(
    spec: StageCheck, key: dg.AssetKey, windows: Iterable[Window], marked: tuple[int, Mapping[str, Mapping[str, Any]]]
) -> dg.AssetCheckResult:
    """``windows``: those of the run. ``marked``: the number of all windows that may fail, and the figures of the newest of them."""
    number, of_state = marked
    of_run = dict(windows)
    both = {**of_state, **of_run}
    failing = {name: fault for name in sorted(both) if (fault := spec.fault(both[name]))}
    shown = list(failing)[-_FAILING_MAX:]
    more = f"; and {len(failing) - _NAMED_MAX:,} more" if len(failing) > _NAMED_MAX else ""
    return dg.AssetCheckResult(
        asset_key=key,
        check_name=spec.name,
        passed=not failing,
        severity=spec.severity,
        description="; ".join(f"{name}: {failing[name]}" for name in shown[-_NAMED_MAX:]) + more or None,
        metadata={
            "windows_checked": len(of_run),
            "windows_failing": len(failing),
            "first_window": min(of_run, default="none"),
            "last_window": max(of_run, default="none"),
            **({"older_windows_not_read": number - len(of_state)} if number > len(of_state) else {}),
            "failing": dg.MetadataValue.json({name: failing[name] for name in shown}),
        },
    )
