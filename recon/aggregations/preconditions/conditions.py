"""The conditions of a scope: each is answered with whether it holds, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property

from recon.aggregations.definitions.load import Definition
from recon.aggregations.definitions.sections import ExpectedNumber, Need
from recon.aggregations.preconditions.history import Past
from recon.aggregations.preconditions.snapshot import ALL, Contents, split
from recon.intake.sources.arrivals import expected_here, expected_name
from recon.model.windows import Grid, day_begin, name_of

NOT_RUNNING, TRIES, NEW_INPUT, CADENCE = "not running", "tries", "new input", "cadence"
FILES, ROWS, BYTES, CRITERIA = "files", "rows", "bytes", "criteria"
FIRM = (NOT_RUNNING, NEW_INPUT)
"""Conditions that nobody can set aside."""
ATTEMPTS = 3
"""Runs of the same input that may fail before a person or new input is waited for."""
WAIT = timedelta(minutes=1)
"""Before the second attempt; doubled before the third."""
_NAMED_MAX = 20


@dataclass(frozen=True)
class Answer:
    """``why``: in words, whether it holds or not. ``set_aside``: who set the condition aside, and why; "" where it counts."""

    condition: str
    holds: bool
    why: str
    set_aside: str = ""

    @property
    def passes(self) -> bool:
        """Whether the condition keeps nothing from starting."""
        return self.holds or bool(self.set_aside)


@dataclass(frozen=True)
class Scope:
    """What a scope's conditions are asked of. ``name``: a window, or ``all``. ``files``: those in it. ``uncertified``: why the breaks of
    this day are not final yet, "" where they are, or where the source has received files."""

    definition: Definition
    name: str
    files: Contents
    past: Past
    now: datetime
    uncertified: str = ""

    @property
    def grid(self) -> Grid:
        return self.definition.config.grid

    @property
    def window(self) -> datetime | None:
        """The start of its window; None for ``all``."""
        return None if self.name == ALL else self.grid.parse(self.name)

    @cached_property
    def expected(self) -> list[str]:
        """The names of the files that complete it; none where only their number is expected. For ``all``: those of the current window."""
        expect, window = self.definition.section.expect, self.window or self.grid.last_begun(self.now)
        if isinstance(expect, ExpectedNumber):
            return []
        return [expected_name(entry.name, self.grid, window) for entry in expect if expected_here(entry, self.grid, window)]

    @cached_property
    def missing(self) -> list[str]:
        """Those of the expected files that are not there."""
        there = set(self.files.names) if self.expected else ()
        return [name for name in self.expected if name not in there]

    @cached_property
    def load(self) -> str:
        return self.definition.load_id(self.name, self.files.text)


def not_running(scope: Scope) -> Answer:
    """One run at a time works on a scope."""
    run = scope.past.newest
    if run is None or not scope.past.active:
        return Answer(NOT_RUNNING, True, "no run is at work")
    return Answer(NOT_RUNNING, False, f"run {run['id']} is {run['state']}" + (f" by {run['worker']}" if run["worker"] else ""))


def tries(scope: Scope) -> Answer:
    """The input has not failed too often, the last failure is long enough ago, and nobody cancelled its last run."""
    run = scope.past.newest
    if run is None or run["state"] not in ("failed", "cancelled") or run["load"] != scope.load:
        return Answer(TRIES, True, "this input has not failed")
    if run["state"] == "cancelled":
        asked = f"it waits for new input, or for 'recon aggregation run {scope.definition.name}'"
        return Answer(TRIES, False, f"run {run['id']} was cancelled: {run['reason']}; {asked}")
    failed = f"run {run['id']} failed, attempt {run['attempt']} of {ATTEMPTS}: {run['reason']}"
    if run["attempt"] >= ATTEMPTS:
        return Answer(TRIES, False, f"{failed}; it waits for new input, or for 'recon aggregation run {scope.definition.name}'")
    again = run["ended_at"] + WAIT * 2 ** (run["attempt"] - 1)
    return Answer(TRIES, scope.now >= again, f"{failed}; tried again from {again:%Y-%m-%dT%H:%M:%SZ} on")


def new_input(scope: Scope) -> Answer:
    """The versions, or the definition's rules, differ from those of the last completed run."""
    done = scope.past.completed
    if done is not None and done["load"] == scope.load:
        return Answer(NEW_INPUT, False, f"the same files as in run {done['id']}")
    before = set(split(done["versions"])) if done is not None else set()
    if not scope.files.count:
        taken = f"{_count(len(before))} of run {done['id']} taken back" if done is not None and before else ""
        return Answer(NEW_INPUT, bool(taken), taken or "no file has landed")
    if done is None:
        return Answer(NEW_INPUT, True, f"{_count(scope.files.count)}, and no run has completed")
    new = [version for version in scope.files.versions if version not in before]
    if not new:
        gone = len(before) - scope.files.count
        changed = f"{_count(gone)} less than in run {done['id']}" if gone else f"the definition changed since run {done['id']}"
        return Answer(NEW_INPUT, True, changed)
    names = dict(zip(scope.files.versions, scope.files.names, strict=True))
    if scope.definition.section.input == "all" and (old := [names[version] for version in scope.files.versions if version in before]):
        return Answer(NEW_INPUT, False, f"{_count(len(new), 'new ')} since run {done['id']}, but not yet anew: {_listed(old)}")
    return Answer(NEW_INPUT, True, f"{_count(len(new), 'new ')} since run {done['id']}: {_listed([names[version] for version in new])}")


