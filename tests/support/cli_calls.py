"""Calling the command line, in this process or from the shell."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from recon.cli import main

FIRST, SECOND, EMPTY = "2026-11-01T00:00Z", "2026-11-01T01:00Z", "2026-11-01T09:00Z"
COMMANDS = [
    *(
        "demo",
        "init",
        "generate",
        "land",
        "unland",
        "close",
        "correct",
        "run",
        "replay",
        "repair",
        "verify",
        "head",
        "rebuild",
        "compact",
        "copy",
    ),
    *("status", "certificate", "report", "show", "breaks", "rejects", "duplicates", "export", "transform", "serve", "doctor"),
]
GROUPS = {
    "index": ["update", "rebuild", "status", "size"],
    "source": ["list", "try", "reconvert"],
    "files": ["list", "show", "retry", "discard"],
    "dlq": ["list", "show", "edit", "redrive", "discard", "resend"],
    "aggregation": ["list", "why", "run", "replay", "files", "sync"],
    "requests": ["work", "list", "show", "cancel", "redrive", "figures", "forget"],
    "tokens": ["add", "list", "withdraw"],
}
HEADER = "event_id,order_id,event_type,amount,currency,booked_at\n"


@dataclass(frozen=True)
class Answer:
    """What one call said. ``line``: the only line on stderr."""

    status: int
    out: str
    err: str

    @property
    def line(self) -> str:
        assert self.err.endswith("\n")
        assert self.err.count("\n") == 1, self.err
        assert self.err.startswith("recon: ")
        return self.err[len("recon: ") : -1]

    @property
    def json(self) -> Any:
        assert self.err == ""
        return json.loads(self.out)


Call = Callable[..., Answer]


def manifests_and_commits(folder: Path) -> list[Path]:
    return sorted([*folder.glob("data/events/*/manifests/*"), *folder.glob("data/timeline/*")])


def command(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """A command in this process, which has imported everything, as in a folder and with more in the environment."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.delenv("RECON_CONFIG", raising=False)
        for name, value in environment.items():
            patch.setenv(name, value)
        patch.chdir(cwd)
        return subprocess.CompletedProcess(arguments, main(arguments), out.getvalue(), err.getvalue())


_FORKING = """
import json, os, resource, sys
from recon.cli import main
import recon.api, recon.stages.pipeline, duckdb, jobs.in_process, numpy.ma, pandas, pyarrow.compute, rich.table, sqlglot
for number, (arguments, limit) in enumerate(json.loads(sys.argv[2])):
    if (child := os.fork()) == 0:
        for stream, name in (1, "out"), (2, "err"):
            os.dup2(os.open(f"{sys.argv[1]}/{number}.{name}", os.O_CREAT | os.O_WRONLY, 0o600), stream)
        if limit:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        status = main(arguments)
        sys.stdout.flush()
        os._exit(status)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def forked(*commands: str, by: Sequence[str] = (), limits: Sequence[int] = ()) -> list[subprocess.CompletedProcess[str]]:
    """Commands one after the other, each in a process forked from one that has imported everything.

    ``by``: what starts that one. ``limits``: how many bytes a file may have that a command writes, one for each command."""
    asked = [(one.split(), limit) for one, limit in zip(commands, limits or [0] * len(commands), strict=True)]
    with tempfile.TemporaryDirectory() as folder:
        command = [*by, sys.executable, "-c", _FORKING, folder, json.dumps(asked)]
        statuses = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        said = [[Path(folder, f"{number}.{name}").read_text() for name in ("out", "err")] for number in range(len(commands))]
    return [subprocess.CompletedProcess(one, int(status), *texts) for one, status, texts in zip(commands, statuses, said, strict=True)]


def shell(*arguments: str | bytes, cwd: Path, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "recon.cli", *arguments], cwd=cwd, capture_output=True, text=True, check=False, **options)


def findings(recon: Call, *arguments: str) -> dict[str, dict[str, object]]:
    return {one["name"]: one for one in recon("doctor", "--json", *arguments).json["findings"]}
