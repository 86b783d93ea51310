"""Commands of the transformation service: recon requests work, list, show, cancel, redrive, figures, forget; recon tokens add, list,
withdraw."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from recon.cli.options import Common, flat
from recon.cli.screen import as_json, count, number, say, table, warn
from recon.errors import WrongUsage

if TYPE_CHECKING:
    from recon.service.submissions import Submission

SHOWN = 20
Name = Annotated[str, typer.Argument(metavar="NAME", help="The request, as 'recon requests list' names it.")]
Why = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; the request's events show it.")]
_LOG = logging.getLogger("recon.worker")
OnlyOwner = Annotated[str | None, typer.Option("--owner", metavar="OWNER", help="Only requests of this owner.")]


def work(
    for_: Annotated[
        float | None, typer.Option("--for", metavar="SECONDS", help="Take requests for so long; default: until stopped.", min=0)
    ] = None,
    idle: Annotated[
        float | None, typer.Option("--idle", metavar="SECONDS", help="Stop when there was nothing to do so long.", min=0)
    ] = None,
    lane: Annotated[str | None, typer.Option("--lane", metavar="LANE", help="Only small or only large requests.")] = None,
    only: Annotated[str | None, typer.Option("--only", metavar="NAME", help="Only this request.")] = None,
    *,
    common: Common,
) -> None:
    """Carry out requests of the service, each in a process of its own.

    'recon serve' starts one such worker; start more, here or on other machines with the same database, to carry out more at once. On
    SIGTERM or Ctrl-C it takes no more requests, waits 20 seconds for those that run, and hands the others back.

    \b
    recon requests work
    recon requests work --for 60 --idle 5
    """
    from recon.service.submissions import LANES
    from recon.service.worker import Worker, stop_on_signals
    from recon.telemetry import logs

    lanes = tuple(one for one in LANES if lane in (None, one))
    if not lanes:
        raise WrongUsage(f"--lane {lane}: there are the lanes {' and '.join(LANES)}")
    service = common.located().service()
    with logs.logged_with(reconciliation=service.place.name):
        worker = Worker(service, lanes, only, say=partial(_LOG.info, "%s") if logs.on() else warn if common.json else say)
        stop_on_signals(worker)
        ended = worker.work(for_, idle)
    if common.json:
        as_json({"worker": worker.name, "ended": ended})


def list_(
    owner: OnlyOwner = None,
    state: Annotated[str | None, typer.Option("--state", metavar="STATE", help="Only requests in this state, such as dead.")] = None,
    limit: Annotated[int, typer.Option("--limit", metavar="N", help="At most so many, newest first.", min=1, max=10_000)] = SHOWN,
    *,
    common: Common,
) -> None:
    """List requests of the service, newest first.

    \b
    recon requests list --state dead
    """
    from recon.service.submissions import STATES

    if state is not None and state not in STATES:
        raise WrongUsage(f"--state {state}: there are {', '.join(STATES)}")
    found = common.located().service().requests.all(_anyone(owner), state, most=limit)
    if common.json:
        as_json([_as_json(one) for one in found])
        return
    if not found:
        say("no requests")
        return
    rows = [(one.name, one.owner, one.lane, one.state, f"{one.received_at:%Y-%m-%d %H:%M:%SZ}", one.tries, one.reason) for one in found]
    table(["request", "owner", "lane", "state", "received", "tries", "reason"], rows, ["tries"])


def show(name: Name, *, common: Common) -> None:
    """Show one request: what was asked for, what happened to it, and its results.

    \b
    recon requests show 3f9a01c2b4d53f9a01c2b4d5aa01c2b4
    """
    requests = common.located().service().requests
    one = _found(requests.find(_anyone(None), name), name)
    events = requests.events(one)
    if common.json:
        happened = [{"at": each.at.isoformat(), "state": each.state, "what": each.what, "share": each.share} for each in events]
        as_json({**_as_json(one), "body": one.body, "events": happened})
        return
    say(f"request {one.name} of {one.owner}: {one.state}{f': {one.reason}' if one.reason else ''}")
    table(["at", "state", "what"], [(f"{each.at:%Y-%m-%d %H:%M:%SZ}", each.state, each.what) for each in events])
    if one.results:
        table(["result", "bytes", "rows"], [(each["name"], number(each["bytes"]), each["rows"]) for each in one.results], ["bytes", "rows"])


def cancel(
    names: Annotated[list[str] | None, typer.Argument(metavar="NAME", help="The requests, as 'recon requests list' names them.")] = None,
    owner: Annotated[str | None, typer.Option("--owner", metavar="OWNER", help="All requests of this owner that have not ended.")] = None,
    *,
    common: Common,
) -> None:
    """Cancel requests: at once where they wait; the worker of one that runs ends its processes first.

    \b
    recon requests cancel 3f9a01c2b4d53f9a01c2b4d5aa01c2b4
    recon requests cancel --owner finance
    """
    if (not names) == (owner is None):
        raise WrongUsage("name requests, or their --owner")
    requests = common.located().service().requests
    if owner is not None:
        names = requests.active(owner)
    found = [_found(requests.cancel(_anyone(None), name), name) for name in names or ()]
    if common.json:
        as_json([_as_json(one) for one in found])
        return
    for one in found:
        say(f"request {one.name}: {'its end was asked for' if one.state == 'running' else one.state}")
    if not found:
        say("no requests to cancel")


def redrive(
    names: Annotated[list[str] | None, typer.Argument(metavar="NAME", help="Dead requests, as 'recon requests list' names them.")] = None,
    every: Annotated[bool, typer.Option("--all", help="All dead requests.")] = False,
    *,
    reason: Why,
    common: Common,
) -> None:
    """Open dead requests again, each with three new tries.

    \b
    recon requests redrive 3f9a01c2b4d53f9a01c2b4d5aa01c2b4 --reason "the bucket is back"
    recon requests redrive --all --reason "the bucket is back"
    """
    if (not names) == (not every):
        raise WrongUsage("name dead requests, or write --all")
    requests = common.located().service().requests
    if every:
        names = [one.name for one in requests.all(_anyone(None), "dead", most=100_000)]
    found = [requests.redrive(name, reason) for name in names or ()]
    if common.json:
        as_json([_as_json(one) for one in found])
        return
    say(f"{count(len(found), 'request')} opened again")


def figures(
    days: Annotated[int, typer.Option("--days", metavar="N", help="Of requests that ended in the last N days.", min=1, max=3650)] = 7,
    *,
    common: Common,
) -> None:
    """Show how the service does: availability, times by size, use and estimated cost by owner.

    \b
    recon requests figures --days 30
    """
    from recon.service.figures import figures as figures_of

    found = figures_of(common.located().service(), days)
    if common.json:
        as_json(found)
        return
    waiting, running = sum(found["waiting"].values()), sum(found["running"].values())
    say(f"{count(waiting, 'request')} waiting, {running} running")
    if found["availability"] is None:
        say(f"no good request ended in the last {count(days, 'day')}")
        return
    good = count(found["good"], "good request")
    say(f"availability: {found['availability']:.2%}: {found['served']:,} of {good} done within their latency")
    for title, heading in (("classes", "size"), ("owners", "owner")):
        rows = [(name, *_times(each), number(each["rows_in"]), f"${each['cost']}") for name, each in found[title].items()]
        table([heading, "requests", "done", "p50 s", "p95 s", "p99 s", "CPU s", "rows", "cost"], rows, ["requests", "done", "rows"])
    if found["codes"]:
        say("problems: " + ", ".join(f"{many} {code}" for code, many in found["codes"].items()))


def _times(each: dict[str, Any]) -> tuple[Any, ...]:
    whole = each["whole_s"]
    return (number(each["requests"]), number(each["done"]), *(whole.get(name, "") for name in ("p50", "p95", "p99")), each["cpu_s"])


def forget(owner: Annotated[str, typer.Argument(metavar="OWNER", help="The owner.")], *, common: Common) -> None:
    """Delete all that the service holds of an owner: requests, results, uploads and tokens. Copies in the owner's own places stay.

    \b
    recon requests forget finance
    """
    gone = common.located().service().forget(owner)
    if common.json:
        as_json({"owner": owner, "requests": gone})
        return
    say(f"{count(gone, 'request')} of {owner} deleted, with results, uploads and tokens")


def add_token(
    owner: Annotated[str, typer.Argument(metavar="OWNER", help="Who uses it; rights are in the configuration, service.owners.")],
    roles: Annotated[list[str], typer.Option("--role", metavar="ROLE", help="submit, read-own, read-all or admin; may be repeated.")],
    expires: Annotated[str, typer.Option("--expires", metavar="TIME", help="How long it is valid, such as 90d.")] = "90d",
    note: Annotated[str, typer.Option("--note", metavar="TEXT", help="What it is for; 'recon tokens list' shows it.")] = "",
    *,
    common: Common,
) -> None:
    """Make a token and show it, once: only its digest is kept.

    \b
    recon tokens add finance --role submit --role read-own
    """
    from recon.config.service import TokenLife
    from recon.model.windows import parse_duration

    life = parse_duration(expires, "--expires")
    if life > TokenLife:
        raise WrongUsage(f"--expires {expires}: a token is valid for ten years at most")
    service = common.located().service()
    text = service.tokens.add(owner, roles, life, note)
    if owner not in service.settings.owners:
        warn(f"service.owners does not name {owner}, who may so read and write no place of the site; see docs/service.md")
    if common.json:
        as_json({"owner": owner, "token": text})
        return
    say(text)


def list_tokens(*, common: Common) -> None:
    """List the tokens, without their texts.

    \b
    recon tokens list
    """
    found = common.located().service().tokens.all()
    if common.json:
        moments = ("made_at", "expires_at", "withdrawn_at")
        as_json([{**vars(one), **{name: _moment(getattr(one, name)) for name in moments}} for one in found])
        return
    if not found:
        say("no tokens; next: recon tokens add OWNER --role submit --role read-own")
        return
    rows = [(one.id, one.owner, ", ".join(one.roles), _moment(one.expires_at), _moment(one.withdrawn_at) or "", one.note) for one in found]
    table(["token", "owner", "roles", "expires", "withdrawn", "note"], rows, ["token"])


def withdraw_token(
    token: Annotated[int, typer.Argument(metavar="TOKEN", help="Its number, as 'recon tokens list' shows it.")], *, common: Common
) -> None:
    """End a token now.

    \b
    recon tokens withdraw 3
    """
    one = common.located().service().tokens.withdraw(token)
    if common.json:
        as_json({"token": one.id, "owner": one.owner, "withdrawn_at": _moment(one.withdrawn_at)})
        return
    say(f"token {one.id} of {one.owner} is withdrawn")


def _anyone(owner: str | None) -> Any:
    """Who uses the command line sees everything, or what one owner sees."""
    from recon.service.submissions import Holder

    return Holder(owner or "", frozenset({"admin"} if owner is None else {"read-own"}))


def _found(one: Submission | None, name: str) -> Submission:
    if one is None:
        raise WrongUsage(f"there is no request {name}; 'recon requests list' shows them")
    return one


def _moment(at: Any) -> str | None:
    return None if at is None else f"{at:%Y-%m-%dT%H:%M:%SZ}"


def _as_json(one: Submission) -> dict[str, Any]:
    names = ("name", "owner", "lane", "size", "state", "reason", "tries")
    moments = ("received_at", "started_at", "ended_at", "expires_at")
    found = {name: getattr(one, name) for name in names} | {name: _moment(getattr(one, name)) for name in moments}
    return {**found, "problem": dict(one.problem), "results": list(one.results), "figures": dict(one.figures)}


requests_app = typer.Typer(help="Requests of the service, and their worker.", rich_markup_mode=None)
tokens_app = typer.Typer(help="Tokens of the service.", rich_markup_mode=None)
REQUESTS_COMMANDS = {
    "work": flat(work),
    "list": flat(list_),
    "show": flat(show),
    "cancel": flat(cancel),
    "redrive": flat(redrive),
    "figures": flat(figures),
    "forget": flat(forget),
}
TOKENS_COMMANDS = {"add": flat(add_token), "list": flat(list_tokens), "withdraw": flat(withdraw_token)}
