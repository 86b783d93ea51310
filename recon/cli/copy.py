"""The command that copies a store: copy."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from recon.cli.options import Common, flat
from recon.cli.progress import Bar
from recon.cli.screen import as_json, count, number, say, seconds


@flat
def copy(
    to: Annotated[str, typer.Argument(metavar="TO", help="An empty or new folder, s3://bucket/prefix, or an earlier copy.")],
    common: Common,
) -> None:
    """Copy the store, or bring a copy up to date.

    Copies from a folder or S3 to a folder or S3, as of the newest commit; safe beside all other commands. An interrupted copy
    resumes where it stopped; until it is complete, no command accepts it as a store. An index table is not copied: the copy's first
    run fills a new table.

    \b
    recon copy s3://ledger-copy/orders
    recon copy /backup/orders
    """
    with Bar("copy") as bar:
        done = common.located().copy(to, bar)
    if common.json:
        as_json({"to": to, **asdict(done)})
        return
    brought = f"brought {count(done.objects, 'object')}, {count(done.bytes, 'byte')}" if done.objects else "brought nothing new"
    removed = f", removed {number(done.removed)} that the store has swept" if done.removed else ""
    figures = f"{brought}, {number(done.already)} were there{removed}; {seconds(done.seconds)}"
    say(f"{to} is the store as of commit {number(done.commit)}: {figures}")
    say(f"to prove it: recon verify --full --config FILE, a recon.yaml with 'store: {to}'")
