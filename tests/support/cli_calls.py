"""Calling the command line, in this process or from the shell."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable
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
    *("status", "certificate", "show", "breaks", "rejects", "duplicates", "export", "doctor"),
]
GROUPS = {"index": ["update", "rebuild", "status"]}
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


def shell(*arguments: str | bytes, cwd: Path, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "recon.cli", *arguments], cwd=cwd, capture_output=True, text=True, check=False, **options)


def findings(recon: Call, *arguments: str) -> dict[str, dict[str, object]]:
    return {one["name"]: one for one in recon("doctor", "--json", *arguments).json["findings"]}
