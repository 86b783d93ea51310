"""Commands on a window's files: land, unland, close, correct."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Annotated, Any

import typer

from recon.cli.options import Common, Key, Reason, Window, flat
from recon.cli.progress import Bar
from recon.cli.screen import as_json, count, number, say
from recon.cli.sources import deliver
from recon.errors import WrongUsage
from recon.model.totals import declared_text

if TYPE_CHECKING:
    from recon.intake.batches import Landing
    from recon.intake.manifests import Manifest


@dataclass(frozen=True)
class Destination:
    """The options that say where and how files land."""

    window: Annotated[str | None, typer.Option("--window", "-w", metavar="W", help="The window, named by its start in UTC.")] = None
    close: Annotated[bool, typer.Option("--close", help="Close the window: it is complete.")] = False
    replace: Annotated[str | None, typer.Option("--replace", metavar="OLD", help="Replace this file (its name as landed).")] = None
    expect: Annotated[
        list[str] | None,
        typer.Option("--expect", metavar="CONTROL=VALUE", help="Control total that each file must have; may be repeated."),
    ] = None
    again: Annotated[bool, typer.Option("--again", help="Accept bytes that are in another window, too.")] = False


@flat
def land(
    files: Annotated[list[str] | None, typer.Argument(metavar="FILE", help="csv, tsv, jsonl (plain, .gz, .zst) or parquet.")] = None,
    from_: Annotated[
        str | None, typer.Option("--from", metavar="INBOX", help="Take new files of a folder, s3://… or a queue's URL to their windows.")
    ] = None,
    *,
    to: Destination,
    common: Common,
) -> int:
    """Put files into a window, or take a folder to its sources.

    Landing the same file again changes nothing and says so; any other file is added. A file that cannot be read is refused. A file
    whose bytes are in another window already is refused without --again.

    \b
    recon land erp.csv psp.jsonl.gz --window 2026-11-01T00:00Z --close
    recon land psp-fixed.jsonl --window 2026-11-01T00:00Z --replace psp.jsonl
    recon land bank.csv -w 2026-11-01T00:00Z --expect rows=3 --expect amount:EUR=12.00
    recon land --from inbox
    """
    if from_ is not None:
        if files or to != Destination():
            raise WrongUsage("--from: the sources say which files go where; leave FILE, --window and the other options out")
        return deliver(from_, common)
    if not files or to.window is None:
        raise WrongUsage("name files and their window ('recon land FILE --window W'), or a folder: 'recon land --from FOLDER'")
    reconciliation = common.opened()
    controls = {control.name: control.by for control in reconciliation.config.control}
    declared = declared_totals(to.expect or [], controls)
    for file in files:
        if any("\ud800" <= character <= "\udfff" for character in file):
            raise WrongUsage(f"{file}: the name is not UTF-8 text; rename the file")
    with Bar(f"land {to.window}"):
        landing = reconciliation.land(files, to.window, close=to.close, replace=to.replace, expect=declared, again=to.again)
    if common.json:
        already = [{"file": file, "as": name} for file, name in landing.already]
        as_json({**_manifest(landing.manifest), "added": landing.added, "already": already})
        return 0
    _say_landing(landing, to.replace, common.suffix)
    return 0


def declared_totals(texts: list[str], controls: Mapping[str, str | None]) -> dict[str, Any]:
    """``rows=3``, ``amount=75.00``, ``amount:EUR=12.00`` → the totals in the form of a manifest. Raises WrongUsage.

    ``controls``: name of each control total → the column that groups it, None for an ungrouped total."""
    known = {"rows": None, **controls}
    declared: dict[str, Any] = {}
    for text in texts:
        name, _, value = text.rpartition("=")
        control, colon, group = name.partition(":")
        if not name:
            raise WrongUsage(f"--expect {text}: write CONTROL=VALUE, such as rows=3, amount=75.00 or amount:EUR=12.00")
        if control not in known:
            raise WrongUsage(f"--expect {text}: {control!r} is no total under 'control'; there are {', '.join(known)}")
        try:
            exact = Decimal(value)
        except InvalidOperation:
            exact = Decimal("NaN")
        if not exact.is_finite():
            raise WrongUsage(f"--expect {text}: {value!r} is not a number; write it as 75.00")
        if control == "rows" and (exact != int(exact) or exact < 0):
            raise WrongUsage(f"--expect {text}: rows are a whole number; write rows=3")
        if bool(colon) != (known[control] is not None):
            form = f"{control}:EUR=12.00, one for each {known[control]}" if known[control] else f"{control}=12.00"
            raise WrongUsage(f"--expect {text}: write {form}")
        before = declared.get(control)
        if before is not None and not (colon and isinstance(before, dict) and group not in before):
            raise WrongUsage(f"--expect {text}: the total of {name!r} was declared before; declare it once")
        if control == "rows":
            declared[control] = int(exact)
        elif colon:
            declared[control] = {**(before or {}), group: value}
        else:
            declared[control] = value
    return declared


@flat
def unland(
    file: Annotated[str, typer.Argument(metavar="FILE", help="The file's name as landed; 'recon status W' lists the names.")],
    window: Window,
    reason: Reason,
    common: Common,
) -> None:
    """Take a wrong file back out of a window.

    Its bytes are kept for the record. The next run takes its events out of every artifact.

    \b
    recon unland bank.csv --window 2026-11-01T00:00Z --reason "sent for the wrong bank"
    """
    manifest = common.opened().unland(file, window, reason)
    if common.json:
        as_json(_manifest(manifest))
        return
    say(f"took {file} back out of window {manifest.window}: revision {number(manifest.revision)} {_holds(manifest)}")
    _say_next(manifest, common.suffix)


@flat
def close(
    window: Annotated[str, typer.Argument(metavar="W", help="The window that is complete.")],
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; the manifest keeps it.")] = "",
    *,
    common: Common,
) -> None:
    """Close a window: its files are complete.

    A window without files closes as empty, so that the watermark can pass it. A window with fewer files than 'closing' expects needs a
    reason.

    \b
    recon close 2026-11-01T00:00Z
    recon close 2026-11-01T00:00Z --reason "the bank is on holiday"
    """
    manifest, changed = common.opened().close(window, reason)
    if common.json:
        as_json({**_manifest(manifest), "changed": changed})
        return
    if not changed:
        say(f"window {manifest.window} was closed already; nothing changed")
        return
    say(f"closed window {manifest.window}: revision {number(manifest.revision)} {_holds(manifest)}")
    _say_next(manifest, common.suffix)


@flat
def correct(
    key: Key,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; 'recon show KEY --events' shows it.")],
    event: Annotated[
        list[str] | None,
        typer.Option("--event", metavar="COLUMN=VALUE", help="The value of a column; repeat it for each column."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Accept a new key, and a text that is new in its column.")] = False,
    *,
    common: Common,
) -> None:
    """Add one event to a key, with a reason.

    The event lands as a file in the current window. The next run counts it, and leaves an open window open. Its author is the operating
    system's user, its time is now, and its id is generated. A key or a text that no event had before is refused without --yes.

    \b
    recon correct A113 --event event_type=PAYMENT --event amount=40.00 --event currency=USD --reason "paid in cash"
    """
    columns: dict[str, str] = {}
    for text in event or []:
        column, equals, value = text.partition("=")
        if not column or not equals:
            raise WrongUsage(f"--event {text}: write COLUMN=VALUE, such as amount=12.50")
        if column in columns:
            raise WrongUsage(f"--event {text}: {column!r} was given before; give it once")
        columns[column] = value
    manifest = common.opened().correct(*key, event=columns, reason=reason, yes=yes)
    landed = manifest.files[-1]
    if common.json:
        as_json({**_manifest(manifest), "added": [landed.name]})
        return
    say(f"landed {landed.name} by {landed.by} in window {manifest.window}: revision {number(manifest.revision)} {_holds(manifest)}")
    stays = "" if manifest.closed else ", which counts it; the window stays open"
    say(f"next: recon run{common.suffix}{stays}")


def _say_landing(landing: Landing, replaced: str | None, suffix: str) -> None:
    manifest = landing.manifest
    sizes = {file.name: file.bytes for file in manifest.files}
    for name in landing.added:
        instead = f" in place of {replaced}" if replaced else ""
        say(f"landed {name} ({count(sizes[name], 'byte')}) in window {manifest.window}{instead}")
    for file, name in landing.already:
        as_name = "" if file == name else f" as {name}"
        totals = {known.name: known.expect for known in manifest.files}.get(name) if landing.changed else None
        declared = f", its declared totals are {declared_text(totals)} from revision {number(manifest.revision)} on" if totals else ""
        say(f"{file}: the same file has landed already{as_name}; no rows added{declared}")
    state = ("closed, SHORT" if manifest.short else "closed") if manifest.closed else "open"
    say(f"window {manifest.window} is {state}: revision {number(manifest.revision)} {_holds(manifest)}")
    if landing.changed or not manifest.closed:
        _say_next(manifest, suffix)


def _say_next(manifest: Manifest, suffix: str) -> None:
    if manifest.closed:
        say(f"next: recon run{suffix}")
    else:
        say(f"next, when it is complete: recon close {shlex.quote(manifest.window)}{suffix}")


def _holds(manifest: Manifest) -> str:
    """``holds 3 files and 1 correction``; ``holds 3 of 4 files`` for a closed window that expected a number of files."""
    received, expected = len(manifest.received), manifest.expected
    files = count(received, "file") if received else "no file"
    if expected is not None:
        files = f"{number(received)} of {count(expected, 'file')}"
    corrections = len(manifest.files) - received
    return f"holds {files}" + (f" and {count(corrections, 'correction')}" if corrections else "")


def _manifest(manifest: Manifest) -> dict[str, Any]:
    """A manifest as JSON, without the files' paths, which are internal to the store."""
    shown = asdict(manifest)
    shown["files"] = [
        {name: file[name] for name in ("name", "digest", "bytes", "expect", *(("reason", "by") if file["reason"] else ()))}
        for file in shown["files"]
    ]
    return shown
