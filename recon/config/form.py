"""The form of the records that a configuration's rules make: docs/format.md."""

from __future__ import annotations

from recon.config.model import Config
from recon.model.form import Form, Slot

MIXED = "MIXED_CURRENCY"
"""The status of an artifact with more than one currency."""


def form_of(config: Config) -> Form:
    """The form of the records of these rules."""
    names = [item.name for item in config.status] + ([MIXED] if config.events.currency else [])
    grid = config.grid
    return Form(
        key=config.key,
        grid=(grid.start.isoformat(), int(grid.every.total_seconds()), grid.zone),
        measures=tuple(Slot(item.name, str(item.type), item.kind) for item in config.measures),
        derived=tuple(Slot(item.name, str(item.expression.type)) for item in config.derived),
        statuses=None if config.logic else tuple(dict.fromkeys(names)),
        currency=config.events.currency is not None,
        rules=config.rules_version,
    )
