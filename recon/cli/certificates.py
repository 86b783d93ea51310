"""A certificate as a table that adds up: in = accepted + duplicates + rejected, in rows and in money, per currency.

Belongs here: drawing certificates and sums of them. Does not belong here: making them (recon.certify).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from recon.cli.screen import amount, count, number, say, table
from recon.totals import Totals

PARTS = ("in", "accepted", "duplicates", "rejected")


def totals_of(certificates: Iterable[Mapping[str, Any]]) -> dict[str, Totals]:
    """Part → its totals over several certificates. Currencies stay apart."""
    totals = {part: Totals() for part in PARTS}
    for certificate in certificates:
        for part in PARTS:
            totals[part] += Totals.from_json(certificate[part])
    return totals


def say_totals(totals: Mapping[str, Totals]) -> None:
    """One line for rows, one for each control total and group; each says whether it adds up."""
    lines: list[tuple[str, list[Decimal]]] = [("rows", [Decimal(totals[part].rows) for part in PARTS])]
    groups = {(name, by) for part in PARTS for name, by_group in totals[part].money.items() for by in by_group}
    for name, by in sorted(groups):
        values = [totals[part].money.get(name, {}).get(by, Decimal(0)) for part in PARTS]
        # A part that holds nothing of a group is written in the scale of the others: 0.00 below 12.50.
        scale = min(int(value.as_tuple().exponent) for value in values)
        lines.append((f"{name} {by}".strip(), [value if value else Decimal((0, (0,), scale)) for value in values]))
    rows = [
        (label, *map(amount, values), "ties" if values[0] == sum(values[1:], Decimal(0)) else "DOES NOT TIE") for label, values in lines
    ]
    columns = ["in", "= accepted", "+ duplicates", "+ rejected"]
    table(["", *columns, "ties"], rows, columns)


def say_completeness(answer: Mapping[str, Any]) -> None:
    """A window's files, rows and money side by side: expected, received, and what of that was late, doubled or rejected."""
    if (closed := answer["closed_by"]) is not None:
        why = f": {closed['reason']}" if closed["reason"] else ""
        say(f"closed by {closed['by']}, {closed['time']}, revision {number(closed['revision'])}{why}")
    parts = ("expected", "received", "late", "duplicates", "rejected")
    totals = {name: Totals.from_json(_controls(answer[name])) for name in parts if answer[name]["rows"] is not None}
    groups = sorted({(name, by) for total in totals.values() for name, by_group in total.money.items() for by in by_group})
    labels = {"late": "of those late"}
    rows = [[labels.get(name, name), _files(answer, name), *_cells(totals.get(name), groups)] for name in parts]
    columns = ["files", "rows", *(f"{name} {by}".strip() for name, by in groups)]
    table(["", *columns], rows, columns)
    for correction in answer["received"]["corrections"]:
        say(f"{correction['name']}: a correction by {correction['by']}: {correction['reason']}")
    for name in answer["late"]["files"]:
        say(f"{name}: late, it landed after the window was closed")
    say(f"watermark: {answer['watermark'] or 'none yet'}")


def _controls(part: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in part.items() if name not in ("files", "declared_by", "bytes", "corrections")}


def _files(answer: Mapping[str, Any], name: str) -> str | None:
    """Files of one part; expected ones are a number that may not be known."""
    files = answer[name].get("files")
    return None if files is None else number(files if isinstance(files, int) else len(files))


def _cells(totals: Totals | None, groups: Iterable[tuple[str, str]]) -> list[str | None]:
    if totals is None:
        return [None, *(None for _ in groups)]
    money = (totals.money.get(name, {}).get(by) for name, by in groups)
    return [number(totals.rows), *(None if value is None else amount(value) for value in money)]


def files_of(certificate: Mapping[str, Any]) -> str:
    """``3 of 4 expected files``."""
    return f"{number(certificate['received_files'])} of {count(certificate['expected_files'], 'expected file')}"


def say_certificate(certificate: Mapping[str, Any]) -> None:
    """One certificate, readable."""
    change = certificate["changed_by"]
    why = f" ({change['reason']})" if change["reason"] else ""
    verdict = "it ties" if certificate["ties"] else "IT DOES NOT TIE"
    named = f"certificate {number(certificate['number'])} of window {certificate['window']}"
    few = f", SHORT, {files_of(certificate)}" if certificate.get("short") else ""
    say(f"{named}, {certificate['state']}{few}: {verdict}")
    made = f"revision {number(certificate['revision'])}, commit {number(certificate['commit'])}"
    say(f"{made}, changed by {change['cause']}{why}")
    say_totals(totals_of([certificate]))
    reduced = certificate["stages"]["reduce"]
    if reduced["conflicting"] or reduced["rejected"]["rows"]:
        say()
    if reduced["conflicting"]:
        say(f"conflicting: {count(reduced['conflicting'], 'duplicate')} that differ from the row that counts")
    if reduced["rejected"]["rows"]:
        say(f"rejected rows, with file, line and reason: recon rejects {certificate['window']}")
    files = [(file["name"], number(file["rows"]), number(file["rejected"])) for file in certificate["files"]]
    if files:
        table(["file", "rows", "rejected"], files, ["rows", "rejected"])
    say()
    say(f"{count(certificate['keys'], 'key')}; {certificate['time']}")
