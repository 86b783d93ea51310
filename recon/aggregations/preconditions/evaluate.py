"""Evaluates all definitions on one snapshot: which scopes are due, with which versions, and what the others wait for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import sqlalchemy as sa

from recon.aggregations.definitions.load import Definition
from recon.aggregations.preconditions import conditions, criteria
from recon.aggregations.preconditions.conditions import Answer, Scope
from recon.aggregations.preconditions.history import Override, Past, overrides, pasts
from recon.aggregations.preconditions.snapshot import ALL, Files, joined
from recon.database import Database

_NOTHING = Past()


@dataclass(frozen=True)
class Evaluation:
    """The answers of one scope. ``versions``: its files, joined. ``names``: of these files. ``missing``: names of
    expected files that are not there. ``overrides``: those that a run would use up."""

    definition: Definition
    scope: str
    at: datetime
    answers: tuple[Answer, ...]
    versions: str
    names: tuple[str, ...]
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
        load = self.definition.load_id(self.scope, self.versions)
        return not self.past.active and done is not None and bool(self.versions) and done["load"] == load

    @property
    def waits_for(self) -> list[str]:
        """The reasons of the conditions that do not hold."""
        return [f"{answer.condition}: {answer.why}" for answer in self.answers if not answer.passes]


class Evaluator:
    """Evaluates again and again. It remembers the details of files, so that a tick in which nothing arrived reads only versions."""

    def __init__(self, database: Database, reconciliation: str) -> None:
        self.database, self.reconciliation = database, reconciliation
        self.files = Files(reconciliation)

    def evaluate(self, definitions: Iterable[Definition], now: datetime | None = None, settled: bool = False) -> list[Evaluation]:
        """The evaluations of all scopes, in order of definitions and scopes; those that are settled only if asked for. ``now``: for
        business days, deadlines and repeats, by default the database's clock."""
        with self.database.read() as connection:
            at = self.database.clock(connection) if now is None else now
            self.files.look(connection)
            happened, set_aside = pasts(connection, self.reconciliation), overrides(connection, self.reconciliation)
            look = _Look(self.database, connection, self.files, happened, at)
            return [
                found for definition in definitions for found in look.evaluations(definition, set_aside) if settled or not found.settled
            ]


@dataclass(frozen=True)
class _Look:
    """One transaction's view."""

    database: Database
    connection: sa.Connection
    files: Files
    pasts: Mapping[tuple[str, str], Past]
    now: datetime

    def evaluations(self, definition: Definition, set_aside: Mapping[tuple[str, str], Sequence[Override]]) -> Iterator[Evaluation]:
        for name, windows in self._scopes(definition).items():
            past = self.pasts.get((definition.name, name), _NOTHING)
            quick = self._quick(definition, name, windows, past)
            if quick is not None:
                yield quick
                continue
            versions = self.files.details(self.connection, definition.source.name, windows, definition.section.files)
            text = joined(version.text for version in versions)
            scope = Scope(definition, name, versions, text, past, self.now)
            chosen = set_aside.get((definition.name, name), ())
            answers = tuple(_set_aside(answer, scope, chosen) for answer in self._answers(scope))
            used = tuple(one for one in chosen if any(one.condition == answer.condition for answer in answers))
            yield Evaluation(
                definition,
                name,
                self.now,
                answers,
                text,
                tuple(version.name for version in versions),
                past,
                tuple(conditions.missing_names(scope)),
                used,
            )

    def _scopes(self, definition: Definition) -> dict[str, list[str]]:
        """Scope → its windows: those with files, and those that have had a run."""
        windows = sorted({*self.files.windows(definition.source.name)})
        if definition.section.per == "all":
            return {ALL: windows}
        return {window: [window] for window in windows}

    def _quick(self, definition: Definition, name: str, windows: Sequence[str], past: Past) -> Evaluation | None:
        """The evaluation of a scope whose versions are those of its last completed run, without reading details; None for any other."""
        if definition.section.files is not None or past.completed is None or past.active:
            return None
        there = self.files.windows(definition.source.name)
        text = there[name] if name in there else joined(v for window in windows for v in there[window].split(","))
        if past.completed["load"] != definition.load_id(name, text):
            return None
        same = Answer(conditions.NEW_INPUT, False, f"the same files as in run {past.completed['id']}")
        return Evaluation(definition, name, self.now, (same,), text, (), past)

    def _answers(self, scope: Scope) -> Iterator[Answer]:
        yield conditions.not_running(scope)
        yield conditions.tries(scope)
        yield conditions.new_input(scope)
        yield conditions.files(scope)
        yield from conditions.size(scope)
        for need in scope.definition.section.needs:
            if need.source is not None:
                windows = self.files.windows(need.source)
                yield conditions.needed_files(scope, need, self.files.details(self.connection, need.source, windows, need.files))
            else:
                yield conditions.needed_run(scope, need, self.pasts.get((str(need.aggregation), scope.name), _NOTHING))
        if scope.definition.criteria is not None:
            yield criteria.answer(self.database, self.connection, scope)


def _set_aside(answer: Answer, scope: Scope, overrides: Sequence[Override]) -> Answer:
    """The answer with who set the condition aside: a person, or, for missing files, the deadline."""
    if answer.holds or answer.condition in conditions.FIRM:
        return answer
    for one in overrides:
        if one.condition == answer.condition:
            return replace(answer, set_aside=f"{one.by}: {one.reason}")
    if answer.condition == conditions.FILES and scope.versions and (passed := conditions.deadline_passed(scope)):
        return replace(answer, set_aside=passed)
    return answer
