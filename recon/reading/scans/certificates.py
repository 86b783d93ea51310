"""The newest certificate of each window as a stream."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

from recon.config import Config
from recon.errors import WrongInput
from recon.model.totals import Totals
from recon.reading.scans.selection import Selection, Site, ahead
from recon.state.certificates import certificate_of
from recon.storage import layout

if TYPE_CHECKING:
    import pyarrow as pa

_PARTS = ("in", "accepted", "duplicates", "rejected")
_BATCH = 1024
_DIGITS = 38


def _rows_of(part: str, certificate: Mapping[str, Any]) -> int:
    return int(certificate[part]["rows"])


_COLUMNS: Mapping[str, tuple[str, Callable[[Mapping[str, Any]], Any]]] = {
    "window": ("string", lambda found: found["window"]),
    "until": ("string", lambda found: found["until"]),
    "revision": ("int64", lambda found: found["revision"]),
    "number": ("int64", lambda found: found["number"]),
    "state": ("string", lambda found: found["state"]),
    "ties": ("bool", lambda found: found["ties"]),
    "commit": ("int64", lambda found: found["commit"]),
    "rules": ("string", lambda found: found["rules"]),
    "cause": ("string", lambda found: found["changed_by"]["cause"]),
    "reason": ("string", lambda found: found["changed_by"]["reason"]),
    "time": ("string", lambda found: found["time"]),
    "keys": ("int64", lambda found: found["keys"]),
    "expected_files": ("int64", lambda found: found.get("expected_files")),
    "received_files": ("int64", lambda found: found.get("received_files")),
    "short": ("bool", lambda found: found.get("short")),
    **{f"rows_{part}": ("int64", partial(_rows_of, part)) for part in _PARTS},
}


def schema(config: Config) -> pa.Schema:
    """One row for a window: its figures in rows, ``money`` per control total and group, and the whole certificate as JSON."""
    import pyarrow as pa

    amount = pa.decimal128(_DIGITS, _scale(config))
    money = pa.struct([("control", pa.string()), ("group", pa.string()), *((part, amount) for part in _PARTS)])
    plain = [(name, pa.type_for_alias(kind)) for name, (kind, _) in _COLUMNS.items()]
    times = [(name, pa.timestamp("us", "UTC") if name == "time" else kind) for name, kind in plain]
    return pa.schema([*times, ("money", pa.list_(money)), ("document", pa.string())])


def _scale(config: Config) -> int:
    """The most digits after the point of any control total."""
    columns = [config.columns[control.column] for control in config.control if control.column]
    return max((kind.scale for kind in columns), default=0)


def tables(site: Site, selection: Selection, wanted: pa.Schema) -> Iterator[pa.Table]:
    """The newest certificate, up to the commit, of each window that is asked for. A window that is committed but not certified yet has no
    row."""
    import pyarrow as pa

    windows = selection.committed(site.state)
    found = (one for one in ahead(lambda name: _newest(site, name), windows) if one is not None)
    scale = _scale(site.config)
    while batch := list(islice(found, _BATCH)):
        rows = [{name: _value(name, certificate, raw, scale) for name in wanted.names} for certificate, raw in batch]
        yield pa.Table.from_pylist(rows, schema=_read_as(wanted))


def _read_as(wanted: pa.Schema) -> pa.Schema:
    """The schema of the rows before their times are parsed."""
    import pyarrow as pa

    return pa.schema([pa.field(item.name, pa.string()) if item.name == "time" else item for item in wanted])


def _newest(site: Site, window: str) -> tuple[dict[str, Any], bytes] | None:
    for path in reversed(list(site.store.list(layout.certificates(site.config.grid.parse(window))))):
        raw = site.store.get(path)
        certificate = certificate_of(path, raw)
        if certificate["commit"] <= site.state.commit:
            return certificate, raw
    return None


def _value(name: str, certificate: Mapping[str, Any], raw: bytes, scale: int) -> Any:
    if name == "document":
        return json.dumps(json.loads(raw), ensure_ascii=False, separators=(",", ":"))
    return _money(certificate, scale) if name == "money" else _COLUMNS[name][1](certificate)


def _money(certificate: Mapping[str, Any], scale: int) -> list[dict[str, Any]]:
    totals = {part: Totals.from_json(certificate[part]).money for part in _PARTS}
    groups = sorted({(control, group) for money in totals.values() for control, groups in money.items() for group in groups})
    rows: list[dict[str, Any]] = []
    for control, group in groups:
        amounts = {part: totals[part].get(control, {}).get(group, Decimal(0)) for part in _PARTS}
        rows.append({"control": control, "group": group, **amounts})
        if any(-int(amount.as_tuple().exponent) > scale for amount in amounts.values()):
            raise WrongInput(
                f"the certificate of window {certificate['window']} has amounts of {control} with more than {scale} digits "
                "after the point, by earlier rules; scan 'document' instead of 'money', or run 'recon rebuild'"
            )
    return rows
