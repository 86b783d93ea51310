"""The library's figures as Dagster metadata, which the UI shows for each window.

Money is exact text and never adds two currencies. The same amounts as floats, rounded to about 15 digits, are only for the UI's plots.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

import dagster as dg

from recon.config import Config
from recon.intake.manifests import Manifest
from recon.model import conflicts
from recon.model.totals import Totals, groups_of
from recon.stages.request import Numbers
from recon.state.reduced import Figures

Metadata = dict[str, Any]

_PLOTTED_MAX = 24
"""The most currencies, or statuses, that get a number of their own."""
_COLUMNS = {
    "key": "the reconciled key, such as an order number",
    "n": "accepted events of the key in this window",
    "hi": "upper 64 bits of the key's hash, by which runs are sorted",
    "lo": "lower 64 bits of the key's hash",
    "status": "the first status of the configuration whose condition is true",
    "contributions": "the contribution of each window to the measures",
    "carried": "the sum of the oldest windows' contributions, for a key with very many windows",
    "withdrawn": "windows that contributed earlier and no longer do",
    "file": "number of the part-file",
    "offset": "position of the record in the part-file, in bytes",
    "length": "length of the record, in bytes",
    "check": "checksum of the record",
    "window": "start of the window, UTC",
    "number": "number of the certificate; each change of the window adds a certificate",
    "in": "rows and money of all files of the window",
    "accepted": "rows that count in the artifacts",
    "duplicates": "rows of events that this window or an earlier window already has",
    "rejected": "rows that could not be read or break a rule, each stored with file, line and reason",
    "ties": "in = accepted + duplicates + rejected",
}
"""Descriptions of the columns that are Recon's own."""


def _schema(texts: Mapping[str, str], integers: Mapping[str, str] | None = None) -> dg.TableSchema:
    """The columns of a table in the UI: name → description."""
    columns = [dg.TableColumn(name, "string", text) for name, text in texts.items()]
    return dg.TableSchema(columns + [dg.TableColumn(name, "int", text) for name, text in (integers or {}).items()])


_TOTALS = _schema(
    {
        "total": "a control total, with its currency or other group",
        "in": "all rows of the window's files",
        **{name: _COLUMNS[name] for name in ("accepted", "duplicates", "rejected", "ties")},
    }
)
_COMPLETENESS = _schema(
    {
        "what": "files, rows, or a control total with its currency or other group",
        "expected": "files as configured by closing.files; rows and totals as declared by the senders",
        "received": "files and rows in the window, including late files",
        "late": "files that landed after the window had closed",
        "duplicates": _COLUMNS["duplicates"],
        "rejected": "rejected rows, and the files that have some",
    }
)
_REQUESTS = _schema(
    {"service": "service called", "operation": "operation"},
    {"requests": "number of requests", "sent": "bytes of content sent", "received": "bytes of content received"},
)


def of_batch(manifest: Manifest) -> Metadata:
    """Metadata of the files that landed in a window."""
    return {
        "revision": manifest.revision,
        "state": "SHORT" if manifest.short else "CLOSED" if manifest.closed else "OPEN",
        "files": len(manifest.files),
        "bytes": sum(file.bytes for file in manifest.files),
        "file_names": ", ".join(file.name for file in manifest.files) or "none",
        "changed_by": _cause(manifest.cause, manifest.reason),
        "landed": _instant(manifest.time),
    }


def of_reduced(figures: Figures, numbers: Numbers) -> Metadata:
    """Metadata of a reduced window. ``numbers``: figures of the run that reduced it, such as seconds.

    Only the merge finds duplicates of other windows. So these figures describe the window alone and have other names;
    ``rows_accepted`` and ``rows_duplicates`` always come from the merge."""
    sides = {
        "in": figures.arrived,
        "unique_in_window": figures.accepted,
        "duplicates_in_window": figures.duplicates,
        "rejected": figures.rejected,
    }
    return {
        "dagster/row_count": figures.keys,
        "revision": figures.revision,
        **_rows_and_money(sides),
        "conflicting_duplicates": figures.conflicting,
        "keys": figures.keys,
        "bytes": sum(int(file["bytes"]) for file in figures.files),
        **of_numbers(numbers),
    }


def of_prefetched(figures: Figures, numbers: Numbers) -> Metadata:
    """Metadata of a window in a pre-fetch. ``numbers``: whether it was merged before, and what was read for its range."""
    return {"revision": figures.revision, "keys": figures.keys, **of_numbers(numbers)}


