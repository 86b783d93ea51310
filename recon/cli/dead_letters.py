"""Commands on records that could not be processed, or whose messages were lost: recon dlq list, show, edit, redrive, discard, resend."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from recon.cli.options import Common, flat
from recon.cli.screen import as_json, count, number, say, table, warn
from recon.errors import WrongUsage

if TYPE_CHECKING:
    from recon.intake.queues.port import DeadLetter, RecordStore

ROWS_SHOWN = 20
Letter = Annotated[str, typer.Argument(metavar="ID", help="The dead letter, as 'recon dlq list' names it.")]
Letters = Annotated[list[str] | None, typer.Argument(metavar="ID", help="The dead letters, as 'recon dlq list' names them.")]
Why = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; 'recon dlq show' shows it.")]
OnlySource = Annotated[str | None, typer.Option("--source", metavar="NAME", help="Only records of this source.")]
Every = Annotated[bool, typer.Option("--all", help="All dead letters; with --source, all of the source.")]


def list_(
    source: OnlySource = None,
    discarded: Annotated[bool, typer.Option("--discarded", help="List discarded ones, too.")] = False,
    *,
    common: Common,
) -> None:
    """List records that could not be processed, each with its file, line and reason.

    \b
    recon dlq list
    recon dlq list --source bank --json
    """
    from recon.intake.queues import dead_letters

    store, name = _opened(common)
    letters = dead_letters.listed(store, name, source, discarded)
    if common.json:
        as_json([_as_json(one) for one in letters])
        return
    rows: list[tuple[Any, ...]] = []
    records = 0
    for one in letters:
        records += one.parcel.count
        if len(rows) < ROWS_SHOWN:
            rows.append((dead_letters.id_of(one), one.name, number(one.parcel.count), _state(one), one.reason))
    if not records:
        say("no dead letters")
        return
    say(count(records, "dead record"))
    table(["id", "file", "records", "state", "reason"], rows, ["records"])
    say()
    say(f"next: recon dlq show {rows[0][0]}{common.suffix}")


def show(name: Letter, *, common: Common) -> None:
    """Show one dead letter: its texts, why it failed, and what was done to it.

    \b
    recon dlq show bank:3f9a01c2b4d5:17
    """
    from recon.intake.queues import dead_letters

    store, reconciliation = _opened(common)
    letter = dead_letters.find(store, reconciliation, name)
    actions = store.actions(letter.parcel)
    if common.json:
        done = [{"action": one.what, "reason": one.reason, "at": one.at.isoformat(), "before": _before(one.before)} for one in actions]
        as_json({**_as_json(letter), "records": dead_letters.texts_of(letter), "actions": done})
        return
    say(f"{letter.name}, line {letter.parcel.first}: {_state(letter)} since {letter.since:%Y-%m-%d %H:%M:%SZ}: {letter.reason}")
    if letter.parcel.count == 1:
        table(["column", "text"], list(dead_letters.texts_of(letter)[0].items()))
    else:
        say(f"{number(letter.parcel.count)} records up to line {letter.parcel.last}; --json has their texts")
    if actions:
        table(["at", "action", "reason"], [(f"{one.at:%Y-%m-%d %H:%M:%SZ}", one.what, one.reason) for one in actions])
    say()
    say(f"next: recon dlq edit, redrive or discard {name} --reason TEXT{common.suffix}")


def edit(
    name: Letter,
    reason: Why,
    changes: Annotated[
        list[str] | None, typer.Option("--set", metavar="COLUMN=TEXT", help="A column's new text; repeat it for each column.")
    ] = None,
    *,
    common: Common,
) -> None:
    """Change texts of a dead record. The first text is kept.

    \b
    recon dlq edit bank:3f9a01c2b4d5:17 --set amount=12.50 --reason "the bank confirmed it"
    """
    from recon.intake.queues import dead_letters

    given: dict[str, str | None] = {}
    for text in changes or []:
        column, equals, value = text.partition("=")
        if not column or not equals or column in given:
            raise WrongUsage(f"--set {text}: write COLUMN=TEXT, once for each column, such as amount=12.50")
        given[column] = value
    if not given:
        raise WrongUsage("--set: nothing to change; write COLUMN=TEXT, such as amount=12.50")
    store, reconciliation = _opened(common)
    letter = dead_letters.find(store, reconciliation, name)
    dead_letters.edit(store, letter, given, reason)
    if common.json:
        as_json({"id": name, "changed": given})
        return
    say(f"changed {', '.join(given)} of {letter.name}, line {letter.parcel.first}; the first text is kept")
    say(f"next: recon dlq redrive {name} --reason TEXT{common.suffix}")


def redrive(names: Letters = None, every: Every = False, source: OnlySource = None, *, reason: Why, common: Common) -> None:
    """Send dead letters through processing again.

    \b
    recon dlq redrive bank:3f9a01c2b4d5:17 --reason "edited"
    recon dlq redrive --all --source bank --reason "the service is back"
    """
    from recon.intake.queues import dead_letters

    store, reconciliation = _opened(common)
    done = 0
    for letter in _chosen(store, reconciliation, names, every, source):
        dead_letters.redrive(store, letter, reason)
        done += letter.parcel.count
    _say_done(common, done, "sent back to the queue", "the next run of the records' assets processes them")


def resend(source: OnlySource = None, *, reason: Why, common: Common) -> int:
    """Send records again that are in progress, but whose messages were lost: a queue was purged, or messages expired.

    A message that is not lost takes no effect after this. The user's function may see a record twice; one result counts.

    \b
    recon dlq resend --source bank --reason "the process queue was purged"
    """
    from recon.cli.sources import run_id
    from recon.intake.sources.resend import resend as send_again

    done = send_again(common.opened().intake(run_id()), reason, source)
    if common.json:
        as_json({"reopened": done.reopened, "stored": done.stored, "begun": done.begun, "failed": dict(done.failed)})
    elif done.reopened or done.stored or done.begun:
        say(
            f"{count(done.reopened, 'open record')} sent again, {count(done.stored, 'record')} stored that had not arrived, "
            f"{count(done.begun, 'file')} cleaned on; next: recon land --from INBOX{common.suffix}"
        )
    else:
        say("no record is in progress")
    for name, why in done.failed:
        warn(f"{name}: {why}")
    return 1 if done.failed else 0


def discard(names: Letters = None, every: Every = False, source: OnlySource = None, *, reason: Why, common: Common) -> None:
    """Give dead letters up. They stay listed by 'recon dlq list --discarded' and count as dead.

    \b
    recon dlq discard bank:3f9a01c2b4d5:17 --reason "a test record of the bank"
    """
    from recon.intake.queues import dead_letters

    store, reconciliation = _opened(common)
    done = 0
    for letter in _chosen(store, reconciliation, names, every, source):
        dead_letters.discard(store, letter, reason)
        done += letter.parcel.count
    _say_done(common, done, "discarded", "recon dlq list --discarded")


def _opened(common: Common) -> tuple[RecordStore, str]:
    """The record store, and the reconciliation's name."""
    from recon.intake.queues.opening import open_records

    place = common.located().place
    return open_records(place), place.name


