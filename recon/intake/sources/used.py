"""What a delivery read and wrote: the datasets of its lineage."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from recon.intake.sources.load import BREAKS
from recon.intake.sources.tracking import OPEN, Tracked
from recon.storage import layout
from recon.telemetry import lineage
from recon.telemetry.datasets import Dataset, Used, dataset_at, dataset_of

if TYPE_CHECKING:
    from recon.intake.sources.inbox import Item
    from recon.intake.sources.site import Intake

_QUEUE = ("http://", "https://")


class Delivery:
    """A delivery in progress. ``files``: those that it has processed so far. ``failed``: name and reason of others. ``items``: of a queue's
    inbox, which names objects in S3."""

    def __init__(self, intake: Intake, location: str | None, files: list[Tracked], failed: list[tuple[str, str]]) -> None:
        self.intake, self.location, self.files, self.failed = intake, location, files, failed
        self.items: list[Item] = []

    def used(self, done: bool = False) -> lineage.Datasets:
        """Inputs and outputs; with figures once it is done."""
        files = self.files if done else []
        landed = [file for file in files if file.state == "landed"]
        total = _total(files, "rows", done)
        checks = {f"{file.shown} has landed": file.state in ("landed", "superseded") for file in files if file.state not in OPEN}
        checks |= {f"{name} has landed": False for name, _ in (self.failed if done else ())}
        inputs = [Used(place, *(total if number == 0 else (None, None, None)), checks) for number, place in enumerate(self._inputs())]
        outputs = [] if self.location is None else [Used(layout.RECEIVED, *_total(files, "rows", done))]
        batches = [file for file in landed if not _is_reference(file)]
        outputs.append(Used(layout.EVENTS, *_total(batches, "kept", done)[:1], None, len(batches) if done else None))
        if reference := [file for file in landed if _is_reference(file)]:
            outputs.append(Used(layout.REFERENCE, *_total(reference, "kept", done)[:1], None, len(reference)))
        return inputs, outputs

    def _inputs(self) -> list[Dataset]:
        store = self.intake.config.location
        if self.location is None:
            return [dataset_of(store, layout.RECEIVED)]
        if self.location.startswith(BREAKS):
            return [dataset_of(store, layout.STATE)]
        if self.location.startswith(_QUEUE):  # it names objects; their buckets are the datasets
            buckets = dict.fromkeys(item.place.removeprefix("s3://").partition("/")[0] for item in self.items)
            return [dataset_at(f"s3://{bucket}") for bucket in buckets]
        return [dataset_at(self.location if self.location.startswith("s3://") else str(Path(self.location).absolute()))]


@contextmanager
def reported(intake: Intake, location: str | None, files: list[Tracked], failed: list[tuple[str, str]]) -> Iterator[Delivery]:
    """A block that is a delivery, of which lineage is sent. ``location``: of the inbox, None where files that were received earlier are
    processed. ``files``, ``failed``: filled by the block."""
    config = intake.config
    name = f"{config.name}.{'process' if location is None else 'deliver'}"
    delivery = Delivery(intake, location, files, failed)
    run = lineage.JobRun(name, config.location, parent=lineage.parent_of(f"{config.name}.run"))
    with lineage.reported(config.observability.lineage, run, delivery.used) as sent:
        yield delivery
        sent.complete(lambda: delivery.used(done=True))


def _total(files: Sequence[Tracked], column: str, done: bool) -> tuple[int | None, int | None, int | None]:
    """Rows, bytes and number of files."""
    if not done:
        return None, None, None
    return sum(getattr(file, column) or 0 for file in files), sum(file.size for file in files), len(files)


def _is_reference(file: Tracked) -> bool:
    return str(file.landed_path).startswith(layout.REFERENCE)