def of_committed(committed: Mapping[str, Any], range_figures: Numbers, statuses: Mapping[str, int] | None = None) -> Metadata:
    """Metadata of a committed window, from its committed figures. ``range_figures``: figures of the merge of its range. ``statuses``:
    artifacts by status, over all keys, as of the window's commit."""
    return {
        "dagster/row_count": committed["keys"],
        "revision": committed["revision"],
        "commit": committed["commit"],
        **_rows_and_money(_sides(committed)),
        "keys": committed["keys"],
        "rows_in_conflict": conflicts.rows_of({"conflicts": conflicts.certified(committed)}),
        **{f"artifacts_{status}": count for status, count in sorted((statuses or {}).items())[:_PLOTTED_MAX]},
        **of_numbers(range_figures),
    }


def of_statuses(rows: Sequence[tuple[str, str, int, Decimal | None]]) -> Metadata:
    """All artifacts by status and currency (see recon.reading.breaks.by_status): exact in a table, and as numbers for plots."""
    table = [
        dg.TableRecord({"status": status, "currency": currency, "artifacts": count, "amount": "" if money is None else f"{money:f}"})
        for status, currency, count, money in rows
    ]
    columns = [dg.TableColumn(name, "int" if name == "artifacts" else "string") for name in ("status", "currency", "artifacts", "amount")]
    counts: Counter[str] = Counter()
    found: Metadata = {"by_status": dg.MetadataValue.table(table, dg.TableSchema(columns))}
    for status, currency, count, money in rows[:_PLOTTED_MAX]:
        counts[f"artifacts_{status}"] += count
        if money is not None:
            found[f"money_{status}{f'_{currency}' if currency else ''}"] = dg.MetadataValue.float(float(money))
    return {**found, **counts}


def _requests(text: str) -> Any:
    """The requests of recon.metering.prices.figures as a table."""
    rows = [
        dg.TableRecord({"service": service, "operation": operation, **numbers})
        for service, operations in json.loads(text).items()
        for operation, numbers in operations.items()
    ]
    return dg.MetadataValue.table(rows, _REQUESTS)


def of_certificate(certificate: Mapping[str, Any]) -> Metadata:
    """Metadata of a window's newest certificate."""
    sides = {side: Totals.from_json(certificate[side]) for side in ("in", "accepted", "duplicates", "rejected")}
    changed_by = certificate["changed_by"]
    return {
        "certificate": dg.MetadataValue.table(_table(sides), _TOTALS),
        "ties": bool(certificate["ties"]),
        "state": "SHORT" if certificate.get("short") else certificate["state"],
        "number": certificate["number"],
        "changed_by": _cause(changed_by["cause"], changed_by["reason"]),
        "certified": _instant(certificate["time"]),
        "revision": certificate["revision"],
        "commit": certificate["commit"],
        "files": len(certificate["files"]),
        "keys": certificate["keys"],
        **_rows_and_money(sides),
        "rows_in_conflict": conflicts.rows_of(certificate),
        "rules": certificate["rules"],
    }


def of_completeness(found: Mapping[str, Any]) -> Metadata:
    """Metadata on whether the window has closed and is complete. ``found``: of recon.reading.completeness."""
    closed = found["closed_by"]
    files = {
        "expected": found["expected"]["files"],
        "received": found["received"]["files"],
        "late": len(found["late"]["files"]),
        "duplicates": None,
        "rejected": len(found["rejected"]["files"]),
    }
    sides = {side: None if found[side]["rows"] is None else Totals.from_json(_totals(found[side])) for side in files}
    lines = [("files", files), ("rows", {side: totals and totals.rows for side, totals in sides.items()})]
    groups = groups_of(totals for totals in sides.values() if totals)
    lines += [
        (_total(name, by), {side: totals and totals.money.get(name, {}).get(by) for side, totals in sides.items()}) for name, by in groups
    ]
    return {
        "completeness": dg.MetadataValue.table(
            [dg.TableRecord({"what": what, **{side: _or_nothing(amount) for side, amount in line.items()}}) for what, line in lines],
            _COMPLETENESS,
        ),
        "closed": "still open" if closed is None else f"{closed['time']} by {closed['by']}, {_cause(closed['cause'], closed['reason'])}",
        "files_expected": "any number" if files["expected"] is None else files["expected"],
        "files_late": files["late"],
    }


def _totals(side: Mapping[str, Any]) -> dict[str, Any]:
    """The rows and control totals of one side, without its other members."""
    return {name: value for name, value in side.items() if name == "rows" or isinstance(value, dict)}


def _or_nothing(amount: Decimal | int | None) -> str:
    return "–" if amount is None else f"{amount:,}"


