"""Evaluates all definitions on one snapshot: which scopes are due, with which versions, and what the others wait for."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property

import sqlalchemy as sa

from recon.aggregations.definitions.load import Definition
from recon.aggregations.definitions.sections import ExpectedNumber, Need
from recon.aggregations.preconditions import conditions, criteria
from recon.aggregations.preconditions.conditions import Answer, Scope
from recon.aggregations.preconditions.history import Override, Past, Pasts, overrides
from recon.aggregations.preconditions.snapshot import ALL, Files, joined, split
from recon.database import Database
from recon.intake.sources.load import Source

_NOTHING = Past()
Uncertified = Callable[[Source], Mapping[str, str]]


@dataclass(frozen=True)
class Evaluation:
    """The answers of one scope. ``versions``: its files, joined. ``missing``: names of expected files that are not there. ``overrides``:
    those that a run would use up."""

    definition: Definition
    scope: str
    at: datetime
    answers: tuple[Answer, ...]
    versions: str
    past: Past
    missing: tuple[str, ...] = ()
    overrides: tuple[Override, ...] = ()

    @property
    def due(self) -> bool:
        """Whether nothing keeps a run from starting."""
        return all(answer.passes for answer in self.answers)

    @property
    def settled(self) -> bool:
        """Whether its input was aggregated by the last completed run, and no run is at work."""
        done = self.past.completed
        return not self.past.active and done is not None and done["load"] == self.definition.load_id(self.scope, self.versions)

    @cached_property
    def stored(self) -> str:
        """The answers as they are stored: JSON."""
        return json.dumps([vars(answer) for answer in self.answers])

    @property
    def waits_for(self) -> list[str]:
        """The reasons of the conditions that do not hold."""
        return [f"{answer.condition}: {answer.why}" for answer in self.answers if not answer.passes]


class Evaluator:
    """Evaluates again and again. It remembers the details of files and completed runs, so that a tick in which nothing arrived reads only
    versions."""

    def __init__(self, database: Database, reconciliation: str, uncertified: Uncertified = lambda _: {}) -> None:
        """``uncertified``: of a source of breaks, first window of a day → why its breaks are not final yet."""
        self.database, self.reconciliation, self.uncertified = database, reconciliation, uncertified
        self.files, self.pasts = Files(reconciliation), Pasts(reconciliation)

    def evaluate(
        self,
        definitions: Iterable[Definition],
        now: datetime | None = None,
        settled: bool = False,
        known: Mapping[str, Definition] | None = None,
        scope: str | None = None,
    ) -> list[Evaluation]:
        """The evaluations of all scopes, in order of definitions and scopes; those that are settled only if asked for. ``now``: for
        business days, deadlines and repeats, by default the database's clock. ``known``: by name, the definitions that others may need, by
        default those that are evaluated. ``scope``: only this one, also where it has no file."""
        chosen = list(definitions)
        by_name = {made.name: made for made in chosen} if known is None else known
        uncertified = {made.source.name: self.uncertified(made.source) for made in chosen if made.source.breaks is not None}
        with self.database.read() as connection:
            at = self.database.clock(connection) if now is None else now
            self.files.look(connection)
            happened, set_aside = self.pasts.look(connection), overrides(connection, self.reconciliation)
            look = _Look(self.database, connection, self.files, happened, at, by_name, set_aside, uncertified)
            return [one for one in look.evaluations(chosen, scope) if settled or not one.settled]


@dataclass(frozen=True)
class _Look:
    """One transaction's view."""

    database: Database
    connection: sa.Connection
    files: Files
    pasts: Mapping[tuple[str, str], Past]
    now: datetime
    known: Mapping[str, Definition]
    set_aside: Mapping[tuple[str, str], Sequence[Override]]
    uncertified: Mapping[str, Mapping[str, str]]
    _texts: dict[tuple[str, str], str] = field(default_factory=dict)

    def evaluations(self, definitions: Iterable[Definition], only: str | None) -> list[Evaluation]:
        """The evaluations of all scopes, after the details of all that are not settled were read at once."""
        asked: list[tuple[Definition, str, Sequence[str], Evaluation | None]] = []
        for definition in definitions:
            scopes = self._scopes(definition)
            if only is not None:
                scopes = {only: scopes.get(only, [])} if (only == ALL) == (definition.section.per == "all") else {}
            asked += [(definition, name, windows, self._quick(definition, name, windows)) for name, windows in scopes.items()]
        unsettled = [(one, name, windows) for one, name, windows, quick in asked if quick is None and self._asks_names(one, name)]
        self.files.prepare(self.connection, [(one.source.name, window) for one, _, windows in unsettled for window in windows])
        return [quick or self._slow(one, name, windows) for one, name, windows, quick in asked]

    def _asks_names(self, definition: Definition, scope: str) -> bool:
        """Whether conditions of a scope need the names of its files: where files are chosen or expected by name, or a run has completed."""
        section, past = definition.section, self.pasts.get((definition.name, scope), _NOTHING)
        return section.files is not None or not isinstance(section.expect, ExpectedNumber) or past.completed is not None

    def _slow(self, definition: Definition, name: str, windows: Sequence[str]) -> Evaluation:
        """The evaluation of a scope, each condition asked."""
        past = self.pasts.get((definition.name, name), _NOTHING)
        files = self.files.contents(self.connection, definition.source.name, windows, definition.section.files)
        scope = Scope(definition, name, files, past, self.now, self._uncertified(definition).get(name, ""))
        chosen = self.set_aside.get((definition.name, name), ())
        answers = tuple(_set_aside(answer, scope, chosen) for answer in self._answers(scope))
        used = tuple(one for one in chosen if any(one.condition == answer.condition for answer in answers))
        return Evaluation(definition, name, self.now, answers, files.text, past, tuple(scope.missing), used)

    def _scopes(self, definition: Definition) -> dict[str, list[str]]:
        """Scope → its windows: those with files, those whose files were all taken back since a run, and days whose breaks are not
        final."""
        there = self.files.windows(definition.source.name)
        if definition.section.per == "all":
            return {ALL: sorted(there)}
        return {
            window: [window] for window in sorted({*there, *self._past_scopes.get(definition.name, ()), *self._uncertified(definition)})
        }

    def _uncertified(self, definition: Definition) -> Mapping[str, str]:
        return self.uncertified.get(definition.source.name, {})

    @cached_property
    def _past_scopes(self) -> dict[str, list[str]]:
        """Aggregation → the scopes in which its last completed run had files, or a run is at work."""
        found: dict[str, list[str]] = {}
        for (name, scope), past in self.pasts.items():
            if scope != ALL and (past.active or (past.completed is not None and past.completed["versions"])):
                found.setdefault(name, []).append(scope)
        return found

    def _quick(self, definition: Definition, name: str, windows: Sequence[str]) -> Evaluation | None:
        """The evaluation of a scope whose versions are those of its last completed run, without reading details; None for any other."""
        past = self.pasts.get((definition.name, name), _NOTHING)
        if definition.section.files is not None or past.completed is None or past.active:
            return None
        text = self._text(definition, name, windows)
        if past.completed["load"] != definition.load_id(name, text):
            return None
        same = Answer(conditions.NEW_INPUT, False, f"the same files as in run {past.completed['id']}")
        return Evaluation(definition, name, self.now, (same,), text, past)

    def _text(self, definition: Definition, name: str, windows: Sequence[str]) -> str:
        """The versions of a scope, joined."""
        there = self.files.windows(definition.source.name)
        if definition.section.files is not None:
            return self.files.contents(self.connection, definition.source.name, windows, definition.section.files).text
        if name != ALL:
            return there.get(name, "")
        if (definition.source.name, ALL) not in self._texts:
            versions = joined(version for window in windows for version in split(there.get(window, "")))
            self._texts[definition.source.name, ALL] = versions
        return self._texts[definition.source.name, ALL]

    def _answers(self, scope: Scope) -> Iterator[Answer]:
        yield conditions.not_running(scope)
        yield conditions.tries(scope)
        yield conditions.new_input(scope)
        yield from conditions.cadence(scope)
        yield conditions.files(scope)
        yield from conditions.size(scope)
        for need in scope.definition.section.needs:
            if need.source is not None:
                yield conditions.needed_files(scope, need, self.files.came(self.connection, need.source, need.files))
            else:
                yield conditions.needed_runs(need, self._not_done(scope, need))
        if scope.definition.criteria is not None:
            yield criteria.answer(self.database, self.connection, scope)

    def _not_done(self, scope: Scope, need: Need) -> dict[str, str]:
        """Scope of a needed aggregation → why it has not aggregated what is there. Needed are its scope of the same name, or all."""
        needed = self.known.get(str(need.aggregation))
        if needed is None:
            return {scope.name: "it is not enabled"}
        scopes = self._scopes(needed)
        names = [scope.name] if scope.window is not None and needed.section.per == "window" else list(scopes) or [scope.name]
        found = {}
        for name in names:
            past = self.pasts.get((needed.name, name), _NOTHING)
            load = needed.load_id(name, self._text(needed, name, scopes.get(name, [])))
            if why := conditions.not_done(past, load):
                found[name] = why
        return found


def _set_aside(answer: Answer, scope: Scope, overrides: Sequence[Override]) -> Answer:
    """The answer with who set the condition aside: a person, or, for missing files, the deadline."""
    if answer.holds or answer.condition in conditions.FIRM:
        return answer
    for one in overrides:
        if one.condition == answer.condition:
            return replace(answer, set_aside=f"{one.by}: {one.reason}")
    if answer.condition == conditions.FILES and scope.files.count and (passed := conditions.deadline_passed(scope)):
        return replace(answer, set_aside=passed)
    return answer
