"""README.md shows what its commands print: they are run here in their order, and compared except for times and ages."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from cli_calls import command
from folders import ROOT

from recon.reading.breaks import AGES

EXAMPLE = (ROOT / "README.md").read_text(encoding="utf-8").partition("## An example")[2].partition("From Python:")[0]
AGE = "|".join(label for _, label in AGES)
CALLS = re.findall(r"^\$ (.*)\n((?:(?!\$ |```).*\n)*)", EXAMPLE, re.MULTILINE)


def comparable(text: str) -> list[str]:
    """Lines without seconds, the time of a certificate, the age of a break, the column widths that depend on it, and the bytes of records,
    which have hashes with a random salt."""
    text = re.sub(r"^seconds: .*$|; \d{4}-.*$|(?<=written) \([\d,]+ bytes\)", "", text, flags=re.MULTILINE)
    text = re.sub(rf"{AGE}|(?<=Z) +\d+$", "", text, flags=re.MULTILINE)
    return [" ".join(line.strip("─").split()) for line in text.strip().splitlines()]


def test_the_example_prints_what_the_readme_shows(tmp_path: Path) -> None:
    folder = tmp_path
    assert len(CALLS) >= 8
    for call, shown in CALLS:
        program, *arguments = shlex.split(call)
        if program == "cd":
            folder /= arguments[0]
        elif program == "sed":
            (_, old, new, _), file, _, out = arguments[0].split("/"), *arguments[1:]
            (folder / out).write_text((folder / file).read_text().replace(old, new))
        else:
            done = command(*arguments, cwd=folder)
            assert (done.returncode, done.stderr) == (0, ""), call
            assert comparable(done.stdout) == comparable(shown), call
