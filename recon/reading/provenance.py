"""Where an export came from: commit, rules, moments and certificates, for the workbook that people pass on."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from recon.config import Config
from recon.model.windows import name_of
from recon.reading.sheets import Book
from recon.state.certificates import read_certificates
from recon.state.timeline import State
from recon.storage.port import ObjectStore
from recon.vocabulary.duckdb import quoted

CERTIFICATES_MAX = 500
"""Newest windows whose certificates are named."""


def book_of(store: ObjectStore, config: Config, state: State, name: str, last: datetime | None, columns: tuple[str, ...]) -> Book:
    """What the workbook of an export says besides its rows. ``name``: of the rows; ``last``: start of the last window that counts;
    ``columns``: those of the rows, in the table that ``name`` is called by on the connection."""
    upto = [window for window in sorted(state.windows) if last is None or window <= name_of(last)]
    named = upto[-CERTIFICATES_MAX:]
    about: list[tuple[str, object]] = [
        ("reconciliation", config.name),
        ("configuration", str(config.path)),
        ("store", config.store),
        ("commit", state.commit),
        ("committed at", state.time),
        ("rules", state.rules),
    ]
    if last is not None:
        about += [("as of", name_of(config.grid.after(last))), ("through window", name_of(last))]
    about += [("exported at", datetime.now(UTC).isoformat(timespec="seconds")), ("windows", len(upto))]
    if len(named) < len(upto):
        about.append(("certificates", f"of the newest {CERTIFICATES_MAX:,} windows; 'recon certificate W' shows any other"))
    heading = ("window", "certificate", "revision", "commit", "state", "ties", "rows", "rejected")
    return Book(name, _totals(config, name, columns), about, heading, (_certificate(store, config, state, window) for window in named))


def _certificate(store: ObjectStore, config: Config, state: State, window: str) -> tuple[object, ...]:
    """The certificate that the state had of a window: the newest that names no later commit."""
    then = [one for one in read_certificates(store, config.grid.parse(window)) if one["commit"] <= state.commit]
    if not then:
        return (window, "none yet")
    newest = then[-1]
    word = "SHORT" if newest.get("short") else newest["state"]
    ties = "ties" if newest["ties"] else "DOES NOT TIE"
    rows = (newest["in"]["rows"], newest["rejected"]["rows"])
    return (window, newest["number"], newest["revision"], newest["commit"], word, ties, *rows)


def _totals(config: Config, name: str, columns: tuple[str, ...]) -> str:
    """A query for the totals by status, and by currency where that is known; amounts of unknown currencies are never added up."""
    currency = currency_of(config, columns)
    amounts = [item.name for item in config.measures if item.kind == "sum" and item.type.is_number]
    amounts += [item.name for item in config.derived if item.expression.type.kind == "decimal"]
    summed = "".join(f", sum({quoted(one)}) AS {quoted(one)}" for one in amounts if one in columns) if currency is not None else ""
    by = f", {currency} AS currency" if currency not in (None, "''") else ""
    return f"SELECT status{by}, count(*) AS artifacts{summed} FROM {name} GROUP BY ALL ORDER BY ALL"


def currency_of(config: Config, columns: Sequence[str]) -> str | None:
    """An expression for the currency of an artifact; None where amounts may be of several and nothing says of which."""
    if "currency" in columns and getattr(config.events, "currency", None):
        return quoted("currency")
    return None if any(control.by for control in config.control) else "''"
