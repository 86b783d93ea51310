"""The Python interface: everything that the command line does, for notebooks and other programs.

    import recon
    orders = recon.open("recon.yaml")
    orders.land(["bank.csv"], window="2026-11-01T00:00Z", close=True)
    orders.run()
    orders.show("A112")["status"]
    orders.artifacts().to_pandas()

Tables are Arrow tables. Every method raises the errors of ``recon.errors``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recon.config import Config, Place, load_config, load_place
from recon.errors import WrongUsage
from recon.model.moments import Upto, known_instant, upto
from recon.state.timeline import State, Timeline
from recon.storage.open import open_for
from recon.storage.port import ObjectStore

if TYPE_CHECKING:
    import pyarrow as pa

    from recon.intake import batches
    from recon.intake.manifests import Manifest
    from recon.model.progress import Progress
    from recon.operations.copy.copy import Copied
    from recon.operations.rebuild import Preview, Rebuilt
    from recon.reading.breaks import Asked, Chosen
    from recon.reading.caveats import Caveat
    from recon.reading.served import Known
    from recon.serving.dynamodb import TableClient
    from recon.serving.sync import Synced
    from recon.stages.pipeline import CarryOut
    from recon.stages.report import RunReport
    from recon.state.compaction import Compacted
    from recon.state.sweep import Swept
    from recon.verification.verify import Verified


_LOOKED_AT_MAX = 1_000
"""Windows of a range that are looked at one by one; of a longer one, those in which anything landed are listed."""


def open(path: str | Path = "recon.yaml") -> Reconciliation:
    """The reconciliation that ``path`` (a recon.yaml) describes. Raises WrongUsage naming file and field."""
    opened = Reconciliation(Path(path))
    opened.config  # noqa: B018 - a mistake in the rules is told now, not at the first command that needs them
    return opened


class Reconciliation:
    """One reconciliation: its configuration, its store and its timeline. The rules are read when something first asks for them."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._store: ObjectStore | None = None
        self._timeline: Timeline | None = None

    @cached_property
    def config(self) -> Config:
        """The whole configuration."""
        return load_config(self._path)

    @cached_property
    def place(self) -> Place:
        """Where it lies and how its keys and windows are named."""
        return vars(self).get("config") or load_place(self._path)

    def store(self, create: bool = False) -> ObjectStore:
        """The store. Raises WrongUsage where there is none yet, unless ``create``."""
        if self._store is None:
            self._store = open_for(self.place, create)
        return self._store

    def state(self, known_at: str | None = None) -> State:
        """The newest state, or the one that readers saw at an instant (with zone)."""
        if self._timeline is None:
            self._timeline = Timeline(self.store())
        timeline = self._timeline
        if known_at is None:
            return timeline.head()
        from recon.state.timeline import known_at as state_known_at

        instant, kept = self._known_instant(known_at), self.config.retention.history
        if kept is not None and datetime.now(UTC) - instant > kept:
            raise WrongUsage(
                f"--known-at {known_at}: lies beyond retention.history in {self._path.name}; what was known is kept since "
                f"{datetime.now(UTC) - kept:%Y-%m-%dT%H:%MZ}, certificates for ever"
            )
        return state_known_at(timeline, instant)

    def _known_instant(self, known_at: str) -> datetime:
        """The end of the second, or of the fraction of it, that is written."""
        self._timeline = self._timeline or Timeline(self.store())
        return known_instant(known_at, self._timeline.head().time, datetime.now(UTC))

    def land(
        self,
        files: Sequence[str | Path],
        window: str,
        *,
        close: bool = False,
        replace: str | None = None,
        expect: Mapping[str, Any] | None = None,
        again: bool = False,
    ) -> batches.Landing:
        """Puts files into a window; see recon.intake.batches.land. ``expect``: control totals that each file must come to. ``again``: also
        where another window holds the same bytes; else that raises WrongUsage, since they would count twice."""
        from recon.intake import batches, same_bytes
        from recon.intake.files import inspect, spec_of
        from recon.storage import clock
        from recon.storage.scratch import file_digest

        start = self.config.grid.parse(window, "--window")
        store, spec = self.store(create=True), spec_of(self.config, self.config.columns)

        def looked_at(name: str, path: Path) -> None:
            inspect(name, path, spec)
            batches.refuse_unbegun(self.config.grid, start, clock.now(store))
            digest = file_digest(path)
            noted = same_bytes.note(store, start, digest)
            if not again and (windows := same_bytes.elsewhere(store, start, digest)):
                if noted:
                    same_bytes.forget(store, start, digest)
                raise WrongUsage(
                    f"{name}: the same bytes landed in window{'s' * (len(windows) > 1)} {', '.join(windows)} already; take them back there "
                    "with 'recon unland', or say --again if they are to be in both"
                )

        return batches.land(
            store,
            start,
            [Path(file) for file in files],
            looked_at,
            batches.LandOptions(close, self.config.closing.files, replace, expect or {}),
        )

    def unland(self, file: str, window: str, reason: str) -> Manifest:
        """Takes a file (name as landed) back out of a window."""
        from recon.intake import batches

        return batches.unland(self.store(), self.config.grid.parse(window, "--window"), file, reason)

    def close(self, window: str, reason: str = "") -> tuple[Manifest, bool]:
        """Closes a window; says whether it was open. One that is short of ``closing.files`` needs a reason."""
        from recon.intake import batches
        from recon.planning.closing import close_by_hand
        from recon.storage import clock

        start = self.config.grid.parse(window)
        batches.refuse_unbegun(self.config.grid, start, clock.now(self.store(create=True)))
        return close_by_hand(self.store(create=True), self.config, start, reason)

    def correct(self, *key: str, event: Mapping[str, str], reason: str, yes: bool = False) -> Manifest:
        """Lands one event of a key in the window that it is now; see recon.intake.corrections. The maker is the system's user. A key or
        a text that no event had before is refused unless ``yes``."""
        from recon.intake.corrections import correct, written_key

        if not yes:
            from recon.reading.seen import refuse_unseen

            refuse_unseen(self.store(), self.config, self.state(), written_key(self.config, key), event)
        return correct(self.store(create=True), self.config, key, event, reason)

    def replay(self, first: str, last: str | None = None, reason: str = "") -> list[Manifest]:
        """Marks the windows from ``first`` to ``last`` that hold anything to be processed again by the next run."""
        from recon.intake import batches, landing_log

        windows = self._range(first, last or first)
        grid = self.config.grid
        if grid.index(windows[1]) - grid.index(windows[0]) < _LOOKED_AT_MAX:
            return batches.replay(self.store(), grid.between(*windows), reason)
        landed = (grid.parse(name) for name in landing_log.since(self.store())[0])
        return batches.replay(self.store(), [start for start in landed if windows[0] <= start <= windows[1]], reason)

    def run(
        self, first: str | None = None, last: str | None = None, progress: Progress | None = None, way: CarryOut | None = None
    ) -> RunReport:
        """Processes every window from ``first`` to ``last`` that is closed and not committed. ``way``: what carries the stages out, plain
        calls by default; the command line gives Dagster runs."""
        from recon.model.progress import silent
        from recon.stages import pipeline

        low = None if first is None else self.config.grid.parse(first, "--from")
        high = None if last is None else self.config.grid.parse(last, "--to")
        if low and high and low > high:
            raise WrongUsage(f"--from {first} lies after --to {last}; swap them")
        return pipeline.run(self.store(), self.config, low, high, progress or silent, way)

    def show(
        self,
        *key: str,
        as_of: str | None = None,
        through: str | None = None,
        known_at: str | None = None,
        events: bool = False,
        index: str = "runs",
    ) -> dict[str, Any]:
        """One artifact; several ``key`` values for a key of several columns. Raises WrongInput where the key is unknown.

        ``as_of``: a time with zone; every window that ended by then counts. ``through``: a window; it and every earlier one count.
        ``known_at``: a time with zone; as it was known then.

        ``index``: ``dynamodb`` looks the key up in the index table; ``served_by`` tells whether that answered, ``served_why`` why not."""
        from recon.config.key import key_asked
        from recon.reading.show import find_then
        from recon.state.lookup import find_record

        if index != "runs":
            return self._show_served(key, self._upto(as_of, through), known_at, events, index)
        state, upto = self.state(known_at), self._upto(as_of, through)
        text = self.key_text(key) if known_at is None else key_asked(self._rules(state), key)
        record = (
            find_record(self.store(), state, text)
            if known_at is None
            else find_then(self.store(), state, text, self.state(), lambda: self._rules(state))
        )
        return self._shown(text, state, record, upto, events)

    def _show_served(self, key: Sequence[str], upto: Upto | None, known_at: str | None, events: bool, index: str) -> dict[str, Any]:
        from recon.reading.served import find_served

        if index != "dynamodb" or self.place.index.kind != "dynamodb":
            written = f"it has index: {{kind: {self.place.index.kind}}}"
            raise WrongUsage(f"--index {index}: {self._path.name} asks for no such index, {written}; known are runs and dynamodb")
        if known_at is not None:
            raise WrongUsage("--index dynamodb: the table knows the newest state only; leave it out with --known-at")
        text = self.key_text(key)
        self._timeline = self._timeline or Timeline(self.store())
        served = find_served(self.store(), self._timeline, text, lambda: self._tables, self._known)
        if served.by != "dynamodb":
            vars(self).pop("_tables", None)  # made anew next time, by what credentials there are then
        told = {"served_by": served.by} | ({"served_why": served.why} if served.why else {})
        return self._shown(text, served.state, served.record, upto, events) | told

    @cached_property
    def _known(self) -> Known:
        from recon.reading.served import Known

        return Known()

    @cached_property
    def _tables(self) -> TableClient:
        """For look-ups; whoever counts the store's requests counts these, too."""
        from recon.serving.dynamodb import open_client
        from recon.storage.cache import meter_of

        return open_client(1, tries=3, meter=meter_of(self.store()))

    def _shown(self, text: str, state: State, record: dict[str, Any] | None, upto: Upto | None, events: bool) -> dict[str, Any]:
        from recon.reading.show import show

        rules = self._rules(state) if upto is not None or events else None
        shown = show(self.store(), state, text, record, rules, upto, events, self.place.names)
        if len(shown.get("currencies", ())) > 1 and record is not None:
            from recon.reading.currencies import tell

            tell(self.store(), self._rules(state), state, record, shown)
        if events:
            from recon.intake.corrections import explain

            explain(self.store(), self.config, shown)
        return shown

    def key_text(self, values: Sequence[str]) -> str:
        """The text of a key from its values, or from its text where one is given; cleaned as the rules clean it."""
        from recon.config.key import key_asked

        return key_asked(self.place, values)

    def artifacts(self, as_of: str | None = None, known_at: str | None = None, through: str | None = None) -> pa.Table:
        """All artifacts: key, status, measures, derived, windows, first_window, last_window; in order of key. See ``show``."""
        from recon.reading.artifacts import artifacts

        state = self.state(known_at)
        return artifacts(self.store(), self._rules(state), state, self._last(as_of, through), then=known_at is not None)

    def export(self, file: str | Path, as_of: str | None = None, known_at: str | None = None, through: str | None = None) -> int:
        """Writes all artifacts to a file; csv, jsonl, parquet or xlsx by its suffix. Returns the rows."""
        from recon.reading.artifacts import export

        state = self.state(known_at)
        return export(self.store(), self._rules(state), state, Path(file), self._last(as_of, through), then=known_at is not None)

    def caveats(self) -> list[Caveat]:
        """What is missing, unreadable, in conflict or not done yet; see recon.reading.caveats."""
        from recon.reading.caveats import caveats

        return caveats(self.store(), self.config, self.state())

    def breaks(self, chosen: Chosen | None = None, **moment: str | None) -> pa.Table:
        """What is not matched: the columns of ``artifacts``, ``since`` and ``age_days``, in order of status, age and key. ``chosen``: which
        of them, in which order; ``moment``: ``as_of``, ``through``, ``known_at`` as for ``show``. On ages see recon.reading.breaks."""
        from recon.reading.breaks import Chosen, breaks

        asked = self._asked(**moment)
        return breaks(self.store(), self._rules(asked.state), asked, chosen or Chosen())

    def breaks_summary(self, chosen: Chosen | None = None, **moment: str | None) -> list[dict[str, Any]]:
        """Breaks by status and age, with what they come to; see ``breaks`` and recon.reading.breaks.summary."""
        from recon.reading.breaks import Chosen, summary

        asked = self._asked(**moment)
        return summary(self.store(), self._rules(asked.state), asked, chosen or Chosen())

    def export_breaks(self, file: str | Path, chosen: Chosen | None = None, **moment: str | None) -> int:
        """Writes the breaks to a file; see ``breaks``. Returns the rows."""
        from recon.reading.breaks import Chosen, export_breaks

        asked = self._asked(**moment)
        return export_breaks(self.store(), self._rules(asked.state), asked, chosen or Chosen(), Path(file))

    def _asked(self, as_of: str | None = None, through: str | None = None, known_at: str | None = None) -> Asked:
        """The state that breaks are asked of, and the moment at which their ages end."""
        from recon.reading.breaks import Asked

        state, upto, now = self.state(known_at), self._upto(as_of, through), datetime.now(UTC)
        ends = [now, *([] if upto is None else [upto.end]), *([] if known_at is None else [self._known_instant(known_at)])]
        return Asked(state, None if upto is None else upto.last, min(ends), then=known_at is not None)

    def rejects(self, window: str | None = None) -> pa.Table:
        """Rejected rows of one window or of all: window, file, line, reason, raw; in that order."""
        from recon.reading.rejects import rejects

        start = None if window is None else self.config.grid.parse(window)
        return rejects(self.store(), self.config, self.state(), start)

    def duplicates(self, window: str | None = None) -> pa.Table:
        """Suppressed rows of one window or of all, each with the row that counts; conflicts first: window, file, line, kind, key, id,
        differs, counting_window, counting_file, counting_line."""
        from recon.reading.duplicates import duplicates

        start = None if window is None else self.config.grid.parse(window)
        return duplicates(self.store(), self.config, self.state(), start)

    def certificate(self, window: str) -> dict[str, Any] | None:
        """The newest certificate of a window, None if there is none yet."""
        from recon.state.certificates import read_certificate

        return read_certificate(self.store(), self.config.grid.parse(window))

    def status(self, window: str | None = None, figures_of: int | None = None) -> dict[str, Any]:
        """Windows, their stages, backlog and watermark, with the rows of the newest ``figures_of`` (else of all); or one window in full."""
        from recon.reading.status import status, window_status

        if window is None:
            return status(self.store(), self.config, self.state(), figures_of)
        return window_status(self.store(), self.config, self.state(), self.config.grid.parse(window))

    def head(self) -> str:
        """The digest of the newest entry of the timeline, to be kept elsewhere. Raises WrongUsage where nothing is committed yet."""
        state = self.state()
        if not state.commit:
            raise WrongUsage(f"{self._path}: nothing is committed yet, so there is no head; next: recon run")
        return Timeline(self.store()).digest(state)

    def verify(self, full: bool = False, progress: Progress | None = None, head: str | None = None) -> Verified:
        """Proves the store; ``full`` recomputes every artifact from the landed events and compares. ``head``: what ``head()`` returned
        earlier; the entry that had this digest must still be in the timeline."""
        from recon.verification.verify import verify

        return verify(self.store(), self.config, full=full, progress=progress, head=head)

    def rebuild(self, progress: Progress | None = None) -> Rebuilt:
        """Takes everything again from the landed events by the rules as they are now, and switches to it; see recon.operations.rebuild."""
        from recon.model.progress import silent
        from recon.operations.rebuild import rebuild

        return rebuild(self.store(), self.config, progress or silent)

    def preview_rebuild(self, file: str | Path | None = None, progress: Progress | None = None) -> tuple[Preview, pa.Table]:
        """What ``rebuild`` would change: statuses before and after, and the keys that would change, in order. Changes nothing that is
        visible. ``file``: where to write these keys, too; csv, jsonl, parquet or xlsx by its suffix."""
        from recon.model.progress import silent
        from recon.operations.rebuild import previewed
        from recon.reading.exports import write_rows

        keys = "FROM changes ORDER BY status_before, status_after, key"
        with previewed(self.store(), self.config, progress or silent) as (preview, connection):
            if file is not None:
                write_rows(connection, keys, Path(file))
            return preview, connection.sql(keys).to_arrow_table()

    def compact(self, progress: Progress | None = None, always: bool = False) -> tuple[Compacted, Swept]:
        """Rewrites mostly superseded part-files where that is due (or ``always``), and removes what nothing has needed for a while."""
        from recon.operations.upkeep import sweep
        from recon.state.compaction import compact
        from recon.storage import clock

        timeline = Timeline(self.store())
        told = progress or (lambda stage, windows, share: None)
        done = compact(self.store(), self.config, timeline, lambda share: told("compact", "", share), always)
        return done, sweep(self.store(), self.config, timeline, clock.now(self.store()))

    def copy(self, to: str | Path, progress: Progress | None = None) -> Copied:
        """Copies the store, as of its newest commit, to a folder or ``s3://bucket/prefix``, or brings a copy there up to it; see
        recon.operations.copy.copy. ``to`` is relative to the current folder; the section ``s3`` holds for it, too."""
        from recon.operations.copy.copy import copy
        from recon.storage.cache import uncached
        from recon.storage.open import open_store

        source = uncached(self.store())
        return copy(source, open_store(str(to), Path.cwd(), self.place.s3, shared=self.place.shared), str(to), progress)

    def update_index(self) -> Synced:
        """Brings the index table up to the newest commit, as each run does. Raises WrongUsage where ``index.kind`` asks for none."""
        from recon.serving.sync import sync

        self._needs_table()
        synced = sync(self.store(), self.config, Timeline(self.store()))
        assert synced is not None
        return synced

    def rebuild_index(self) -> Synced:
        """Builds a new index table from the runs and switches to it; the old table answers until then."""
        from recon.serving.sync import rebuild_table

        self._needs_table()
        return rebuild_table(self.store(), self.config, Timeline(self.store()))

    def index_status(self) -> dict[str, Any]:
        """The current table, the commit that it has reached, the newest commit, and builds in progress; as the store records them."""
        from recon.serving.builds import figures

        self._needs_table()
        return figures(self.store(), self.state())

    def _needs_table(self) -> None:
        if self.place.index.kind != "dynamodb":
            raise WrongUsage(f"{self._path.name}: no index table is asked for; write index: {{kind: dynamodb}}")

    def bounds(self) -> dict[str, Any]:
        """Which of the two is bounded, disk by what is live or bytes written by what changed, and where both stand."""
        from recon.state.amplification import figures

        return figures(self.config, self.state().totals)

    def _rules(self, state: State) -> Config:
        """The rules by which a state was made: those of now, or as the store kept them."""
        from recon.state.kept_rules import rules_of

        return rules_of(self.store(), self.config, state.rules)

    def _range(self, first: str, last: str) -> tuple[datetime, datetime]:
        low, high = self.config.grid.parse(first), self.config.grid.parse(last)
        if low > high:
            raise WrongUsage(f"{first}..{last}: the range ends before it begins; swap its ends")
        return low, high

    def _upto(self, as_of: str | None, through: str | None) -> Upto | None:
        return upto(self.place.grid, as_of, through, datetime.now(UTC))

    def _last(self, as_of: str | None, through: str | None) -> datetime | None:
        found = self._upto(as_of, through)
        return None if found is None else found.last
