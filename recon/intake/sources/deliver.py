"""Receives and processes the files of an inbox, and closes the windows that are complete then."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from recon.errors import ReconError, WrongInput, WrongUsage
from recon.intake.sources.arrivals import Arrival, arrivals, complete
from recon.intake.sources.closing import close_if_complete
from recon.intake.sources.inbox import Inbox, Item, QueueInbox, open_inbox
from recon.intake.sources.load import FOLDER, refuse_missing_columns
from recon.intake.sources.process import process
from recon.intake.sources.receive import fresh, is_wanted, receive
from recon.intake.sources.site import Intake
from recon.intake.sources.tracking import OPEN, Tracked
from recon.model.progress import Progress, silent
from recon.model.windows import name_of


@dataclass
class Delivered:
    """What became of a delivery. ``again``: files received before. ``unknown``: names that no source matches. ``closed``: windows closed
    since their expected files are there. ``open``: window → what is missing. ``failed``: (name, reason) of what may be tried again."""

    files: list[Tracked] = field(default_factory=list)
    again: list[Tracked] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)
    open: dict[str, list[Arrival]] = field(default_factory=dict)
    failed: list[tuple[str, str]] = field(default_factory=list)

    def __add__(self, other: Delivered) -> Delivered:
        """Both deliveries together."""
        return Delivered(
            self.files + other.files,
            self.again + other.again,
            self.unknown + other.unknown,
            self.closed + other.closed,
            self.open | other.open,
            self.failed + other.failed,
        )


def deliver(intake: Intake, location: str, progress: Progress = silent) -> Delivered:
    """Takes every new or changed file of an inbox to its window. ``location``: see recon.intake.sources.inbox.open_inbox.

    Raises WrongUsage where the folder or the sources are missing, or a source lacks a column that the rules use."""
    inbox, found = open_inbox(intake.config, location), Delivered()
    _refuse_no_sources(intake)
    while items := inbox.items():
        _receive(intake, inbox, items, found, progress)
        if not isinstance(inbox, QueueInbox):
            break
    process_open(intake, found, progress)
    return found


def _receive(intake: Intake, inbox: Inbox, items: Sequence[Item], found: Delivered, progress: Progress) -> None:
    new = fresh(intake, items)
    for item in items:
        if not is_wanted(intake, item.name):
            found.unknown.append(item.name)
            inbox.received(item)
    for number, item in enumerate(new):
        progress("receive", item.name, number / len(new))
        try:
            receipts, unknown = receive(intake, inbox, item)
        except ReconError as error:
            found.failed.append((item.name, str(error)))
            continue
        found.unknown += unknown
        found.again += [receipt.file for receipt in receipts if not receipt.new and receipt.file.state not in OPEN]


def process_open(intake: Intake, found: Delivered, progress: Progress = silent) -> None:
    """Processes every file that is not done yet, those of earlier deliveries too, and closes the windows that are complete then."""
    todo = intake.tracking.files(state=OPEN)
    for number, file in enumerate(todo):
        progress("convert", file.shown, number / len(todo))
        try:
            found.files.append(process(intake, file))
        except ReconError as error:
            found.failed.append((file.shown, str(error)))
            continue
        source = intake.sources.get(file.source)
        if found.files[-1].state == "rejected" and source is not None and source.section.rejects == "stop":
            reason = f"source {source.name} stops at a file with a rejected row: {found.files[-1].reason}"
            raise WrongInput(f"{reason}; 'recon files retry {file.id}' takes it up again")
    of_batches = (file for file in found.files if not (file.source in intake.sources and intake.sources[file.source].section.reference))
    close_complete(intake, found, {file.window for file in of_batches if file.window is not None})


def close_complete(intake: Intake, found: Delivered, windows: Iterable[str]) -> None:
    """Closes those of the windows whose expected files have all landed, and notes what is missing in the others."""
    for name in sorted(set(windows)):
        window = intake.config.grid.parse(name)
        expected = arrivals(intake.config.grid, intake.sources, window, intake.tracking.files(window=name))
        if not complete(expected):
            found.open[name] = [arrival for arrival in expected if arrival.file is None]
        elif close_if_complete(intake, window):
            found.closed.append(name_of(window))


def _refuse_no_sources(intake: Intake) -> None:
    if not intake.sources:
        folder = intake.config.path.parent / FOLDER
        raise WrongUsage(f"{folder}: no source feeds {intake.config.name}; describe one in {FOLDER}/NAME.yaml, see docs/intake.md")
    for source in intake.sources.values():
        refuse_missing_columns(source, intake.config)
