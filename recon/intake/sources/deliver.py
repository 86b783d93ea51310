"""Receives and processes the files of an inbox, and closes the windows that are complete then."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, fields
from typing import Any

from recon.errors import ReconError, WrongUsage
from recon.intake.sources.arrivals import Arrival, arrivals, complete
from recon.intake.sources.closing import close_if_complete
from recon.intake.sources.folder import FOLDER
from recon.intake.sources.inbox import Inbox, Item, QueueInbox, StillChanging
from recon.intake.sources.load import BREAKS
from recon.intake.sources.process import process
from recon.intake.sources.quiet import without_changing
from recon.intake.sources.receive import fresh, is_wanted, receive
from recon.intake.sources.site import Intake
from recon.intake.sources.standing import Standing, files_from, in_order, is_stopped, standing_of, stopped
from recon.intake.sources.tracking import OPEN, Tracked
from recon.intake.sources.used import reported
from recon.model.progress import Progress, silent
from recon.model.windows import name_of


@dataclass
class Delivered:
    """What became of a delivery. ``again``: files received before. ``rejected``: files of the inbox that were rejected earlier and have not
    changed since. ``unknown``: names that no source matches. ``closed``: windows closed since their expected files are there. ``open``:
    window → what is missing. ``failed``: (name, reason) of what may be tried again. ``changing``: (name, reason) of files that are still
    being written, which the next delivery takes. ``stopped``: source → the rejected file that stops it.
    ``broken``: sources with a mistake, which took no file."""

    files: list[Tracked] = field(default_factory=list)
    again: list[Tracked] = field(default_factory=list)
    rejected: list[Tracked] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)
    open: dict[str, list[Arrival]] = field(default_factory=dict)
    failed: list[tuple[str, str]] = field(default_factory=list)
    changing: list[tuple[str, str]] = field(default_factory=list)
    stopped: dict[str, Tracked] = field(default_factory=dict)
    broken: Mapping[str, WrongUsage] = field(default_factory=dict)

    def __add__(self, other: Delivered) -> Delivered:
        """Both deliveries together."""

        def joined(name: str) -> Any:
            mine, others = getattr(self, name), getattr(other, name)
            return mine + others if isinstance(mine, list) else {**mine, **others}

        return Delivered(**{each.name: joined(each.name) for each in fields(self)})

    @property
    def waiting(self) -> list[Tracked]:
        """Files whose records are in progress, on AWS or in another process."""
        return [file for file in self.files if file.state in OPEN]

    @property
    def not_landed(self) -> list[Tracked]:
        """The rejected files of the inbox, each once: those of this delivery, and those that were rejected earlier."""
        each = (*self.files, *self.again, *self.rejected, *self.stopped.values())
        return list({file.id: file for file in each if file.state == "rejected"}.values())


def deliver(intake: Intake, location: str, progress: Progress = silent) -> Delivered:
    """Takes every new or changed file of an inbox to its window. ``location``: see recon.intake.sources.site.Intake.inbox.

    A source with a mistake takes no file; the others do. Raises WrongUsage where the folder is missing, or no source is left."""
    found = Delivered()
    with reported(intake, location, found.files, found.failed) as delivery:
        inbox = intake.inbox(location)
        _refuse_no_sources(intake)
        unchanged: list[Item] = []
        while items := inbox.items():
            items, changing = without_changing(intake, inbox, items)
            found.changing += changing
            unchanged += _receive(intake, inbox, items, found, progress)
            if not isinstance(inbox, QueueInbox):
                break
            delivery.items += items
        standing = standing_of(intake)
        _process_all(intake, standing, in_order(intake, standing), found, progress)
        if unchanged and (rejected := intake.tracking.uncorrected()):
            found.rejected = files_from(unchanged, rejected, intake.tracking.digests())
    return found


def deliver_breaks(intake: Intake, progress: Progress = silent) -> Delivered:
    """Makes the files of breaks of all days whose breaks are final, and takes them as ``deliver`` takes received ones."""
    found = Delivered()
    for location in intake.inboxes:
        if location.startswith(BREAKS):
            found = found + deliver(intake, location, progress)
    return found


def _receive(intake: Intake, inbox: Inbox, items: Sequence[Item], found: Delivered, progress: Progress) -> list[Item]:
    """Receives what is new. Returns the other files of sources and archives, which have not changed since they were received."""
    new = fresh(intake, items)
    wanted = [item for item in items if is_wanted(intake, item)]
    for item in items:
        if item not in wanted:
            found.unknown.append(item.name)
            if not intake.broken:  # else it may be for a source with a mistake, and comes again
                inbox.received(item)
    for number, item in enumerate(new):
        progress("receive", item.name, number / len(new))
        try:
            receipts, unknown = receive(intake, inbox, item)
        except StillChanging as error:
            found.changing.append((item.name, str(error)))
            continue
        except ReconError as error:
            found.failed.append((item.name, str(error)))
            continue
        found.unknown += unknown
        found.again += [receipt.file for receipt in receipts if not receipt.new and receipt.file.state not in OPEN]
    return [item for item in wanted if item not in new]


def process_open(intake: Intake, found: Delivered, progress: Progress = silent) -> None:
    """Processes every file that is not done yet, those of earlier deliveries too, and closes the windows that are complete then.

    A source with ``rejects: stop`` takes no file while one of its files is rejected, but the file that corrects it. Files of a source with
    a mistake stay as they are."""
    standing = standing_of(intake)
    todo = in_order(intake, standing)
    with reported(intake, None, found.files, found.failed) if todo else nullcontext():  # most looks find nothing to do
        _process_all(intake, standing, todo, found, progress)


def _process_all(intake: Intake, standing: Standing, todo: Sequence[Tracked], found: Delivered, progress: Progress) -> None:
    for number, file in enumerate(todo):
        progress("convert", file.shown, number / len(todo))
        if file.source in intake.broken:
            found.failed.append((file.shown, f"it waits for its source: {intake.broken[file.source]}"))
        elif not is_stopped(intake, standing, file):
            _process(intake, file, found, standing)
    found.broken, found.stopped = intake.broken, stopped(intake, standing)
    of_batches = (file for file in found.files if not (file.source in intake.sources and intake.sources[file.source].section.reference))
    close_complete(intake, found, {file.window for file in of_batches if file.window is not None})


def _process(intake: Intake, file: Tracked, found: Delivered, standing: Standing) -> None:
    try:
        done = process(intake, file)
    except ReconError as error:
        found.failed.append((file.shown, str(error)))
        return
    found.files.append(done)
    standing.changed(done)


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
    if intake.sources:
        return
    for error in intake.broken.values():
        raise error
    folder = intake.config.path.parent / FOLDER
    raise WrongUsage(f"{folder}: no source feeds {intake.config.name}; describe one in {FOLDER}/NAME.yaml, see docs/intake.md")
