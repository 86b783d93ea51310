"""Commands to begin with: demo, init, generate."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from recon.cli.options import Output, flat
from recon.cli.progress import Bar
from recon.cli.screen import as_json, count, number, say
from recon.errors import WrongUsage


@flat
def demo(
    folder: Annotated[str, typer.Argument(metavar="DIR", help="A new folder, or the folder of an earlier demo.")] = "demo",
    *,
    output: Output,
) -> None:
    """Take sample events through all stages.

    Explains each step and what to look at afterwards. Running it again starts afresh in the same folder.

    \b
    recon demo
    recon demo /tmp/demo
    """
    from recon.cli.demo import run_demo

    answer = run_demo(Path(folder), silent=output.json)
    if output.json:
        as_json(answer)


@flat
def init(folder: Annotated[str, typer.Argument(metavar="DIR", help="A new folder.")], output: Output) -> None:
    """Make a folder with a commented recon.yaml and sample events.

    \b
    recon init orders
    """
    from recon.samples.scenario import write_sample

    place = Path(folder)
    if (place / "recon.yaml").exists():
        raise WrongUsage(f"{place / 'recon.yaml'}: is there already and stays as it is; name a new folder")
    steps = write_sample(place)
    commands = [f"cd {shlex.quote(folder)}", *(step.command for step in steps)]
    commands += [f"recon show {shlex.quote(key)}" for key in steps[-1].look_at]
    if output.json:
        as_json({"folder": str(place), "config": str(place / "recon.yaml"), "next": commands})
        return
    say(f"wrote {place / 'recon.yaml'}, with comments to read and change, and sample events below {place / 'events'}")
    say("next:")
    for command in commands:
        say(f"  {command}")


@dataclass(frozen=True)
class Size:
    """The options that say how much is generated."""

    events: Annotated[int, typer.Option("--events", metavar="N", help="Number of rows.")]
    keys: Annotated[int, typer.Option("--keys", metavar="K", help="Number of orders.")]
    windows: Annotated[int, typer.Option("--windows", metavar="W", help="Number of windows.")]


@dataclass(frozen=True)
class Windows:
    """The options that say which windows the events are in."""

    start: Annotated[str, typer.Option("--start", metavar="W", help="The first window.")] = "2026-11-01T00:00Z"
    every: Annotated[str, typer.Option("--every", metavar="LENGTH", help="Length of a window.")] = "1h"


@flat
def generate(
    size: Size,
    out: Annotated[str, typer.Option("--out", metavar="DIR", help="A new folder.")],
    seed: Annotated[int, typer.Option("--seed", metavar="S", help="The same seed gives the same events.")] = 1,
    *,
    windows: Windows,
    formats: Annotated[list[str] | None, typer.Option("--format", metavar="F", help="csv, jsonl or parquet; may be repeated.")] = None,
    output: Output,
) -> None:
    """Write synthetic events with known answers.

    Writes events/<window>/, files.json, recon.yaml and the expected results: answers.json and answers.parquet.

    \b
    recon generate --events 100000 --keys 20000 --windows 24 --seed 7 --out made
    """
    from recon.samples.generator import FORMATS, Sample
    from recon.samples.generator import generate as write_events

    with Bar("generate"):
        chosen = tuple(formats or FORMATS)
        answers = write_events(Sample(size.events, size.keys, size.windows, seed, windows.start, windows.every, chosen), Path(out))
    if output.json:
        as_json({"out": out, **answers})
        return
    totals, place = answers["totals"], Path(out)
    wrote = f"wrote {count(size.events, 'event')} of {count(size.keys, 'order')} in {count(size.windows, 'window')}"
    say(f"{wrote} below {place / 'events'}")
    say(
        f"known answers in {place / 'answers.json'}: {number(totals['accepted'])} accepted + "
        f"{number(totals['duplicates'])} duplicates + {number(totals['rejected'])} rejected"
    )
    if windows_with_files := [name for name, figures in answers["windows"].items() if figures["rows"]]:
        window = windows_with_files[0]
        files = f"{shlex.quote(out)}/events/{window.replace(':', '-')}/*"
        config = shlex.quote(str(place / "recon.yaml"))
        say(f"next, for each window: recon land {files} --window {window} --close --config {config}")
