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
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recon.errors import WrongUsage
from recon.model.progress import Progress, silent
from recon.reading.answers import Answers
from recon.state.timeline import Timeline

if TYPE_CHECKING:
    import pyarrow as pa

    from recon.intake import batches
    from recon.intake.manifests import Manifest
    from recon.intake.sources.deliver import Delivered
    from recon.intake.sources.site import Intake
    from recon.operations.copy.copy import Copied
    from recon.operations.rebuild import Preview, Rebuilt
    from recon.service.site import Service
    from recon.serving.sync import Synced
    from recon.serving.workers.sizing import Sizing
    from recon.stages.pipeline import CarryOut
    from recon.stages.report import RunReport
    from recon.state.compaction import Compacted
    from recon.state.sweep import Swept
    from recon.verification.verify import Verified


def open(path: str | Path = "recon.yaml") -> Reconciliation:
    """The reconciliation that ``path`` (a recon.yaml) describes. Raises WrongUsage naming file and field."""
    opened = Reconciliation(Path(path))
    opened.config  # noqa: B018 - reports a mistake in the rules now, not at the first command that needs them
    return opened


class Reconciliation(Answers):
    """One reconciliation; what it answers is in recon.reading.answers."""

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
        """Puts files into a window; see recon.intake.batches.land. ``expect``: control totals that each file must have. ``again``: accepts
        bytes that are in another window, too; otherwise they raise WrongUsage, since they would count twice."""
        from recon.intake import batches, same_bytes
        from recon.intake.files import inspect, spec_of
        from recon.storage import clock, scratch

        start = self.config.grid.parse(window, "--window")
        store, spec = self.store(create=True), spec_of(self.config, self.config.columns)

        def check(name: str, path: Path) -> None:
            inspect(name, path, spec)
            batches.refuse_unbegun(self.config.grid, start, clock.now(store))
            same_bytes.note_or_refuse(store, start, name, scratch.file_digest(path), again)

        options = batches.LandOptions(close, self.config.closing.files, replace, expect or {})
        return batches.land(store, start, list(map(Path, files)), check, options)

    def intake(self, run: str = "python") -> Intake:
        """The sources with the store and the database, for ``recon.intake.sources``. ``run``: the id that the trace of a file names."""
        from recon.intake.sources import site
        from recon.reading.results import results_of

        return site.Intake(self.config, run, read_results=results_of)

    def deliver(self, inbox: str | Path, run: str = "python") -> Delivered:
        """Takes the new files of an inbox to their windows: of a folder, ``s3://bucket/prefix``, or a queue of S3's events, by its URL."""
        from recon.intake.sources.deliver import deliver

        return deliver(self.intake(run), str(inbox))

    def unland(self, file: str, window: str, reason: str) -> Manifest:
        """Takes a file (its name as landed) back out of a window. A source's file is rejected then, with the reason."""
        from recon.intake import batches
        from recon.intake.sources.site import take_back

        manifest = batches.unland(self.store(), self.config.grid.parse(window, "--window"), file, reason)
        take_back(self.config, manifest.window, file, reason)
        return manifest

    def close(self, window: str, reason: str = "") -> tuple[Manifest, bool]:
        """Closes a window. Returns its manifest, and whether it was open. With fewer files than ``closing.files`` it needs a reason."""
        from recon.intake import batches
        from recon.planning.closing import close_by_hand
        from recon.storage import clock

        start = self.config.grid.parse(window)
        batches.refuse_unbegun(self.config.grid, start, clock.now(self.store(create=True)))
        return close_by_hand(self.store(create=True), self.config, start, reason)

    def correct(self, *key: str, event: Mapping[str, str], reason: str, yes: bool = False) -> Manifest:
        """Lands one event of a key in the current window; see recon.intake.corrections. ``yes`` accepts a key or text that is new."""
        from recon.intake.corrections import correct, written_key

        if not yes:
            from recon.reading.seen import refuse_unseen

            refuse_unseen(self.store(), self.config, self.state(), written_key(self.config, key), event)
        return correct(self.store(create=True), self.config, key, event, reason)

    def replay(self, first: str, last: str | None = None, reason: str = "") -> list[Manifest]:
        """Marks the windows from ``first`` to ``last`` that hold files, to be processed again by the next run."""
        from recon.intake import batches, landing_log

        low, high = self.config.grid.parse(first), self.config.grid.parse(last or first)
        if low > high:
            raise WrongUsage(f"{first}..{last}: the range ends before it begins; swap its ends")
        return batches.replay(self.store(), landing_log.between(self.store(), self.config.grid, low, high), reason)

    def run(
        self, first: str | None = None, last: str | None = None, progress: Progress | None = None, way: CarryOut | None = None
    ) -> RunReport:
        """Processes every window from ``first`` to ``last`` that is closed and not committed. ``way``: plain calls by default."""
        from recon.stages import pipeline

        low = None if first is None else self.config.grid.parse(first, "--from")
        high = None if last is None else self.config.grid.parse(last, "--to")
        if low and high and low > high:
            raise WrongUsage(f"--from {first} lies after --to {last}; swap them")
        return pipeline.run(self.store(), self.config, low, high, progress or silent, way)

    def transform(self, request: str | Path, certificate: str | None = None, progress: Progress = silent) -> dict[str, Any]:
        """Carries out a request, docs/transformations.md; its inputs may be artifacts, breaks and tables of this reconciliation. Returns
        the certificate, which is also written to a file where ``certificate`` names one."""
        from recon.operations.transforming import transformed

        return transformed(self, Path(request), certificate, progress)

    def service(self) -> Service:
        """The transformation service of this reconciliation."""
        from recon.service.site import Service

        return Service(self.place, Reconciliation)

    def head(self) -> str:
        """The digest of the newest entry of the timeline, to keep elsewhere. Raises WrongUsage if nothing is committed yet."""
        state = self.state()
        if not state.commit:
            raise WrongUsage(f"{self._path}: nothing is committed yet, so there is no head; next: recon run")
        return Timeline(self.store()).digest(state)

    def verify(self, full: bool = False, progress: Progress | None = None, head: str | None = None) -> Verified:
        """Proves the store; ``full`` recomputes every artifact. ``head``: an earlier ``head()``, which must still be in the timeline."""
        from recon.verification.verify import verify

        return verify(self.store(), self.config, full=full, progress=progress, head=head)

    def rebuild(self, progress: Progress | None = None) -> Rebuilt:
        """Recomputes everything from the landed events by the current rules, and switches to the result; see recon.operations.rebuild."""
        from recon.operations.rebuild import rebuild

        return rebuild(self.store(), self.config, progress or silent)

    def preview_rebuild(self, file: str | Path | None = None, progress: Progress | None = None) -> tuple[Preview, pa.Table]:
        """What ``rebuild`` would change: statuses before and after, and the keys, in order, which are also written to ``file``."""
        from recon.operations.rebuild import preview

        return preview(self.store(), self.config, progress or silent, None if file is None else Path(file))

    def compact(self, progress: Progress | None = None, always: bool = False) -> tuple[Compacted, Swept]:
        """Rewrites mostly superseded part-files if that is due (or ``always``), and removes objects that nothing has needed for a while."""
        from recon.operations.upkeep import compact_and_sweep

        return compact_and_sweep(self.store(), self.config, progress or silent, always)

    def copy(self, to: str | Path, progress: Progress | None = None) -> Copied:
        """Copies the store as of its newest commit, or updates a copy. ``to``: a folder or ``s3://bucket/prefix``, used as ``s3`` says."""
        from recon.operations.copy.copy import copy
        from recon.storage.cache import uncached
        from recon.storage.open import open_store

        source = uncached(self.store())
        return copy(source, open_store(str(to), Path.cwd(), self.place.s3, shared=self.place.shared), str(to), progress)

    def update_index(self) -> Synced:
        """Brings the index table up to the newest commit, as each run does. Raises WrongUsage if ``index.kind`` names no table."""
        from recon.serving.sync import sync_asked

        return sync_asked(self.store(), self.config, Timeline(self.store()))

    def rebuild_index(self) -> Synced:
        """Builds a new index table from the runs and switches to it; the old table answers until then."""
        from recon.serving.sync import needs_table, rebuild_table

        needs_table(self.place)
        return rebuild_table(self.store(), self.config, Timeline(self.store()))

    def index_status(self) -> dict[str, Any]:
        """The current table, the commit that it has reached, the newest commit, and builds in progress; as the store records them."""
        from recon.serving import builds, sync

        sync.needs_table(self.place)
        return builds.figures(self.store(), self.state())

    def index_size(self, keys_per_hour: int) -> Sizing:
        """The index workers that so many changed keys an hour need, by the rate that workers have shown last."""
        from recon.serving import sync
        from recon.serving.workers import sizing

        sync.needs_table(self.place)
        return sizing.size(self.store(), self.config, self.state(), keys_per_hour)

    def bounds(self) -> dict[str, Any]:
        """The two ratios, disk to live bytes and bytes written to bytes changed, and which of them is bounded."""
        from recon.state.amplification import figures

        return figures(self.config, self.state().totals)
