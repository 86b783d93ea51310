"""Commands that rewrite what is stored: rebuild, compact."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from recon.cli.options import Common, flat
from recon.cli.progress import Bar
from recon.cli.screen import as_json, count, number, say, say_bounds, table
from recon.errors import WrongUsage

if TYPE_CHECKING:
    import pyarrow as pa

    from recon.operations.rebuild import Preview

KEYS_SHOWN = 20


@flat
def rebuild(
    preview: Annotated[bool, typer.Option("--preview", help="Only show what would change: statuses before and after, and keys.")] = False,
    out: Annotated[
        str | None,
        typer.Option("--out", metavar="FILE", help="With --preview: write all keys that would change; csv, jsonl, parquet or xlsx."),
    ] = None,
    *,
    common: Common,
) -> None:
    """Compute everything again by the current rules.

    Starts from the landed events; use it after a change of recon.yaml. Readers see the old records until all new records are
    complete, then all of them at once. A rebuild that was killed resumes where it stopped, and takes in windows that arrive meanwhile.
    What was known before can still be shown: 'recon show --known-at'.

    \b
    recon rebuild --preview
    recon rebuild --preview --out changes.xlsx
    recon rebuild
    """
    if out is not None and not preview:
        raise WrongUsage("--out: goes with --preview, which finds the keys that would change")
    with Bar("rebuild") as bar:
        if preview:
            found, changes = common.opened().preview_rebuild(out, bar)
        else:
            rebuilt = common.opened().rebuild(bar)
    if preview:
        _say_preview(found, changes, out, common)
    elif common.json:
        as_json(asdict(rebuilt))
    else:
        say(f"rebuilt {count(rebuilt.windows, 'window')} in commit {number(rebuilt.commit)}, {count(rebuilt.certificates, 'certificate')}")
        _say_statuses(rebuilt.before, rebuilt.after)


@flat
def compact(
    always: Annotated[bool, typer.Option("--always", help="Rewrite now, regardless of 'compaction' in recon.yaml.")] = False,
    *,
    common: Common,
) -> None:
    """Rewrite part-files that are mostly superseded.

    Also removes objects that nothing needs any more. Safe beside all other commands. Objects that a reader may still use are removed by
    the first call after 'retention.grace'.

    \b
    recon compact
    """
    reconciliation = common.opened()
    with Bar("compact") as bar:
        done, swept = reconciliation.compact(bar, always)
    bounds = reconciliation.bounds()
    if common.json:
        as_json({"compacted": asdict(done), "swept": asdict(swept), "bounds": bounds})
        return
    if done.put_off:
        say(f"put off: rewriting {count(done.needs, 'byte')} would exceed 'compaction.writes' for now; --always rewrites them anyway")
    elif done.commit is None:
        say("nothing to rewrite: few bytes of the part-files are superseded; 'recon status' shows how many")
    else:
        rewrote = f"rewrote {count(done.rewritten, 'part-file')} in commit {number(done.commit)}"
        say(f"{rewrote}: {count(done.records, 'record')}, {count(done.bytes, 'byte')}")
        say(f"given up: {count(done.dropped, 'part-file')}, {count(done.dropped_bytes, 'byte')}")
    if swept.commit is not None:
        removed = (
            (swept.state, "object", "objects"),
            (swept.reductions, "unfinished reduction", "unfinished reductions"),
            (swept.generations, "given-up rebuild", "given-up rebuilds"),
            (swept.revisions, "revision beyond retention.history", "revisions beyond retention.history"),
        )
        listed = ", ".join(count(value, singular, plural) for value, singular, plural in removed if value)
        say(f"removed {listed}; commit {number(swept.commit)} lists them")
    if swept.waiting:
        say(f"{count(swept.waiting, 'object')} that nothing needs will be removed once retention.grace is over")
    say_bounds(bounds)


def _say_preview(found: Preview, changes: pa.Table, out: str | None, common: Common) -> None:
    if common.json:
        as_json({**asdict(found), "keys": [{name: _plain(value) for name, value in row.items()} for row in changes.to_pylist()]})
        return
    old, new = found.rules
    say(f"rules {old} → {new}, {count(found.windows, 'window')}; nothing has changed yet")
    _say_statuses(found.before, found.after)
    for names, what in ((found.added, "only the new rules have"), (found.removed, "only the old rules have")):
        if names:
            say(f"{what}: {', '.join(names)}")
    parts = [f"{number(n)} {what}" for n, what in ((found.appear, "would appear"), (found.vanish, "would vanish")) if n]
    say(f"{count(found.changed, 'key')} would change{' (' + ', '.join(parts) + ')' if parts else ''}")
    columns = ["key", "status_before", "status_after", "change"]
    rows = changes.select(columns).slice(0, KEYS_SHOWN).to_pylist()
    if rows:
        table(columns, [tuple(row[name] for name in columns) for row in rows])
    if found.changed > KEYS_SHOWN and out is None:
        say(f"… and {number(found.changed - KEYS_SHOWN)} more; --out FILE writes all of them")
    if out is not None:
        say(f"wrote {count(found.changed, 'key')} to {out}")
    say(f"next: recon rebuild{common.suffix}, or put the old rules back")


def _say_statuses(before: dict[str, int], after: dict[str, int]) -> None:
    rows = [
        (name or "no status", number(before.get(name, 0)), number(after.get(name, 0)), f"{after.get(name, 0) - before.get(name, 0):+,}")
        for name in sorted({*before, *after})
    ]
    table(["status", "before", "after", "change"], rows, ["before", "after", "change"])


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)
