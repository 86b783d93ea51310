"""Commands that process what has landed, and prove the result: run, replay, repair, head, verify."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from recon.cli.dagster_runs import Materializing, repaired
from recon.cli.options import Common, Reason, flat
from recon.cli.progress import Bar
from recon.cli.screen import as_json, count, number, say, warn
from recon.errors import WrongUsage
from recon.metering.usage import Usage, from_json, requests_of, total

if TYPE_CHECKING:
    from recon.stages.report import RunReport

NAMED_MAX = 20


@flat
def run(
    first: Annotated[str | None, typer.Option("--from", metavar="W", help="First window; default: the earliest.")] = None,
    last: Annotated[str | None, typer.Option("--to", metavar="W", help="Last window; default: the newest.")] = None,
    *,
    common: Common,
) -> int:
    """Process everything that is closed and not yet done.

    A window that cannot be processed is left out and named; the other windows are processed without it. Exit status 1 if a window was
    left out, was closed with fewer files than expected, or had every row rejected. Each range of windows is a run in Dagster's UI.

    \b
    recon run
    recon run --from 2026-11-01T00:00Z --to 2026-11-01T05:00Z
    """
    with Bar("run") as bar, Materializing() as way:
        report = common.opened().run(first, last, bar, way)
    if common.json:
        as_json(asdict(report))
    else:
        say_run(report)
        say_open(report.open, common.suffix)
    for window, reason in report.bad.items():
        warn(f"left out: {reason if window in reason else f'window {window}: {reason}'}")
    return _say_incomplete(report)


def _say_incomplete(report: RunReport) -> int:
    """Warns of processed windows that are incomplete. Returns the exit status of the run."""
    for window in report.all_rejected:
        warn(f"window {window}: every row was rejected, nothing of it counts; 'recon rejects {window}' says why")
    for window in report.short:
        warn(f"window {window} is SHORT: it was closed with fewer files than expected; 'recon status {window}' counts them")
    return 1 if report.bad or report.short or report.all_rejected else 0


def say_run(report: RunReport) -> None:
    """Prints what a run did, in a few sentences."""
    if not (report.windows or report.bad or report.certificates):
        say("nothing to do: everything that is closed is done" if not report.open else "nothing to do: no closed window waits")
        return
    if report.windows:
        say(f"processed {count(len(report.windows), 'window')}: {_span(report.windows)}")
        counted = f"{number(report.accepted)} accepted + {number(report.duplicates)} duplicates"
        say(f"rows: {number(report.rows)} in = {counted} + {number(report.rejected)} rejected")
        keys = f"{count(report.keys, 'key')} touched, {count(report.written, 'artifact')} written"
        commits = f"{count(len(report.commits), 'commit')} ({', '.join(number(n) for n in report.commits)})"
        say(f"{keys} ({count(report.bytes, 'byte')}), {commits}, {count(report.certificates, 'certificate')}")
    elif report.certificates:
        say(f"certified {count(report.certificates, 'window')} that an earlier run had committed")
    else:
        say("processed no window")
    if report.recounted:
        say(f"counted again because their duplicates changed: {_span(report.recounted)}")
    if report.rejected:
        say("why rows were rejected, with file and line: 'recon rejects'")
    _say_requests(report)
    say(f"seconds: {', '.join(f'{stage} {taken:.1f}' for stage, taken in report.seconds.items())}")


def _say_requests(report: RunReport) -> None:
    """Prints the requests to services and their price; nothing if the store is a folder."""
    if not report.requests:
        return
    usage: Usage = sum(map(from_json, report.requests.values()), Counter())
    listed = ", ".join(f"{number(times)} {service} {operation}" for (service, operation), times in sorted(requests_of(usage).items()))
    say(f"requests: {listed}; {count(total(usage, 'sent'), 'byte')} sent, {number(total(usage, 'received'))} received")
    prices = report.prices
    beside = f"; the records' part {prices['records']}, with one object each {prices['records_one_object_each']}"
    say(f"price: USD {prices['total']} ({prices['region']}, {prices['as_of']}){beside}")


def say_open(windows: list[str], suffix: str) -> None:
    """Prints the windows that a run passed over: they hold files but are not closed."""
    for window in windows[:NAMED_MAX]:
        say(f"still open: {window} holds files; when it is complete, close it with 'recon close {window}{suffix}'")
    if len(windows) > NAMED_MAX:
        say(f"still open: {count(len(windows) - NAMED_MAX, 'more window')}; 'recon status --json{suffix}' names them")


def _span(windows: list[str]) -> str:
    return ", ".join(windows) if len(windows) < 4 else f"{windows[0]} … {windows[-1]}"


@flat
def replay(
    windows: Annotated[str, typer.Argument(metavar="W[..W2]", help="A window, or a range with both its ends.")],
    reason: Reason = "",
    *,
    common: Common,
) -> None:
    """Mark windows to be processed again by the next run.

    Replaying unchanged files changes nothing, so a replay is always safe.

    \b
    recon replay 2026-11-01T00:00Z
    recon replay 2026-11-01T00:00Z..2026-11-01T05:00Z && recon run
    """
    first, dots, last = windows.partition("..")
    if not first or (dots and not last):
        raise WrongUsage(f"{windows}: write a window, or a range as 2026-11-01T00:00Z..2026-11-01T05:00Z")
    marked = common.opened().replay(first, last or None, reason)
    if not marked:
        raise WrongUsage(f"{windows}: nothing has landed there to be replayed; 'recon status' lists the windows")
    if common.json:
        as_json([{name: getattr(manifest, name) for name in ("window", "revision", "closed")} for manifest in marked])
        return
    span = _span([manifest.window for manifest in marked])
    say(f"marked {count(len(marked), 'window')} to be processed again: {span}")
    say(f"next: recon run{common.suffix}")


@flat
def repair(common: Common) -> None:
    """Make Dagster's UI show what the store holds.

    Use it after a Dagster home was lost, or after windows were processed without Dagster. It starts with the newest windows, and may be
    interrupted and run again. It processes nothing.

    \b
    recon repair
    """
    with Bar("repair") as bar:
        done = repaired(common.opened(), bar)
    if common.json:
        as_json(asdict(done))
    elif done.repaired:
        say(
            f"the UI shows {count(done.repaired, 'window')} more as the store holds {'it' if done.repaired == 1 else 'them'}, "
            f"{number(done.windows)} in all: {count(done.events, 'event')} reported"
        )
    elif not done.windows:
        say("nothing to repair: no window has been processed yet")
    else:
        say(f"nothing to repair: the UI shows {count(done.windows, 'window')} as the store holds {'it' if done.windows == 1 else 'them'}")


@flat
def head(common: Common) -> int:
    """Print the newest commit's digest, to keep elsewhere.

    Later, 'recon verify --head DIGEST' proves that this commit and all commits before it are still part of the timeline.

    \b
    recon head
    recon head --json
    """
    reconciliation = common.opened()
    digest = reconciliation.head()
    if common.json:
        state = reconciliation.state()
        as_json({"commit": state.commit, "digest": digest, "time": state.time})
    else:
        say(digest)
    return 0


@flat
def verify(
    full: Annotated[bool, typer.Option("--full", help="Recompute every artifact from all landed events and compare.")] = False,
    head: Annotated[str | None, typer.Option("--head", metavar="DIGEST", help="A digest that 'recon head' printed earlier.")] = None,
    *,
    common: Common,
) -> int:
    """Prove that the store holds what it should.

    Checks that every index entry leads to its record and that every certificate ties; --full recomputes every artifact, too. --head
    proves that the commit with this digest is still part of the timeline: no recent entries were removed or rewritten.

    \b
    recon verify
    recon verify --full
    recon verify --head 8c1f…
    """
    with Bar("verify") as bar:
        found = common.opened().verify(full, bar, head)
    if common.json:
        as_json({**asdict(found), "ok": bool(found.commit) and not found.problems})
    elif found.commit:
        proven = f"{count(found.records, 'record')} in {count(found.runs, 'run')}"
        certified = f"{count(found.certificates, 'certificate')} of {count(found.windows, 'window')}"
        table = f", {count(found.items, 'item')} of the index table" if found.items else ""
        recomputed = f", recomputed from {count(found.events, 'event')}" if full else ""
        verdict = f"{count(len(found.problems), 'problem')} found" if found.problems else "all is as it should be"
        say(f"commit {number(found.commit)}: {proven}, {certified}{table}{recomputed}: {verdict}")
        for note in found.notes:
            say(f"note: {note}")
    for problem in found.problems:
        warn(problem)
    if not found.commit:
        warn("no window has been processed yet: only landed files were checked")
    return 1 if found.problems or not found.commit else 0