def cadence(scope: Scope) -> list[Answer]:
    """The last completed run is long enough ago, where the definition asks for that."""
    least, done = scope.definition.section.cadence, scope.past.completed
    if least is None:
        return []
    if done is None:
        return [Answer(CADENCE, True, "no run has completed")]
    then = done["ended_at"] + least
    return [Answer(CADENCE, scope.now >= then, f"run {done['id']} has completed; the next may begin at {then:%Y-%m-%dT%H:%M:%SZ}")]


def files(scope: Scope) -> Answer:
    """As many files as expected have landed, or those of the expected names."""
    expect = scope.definition.section.expect
    if isinstance(expect, ExpectedNumber):
        why = f": {scope.uncertified}" if scope.uncertified else ""
        return Answer(FILES, scope.files.count >= expect.number, f"{scope.files.count} of {expect.number} files{why}")
    names, missing = scope.expected, scope.missing
    if not names:
        return Answer(FILES, False, "no file is expected on this day")
    lacking = f": {_listed(missing)} {'is' if len(missing) == 1 else 'are'} missing" if missing else ""
    return Answer(FILES, not missing, f"{len(names) - len(missing)} of {len(names)} files{lacking}")


def size(scope: Scope) -> list[Answer]:
    """There are as many rows, and as many received bytes, as the definition asks for."""
    section, found = scope.definition.section, []
    if section.least_rows:
        rows = scope.files.rows
        found.append(Answer(ROWS, rows >= section.least_rows, f"{rows:,} of at least {section.least_rows:,} rows"))
    if section.least_bytes is not None:
        received = scope.files.bytes
        found.append(Answer(BYTES, received >= section.least_bytes, f"{received:,} of at least {int(section.least_bytes):,} bytes"))
    return found


def needed_files(scope: Scope, need: Need, came: Mapping[str, datetime]) -> Answer:
    """A file of another source is there, and fresh enough. ``came``: name → when it was last delivered."""
    if not came:
        return Answer(need.name, False, f"{need.files or 'a file'} of {need.source} has never landed")
    last, at = max(came.items(), key=lambda item: item[1])
    why = f"{last} last came at {name_of(at)}"
    if need.since == "ever":
        return Answer(need.name, True, why)
    begin = day_begin(scope.now if need.since == "today" or scope.window is None else scope.window, scope.definition.section.time_zone)
    return Answer(need.name, at >= begin, f"{why}, the business day began at {name_of(begin)}")


def needed_runs(need: Need, missing: Mapping[str, str]) -> Answer:
    """Another aggregation has aggregated what is there for this scope. ``missing``: its scope → why it has not."""
    if not missing:
        return Answer(need.name, True, f"{need.aggregation} is up to date")
    return Answer(need.name, False, f"{need.aggregation}: {_listed([f'{scope}: {why}' for scope, why in missing.items()])}")


def not_done(past: Past, load: str) -> str:
    """Why a scope of a needed aggregation is not up to date; "" where it is. ``load``: that of the files that are there."""
    if past.active and past.newest is not None:
        return f"run {past.newest['id']} is {past.newest['state']}"
    if past.completed is None:
        return "no run has completed"
    return "" if past.completed["load"] == load else f"it has new input since run {past.completed['id']}"


def deadline_passed(scope: Scope) -> str:
    """Why missing files are no longer waited for; "" while they are, or where there is no deadline."""
    after, window = scope.definition.section.deadline, scope.window
    if after is None or window is None:
        return ""
    end = scope.grid.after(window) + after
    return f"the deadline {name_of(end)} has passed" if scope.now >= end else ""


def _count(files: int, what: str = "") -> str:
    return f"{files} {what}file" + ("" if files == 1 else "s")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED_MAX]) + (f" and {len(names) - _NAMED_MAX} more" if len(names) > _NAMED_MAX else "")
