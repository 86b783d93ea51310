"""A certificate as a table that adds up: in = accepted + duplicates + rejected, in rows and in money, per currency."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from recon.cli.screen import amount, count, number, say, table
from recon.model.totals import Totals, amounts_of, groups_of

CONFLICTS_SHOWN = 10
PARTS = ("in", "accepted", "duplicates", "rejected")


def totals_of(certificates: Iterable[Mapping[str, Any]]) -> dict[str, Totals]:
    """Part → its totals over several certificates. Currencies stay apart."""
    totals = {part: Totals() for part in PARTS}
    for certificate in certificates:
        for part in PARTS:
            totals[part] += Totals.from_json(certificate[part])
    return totals


def say_totals(totals: Mapping[str, Totals], unreadable: Mapping[str, int] | None = None) -> None:
    """Prints one line for rows and one for each control total and group, with whether it adds up. ``unreadable``: control total → rejected
    rows without a readable amount, which no total can include; a note below the table counts them."""
    unknown = unreadable or {}
    lines: list[tuple[str, str, list[Decimal]]] = [("", "rows", [Decimal(totals[part].rows) for part in PARTS])]
    for name, by in groups_of(totals[part] for part in PARTS):
        lines.append((name, f"{name} {by}".strip(), amounts_of([totals[part] for part in PARTS], name, by)))
    rows = [(label, *map(amount, values), _verdict(values, name in unknown)) for name, label, values in lines]
    columns = ["in", "= accepted", "+ duplicates", "+ rejected"]
    table(["", *columns, "ties"], rows, columns)
    for name, without in unknown.items():
        say(f"* {count(without, 'rejected row')} {'has' if without == 1 else 'have'} no readable {name}")


def _verdict(values: Sequence[Decimal], has_unreadable: bool) -> str:
    if values[0] != sum(values[1:], Decimal(0)):
        return "DOES NOT TIE"
    return "ties *" if has_unreadable else "ties"


def say_completeness(answer: Mapping[str, Any]) -> None:
    """Prints a window's files, rows and money side by side: expected, received, late, duplicate and rejected."""
    if (closed := answer["closed_by"]) is not None:
        why = f": {closed['reason']}" if closed["reason"] else ""
        say(f"closed by {closed['by']}, {closed['time']}, revision {number(closed['revision'])}{why}")
    parts = ("expected", "received", "late", "duplicates", "rejected")
    totals = {name: Totals.from_json(_controls(answer[name])) for name in parts if answer[name]["rows"] is not None}
    groups = groups_of(totals.values())
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
    """The number of files of a part; None if it is not known, as it may be for expected files."""
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


def _without_amount(absent: Mapping[str, int]) -> list[str]:
    """Accepted rows that add nothing to a control total."""
    return [f"{count(rows, 'accepted row')} {'has' if rows == 1 else 'have'} no {name}" for name, rows in absent.items() if rows]


def _conflicts(certificate: Mapping[str, Any]) -> list[str]:
    """The events of the window that disagree with another version of the same event."""
    conflicts = certificate.get("conflicts", {})
    lines = []
    if within := conflicts.get("within"):
        lines.append(f"{count(within, 'duplicate')} that {_differ(within)} from the row of this window that counts")
    for window, rows in conflicts.get("earlier", {}).items():
        lines.append(f"{count(rows, 'row')} that {_differ(rows)} from the row that counts, in window {window}")
    for window, rows in conflicts.get("later", {}).items():
        lines.append(f"{count(rows, 'row')} of window {window} that {_differ(rows)} from a row that counts here")
    if ids := conflicts.get("ids_under_two_keys"):
        lines.append(f"{count(ids, 'id')} under more than one key")
    others = [f"and {number(len(lines) - CONFLICTS_SHOWN)} more lines; --json has all"] if len(lines) > CONFLICTS_SHOWN else []
    shown = [f"conflicts: {line}" for line in lines[:CONFLICTS_SHOWN]] + others
    return [*shown, f"conflicts with file, line and what differs: recon duplicates {certificate['window']}"] if shown else []


def _unusual(certificate: Mapping[str, Any]) -> list[str]:
    """Accepted events that may nevertheless be mistakes."""
    what = {
        "uncounted": "that no measure's condition takes",
        "after": "dated after the window's end",
        "before": "dated more than a year before the window",
    }
    lines = []
    for name, words in what.items():
        if found := certificate.get("unusual", {}).get(name):
            values = [f"{value} ({number(rows)})" for value, rows in found["values"].items()]
            others = found["rows"] - sum(found["values"].values())
            values += [f"others ({number(others)})"] if others else []
            lines.append(f"{count(found['rows'], 'event')} {words}: {', '.join(values)}")
    return lines


def _differ(rows: int) -> str:
    return "differs" if rows == 1 else "differ"


def say_certificate(certificate: Mapping[str, Any]) -> None:
    """Prints one certificate."""
    change = certificate["changed_by"]
    why = f" ({change['reason']})" if change["reason"] else ""
    verdict = "it ties" if certificate["ties"] else "IT DOES NOT TIE"
    title = f"certificate {number(certificate['number'])} of window {certificate['window']}"
    few = f", SHORT, {files_of(certificate)}" if certificate.get("short") else ""
    say(f"{title}, {certificate['state']}{few}: {verdict}")
    made = f"revision {number(certificate['revision'])}, commit {number(certificate['commit'])}"
    say(f"{made}, changed by {change['cause']}{why}")
    reduced = certificate["stages"]["reduce"]
    from recon.state.certificates import unreadable_of

    say_totals(totals_of([certificate]), unreadable_of([certificate]))
    lines = [*_without_amount(reduced.get("without_amount", {})), *_conflicts(certificate), *_unusual(certificate)]
    lines += [
        f"{file['origin']['file']}: source {file['origin']['source']} received {count(file['origin']['rows'], 'row')}, "
        f"rejected {number(file['origin']['rejected'])} of them before they landed"
        for file in certificate["files"]
        if file.get("origin", {}).get("rejected")
    ]
    if reduced["rejected"]["rows"] or any(file.get("origin", {}).get("rejected") for file in certificate["files"]):
        lines.append(f"rejected rows, with file, line and reason: recon rejects {certificate['window']}")
    if lines:
        say()
    for line in lines:
        say(line)
    files = [(file["name"], number(file["rows"]), number(file["rejected"])) for file in certificate["files"]]
    if files:
        table(["file", "rows", "rejected"], files, ["rows", "rejected"])
    say()
    say(f"{count(certificate['keys'], 'key')}; {certificate['time']}")
