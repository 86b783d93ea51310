"""Commands to begin with: demo, init, generate."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from recon.cli.options import AsJson, Debug
from recon.cli.progress import Bar
from recon.cli.screen import as_json, count, number, say
from recon.errors import WrongUsage


def demo(
    folder: Annotated[str, typer.Argument(metavar="DIR", help="A new folder, or that of an earlier demo.")] = "demo",
    json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Take sample events through the whole pipeline.

    Tells each step and what to look at afterwards. A run again starts afresh in its own folder.

    \b
    recon demo
    recon demo /tmp/demo
    """
    from recon.cli.demo import tell

    told = tell(Path(folder), silent=json)
    if json:
        as_json(told)


def init(
    folder: Annotated[str, typer.Argument(metavar="DIR", help="A new folder.")],
    json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Make a folder with a commented recon.yaml and sample events.

    \b
    recon init orders
    """
    from recon.samples.scenario import write_sample

    place = Path(folder)
    if (place / "recon.yaml").exists():
        raise WrongUsage(f"{place / 'recon.yaml'}: is there already and stays as it is; name a new folder")
    steps = write_sample(place)
    commands = [f"cd {shlex.quote(folder)}"]
    for step in steps:
        files = " ".join(shlex.quote(file) for file in step.files)
        commands.append("recon run" if step.action == "run" else f"recon land {files} --window {step.window} --close")
    commands += [f"recon show {shlex.quote(key)}" for key in steps[-1].look_at]
    if json:
        as_json({"folder": str(place), "config": str(place / "recon.yaml"), "next": commands})
        return
    say(f"wrote {place / 'recon.yaml'}, with comments to read and change, and sample events below {place / 'events'}")
    say("next:")
    for command in commands:
        say(f"  {command}")


def generate(
    events: Annotated[int, typer.Option("--events", metavar="N", help="Rows to write in all.")],
    keys: Annotated[int, typer.Option("--keys", metavar="K", help="Orders that they belong to.")],
    windows: Annotated[int, typer.Option("--windows", metavar="W", help="Windows that they lie in.")],
    out: Annotated[str, typer.Option("--out", metavar="DIR", help="A new folder.")],
    seed: Annotated[int, typer.Option("--seed", metavar="S", help="The same seed gives the same events.")] = 1,
    start: Annotated[str, typer.Option("--start", metavar="W", help="The first window.")] = "2026-11-01T00:00Z",
    every: Annotated[str, typer.Option("--every", metavar="LENGTH", help="Length of a window.")] = "1h",
    formats: Annotated[list[str] | None, typer.Option("--format", metavar="F", help="csv, jsonl or parquet; may be repeated.")] = None,
    json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Write synthetic events with known answers.

    The folder gets events/<window>/, files.json, recon.yaml, and what must come out: answers.json and answers.parquet.

    \b
    recon generate --events 100000 --keys 20000 --windows 24 --seed 7 --out made
    """
    from recon.samples.generator import FORMATS
    from recon.samples.generator import generate as write_events

    with Bar("generate"):
        answers = write_events(events, keys, windows, seed, Path(out), start, every, tuple(formats or FORMATS))
    if json:
        as_json({"out": out, **answers})
        return
    totals, place = answers["totals"], Path(out)
    wrote = f"wrote {count(events, 'event')} of {count(keys, 'order')} in {count(windows, 'window')}"
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
