"""What the intake works with: configuration, store, database and sources; and the bytes of a received file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from recon.config.model import Config
from recon.config.secrets import ReadSecret, boto3_secret
from recon.database import Database, open_database
from recon.errors import WrongInput, WrongUsage
from recon.intake.converters.port import Received
from recon.intake.queues.opening import open_records
from recon.intake.queues.port import RecordStore
from recon.intake.sources.folder import has_sources
from recon.intake.sources.inbox import Inbox, locations, open_inbox
from recon.intake.sources.load import BREAKS, Loaded, Source, load_sources
from recon.intake.sources.results import ReadResults, Results, ResultsInbox, waiting
from recon.intake.sources.tracking import Tracked, Tracking
from recon.storage import layout
from recon.storage.open import open_for
from recon.storage.port import ObjectStore
from recon.storage.scratch import local_copy


@dataclass(frozen=True)
class Intake:
    """``run``: the id of the run that works, for the trace of a file. ``read_results``: reads the breaks, for sources of breaks. All else
    is opened when it is first needed: trying a source makes neither store nor database, and what became of a file can be read though a
    source has a mistake."""

    config: Config
    run: str
    read_secret: ReadSecret = boto3_secret
    read_results: ReadResults | None = None

    @cached_property
    def store(self) -> ObjectStore:
        """The store; made where there is none, as a landing does."""
        return open_for(self.config, create=True, read_secret=self.read_secret)

    @cached_property
    def database(self) -> Database:
        """The database; its tables are made where there are none."""
        return open_database(self.config, self.read_secret)

    @cached_property
    def _loaded(self) -> Loaded:
        return load_sources(self.config)

    @property
    def sources(self) -> Mapping[str, Source]:
        """The sources by name, without those that have a mistake."""
        return self._loaded.sources

    @property
    def broken(self) -> Mapping[str, WrongUsage]:
        """The sources that have a mistake, by name: what is wrong, with file, line and field. A file that no other source matches may be
        theirs, and any window may wait for a file of theirs."""
        return self._loaded.broken

    def source(self, name: str, shown: str = "") -> Source:
        """A source by name; ``shown``: how the user wrote it. Raises WrongUsage where it does not exist, or says what is wrong with it."""
        if name in self.broken:
            raise self.broken[name]
        if name not in self.sources:
            raise WrongUsage(f"{shown or name}: no such source; there are {', '.join(self.sources) or 'none'}")
        return self.sources[name]

    @property
    def inboxes(self) -> list[str]:
        """The distinct inboxes of the sources."""
        return locations([source.section.inbox for source in self.sources.values()], self.config.path.parent)

    def inbox(self, location: str) -> Inbox:
        """Opens an inbox: of a source of breaks, or as recon.intake.sources.inbox.open_inbox."""
        if location.startswith(BREAKS):
            return ResultsInbox(self.source(location.removeprefix(BREAKS)), self._results())
        return open_inbox(self.config, location)

    def waiting(self, source: Source) -> dict[str, str]:
        """First window of a business day → why its breaks are not final yet; empty for a source of received files."""
        return {} if source.breaks is None else waiting(source, self._results())

    def _results(self) -> Results:
        """The breaks as the newest state has them."""
        assert self.read_results is not None, "who opens the intake of sources hands in how breaks are read"
        return self.read_results(self.store, self.config)

    @cached_property
    def records(self) -> RecordStore:
        """What became of the records of sources that name a function: in the database, or in DynamoDB."""
        return open_records(self.config, self.read_secret)

    @cached_property
    def tracking(self) -> Tracking:
        return Tracking(self.database, self.config.name)


def take_back(config: Config, window: str, landed_as: str, reason: str) -> None:
    """Tracks that a file was taken out of its window, where the site has sources."""
    if has_sources(config):
        Tracking(open_database(config), config.name).take_back(window, landed_as, reason)


def of_file(intake: Intake, file: Tracked) -> Source:
    """The source of a received file. Raises WrongInput where it is gone, WrongUsage where it has a mistake."""
    if file.source not in intake.sources and file.source not in intake.broken:
        raise WrongInput(f"{file.shown}: its source {file.source!r} is gone; restore sources/{file.source}.yaml")
    return intake.source(file.source)


def received_file(intake: Intake, file: Tracked, folder: Path) -> Received:
    """The bytes of a file as received, as a local file. Raises WrongInput where they are gone."""
    return Received(file.name, local_copy(intake.store, kept(intake.store, file.digest), folder), file.parent)


def kept(store: ObjectStore, digest: str) -> str:
    """The path of kept bytes. Raises WrongInput where they are gone."""
    found = next(iter(store.list(layout.received(digest))), None)
    if found is None:
        raise WrongInput(f"received bytes {digest[:16]} are gone from the store; restore them from a copy, or deliver the file again")
    return found
