"""All definitions of a reconciliation, from the files and the table; each mistake disables one definition only."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recon.aggregations.definitions import table
from recon.aggregations.definitions.load import Definition, definition_of, files_in
from recon.config import yaml_file
from recon.config.model import Config
from recon.database import Database
from recon.errors import WrongUsage
from recon.intake.sources.load import Source


@dataclass(frozen=True)
class Definitions:
    """``good``: by name, the enabled ones. ``disabled``: names. ``broken``: name → mistake. ``changes``: what the sync found."""

    good: Mapping[str, Definition]
    disabled: tuple[str, ...]
    broken: Mapping[str, str]
    changes: tuple[table.Change, ...] = ()

    def named(self, name: str) -> Definition:
        """One that is enabled and without mistakes. Raises WrongUsage for any other."""
        if name in self.good:
            return self.good[name]
        if name in self.broken:
            raise WrongUsage(self.broken[name])
        if name in self.disabled:
            raise WrongUsage(f"{name} is disabled; write enabled: true")
        raise WrongUsage(f"there is no aggregation {name!r}; there are {', '.join(self.good) or 'none'}")


@dataclass
class Reader:
    """Reads definitions again and again, and builds only those that changed: building one takes milliseconds, and a sensor reads all."""

    config: Config
    sources: Mapping[str, Source]
    _made: dict[tuple[str, Path], tuple[str, Definition | str]] = field(default_factory=dict)

    def read(self, database: Database, take: table.Take | None = None, write: bool = True) -> Definitions:
        """Syncs the files with the table, and reads the table. Without ``write`` the table stays, and the definitions are those that a sync
        would leave."""
        files, broken = self._files()
        contents = {name: file.content for name, file in files.items()}
        if write:
            found = table.sync(database, self.config.name, contents, broken.keys(), take)
        else:
            found = table.differences(database, self.config.name, contents, broken.keys())
        with database.read() as connection:
            rows = table.rows(connection, self.config.name)
        conflicts = {change.name for change in found if change.action == "conflict"} if take is None else set()
        after = rows if write else table.synced_rows(found, contents, rows)
        return self._read(files, broken, after, found, conflicts)

    def read_files(self) -> Definitions:
        """The definitions of the files alone, without a database."""
        files, broken = self._files()
        contents = {name: file.content for name, file in files.items()}
        found = table.changes(contents, {})
        return self._read(files, broken, table.synced_rows(found, contents, {}), found, set())

    def _read(
        self,
        files: Mapping[str, yaml_file.File],
        broken: dict[str, str],
        rows: Mapping[str, Mapping[str, Any]],
        found: Sequence[table.Change],
        conflicts: set[str],
    ) -> Definitions:
        """``broken``: files with mistakes; gets the mistakes of rows, too. ``conflicts``: names whose file and row both changed."""
        good: dict[str, Definition] = {}
        for name, row in rows.items():
            if name in broken or not row["enabled"]:
                continue
            if name in conflicts:
                broken[name] = (
                    f"{files[name].path if name in files else name}: the file and its row in the table 'aggregations' both changed; "
                    f"'recon aggregation sync --preview' shows how, and --take file or --take table decides"
                )
                continue
            made = self._definition(name, row, files.get(name))
            if isinstance(made, str):
                broken[name] = made
            else:
                good[name] = made
        _refuse_shared_targets(good, broken)
        _refuse_circles(good, broken)
        disabled = tuple(name for name, row in rows.items() if not row["enabled"] and name not in broken)
        return Definitions(good, disabled, dict(sorted(broken.items())), tuple(found))

    def _files(self) -> tuple[dict[str, yaml_file.File], dict[str, str]]:
        """The files without mistakes by name, and the mistakes of the others."""
        good: dict[str, yaml_file.File] = {}
        broken: dict[str, str] = {}
        for path in files_in(self.config.path.parent):
            try:
                file = yaml_file.read(path)
                if not table.NAME.match(path.stem):
                    raise WrongUsage(f"{path}: {table.NAMED}; rename the file")
                made = self._built(path.stem, file)
                if isinstance(made, str):
                    raise WrongUsage(made)
                good[path.stem] = file
            except WrongUsage as error:
                broken[path.stem] = str(error)
        return good, broken

    def _definition(self, name: str, row: Mapping[str, Any], file: yaml_file.File | None) -> Definition | str:
        columns = table.own_columns(row)
        if file is not None and columns == table.said(table.columns_of(file.content)):
            return self._built(name, file)  # the same, and its mistakes have lines
        place = Path(f"table aggregations, row {name}")
        try:
            if not table.NAME.match(name):
                raise WrongUsage(f"{place}: name: {table.NAMED}; change the row")
            return self._built(name, table.content_of(columns, place))
        except WrongUsage as error:
            return str(error)

    def _built(self, name: str, file: yaml_file.File) -> Definition | str:
        """The definition, or its mistake; that of the last call where the content is the same."""
        key, content = (name, file.path), json.dumps(file.content)
        if key in self._made and self._made[key][0] == content:
            return self._made[key][1]
        made: Definition | str
        try:
            made = definition_of(name, file, self.config, self.sources)
        except WrongUsage as error:
            made = str(error)
        self._made[key] = (content, made)
        return made


def _refuse_shared_targets(good: dict[str, Definition], broken: dict[str, str]) -> None:
    """Of the definitions that write one table, the first by name stays."""
    first: dict[str, str] = {}
    for name in sorted(good):
        # The schemas in which the warehouses put a table without one.
        target = good[name].section.target.removeprefix("main.").removeprefix("public.")
        if target in first:
            place = good[name].file.place(("target",))
            broken[name] = f"{place}: target: the aggregation {first[target]} writes {target}; choose another table"
            del good[name]
        else:
            first[target] = name


def _refuse_circles(good: dict[str, Definition], broken: dict[str, str]) -> None:
    """Takes out the definitions that wait for themselves, in a circle, or for one that is not there."""
    needed = {name: {need.aggregation for need in made.section.needs if need.aggregation is not None} for name, made in good.items()}
    reached = {name: _reached(name, needed) for name in good}
    for name in [name for name in good if name in reached[name]]:
        circle = sorted(other for other in reached[name] if name in reached.get(other, ()))
        mistake = "waits for itself" if circle == [name] else f"{' and '.join(circle)} wait for each other"
        broken[name] = f"{good[name].file.place(('needs',))}: needs: {mistake}; take one need out"
        del good[name]
    while lost := {name: missing for name in good if (missing := sorted(needed[name] - good.keys()))}:
        for name, missing in lost.items():
            why = f"needs: there is no aggregation {missing[0]!r} that is enabled and without mistakes"
            broken[name] = f"{good[name].file.place(('needs',))}: {why}"
            del good[name]


def _reached(name: str, needed: Mapping[str, set[str]]) -> set[str]:
    """Everything that an aggregation waits for, directly or not."""
    found: set[str] = set()
    todo = [name]
    while todo:
        new = needed.get(todo.pop(), set()) - found
        found |= new
        todo += new
    return found
