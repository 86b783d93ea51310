"""Takes a received file to its window: opens it, converts it, finds its window, and lands it, or says why not."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from recon.errors import ReconError, TryAgain, WrongInput, transient_kind
from recon.intake import batches
from recon.intake.files import inspect, spec_of
from recon.intake.manifests import LandedFile, read_manifest
from recon.intake.sources.closing import close_if_complete
from recon.intake.sources.convert import Converted, convert
from recon.intake.sources.load import Source
from recon.intake.sources.receive import VERSION_DIGITS
from recon.intake.sources.records import InQueue, waits, worked_on
from recon.intake.sources.site import Intake, of_file, received_file
from recon.intake.sources.tracking import OPEN, Tracked
from recon.intake.sources.window import known_window, window_of
from recon.model.windows import name_of
from recon.storage import clock, layout
from recon.storage.scratch import file_digest, scratch_folder

TRIES = 3


def process(intake: Intake, file: Tracked) -> Tracked:
    """Takes one file as far as it goes and returns it in its new state; a file that another process has finished, as it is.

    One process at a time works on a file of a source, so that two versions of a snapshot do not both land as the first.

    A file that is wrong is rejected with the reason. A failure that may pass is tried ``TRIES`` times, then the file is rejected. A file
    whose records are in progress elsewhere stays converted, and its reason says how many. Raises TryAgain where a try failed and others
    are left."""
    with alone(intake, file.source):
        current = _current(intake, file)
        return _processed(intake, current) if current.state in OPEN else current


def alone(intake: Intake, source: str) -> AbstractContextManager[None]:
    """A block in which no other process converts or lands a file of this source."""
    return intake.database.alone(f"intake {intake.config.name} {source}")


def _processed(intake: Intake, file: Tracked) -> Tracked:
    try:
        source = of_file(intake, file)
        if (waiting := waits(intake, file)) is not None:
            raise InQueue(waiting)
        with scratch_folder(intake.store) as folder:
            return _taken(intake, source, file, folder)
    except InQueue as waiting:
        return intake.tracking.noted(file, str(waiting))
    except Exception as error:
        if isinstance(error, ReconError) and not isinstance(error, TryAgain) and transient_kind(error) is None:
            return _rejected(intake, _current(intake, file), str(error))
        reason = str(error) if isinstance(error, ReconError) else f"unexpected {type(error).__name__}: {error}"
        failed = intake.tracking.failed(file, reason)
        if failed.tries < TRIES:
            raise TryAgain(f"try {failed.tries} of {TRIES} failed: {reason}; run the same again") from error
        return _rejected(intake, failed, f"after {TRIES} tries: {reason}")


def _rejected(intake: Intake, file: Tracked, reason: str, texts: Iterable[str] = (), **counts: Any) -> Tracked:
    """Rejects a file. Notes the window that lacks its rows, where it is known: a file of another window does not correct it."""
    window = known_window(intake, file, texts)
    _take_out(intake, file, f"it was rejected: {reason}")
    return intake.tracking.move(file, "rejected", intake.run, reason=reason, **({"window": window} if window else {}), **counts)


def _current(intake: Intake, file: Tracked) -> Tracked:
    return intake.tracking.files(id=file.id)[0]


def _taken(intake: Intake, source: Source, file: Tracked, folder: Path) -> Tracked:
    received = received_file(intake, file, folder)
    if file.state == "received":
        file = intake.tracking.move(file, "validated", intake.run, reason="", rules=source.rules)
    made = convert(intake.config, source, received, file.digest, folder)
    counts = _counts(intake, made)
    if made.fault is not None:
        return _rejected(intake, file, made.fault, made.windows, **counts)
    window = window_of(intake.config.grid, source, file.name, file.received_at, made.windows)
    counts |= {**_version(source, file, made), "rules": source.rules}
    if file.window != name_of(window):
        _take_out(intake, file, f"the rules of its source have changed, and it belongs to {name_of(window)}")
    file = intake.tracking.move(file, "converted", intake.run, window=name_of(window), **counts)
    if source.process is not None:
        made = worked_on(intake, source, file, made, folder)
        file = intake.tracking.move(file, "converted", intake.run, **{**_figures(made), "rejects": file.rejects})
        if not made.figures.kept:
            return intake.tracking.move(file, "rejected", intake.run, reason="every record is a dead letter; see 'recon dlq list'")
    return _landed(intake, source, file, window, made)


def _version(source: Source, file: Tracked, made: Converted) -> dict[str, int]:
    """The version of a file whose rows tell it. Raises WrongInput unless all rows have one whole number."""
    if (column := source.section.version.column) is None:
        return {}
    texts = sorted(map(str, made.versions))
    if len(texts) != 1 or not texts[0].isdecimal() or len(texts[0]) > VERSION_DIGITS:
        raise WrongInput(f"{file.shown}: its version, column {column!r}, is {', '.join(texts[:5])}; expected one whole number in all rows")
    return {"version": int(texts[0])}


def _counts(intake: Intake, made: Converted) -> dict[str, Any]:
    """The figures of a conversion as columns of the database. Keeps its rejected rows in the store."""
    figures, rejects = made.figures, None
    if figures.rejected:
        rejects = layout.received_rejects(layout.new_attempt())
        intake.store.copy_in(rejects, made.rejects)
    return {**_figures(made), "rejects": rejects}


def _figures(made: Converted) -> dict[str, Any]:
    figures = made.figures
    counts = {"rows": figures.rows, "kept": figures.kept, "rejected_rows": figures.rejected + figures.dead}
    return {**counts, "figures": asdict(figures)}


def _landed(intake: Intake, source: Source, file: Tracked, window: datetime, made: Converted) -> Tracked:
    """Lands the clean file. The newest version of a snapshot takes the place of an older one; an older version is superseded."""
    others = [] if source.section.delivery == "delta" else _versions(intake, file)
    if newer := [other for other in others if other.order > file.order]:
        reason = f"{newer[-1].shown}, file {newer[-1].id}, is newer"
        return intake.tracking.move(file, "superseded", intake.run, reason=reason)
    before = None if source.section.reference else _landed_before(intake, name_of(window), file)
    if before is not None and before.digest == file_digest(made.clean):
        landed = _place(before)
    else:
        replaced = before.name if before else others[-1].landed_as if others else None
        landed = _put(intake, source, file, window, made, replaced)
    for older in others:
        intake.tracking.move(older, "superseded", intake.run, reason=f"{file.shown}, file {file.id}, is newer")
    if not source.section.reference:
        close_if_complete(intake, window, file)
    return intake.tracking.move(file, "landed", intake.run, **landed, landings=file.landings + 1, reason="")


def _versions(intake: Intake, file: Tracked) -> list[Tracked]:
    """The landed files of the same series and window, oldest first."""
    same = intake.tracking.files(source=file.source, series=file.series, window=file.window, state="landed")
    return sorted((other for other in same if other.id != file.id), key=lambda other: other.order)


def _landed_before(intake: Intake, window: str, file: Tracked) -> LandedFile | None:
    """This file as it landed in an earlier try, which was stopped before it said so. The rules of its source may have changed since."""
    manifest = read_manifest(intake.store, intake.config.grid.parse(window))
    return next((landed for landed in manifest.files if _is_from(landed, file)), None) if manifest else None


def _take_out(intake: Intake, file: Tracked, reason: str) -> None:
    """Takes a file that landed in an earlier try back out of the window that it was converted for."""
    before = _landed_before(intake, file.window, file) if file.window is not None else None
    if before is not None and file.window is not None and before.origin.get("source") == file.source:
        batches.unland(intake.store, intake.config.grid.parse(file.window), before.name, reason)


def _place(landed: LandedFile) -> dict[str, Any]:
    """Where a file landed, as columns of the database."""
    return {"landed_as": landed.name, "landed_path": landed.path, "landed_digest": landed.digest}


def _is_from(landed: LandedFile, file: Tracked) -> bool:
    return landed.origin.get("digest") == file.digest and landed.origin.get("file") == file.shown


def _put(intake: Intake, source: Source, file: Tracked, window: datetime, made: Converted, replacing: str | None) -> dict[str, Any]:
    """Puts the clean rows into their window, those of reference data into a file of their own. Returns the columns of the database."""
    if not source.section.reference:
        return _place(_land(intake, file, window, made, replacing))
    path = layout.received_reference(layout.new_attempt())
    intake.store.copy_in(path, made.clean)
    return {"landed_path": path, "landed_digest": file_digest(made.clean)}


def _land(intake: Intake, file: Tracked, window: datetime, made: Converted, replacing: str | None) -> LandedFile:
    spec = spec_of(intake.config, intake.config.columns)

    def check(name: str, path: Path) -> None:
        inspect(name, path, spec)
        batches.refuse_unbegun(intake.config.grid, window, clock.now(intake.store))

    origin: dict[str, Any] = {"source": file.source, "file": file.shown, "digest": file.digest}
    origin |= {"rows": made.figures.rows, "rejected": made.figures.rejected + made.figures.dead, "rejects": file.rejects}
    options = batches.LandOptions(replacing=replacing, expect={"rows": made.figures.kept}, origin=origin)
    landing = batches.land(intake.store, window, [made.clean], check, options)
    name = landing.added[0] if landing.added else landing.already[0][1]
    return next(landed for landed in landing.manifest.files if landed.name == name)


def land_again(intake: Intake, source: Source, file: Tracked) -> Tracked | None:
    """Converts a landed file again and puts the result in its place; None where neither its clean rows nor its rejects changed. Raises
    WrongInput where the rules reject it now; it stays as it landed."""
    with alone(intake, source.name), scratch_folder(intake.store) as folder:
        if (file := _current(intake, file)).state != "landed":
            return None
        made = convert(intake.config, source, received_file(intake, file, folder), file.digest, folder)
        if made.fault is not None:
            raise WrongInput(made.fault)
        window = intake.config.grid.parse(str(file.window))
        moved = window_of(intake.config.grid, source, file.name, file.received_at, made.windows)
        if moved != window:
            raise WrongInput(
                f"it would move to window {name_of(moved)}; take it out of {file.window} with 'recon unland', "
                f"then 'recon files retry {file.id}'"
            )
        made = worked_on(intake, source, file, made, folder)
        counts = _counts(intake, made)
        same = file.landed_digest == file_digest(made.clean)
        if same and file.figures == asdict(made.figures):
            intake.tracking.move(file, "landed", intake.run, rules=source.rules)
            return None
        # The same rows with other rejects are a new revision, too: certificates name the rejects.
        landed = _put(intake, source, replace(file, rejects=counts["rejects"]), window, made, None if same else file.landed_as)
        counts |= {**landed, "rules": source.rules, "landings": file.landings + (not same)}
        return intake.tracking.move(file, "landed", intake.run, **counts)