def _chosen(store: RecordStore, reconciliation: str, names: list[str] | None, every: bool, source: str | None) -> Iterator[DeadLetter]:
    """The dead letters that a command names. All names are found before the first is given."""
    from recon.intake.queues import dead_letters

    if every == bool(names):
        raise WrongUsage("name dead letters, or give --all; 'recon dlq list' names them")
    if every:
        return dead_letters.listed(store, reconciliation, source)
    return iter([dead_letters.find(store, reconciliation, name) for name in names or ()])


def _say_done(common: Common, records: int, what: str, after: str) -> None:
    if common.json:
        as_json({"records": records})
        return
    say(f"{count(records, 'record')} {what}" + (f"; {after}" if records else ""))


def _as_json(letter: DeadLetter) -> dict[str, Any]:
    from recon.intake.queues.dead_letters import id_of

    parcel = letter.parcel
    places = {"source": parcel.source, "file": letter.name, "digest": parcel.file.split("/")[2], "line": parcel.first}
    until = {"last_line": parcel.last, "count": parcel.count}
    return {"id": id_of(letter), **places, **until, "state": _state(letter), "since": letter.since.isoformat(), "reason": letter.reason}


def _state(letter: DeadLetter) -> str:
    return "discarded" if letter.discarded else "dead"


def _before(records: str | None) -> Any:
    """The texts before an edit, by column."""
    import json

    if records is None:
        return None
    found = json.loads(records)
    return {name: column[0] for name, column in zip(found["names"], found["columns"], strict=True)}


app = typer.Typer(no_args_is_help=True, help="Records that failed, or whose messages were lost.")
COMMANDS = {
    "list": flat(list_),
    "show": flat(show),
    "edit": flat(edit),
    "redrive": flat(redrive),
    "discard": flat(discard),
    "resend": flat(resend),
}
