"""The rules version: a digest of everything that gives artifacts their meaning."""

from __future__ import annotations

import hashlib
import json

from recon.config.model import Config
from recon.vocabulary import MEANING, Expression


def rules_version(config: Config) -> str:
    """16 hex characters over the rules, in a form that spacing and comments do not change."""

    def tree(expression: Expression | None) -> object:
        return expression and expression.tree.canonical

    grid, events, source = config.grid, config.events, config.logic_source
    meaning = {
        "vocabulary": MEANING,
        "key": config.key,
        **({"clean": sorted(config.cleaning.items())} if config.cleaning else {}),
        "windows": [grid.start.isoformat(), grid.every.total_seconds(), *([grid.zone] if grid.zone else [])],
        "types": sorted((name, str(kind)) for name, kind in events.types.items()),
        "events": [events.id, events.numbered, events.time, events.dedupe.total_seconds(), events.currency],
        **({"reading": [events.zone, sorted(events.epochs.items())]} if events.zone is not None or events.epochs else {}),
        "measures": [[m.name, m.kind, m.column, tree(m.where), str(m.type)] for m in config.measures],
        "derived": [[d.name, tree(d.expression)] for d in config.derived],
        "status": [[s.name, tree(s.expression)] for s in config.status],
        "control": [[c.name, c.kind, c.column, c.by] for c in config.control],
        "logic": [config.logic, *(source.meaning() if source else [None])],
    }
    return hashlib.sha256(json.dumps(meaning, sort_keys=True).encode()).hexdigest()[:16]
