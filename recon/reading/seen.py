"""Refuses a correction with a key that has no artifact, or with a value that its column never held."""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from recon.config import Config, model
from recon.engines.duckdb.session import connect
from recon.errors import WrongUsage
from recon.reading.history import files_then
from recon.state.lookup import find_record
from recon.state.timeline import State
from recon.storage.parquet import scan
from recon.storage.port import ObjectStore
from recon.storage.scratch import scratch_folder
from recon.vocabulary.duckdb import literal, quoted

WINDOWS_SEARCHED = 48
"""Number of newest processed windows whose events are searched for a value."""
_SUGGESTED_FROM = 1_000
"""Number of known values among which similar ones are looked for."""


def refuse_unseen(store: ObjectStore, config: Config, state: State, key: str, event: Mapping[str, str]) -> None:
    """Raises WrongUsage if no artifact has ``key`` (as text), or a text column of ``event`` (column → value) never held its value."""
    if find_record(store, state, key) is None:
        raise WrongUsage(
            f"KEY: no artifact has the key {key} at commit {state.commit:,}; keys are compared letter by letter. Correct it, or add --yes "
            "if a new key is meant"
        )
    columns = model.event_columns(config)
    texts = {name: value for name, value in event.items() if name in columns and columns[name].kind == "text"}
    for name, value in texts.items():
        _refuse_unseen_value(store, config, state, name, value)


def _refuse_unseen_value(store: ObjectStore, config: Config, state: State, name: str, value: str) -> None:
    column = quoted(f"c_{name}")
    found: set[str] = set()
    with scratch_folder(store) as scratch, connect(store, config, scratch) as connection:
        events = files_then(store, state, scratch)[1]
        for window in sorted(state.windows, reverse=True)[:WINDOWS_SEARCHED]:
            source = scan(events[window])
            if connection.execute(f"SELECT 1 FROM {source} WHERE {column} = {literal(value)} LIMIT 1").fetchall():
                return
            if len(found) < _SUGGESTED_FROM:
                query = f"SELECT DISTINCT {column} FROM {source} WHERE {column} IS NOT NULL LIMIT {_SUGGESTED_FROM}"
                found |= {str(row[0]) for row in connection.execute(query).fetchall()}
    folded = {known.casefold(): known for known in sorted(found)}
    near = [folded[close] for close in difflib.get_close_matches(value.casefold(), folded, 3)]
    some = ", ".join(sorted(found)[:5]) + (" …" if len(found) > 5 else "")
    hint = f"Did you mean {' or '.join(near)}?" if near else f"There are {some or 'no values'}."
    raise WrongUsage(
        f"--event {name}={value}: no event of the newest {WINDOWS_SEARCHED} windows has this value. {hint} Correct it, or add --yes if "
        "a new value is meant"
    )
