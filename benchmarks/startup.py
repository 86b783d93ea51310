"""How long the command line takes to answer from the shell: each command 10 times, in turn, and the medians.

    python benchmarks/startup.py [--times 10] [--out FILE.json]

Each command is a process of its own, over the sample of ``recon init``, landed and run. In turn, so that a busy moment of the machine is
shared by all of them.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from recon.samples.scenario import write_sample

COMMANDS = {
    "python -c pass": ("-c", "pass"),
    "recon --help": ("-m", "recon.cli", "--help"),
    "recon show --help": ("-m", "recon.cli", "show", "--help"),
    "recon show A112": ("-m", "recon.cli", "show", "A112"),
    "recon show A112 --json": ("-m", "recon.cli", "show", "A112", "--json"),
    "recon status": ("-m", "recon.cli", "status"),
    "recon breaks": ("-m", "recon.cli", "breaks"),
    "recon run, nothing to do": ("-m", "recon.cli", "run"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "orders"
        for step in write_sample(folder):
            arguments = ["run"] if step.action == "run" else ["land", *step.files, "--window", step.window, "--close"]
            _call(("-m", "recon.cli", *arguments), folder)
        taken: dict[str, list[tuple[float, float]]] = {name: [] for name in COMMANDS}
        for _ in range(options.times):
            for name, arguments in COMMANDS.items():
                taken[name].append(_call(arguments, folder))
    medians = {name: [round(statistics.median(column), 3) for column in zip(*each, strict=True)] for name, each in taken.items()}
    print(f"{'median of ' + str(options.times):<28} wall s   CPU s")
    for name, (wall, cpu) in medians.items():
        print(f"{name:<28} {wall:>6.2f} {cpu:>7.2f}")
    if options.out:
        machine = {"cores": os.cpu_count(), "python": platform.python_version(), "times": options.times}
        figures = {name: {"wall_s": wall, "cpu_s": cpu} for name, (wall, cpu) in medians.items()}
        options.out.write_text(json.dumps({**machine, "commands": figures}, indent=1) + "\n")


def _call(arguments: tuple[str, ...], folder: Path) -> tuple[float, float]:
    """Wall and CPU seconds of one process."""
    before, start = os.times(), time.perf_counter()
    subprocess.run([sys.executable, *arguments], cwd=folder, stdout=subprocess.DEVNULL, check=True)
    wall, after = time.perf_counter() - start, os.times()
    return wall, after.children_user + after.children_system - before.children_user - before.children_system


if __name__ == "__main__":
    main()
