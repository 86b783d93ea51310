"""The rules version: a digest of everything that gives artifacts their meaning."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from recon.config.model import Control, Derived, Events, Measure, Status
from recon.config.sections import Sections, cleaning_of
from recon.model.windows import Grid
from recon.vocabulary import MEANING, Expression

if TYPE_CHECKING:
    from recon.logic.source import LogicSource


def _rules_version(
    sections: Sections,
    grid: Grid,
    events: Events,
    measures: tuple[Measure, ...],
    derived: tuple[Derived, ...],
    status: tuple[Status, ...],
    control: tuple[Control, ...],
    source: LogicSource | None,
) -> str:
    """16 hex characters over what gives artifacts their meaning, in a form that spacing and comments don't change."""

    def tree(expression: Expression | None) -> object:
        return expression and expression.tree.canonical

    meaning = {
        "vocabulary": MEANING,
        "key": sections.key_columns,
        **({"clean": sorted(cleaning.items())} if (cleaning := cleaning_of(sections)) else {}),
        "windows": [grid.start.isoformat(), grid.every.total_seconds(), *([grid.zone] if grid.zone else [])],
        "types": sorted((name, str(kind)) for name, kind in events.types.items()),
        "events": [events.id, events.numbered, events.time, events.dedupe.total_seconds(), events.currency],
        **({"reading": [events.zone, sorted(events.epochs.items())]} if events.zone is not None or events.epochs else {}),
        "measures": [[m.name, m.kind, m.column, tree(m.where), str(m.type)] for m in measures],
        "derived": [[d.name, tree(d.expression)] for d in derived],
        "status": [[s.name, tree(s.expression)] for s in status],
        "control": [[c.name, c.kind, c.column, c.by] for c in control],
        "logic": [sections.logic, *(source.meaning() if source else [None])],
    }
    return hashlib.sha256(json.dumps(meaning, sort_keys=True).encode()).hexdigest()[:16]
