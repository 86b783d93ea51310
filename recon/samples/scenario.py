"""The story of ``recon demo``, with orders and payments, and the smaller sample of ``recon init``; their files are in this folder.

Three entities sell in two currencies. Every hour the ERP delivers invoices as CSV, and the payment provider delivers payments, fees and
refunds as JSON lines. Then a file comes late, a file is delivered twice, amounts are unreadable or mistyped, and the provider sends a
correction.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Literal

from recon.errors import WrongUsage

WINDOWS = tuple(f"2026-11-01T{hour:02d}:00Z" for hour in range(5))


@dataclass(frozen=True)
class Step:
    """A step: ``land`` files and close their window, ``replace`` the landed file ``old``, or ``run``.

    ``window`` and ``files`` (paths below the folder) are empty for a run. ``text``: explains to the user what happens and why. ``look_at``:
    keys to show afterwards."""

    action: Literal["land", "replace", "run"]
    text: str
    window: str = ""
    files: tuple[str, ...] = ()
    old: str = ""
    look_at: tuple[str, ...] = ()

    @property
    def command(self) -> str:
        """The command that carries the step out, in the folder."""
        if self.action == "run":
            return "recon run"
        how = f"--replace {self.old}" if self.old else "--close"
        return f"recon land {shlex.join(self.files)} --window {self.window} {how}"


STORY = (
    Step(
        "land",
        "The first hour: eleven invoices from the ERP, and what the payment provider took in for them.",
        WINDOWS[0],
        ("events/erp-0000.csv", "events/psp-0000.jsonl"),
    ),
    Step(
        "land",
        "The second hour, complete as well.",
        WINDOWS[1],
        ("events/erp-0100.csv", "events/psp-0100.jsonl"),
    ),
    Step(
        "run",
        "21 orders, 13 of them MATCHED. US-48211 was paid less a fee that the provider reports: it matches. "
        "US-48212 is short by less than 3 % and no fee is reported: FEE_SHORT. US-48214 was paid twice: OVERPAID. "
        "UK-20424 is PART_PAID.",
        look_at=("US-48211", "US-48212", "US-48214"),
    ),
    Step(
        "land",
        "The files of 02:00 do not come, those of 03:00 do. Nobody waits. The provider writes one amount as 49,90, where 49.90 is meant.",
        WINDOWS[3],
        ("events/erp-0300.csv", "events/psp-0300.jsonl"),
    ),
    Step(
        "land",
        "04:00. By mistake the provider delivers its twelve events of 01:00 once more, and the ERP bills an amount of TBC.",
        WINDOWS[4],
        ("events/erp-0400.csv", "events/psp-0400.jsonl"),
    ),
    Step(
        "run",
        "The twelve events that came twice count once. Both unreadable amounts are rejected and kept with file, "
        "line and reason; DE-77123 looks UNPAID for now. US-48224 and three more are OVERPAID, since they were paid"
        " and their invoices lie in the hour that is missing: the watermark stays at 01:00. US-48214 has its refund"
        " and is MATCHED.",
        look_at=("US-48224", "DE-77123", "US-48214"),
    ),
    Step(
        "land",
        "Now the files of 02:00 arrive, two hours late.",
        WINDOWS[2],
        ("events/erp-0200.csv", "events/psp-0200.jsonl"),
    ),
    Step(
        "run",
        "As if they had come in time: US-48224 and the three others are MATCHED, and the watermark moves on to 04:00.",
        look_at=("US-48224",),
    ),
    Step(
        "replace",
        "The provider corrects its file of 03:00: the payment of 49.90 can be read, and DE-77126 paid 845.00, not 84.50.",
        WINDOWS[3],
        ("events/psp-0300-corrected.jsonl",),
        old="psp-0300.jsonl",
    ),
    Step(
        "run",
        "Exactly the difference changes: DE-77123 and DE-77126 are MATCHED, every other order is as it was. 47 "
        "orders, 36 of them MATCHED; the other eleven are the breaks to work on, and one invoice is still rejected.",
        look_at=("DE-77126", "DE-77123"),
    ),
)

START = (
    Step(
        "land",
        "Four invoices and a first payment.",
        WINDOWS[0],
        ("events/orders-0000.csv",),
    ),
    Step(
        "land",
        "Three payments, an hour later.",
        WINDOWS[1],
        ("events/payments-0100.jsonl",),
    ),
    Step(
        "run",
        "A112 and B243 are MATCHED, A113 is UNPAID, B242 is a BREAK: paid short by 1.45.",
        look_at=("A112", "B242"),
    ),
)


def write_story(folder: Path) -> tuple[Step, ...]:
    """Writes ``recon.yaml`` and ``events/`` of the story into ``folder``; returns its steps, in order.

    Raises WrongUsage, before anything is written, if a file to write exists with other content.
    """
    _write("story", folder)
    return STORY


def write_sample(folder: Path) -> tuple[Step, ...]:
    """Writes a commented ``recon.yaml`` and two small files of events; returns the steps, in order.

    Raises WrongUsage, before anything is written, if a file to write exists with other content.
    """
    _write("start", folder)
    return START


def _write(sample: str, folder: Path) -> None:
    texts: dict[Path, bytes] = {}
    for file in (resources.files("recon") / "samples" / sample).iterdir():
        place = folder if file.name == "recon.yaml" else folder / "events"
        texts[place / file.name] = file.read_bytes()
    for path, text in texts.items():
        if path.exists() and not (path.is_file() and path.read_bytes() == text):
            raise WrongUsage(f"{path}: there is another file of that name; name a new folder")
    for path, text in texts.items():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text)
        except OSError as reason:
            raise WrongUsage(f"{path}: can't be written, {reason.strerror}; name another folder") from None
