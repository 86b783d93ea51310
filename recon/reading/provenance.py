"""The origin of an export: commit, rules, moments and certificates, for a workbook that people pass on."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from recon.config import Config
from recon.exports.sheets import Book
from recon.model.windows import name_of
from recon.state.certificates import read_certificates
from recon.state.timeline import State
from recon.storage.port import ObjectStore
from recon.vocabulary.duckdb import quoted

CERTIFICATES_MAX = 500
"""Number of newest windows whose certificates are listed."""


def book_of(store: ObjectStore, config: Config, state: State, name: str, last: datetime | None, columns: tuple[str, ...]) -> Book:
    """The other sheets of an export's workbook. ``name``: table of the rows, on the connection that writes them. ``last``: start of the
    last window that counts, None for all. ``columns``: of the rows."""
    upto = [window for window in sorted(state.windows) if last is None or window <= name_of(last)]
    listed = upto[-CERTIFICATES_MAX:]
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
    if len(listed) < len(upto):
        about.append(("certificates", f"of the newest {CERTIFICATES_MAX:,} windows; 'recon certificate W' shows any other"))
    heading = ("window", "certificate", "revision", "commit", "state", "ties", "rows", "rejected")
    return Book(name, _totals(config, name, columns), about, heading, (_certificate(store, config, state, window) for window in listed))


def _certificate(store: ObjectStore, config: Config, state: State, window: str) -> tuple[object, ...]:
    """A window's certificate at the state: the newest that names no later commit."""
    earlier = [certificate for certificate in read_certificates(store, config.grid.parse(window)) if certificate["commit"] <= state.commit]
    if not earlier:
        return (window, "none yet")
    newest = earlier[-1]
    word = "SHORT" if newest.get("short") else newest["state"]
    ties = "ties" if newest["ties"] else "DOES NOT TIE"
    rows = (newest["in"]["rows"], newest["rejected"]["rows"])
    return (window, newest["number"], newest["revision"], newest["commit"], word, ties, *rows)


def _totals(config: Config, name: str, columns: tuple[str, ...]) -> str:
    """A query for the totals by status, and by currency if that is known. Amounts of unknown currencies are never added up."""
    currency = currency_of(config, columns)
    amounts = [item.name for item in config.measures if item.kind == "sum" and item.type.is_number]
    amounts += [item.name for item in config.derived if item.expression.type.kind == "decimal"]
    summed = "".join(f", sum({quoted(n)}) AS {quoted(n)}" for n in amounts if n in columns) if currency is not None else ""
    by = f", {currency} AS currency" if currency not in (None, "''") else ""
    return f"SELECT status{by}, count(*) AS artifacts{summed} FROM {name} GROUP BY ALL ORDER BY ALL"


def currency_of(config: Config, columns: Sequence[str]) -> str | None:
    """SQL of the currency of an artifact; None if amounts may have several currencies and nothing says which."""
    if "currency" in columns and getattr(config.events, "currency", None):
        return quoted("currency")
    return None if any(control.by for control in config.control) else "''"
