"""Commands of the index table: recon index update, rebuild, status, size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from recon.cli.options import Common, flat
from recon.cli.progress import Bar
from recon.cli.screen import as_json, count, number, say
from recon.errors import WrongUsage

if TYPE_CHECKING:
    from recon.api import Reconciliation
    from recon.serving.sync import Synced


@flat
def update(common: Common) -> None:
    """Bring the table up to the newest commit.

    Every run does this, too; use it after a run for which DynamoDB was unavailable.

    \b
    recon index update
    """
    _change(common, lambda opened: opened.update_index())


@flat
def rebuild(common: Common) -> None:
    """Fill a new table from the runs, then switch to it.

    The old table answers until then. It is removed after 'retention.grace'.

    \b
    recon index rebuild
    """
    _change(common, lambda opened: opened.rebuild_index())


@flat
def status(common: Common) -> None:
    """Show which table is used, and up to which commit it is filled.

    \b
    recon index status
    """
    found = common.located().index_status()
    if common.json:
        as_json(found)
        return
    if found["table"] is None:
        say(f"no table is full yet: the runs answer; next: recon index update{common.suffix}")
    else:
        behind = found["newest_commit"] - found["commit"]
        late = f"{count(behind, 'commit')} behind; next: recon index update{common.suffix}" if behind else "up to date"
        say(f"table {found['table']}: commit {number(found['commit'])} of {number(found['newest_commit'])}, {late}")
    for name, what in (("filling", "being filled, or left by a process that died"), ("given_up", "not used any more")):
        if found[name]:
            say(f"{what}: {', '.join(found[name])}")


@flat
def size(
    keys: Annotated[str, typer.Argument(metavar="KEYS", help="Keys that change in an hour.")],
    common: Common,
) -> None:
    """Show how many workers follow a rate of changed keys, and what it costs.

    By the rate of the newest load that workers have finished; before the first one, by 1.7 ms of CPU for each update.

    \b
    recon index size 33000000
    """
    digits = keys.replace(",", "").replace("_", "")
    if not digits.isascii() or not digits.isdigit() or not int(digits):
        raise WrongUsage(f"{keys!r} is not a number of keys; write digits, such as 33000000")
    keys_per_hour = int(digits)
    found = common.located().index_size(keys_per_hour)
    if common.json:
        as_json(
            {**asdict(found), "usd_per_hour": f"{found.usd_per_hour:f}", "follows": found.follows, "per_second": round(found.per_second)}
        )
        return
    measured = "measured by the last load" if found.measured else "assumed, as no load by workers is finished yet"
    changed, rate = f"{number(keys_per_hour)} keys an hour are {number(round(found.per_second))} a second", number(round(found.rate))
    say(f"{changed}; a worker updates {rate}, {measured}")
    says = "enough" if found.follows else "too few: raise workers.count"
    say(f"needed: {count(found.workers, 'worker')} of one core; workers.count is {number(found.count)}, {says}")
    say(f"updates cost {found.usd_per_hour:f} US dollars an hour")


def _change(common: Common, change: Callable[[Reconciliation], Synced]) -> None:
    """Changes the table and prints the result."""
    with Bar("index"):
        synced = change(common.opened())
    if common.json:
        per_million = synced.cost_per_million_usd
        as_json({**asdict(synced), "cost_usd": f"{synced.cost_usd:f}", "cost_per_million_usd": per_million and f"{per_million:f}"})
        return
    if not synced.table:
        say("nothing is committed yet, or another process fills a table just now: the runs answer")
        return
    say(f"table {synced.table}: {'filled anew, ' if synced.filled else ''}at commit {number(synced.commit)}")
    say(
        f"{count(synced.items, 'item')} written, {number(synced.refused)} were there already; "
        f"{number(round(synced.units))} write units, {synced.cost_usd:f} US dollars"
    )


app = typer.Typer(no_args_is_help=True, help="The index table in DynamoDB: update, rebuild, status, size.")
