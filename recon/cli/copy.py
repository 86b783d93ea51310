"""The command that copies a store: copy."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from recon.cli.options import AsJson, ConfigFile, Debug, located
from recon.cli.progress import Bar
from recon.cli.screen import as_json, count, number, say, seconds


def copy(
    to: Annotated[str, typer.Argument(metavar="TO", help="An empty or a new folder, or s3://bucket/prefix; or an earlier copy.")],
    config: ConfigFile = None,
    json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Copy the whole store, or bring a copy up to date.

    From a folder or S3 to a folder or S3, as of the newest commit; safe beside everything else. Interrupted, it goes on where it was;
    until it is done no command takes the copy for a store. An index table is not copied: the copy's first run fills one of its own.

    \b
    recon copy s3://ledger-copy/orders
    recon copy /backup/orders
    """
    with Bar("copy") as bar:
        done = located(config).copy(to, bar)
    if json:
        as_json({"to": to, **asdict(done)})
        return
    brought = f"brought {count(done.objects, 'object')}, {count(done.bytes, 'byte')}" if done.objects else "brought nothing new"
    removed = f", removed {number(done.removed)} that the store has swept" if done.removed else ""
    came = f"{brought}, {number(done.already)} were there{removed}; {seconds(done.seconds)}"
    say(f"{to} is the store as of commit {number(done.commit)}: {came}")
    say(f"to prove it: recon verify --full --config FILE, a recon.yaml with 'store: {to}'")