def column_schemas(config: Config) -> dict[str, dg.TableSchema]:
    """Asset name → the columns of its data."""
    key = {"key": "text"}
    measures = {measure.name: str(measure.type) for measure in config.measures}
    derived = {value.name: str(value.expression.type) for value in config.derived}
    places = dict.fromkeys(("hi", "lo", "file", "offset", "length", "check"), "integer")
    columns = {
        "event_batches": {name: str(kind) for name, kind in config.columns.items()},
        "stateless_artifacts": {**key, "n": "integer", **measures},
        "prefetched_artifacts": places,
        "stateful_artifacts": {
            **key,
            "status": "text",
            **measures,
            **derived,
            "contributions": "list",
            "withdrawn": "list",
            "carried": "text",
        },
        "artifact_index": places,
        "window_certificates": {
            "window": "text",
            "number": "integer",
            **dict.fromkeys(("in", "accepted", "duplicates", "rejected"), "totals"),
            "ties": "boolean",
        },
    }
    # Recon does not describe the sender's columns or the user's measures.
    theirs = {*config.columns, *measures, *derived}
    ours = {name: text for name, text in _COLUMNS.items() if name not in theirs}
    return {asset: dg.TableSchema([dg.TableColumn(n, kind, ours.get(n)) for n, kind in names.items()]) for asset, names in columns.items()}


def of_numbers(numbers: Numbers) -> Metadata:
    """A stage's figures: requests as a table, URLs as links, all others unchanged."""

    def shown(name: str, value: float | int | str) -> Any:
        if name in ("requests", "range_requests"):
            return _requests(str(value))
        return dg.MetadataValue.url(str(value)) if str(value).startswith("https://") else value

    return {name: shown(name, value) for name, value in numbers.items()}


def _sides(committed: Mapping[str, Any]) -> dict[str, Totals]:
    """The four sides of a committed window's equation. Duplicates are those within the window and across windows."""
    within, earlier = Totals.from_json(committed["duplicates"]), Totals.from_json(committed["suppressed"])
    return {
        "in": Totals.from_json(committed["arrived"]),
        "accepted": Totals.from_json(committed["counted"]),
        "duplicates": within + earlier,
        "rejected": Totals.from_json(committed["rejected"]),
    }


def _rows_and_money(sides: Mapping[str, Totals]) -> Metadata:
    """Rows as numbers, which the UI plots; money as text, ``amount EUR 124.25, amount USD 154.90``, and again as numbers for plots, such as
    ``money_accepted_amount_EUR``."""
    found: Metadata = {f"rows_{side}": totals.rows for side, totals in sides.items()}
    names = groups_of(sides.values())
    for side, totals in sides.items():
        found[f"money_{side}"] = _money(totals)
        for name, by in names[:_PLOTTED_MAX]:
            amount = totals.money.get(name, {}).get(by, 0)
            found[f"money_{side}_{name}{f'_{by}' if by else ''}"] = dg.MetadataValue.float(float(amount))
    return found


def _money(totals: Totals) -> str:
    amounts = [f"{_total(name, by)} {totals.money[name][by]}" for name, by in groups_of([totals])]
    return ", ".join(amounts) or "none"


def _table(sides: Mapping[str, Totals]) -> list[dg.TableRecord]:
    lines: list[tuple[str, list[Any]]] = [("rows", [totals.rows for totals in sides.values()])]
    lines += [
        (_total(name, by), [totals.money.get(name, {}).get(by, 0) for totals in sides.values()]) for name, by in groups_of(sides.values())
    ]
    return [dg.TableRecord({"total": name, **dict(zip(sides, _aligned(line), strict=True)), "ties": _ties(line)}) for name, line in lines]


def _aligned(line: list[Any]) -> list[str]:
    """Numbers as ``1,234.50``, all with as many decimal places as the number that has most, so that no digit is lost."""
    places = max(max(0, -int(Decimal(amount).as_tuple().exponent)) for amount in line)
    return [f"{amount:,.{places}f}" for amount in map(Decimal, line)]


def _ties(line: list[Any]) -> str:
    arrived, accepted, duplicates, rejected = line
    return "ties" if arrived == accepted + duplicates + rejected else "does not tie"


def _total(name: str, by: str) -> str:
    return f"{name} {by}" if by else name


def _cause(cause: str, reason: str) -> str:
    return f"{cause}: {reason}" if reason else cause


def _instant(text: str) -> Any:
    return dg.MetadataValue.timestamp(datetime.fromisoformat(text))
