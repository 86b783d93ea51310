"""The demo: carries out the steps of recon.samples.scenario and explains each of them."""

from __future__ import annotations

import shlex
import shutil
import sys
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recon import api
from recon.cli.certificates import say_totals, totals_of
from recon.cli.dagster_runs import Materializing
from recon.cli.screen import count, number, say, seconds, table
from recon.errors import WrongUsage
from recon.samples.scenario import Step, write_story
from recon.state.certificates import unreadable_of

MARK = ".recon-demo"
"""The file that marks a folder as a demo's, which may be emptied to start afresh."""
WIDTH = 100


def run_demo(folder: Path, silent: bool = False) -> dict[str, Any]:
    """Carries out the demo in ``folder`` and returns its figures. ``silent``: prints nothing.

    Raises WrongUsage if the folder holds anything but an earlier demo."""
    began = time.perf_counter()
    steps = _fresh(folder)
    reconciliation = api.open(folder / "recon.yaml")
    with Materializing() as way:
        for number_of_step, step in enumerate(steps, 1):
            if not silent:
                _say_step(number_of_step, step)
            result = _carry_out(reconciliation, folder, step, way)
            if not silent:
                say(f"    {result}")
                _say_keys(reconciliation, step.look_at)
    status = reconciliation.status()
    certificates = [reconciliation.certificate(line["window"]) for line in status["windows"]]
    known = [certificate for certificate in certificates if certificate is not None]
    totals = totals_of(known)
    answer = {
        "folder": str(folder),
        "windows": len(status["windows"]),
        "events": totals["in"].rows,
        "artifacts": status["artifacts"],
        "totals": {part: total.to_json() for part, total in totals.items()},
        "commit": status["commit"],
        "seconds": round(time.perf_counter() - began, 1),
    }
    if not silent:
        say()
        say(
            f"{count(answer['windows'], 'window')}, {count(answer['events'], 'event')}, "
            f"{count(status['commit'], 'commit')}, {seconds(answer['seconds'])}. All certificates together:"
        )
        say_totals(totals, unreadable_of(known))
        rows = [(name, number(artifacts)) for name, artifacts in status["artifacts"].items()]
        table(["status", "artifacts"], rows, ["artifacts"])
        _say_next(folder, steps)
    return answer


def _fresh(folder: Path) -> tuple[Step, ...]:
    """Writes the demo's files into a new folder, or into the folder of an earlier demo, whose store is removed."""
    mark = folder / MARK
    if folder.exists() and not folder.is_dir():
        raise WrongUsage(f"{folder}: this is a file; name a new folder: recon demo DIR")
    if folder.is_dir() and any(folder.iterdir()) and not mark.exists():
        raise WrongUsage(f"{folder}: holds files, and is no earlier demo; name a new folder: recon demo DIR")
    folder.mkdir(parents=True, exist_ok=True)
    mark.write_text(
        "Made by 'recon demo', which starts afresh here and removes the store, data/, and Dagster's home, .dagster/.\n", encoding="utf-8"
    )
    steps = write_story(folder)
    for made in ("data", ".dagster"):
        if (folder / made).exists():
            shutil.rmtree(folder / made)
    return steps


def _carry_out(reconciliation: api.Reconciliation, folder: Path, step: Step, way: Materializing) -> str:
    """Carries out one step. Returns its result as a line."""
    if step.action == "run":
        report = reconciliation.run(way=way)
        counted = f"{number(report.accepted)} accepted + {number(report.duplicates)} duplicates"
        rows = f"{count(report.rows, 'row')} = {counted} + {number(report.rejected)} rejected"
        return f"→ {rows}; {count(report.written, 'artifact')} written"
    files = [folder / file for file in step.files]
    landing = reconciliation.land(files, step.window, close=step.action == "land", replace=step.old or None)
    return f"→ {count(len(landing.added), 'file')} landed, window {step.window} revision {landing.manifest.revision}"


def _say_step(number_of_step: int, step: Step) -> None:
    say()
    say(f"{number_of_step:2}. {step.command}")
    for line in textwrap.wrap(step.text, WIDTH):
        say(f"    {line}")


def _say_keys(reconciliation: api.Reconciliation, keys: Sequence[str]) -> None:
    if keys:
        shown = [f"{key} {reconciliation.show(key)['status']}" for key in keys]
        say(f"    {', '.join(shown)}")


def _say_next(folder: Path, steps: Sequence[Step]) -> None:
    key = next(step.look_at[0] for step in reversed(steps) if step.look_at)
    say()
    say("Next:")
    if shutil.which("recon") is None:  # `make demo` installs it into a folder that no shell searches
        say(f"  export PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH")
    say(f"  cd {shlex.quote(str(folder))}")
    for command in (
        "recon status",
        f"recon show {key} --events",
        f"recon certificate {steps[0].window}",
        "recon breaks",
        "recon rejects",
        "recon verify --full",
        "recon export out.xlsx",
    ):
        say(f"  {command}")
