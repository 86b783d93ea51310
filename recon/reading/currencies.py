"""The measures of an artifact with several currencies, for each currency.

The rule: docs/decisions/019-currency.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from recon.config import Config
from recon.engines.duckdb import reduce
from recon.engines.duckdb.session import connect
from recon.reading.contributing import windows_of
from recon.state import reduced
from recon.state.timeline import State
from recon.storage import parquet
from recon.storage.hashing import hash_of, salt_of
from recon.storage.port import ObjectStore
from recon.storage.scratch import scratch_folder
from recon.vocabulary.duckdb import literal, to_text
from recon.vocabulary.types import Type


def add_by_currency(store: ObjectStore, config: Config, state: State, record: Mapping[str, Any], shown: dict[str, Any]) -> None:
    """Adds ``by_currency`` to a shown artifact with several currencies. Amounts of contributions with several currencies become null.
    ``record``: the artifact's record at ``state``, with all windows; ``shown`` may have fewer."""
    last = shown.get("through")
    windows = [window for window in windows_of(config, record) if last is None or window <= last]
    hi, _ = hash_of(shown["key"], salt_of(store))
    shown["by_currency"] = by_currency(store, config, state, shown["key"], hi, windows)
    for part in shown["contributions"]:
        if len(part["currencies"]) > 1:
            part["measures"] |= {item.name: None for item in config.measures if item.is_amount}


def by_currency(store: ObjectStore, config: Config, state: State, key: str, hi: int, windows: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Currency → measures over the key's counted events of ``windows``, in the form of a record. ``hi``: high half of the key's hash."""
    assert config.events.currency is not None
    seconds = config.grid.reach(config.events.dedupe) // timedelta(seconds=1)
    with scratch_folder(store) as scratch, connect(store, config, scratch) as connection:
        files = {window: reduced.local_file(store, state.windows[window].folder, reduced.EVENTS, scratch) for window in windows}
        own = f"(SELECT * FROM {parquet.scan_windows(files)} WHERE hi = {hi} AND key = {literal(key)})"
        since = "CAST(w AS TIMESTAMPTZ) - lag(CAST(w AS TIMESTAMPTZ)) OVER (PARTITION BY id ORDER BY w)"
        # Events of equal time are ordered by window, then by file.
        connection.execute(f"""
            CREATE TEMP TABLE counted AS
            SELECT * REPLACE (CAST(dense_rank() OVER (ORDER BY w, file) AS INTEGER) AS file), 0::UBIGINT AS lo, CAST(NULL AS UBIGINT) AS idh
            FROM (SELECT *, CASE WHEN id IS NOT NULL THEN {since} END AS since FROM {own})
            WHERE since IS NULL OR since > to_seconds({seconds})""")
        currency = f", coalesce({reduce.column(config, config.events.currency)}, '') AS currency"
        grouped = reduce.reduce_events(config, f"(SELECT *{currency} FROM counted)", ", currency")
        values = ", ".join(
            _as_text(item.type, f"{reduce.measure(item.name)}{'.v' if item.kind in ('first', 'last') else ''}") for item in config.measures
        )
        rows = connection.execute(f"SELECT currency, {values or 'NULL'} FROM ({grouped}) ORDER BY currency").fetchall()
    return {currency: dict(zip((item.name for item in config.measures), found, strict=False)) for currency, *found in rows}


def _as_text(kind: Type, value: str) -> str:
    """SQL of a value in its form in a record's dictionary: decimals, dates and times as text, others unchanged."""
    return to_text(value, kind) if kind.kind in ("decimal", "date", "timestamp") else value
