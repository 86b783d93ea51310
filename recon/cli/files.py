"""Commands on a window's files: land, unland, close, correct."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import asdict
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Annotated, Any

import typer

from recon.cli.options import AsJson, ConfigFile, Debug, Window, opened, with_config
from recon.cli.progress import Bar
from recon.cli.screen import as_json, count, number, say
from recon.errors import WrongUsage
from recon.model.totals import declared_text

if TYPE_CHECKING:
    from recon.intake.batches import Landing
    from recon.intake.manifests import Manifest


def land(
    files: Annotated[list[str], typer.Argument(metavar="FILE", help="csv, tsv, jsonl (plain, .gz, .zst) or parquet.")],
    window: Window,
    close: Annotated[bool, typer.Option("--close", help="The window is complete: close it.")] = False,
    replace: Annotated[str | None, typer.Option("--replace", metavar="OLD", help="Take the place of this file (name as landed).")] = None,
    expect: Annotated[
        list[str] | None,
        typer.Option("--expect", metavar="CONTROL=VALUE", help="Total that each file must come to; may be repeated."),
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Also where another window holds the same bytes.")] = False,
    config: ConfigFile = None,
    json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Put files into a window.

    The same file again is a no-op that says so; any other adds. A file that cannot be read is refused, and one whose bytes another window
    holds, without --again.

    \b
    recon land erp.csv psp.jsonl.gz --window 2026-11-01T00:00Z --close
    recon land psp-fixed.jsonl --window 2026-11-01T00:00Z --replace psp.jsonl
    recon land bank.csv -w 2026-11-01T00:00Z --expect rows=3 --expect amount:EUR=12.00
    """
    reconciliation = opened(config)
    controls = {control.name: control.by for control in reconciliation.config.control}
    declared = declared_totals(expect or [], controls)
    for file in files:
        if any("\ud800" <= character <= "\udfff" for character in file):
            raise WrongUsage(f"{file}: the name is not UTF-8 text; rename the file")
    with Bar(f"land {window}"):
        landing = reconciliation.land(files, window, close=close, replace=replace, expect=declared, again=again)
    if json:
        already = [{"file": file, "as": name} for file, name in landing.already]
        as_json({**_manifest(landing.manifest), "added": landing.added, "already": already})
        return
    _say_landing(landing, replace, with_config(config))


def declared_totals(texts: list[str], controls: Mapping[str, str | None]) -> dict[str, Any]:
    """``rows=3``, ``amount=75.00``, ``amount:EUR=12.00`` → the totals as a manifest holds them. Raises WrongUsage.

    ``controls``: name of each control total → the column that groups it, None where it is one total."""
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
        held = declared.get(control)
        if held is not None and not (colon and isinstance(held, dict) and group not in held):
            raise WrongUsage(f"--expect {text}: the total of {name!r} was declared before; declare it once")
        if control == "rows":
            declared[control] = int(exact)
        elif colon:
            declared[control] = {**(held or {}), group: value}
        else:
            declared[control] = value
    return declared


def unland(
    file: Annotated[str, typer.Argument(metavar="FILE", help="Name as landed; 'recon status W' lists them.")],
    window: Window,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; the certificate will name it.")],
    config: ConfigFile = None,
    json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Take a wrong file back out of a window.

    Its bytes stay for the record; the next run takes its events out of every artifact.

    \b
    recon unland bank.csv --window 2026-11-01T00:00Z --reason "sent for the wrong bank"
    """
    manifest = opened(config).unland(file, window, reason)
    if json:
        as_json(_manifest(manifest))
        return
    say(f"took {file} back out of window {manifest.window}: revision {number(manifest.revision)} {_holds(manifest)}")
    _say_next(manifest, with_config(config))


def close(
    window: Annotated[str, typer.Argument(metavar="W", help="The window that is complete.")],
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; the manifest keeps it.")] = "",
    config: ConfigFile = None,
    json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Close a window: its files are complete.

    A window without any file closes as empty, so that the watermark can pass it. One that is short of the files that
    'closing' expects needs a reason.

    \b
    recon close 2026-11-01T00:00Z
    recon close 2026-11-01T00:00Z --reason "the bank is on holiday"
    """
    manifest, changed = opened(config).close(window, reason)
    if json:
        as_json({**_manifest(manifest), "changed": changed})
        return
    if not changed:
        say(f"window {manifest.window} was closed already; nothing changed")
        return
    say(f"closed window {manifest.window}: revision {number(manifest.revision)} {_holds(manifest)}")
    _say_next(manifest, with_config(config))


def correct(
    key: Annotated[list[str], typer.Argument(metavar="KEY", help="The key; one value for each of its columns.")],
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; 'recon show KEY --events' tells it.")],
    event: Annotated[
        list[str] | None,
        typer.Option("--event", metavar="COLUMN=VALUE", help="A column of the event; repeat it for each."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Accept a new key, and a text that its column never held.")] = False,
    config: ConfigFile = None,
    json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Add one event to a key, with a reason.

    It lands as a file in the current window and counts at the next run, which leaves an open window open. The maker is the user of the
    operating system. Its time is now, and its id is made. A key or a text that no event had before is refused without --yes.

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
    manifest = opened(config).correct(*key, event=columns, reason=reason, yes=yes)
    landed = manifest.files[-1]
    if json:
        as_json({**_manifest(manifest), "added": [landed.name]})
        return
    say(f"landed {landed.name} by {landed.by} in window {manifest.window}: revision {number(manifest.revision)} {_holds(manifest)}")
    stays = "" if manifest.closed else ", which counts it; the window stays open"
    say(f"next: recon run{with_config(config)}{stays}")


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
    """``holds 3 files and 1 correction``; of a closed window that was to hold a number, ``3 of 4 files``."""
    received, expected = len(manifest.received), manifest.expected
    files = count(received, "file") if received else "no file"
    if expected is not None:
        files = f"{number(received)} of {count(expected, 'file')}"
    corrections = len(manifest.files) - received
    return f"holds {files}" + (f" and {count(corrections, 'correction')}" if corrections else "")


def _manifest(manifest: Manifest) -> dict[str, Any]:
    """A manifest as JSON, without where the bytes lie: that is the store's own."""
    shown = asdict(manifest)
    shown["files"] = [
        {name: file[name] for name in ("name", "digest", "bytes", "expect", *(("reason", "by") if file["reason"] else ()))}
        for file in shown["files"]
    ]
    return shown
