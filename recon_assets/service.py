"""The requests of the transformation service as an asset: materializing it carries out what waits, and shows how the service does."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import dagster as dg

from recon.api import Reconciliation
from recon.config import Config
from recon.errors import TryAgain, WrongUsage
from recon.service.figures import figures
from recon.service.submissions import ENDED
from recon.storage.roles import SERVICE, refuse_no_profile, role_of
from recon.telemetry import logs
from recon_assets.reporting import tag
from recon_assets.retries import COMPUTE, errors_as_failures

DAYS = 7
LEVEL = "service_level"
TARGET = 0.999
"""The share of good requests that are to be done within their latency."""
_LISTED_MAX = 50
ENDED_LINE = re.compile(rf"request (?P<name>[0-9a-f]{{32}}): (?P<state>{'|'.join(ENDED)})\b(?:: )?(?P<why>.*)")
_OF_WORKER = ("recon.worker", "recon.cli")
"""The loggers of the worker itself."""
_STOP_S = 40


class Work(dg.Config):
    """``only``: one request, which this run carries out to its end. ``seconds``: how long the run takes others."""

    only: str = ""
    seconds: int = 60


def requests_key(config: Config) -> dg.AssetKey:
    """Such as ``orders/service/requests``."""
    return dg.AssetKey([config.name, "service", "requests"])


def service_assets(config: Config) -> list[dg.AssetsDefinition]:
    """The asset of a reconciliation whose configuration names owners of a service; none without."""
    if not config.service.owners:
        return []
    key = requests_key(config)
    share = f"{TARGET:.1%}"
    check = dg.AssetCheckSpec(
        LEVEL, asset=key, description=f"Of the good requests of the last {DAYS} days, {share} were done within their latency."
    )

    @dg.asset(
        key=key,
        check_specs=[check],
        group_name=config.name,
        owners=[f"team:{config.name}"],
        kinds={"duckdb"},
        tags={"recon/reconciliation": config.name},
        description="Requests of the transformation service. A run carries out what waits for up to a minute, or one large request. "
        "`recon requests list` shows them with their owners, `recon requests show NAME` what happened to one. "
        "Times are seconds from arrival to end; those in the queue and of the run are parts of them. Cost is an estimate.",
    )
    def requests(context: dg.AssetExecutionContext, config: Work) -> Iterator[dg.MaterializeResult[None]]:
        tag(context)
        with errors_as_failures(context, COMPUTE), role_of(SERVICE):
            refuse_no_profile(SERVICE)
            ended = work(context, path, config)
            found = figures(Reconciliation(path).service(), DAYS)
            yield dg.MaterializeResult(metadata=metadata(found, ended), check_results=[_verdict(key, found)])

    path = config.path
    return [requests]


def work(context: dg.AssetExecutionContext, path: Path, config: Work) -> dict[str, tuple[str, str]]:
    """Runs a worker in a process of its own, which has loaded only what requests need. Returns the requests that ended in it, with state
    and reason.

    A run that is ended in the UI stops the worker, which hands back what it cannot finish."""
    chosen = ["--only", config.only, "--idle", "10"] if config.only else ["--lane", "small", "--for", str(config.seconds), "--idle", "5"]
    command = [sys.executable, "-m", "recon.cli", "requests", "work", "--config", str(path), *chosen]
    ended: dict[str, tuple[str, str]] = {}
    environment = {**os.environ, **logs.environment(), "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)  # noqa: S603
    assert process.stdout is not None
    try:
        for line in map(_said, process.stdout):
            if line is None:
                continue
            context.log.info(line)
            if (found := ENDED_LINE.match(line)) is not None:
                ended[found["name"]] = found["state"], found["why"]
        if status := process.wait():
            kind = WrongUsage if status == WrongUsage.exit_status else TryAgain
            raise kind(f"the worker ended with status {status}; its lines are in this run's log")
    finally:
        _stop(process)
    return ended


def _said(line: str) -> str | None:
    """A line of the worker, without its end. Where logs are JSON, its message. A line of the processes that carry requests out goes on as
    it is, with its own fields, and is None here."""
    if not line.startswith("{"):
        return line.rstrip()
    try:
        record = json.loads(line)
    except ValueError:
        return line.rstrip()
    if record.get("logger") in _OF_WORKER:
        return str(record.get("message", ""))
    sys.stderr.write(line)
    return None


def _stop(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _verdict(key: dg.AssetKey, found: Mapping[str, Any]) -> dg.AssetCheckResult:
    good, served, availability = found["good"], found["served"], found["availability"]
    passed = availability is not None and availability >= TARGET  # nothing has been shown before a good request ended
    said = "no good request has ended yet" if availability is None else f"{served:,} of {good:,} good requests, {availability:.2%}"
    return dg.AssetCheckResult(passed=passed, check_name=LEVEL, asset_key=key, severity=dg.AssetCheckSeverity.WARN, description=said)


def metadata(found: Mapping[str, Any], ended: Mapping[str, tuple[str, str]]) -> dict[str, Any]:
    """What the UI shows. ``found``: see recon.service.figures. ``ended``: the requests of this run."""
    shown: dict[str, Any] = {
        "ended_in_this_run": len(ended),
        "waiting": sum(found["waiting"].values()),
        "running": sum(found["running"].values()),
        "figures_of_days": found["days"],
        "good_requests": found["good"],
        "problems": ", ".join(f"{many:,} {code}" for code, many in found["codes"].items()) or "none",
        **{
            f"{what}_by_{first}": _table((first, *heading), (row(name, each) for name, each in found[group].items()))
            for group, first in (("classes", "size"), ("owners", "owner"))
            for what, heading, row in (("times", _TIMES, _times), ("use", _USE, _use))
        },
        **{f"{state}_requests": many for state, many in found["ended"].items()},
    }
    if found["availability"] is not None:
        shown["availability"] = found["availability"]
    if ended:
        shown["requests"] = _table(("request", "state", "why"), _requests(ended))
    return shown


def _requests(ended: Mapping[str, tuple[str, str]]) -> Iterator[tuple[str, str, str]]:
    """The requests of a run, those that were not done first."""
    ordered = sorted(ended.items(), key=lambda one: one[1][0] == "done")
    for name, (state, why) in ordered[:_LISTED_MAX]:
        yield name, state, why.replace("|", "\\|")
    if len(ended) > _LISTED_MAX:
        yield f"and {len(ended) - _LISTED_MAX:,} more; 'recon requests list' has all", "", ""


_TIMES = ("requests", "done", "p50 s", "p95 s", "p99 s", "queue p50 s", "run p50 s")
_USE = ("rows in", "MB in", "engine", "CPU s", "cost")


def _times(name: str, each: Mapping[str, Any]) -> tuple[str, ...]:
    whole = [f"{each['whole_s'][rank]:,.2f}" if each["whole_s"] else "" for rank in ("p50", "p95", "p99")]
    parts = [f"{each[part]['p50']:,.2f}" if each[part] else "" for part in ("queue_s", "run_s")]
    return name, f"{each['requests']:,}", f"{each['done']:,}", *whole, *parts


def _use(name: str, each: Mapping[str, Any]) -> tuple[str, ...]:
    engines = ", ".join(each["engines"])
    return name, f"{each['rows_in']:,}", f"{each['bytes_in'] / 10**6:,.3f}", engines, f"{each['cpu_s']:,.1f}", f"${each['cost']}"


def _table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> dg.MarkdownMetadataValue:
    lines = [heading, ["---"] * len(heading), *rows]
    return dg.MetadataValue.md("\n".join("| " + " | ".join(line) + " |" for line in lines))
