"""How long the command line takes to answer from the shell: each command 10 times, in turn, and the medians.

    python benchmarks/startup.py [--times 10] [--out FILE.json]

Each command is a process of its own, over the sample of ``recon init``, landed and run. In turn, so that a busy moment of the machine is
shared by all of them.
"""

from __future__ import annotations

import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from command_line import options, write_figures

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
FIRST_RUN = "recon run, first windows of a folder"


def main() -> None:
    given = options(__doc__, times=10)
    with tempfile.TemporaryDirectory() as place:
        folder, landed = Path(place) / "orders", Path(place) / "landed"
        for step in write_sample(folder):
            if step.action == "run" and not landed.exists():
                shutil.copytree(folder, landed)
            arguments = ["run"] if step.action == "run" else ["land", *step.files, "--window", step.window, "--close"]
            _call(("-m", "recon.cli", *arguments), folder)
        taken: dict[str, list[tuple[float, float]]] = {name: [] for name in [*COMMANDS, FIRST_RUN]}
        for number in range(given.times):
            fresh = shutil.copytree(landed, Path(place) / f"landed{number}")
            taken[FIRST_RUN].append(_call(("-m", "recon.cli", "run"), fresh))
            for name, arguments in COMMANDS.items():
                taken[name].append(_call(arguments, folder))
    medians = {name: [round(statistics.median(column), 3) for column in zip(*each, strict=True)] for name, each in taken.items()}
    print(f"{'median of ' + str(given.times):<38} wall s   CPU s")
    for name, (wall, cpu) in medians.items():
        print(f"{name:<38} {wall:>6.2f} {cpu:>7.2f}")
    machine = {"cores": os.cpu_count(), "python": platform.python_version(), "times": given.times}
    figures = {name: {"wall_s": wall, "cpu_s": cpu} for name, (wall, cpu) in medians.items()}
    write_figures(given.out, {**machine, "commands": figures})


def _call(arguments: tuple[str, ...], folder: Path) -> tuple[float, float]:
    """Wall and CPU seconds of one process."""
    before, start = os.times(), time.perf_counter()
    subprocess.run([sys.executable, *arguments], cwd=folder, stdout=subprocess.DEVNULL, check=True)
    wall, after = time.perf_counter() - start, os.times()
    return wall, after.children_user + after.children_system - before.children_user - before.children_system


if __name__ == "__main__":
    main()
