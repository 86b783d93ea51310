"""What a reconciliation answers: artifacts, breaks, rejects, duplicates, certificates, status. It changes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from recon.config import Config, Place, load_config, load_place
from recon.errors import WrongUsage
from recon.model.moments import Upto, upto
from recon.model.windows import name_of
from recon.state.timeline import State, Timeline
from recon.storage.open import open_for
from recon.storage.port import ObjectStore

if TYPE_CHECKING:
    import pyarrow as pa

    from recon.reading.breaks import Chosen, Scope
    from recon.reading.caveats import Caveat
    from recon.reading.day import DayReport
    from recon.reading.scans.scan import Kind, Scan
    from recon.reading.served import Known
    from recon.reading.show import Lookup
    from recon.serving.dynamodb import TableClient


class Answers:
    """One reconciliation: its configuration, its store and its timeline. The rules are read when they are first needed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._store: ObjectStore | None = None
        self._timeline: Timeline | None = None

    @cached_property
    def config(self) -> Config:
        """The configuration, with the rules."""
        return load_config(self._path)

    @cached_property
    def place(self) -> Place:
        """The part of the configuration that names the store, the keys and the windows."""
        return vars(self).get("config") or load_place(self._path)

    def store(self, create: bool = False) -> ObjectStore:
        """The store. Raises WrongUsage if there is none yet, unless ``create``."""
        if self._store is None:
            self._store = open_for(self.place, create)
        return self._store

    def state(self, known_at: str | None = None) -> State:
        """The newest state, or the state that readers saw at a time (with zone)."""
        if known_at is None:
            return self._read_timeline().head()
        from recon.reading.moments import state_known_at

        return state_known_at(self._read_timeline(), self.config, known_at)

    def _read_timeline(self) -> Timeline:
        """The timeline, which remembers the entries that it has read."""
        if self._timeline is None:
            self._timeline = Timeline(self.store())
        return self._timeline

    def show(
        self,
        *key: str,
        as_of: str | None = None,
        through: str | None = None,
        known_at: str | None = None,
        events: bool = False,
        index: str = "runs",
    ) -> dict[str, Any]:
        """One artifact; several ``key`` values for a key of several columns. Raises WrongInput if the key is unknown.

        ``as_of``: a time with zone; the windows that ended by then count. ``through``: a window; it and all earlier windows count.
        ``known_at``: a time with zone; known then. ``index``: ``dynamodb`` asks the index table; ``served_by`` says what answered."""
        from recon.reading.show import Lookup

        lookup = Lookup(self.store(), self.place, self._rules, key, self._upto(as_of, through), events)
        if index != "runs":
            shown = self._show_served(lookup, known_at, index)
        else:
            shown = lookup.now(self.state()) if known_at is None else lookup.then(self.state(known_at), self.state())
        if events:
            from recon.intake.corrections import explain

            explain(self.store(), self.config, shown)
        return shown

    def _show_served(self, lookup: Lookup, known_at: str | None, index: str) -> dict[str, Any]:
        from recon.reading.served import refuse_served, show_served

        refuse_served(self.place, index, known_at)
        shown = show_served(lookup, self._read_timeline(), lambda: self._tables, self._known)
        if shown["served_by"] != "dynamodb":
            vars(self).pop("_tables", None)  # the next look-up opens a new client, with the credentials of then
        return shown

    @cached_property
    def _known(self) -> Known:
        from recon.reading.served import Known

        return Known()

    @cached_property
    def _tables(self) -> TableClient:
        """The client for look-ups. Its requests are counted together with the store's."""
        from recon.serving.dynamodb import open_client
        from recon.storage.cache import meter_of

        return open_client(1, tries=3, meter=meter_of(self.store()))

    def artifacts(self, as_of: str | None = None, known_at: str | None = None, through: str | None = None) -> pa.Table:
        """All artifacts: key, status, measures, derived, windows, first_window, last_window; in order of key. See ``show``."""
        from recon.reading.artifacts import artifacts

        state = self.state(known_at)
        return artifacts(self.store(), self._rules(state), state, self._last(as_of, through), then=known_at is not None)

    def artifacts_of(self, *windows: str) -> pa.Table:
        """The artifacts, as they are now, that these windows touch, at the cost of these alone; see ``artifacts``."""
        from recon.reading.changes import of_windows

        state, starts = self.state(), [self.place.grid.parse(window) for window in windows]
        return of_windows(self.store(), self._rules(state), state, [name_of(start) for start in starts])

    def changed_in(self, commit: int) -> pa.Table:
        """The artifacts that a commit wrote, as it wrote them, at the cost of these alone; see ``artifacts``."""
        from recon.reading.changes import of_commit

        timeline = self._read_timeline()
        rules = self._rules(timeline.at(min(max(commit, 1), timeline.head().commit)))
        return of_commit(self.store(), rules, timeline, commit)

    def scan(
        self,
        kind: Kind = "artifacts",
        *,
        columns: Sequence[str] | None = None,
        keys: Sequence[str | Sequence[str]] | None = None,
        key_range: tuple[str | None, str | None] | None = None,
        windows: tuple[str, str] | None = None,
        commit: int | None = None,
    ) -> Scan:
        """A lazy table of ``artifacts``, ``events``, ``rejects`` or ``certificates`` at one commit, the newest by default, in memory that
        does not grow with it; DuckDB, Polars and pandas take it. Only the bytes of the columns, keys and windows that are asked for are
        read, as far as the files allow; see docs/embedding.md.

        ``keys``: some keys; of a key of several columns, a list of values each. ``key_range``: the first and the last text of keys, None
        for an open end. ``windows``: the first and the last window; of artifacts, those that the windows touch."""
        from recon.config.key import key_asked
        from recon.reading.scans.scan import Scan, checked
        from recon.reading.scans.selection import Selection, Site

        state = self.state() if commit is None else self._read_timeline().at(self._existing(commit))
        rules = self._rules(state)
        asked = None if keys is None else tuple(key_asked(rules, (key,) if isinstance(key, str) else key) for key in keys)
        span = None if windows is None else tuple(name_of(self.place.grid.parse(window)) for window in windows)
        chosen = Selection(None if columns is None else tuple(columns), asked, key_range, cast("tuple[str, str] | None", span))
        return checked(Scan(kind, Site(self.store(), rules, state), chosen))

    def _existing(self, commit: int) -> int:
        """The number of a commit. Raises WrongUsage where there is no such commit."""
        newest = self._read_timeline().head().commit
        if not 1 <= commit <= newest:
            raise WrongUsage(f"there is no commit {commit}; the newest is {newest}")
        return commit

    def export(self, file: str | Path, as_of: str | None = None, known_at: str | None = None, through: str | None = None) -> int:
        """Writes all artifacts to a file; csv, jsonl, parquet or xlsx by its suffix. Returns the rows."""
        from recon.reading.artifacts import export

        state = self.state(known_at)
        return export(self.store(), self._rules(state), state, Path(file), self._last(as_of, through), then=known_at is not None)

    def caveats(self) -> list[Caveat]:
        """What restricts the answers: what is missing, unreadable, in conflict or not done yet; see recon.reading.caveats."""
        from recon.reading.caveats import caveats

        return caveats(self.store(), self.config, self.state())

    def breaks(self, chosen: Chosen | None = None, **moment: str | None) -> pa.Table:
        """Artifacts that are not matched; see recon.reading.breaks. ``moment``: ``as_of``, ``through``, ``known_at`` as in ``show``."""
        from recon.reading.breaks import Chosen, breaks

        return breaks(self._scope(**moment), chosen or Chosen())

    def breaks_summary(self, chosen: Chosen | None = None, **moment: str | None) -> list[dict[str, Any]]:
        """The number of breaks and their sums, by status and age; see ``breaks`` and recon.reading.breaks.summary."""
        from recon.reading.breaks import Chosen, summary

        return summary(self._scope(**moment), chosen or Chosen())

    def breaks_and_summary(self, chosen: Chosen, **moment: str | None) -> tuple[pa.Table, list[dict[str, Any]]]:
        """As ``breaks`` and ``breaks_summary``, read once; a limit shortens the breaks, never the sums."""
        from recon.reading.breaks import breaks_and_summary

        return breaks_and_summary(self._scope(**moment), chosen)

    def export_breaks(self, file: str | Path, chosen: Chosen | None = None, **moment: str | None) -> int:
        """Writes the breaks to a file; see ``breaks``. Returns the number of rows."""
        from recon.reading.breaks import Chosen, export_breaks

        return export_breaks(self._scope(**moment), chosen or Chosen(), Path(file))

    def _scope(self, as_of: str | None = None, through: str | None = None, known_at: str | None = None) -> Scope:
        """The state that breaks are read from, and the time at which their ages end."""
        from recon.reading.breaks import scope_of
        from recon.reading.moments import instant_of

        state, known = self.state(known_at), None if known_at is None else instant_of(self._read_timeline(), known_at)
        return scope_of(self.store(), self._rules(state), state, self._upto(as_of, through), known)

    def rejects(self, window: str | None = None) -> pa.Table:
        """Rejected rows of one window or of all: window, file, line, reason, raw; in that order."""
        from recon.reading.rejects import rejects

        start = None if window is None else self.config.grid.parse(window)
        return rejects(self.store(), self.config, self.state(), start)

    def duplicates(self, window: str | None = None) -> pa.Table:
        """Suppressed rows of one window or of all, each with the row that counts; conflicts first. Columns: recon.reading.duplicates."""
        from recon.reading.duplicates import duplicates

        start = None if window is None else self.config.grid.parse(window)
        return duplicates(self.store(), self.config, self.state(), start)

    def certificate(self, window: str) -> dict[str, Any] | None:
        """The newest certificate of a window, None if there is none yet."""
        from recon.state.certificates import read_certificate

        return read_certificate(self.store(), self.config.grid.parse(window))

    def status(self, window: str | None = None, figures_of: int | None = None) -> dict[str, Any]:
        """Windows, stages, backlog and watermark, with rows of the newest ``figures_of`` windows (default: all); or one window."""
        from recon.reading.status import status, window_status

        if window is None:
            return status(self.store(), self.config, self.state(), figures_of)
        return window_status(self.store(), self.config, self.state(), self.config.grid.parse(window))

    def report(self, day: str) -> DayReport:
        """The report of a business day, ``2026-11-01``: its windows with their certificates, and the breaks at its end."""
        from recon.reading.day import day_report

        state = self.state()
        return day_report(self.store(), self.config, self._rules(state), state, day)

    def _rules(self, state: State) -> Config:
        """The rules by which a state was made: the current rules, or those that the store kept."""
        from recon.state.kept_rules import rules_of

        return rules_of(self.store(), self.config, state.rules)

    def _upto(self, as_of: str | None, through: str | None) -> Upto | None:
        return upto(self.place.grid, as_of, through, datetime.now(UTC))

    def _last(self, as_of: str | None, through: str | None) -> datetime | None:
        return None if (found := self._upto(as_of, through)) is None else found.last
