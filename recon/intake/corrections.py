"""Corrections: single events that a user adds with a reason, each landed as a file of its own."""

from __future__ import annotations

import difflib
import hashlib
import json
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from recon.config import Config, model
from recon.config.key import key_asked, values_in
from recon.errors import TryAgain, WrongUsage
from recon.intake import manifests
from recon.intake.batches import land_correction
from recon.intake.manifests import CORRECTION, Manifest, read_manifest
from recon.model.windows import name_of
from recon.storage import clock, documents, layout
from recon.storage.port import AlreadyExists, NotFound, ObjectStore

PREFIX = CORRECTION
REASON_LENGTH_MAX = 1000


@dataclass(frozen=True)
class _Begun:
    """A correction that was begun. It is stored until it has landed, so that the same call again continues it."""

    attempt: str
    window: str
    line: str
    time: str


def correct(
    store: ObjectStore, config: Config, key: Sequence[str], event: Mapping[str, str], reason: str, now: datetime | None = None
) -> Manifest:
    """Lands one event of a key in the window of ``now``. Returns the manifest that has the event's file as its last.

    ``key``: one value per key column, or the key as `show` prints it. ``event``: column → value as text. The event gets a new id, and the
    time ``now`` unless it has one. The maker is the operating system's user. Raises WrongUsage for an event that the intake would reject.

    If a call failed before it returned, the same call again finishes it, once, with the window and time of the first. After that the same
    call makes another correction."""
    now = now or clock.now(store)
    if not reason.strip():
        raise WrongUsage("--reason: say why the correction is made; 'recon show KEY --events' will show it")
    if len(reason) > REASON_LENGTH_MAX:
        raise WrongUsage(f"--reason: {len(reason):,} characters are too many; at most {REASON_LENGTH_MAX:,}")
    if now < config.grid.start:
        raise WrongUsage(
            f"the first window, {name_of(config.grid.start)}, has not begun yet; a correction lands in the window that it is now"
        )
    row, attempt = {**_key_columns(config, key), **_event_columns(config, event)}, layout.new_attempt()
    given = json.dumps([row, reason, manifests.operator()], sort_keys=True)
    note = layout.correction(hashlib.sha256(given.encode()).hexdigest())
    if (column := _own_id(config, row)) is not None:
        row[column] = f"{PREFIX}{attempt}"
    if config.events.time is not None:
        row.setdefault(config.events.time, now.astimezone(UTC).isoformat())
    line = _line(row, reason)
    with tempfile.TemporaryDirectory(prefix="recon-") as folder:
        file = Path(folder) / f"{PREFIX}{attempt}.jsonl"
        file.write_bytes(line)
        _refuse_rejected(config, file)
        begun = _noted(store, note, _Begun(attempt, name_of(config.grid.last_begun(now)), line.decode(), now.isoformat()))
        file = file.with_name(f"{PREFIX}{begun.attempt}.jsonl")
        file.write_bytes(begun.line.encode())
        manifest = land_correction(store, config.grid.parse(begun.window), file, reason, begun.attempt)
    with suppress(TryAgain):  # the correction has landed; a note that stays only makes an equal correction a repetition
        store.delete(note)
    return manifest


def _noted(store: ObjectStore, path: str, mine: _Begun) -> _Begun:
    """Notes that a correction is begun. Returns the correction to land: an equal one that was begun before, or ``mine``."""
    while True:
        try:
            documents.put(store, path, mine)
            return mine
        except AlreadyExists:
            with suppress(NotFound):  # it has just landed and was removed
                return documents.read(store, path, _Begun, "see with 'recon show KEY --events' whether it has landed, then delete it")


def written_key(config: Config, values: Sequence[str]) -> str:
    """A key as artifacts store it, from the values for ``correct``. Raises WrongUsage unless there is one per key column."""
    return key_asked(config, list(_key_columns(config, values).values()))


def explain(store: ObjectStore, config: Config, shown: dict[str, Any]) -> dict[str, Any]:
    """Adds ``correction``: {reason, by} to the events of corrections in an artifact shown with its events."""
    for part in shown["contributions"]:
        events = part.get("event_list", [])
        if "correction" in config.columns:  # a user's column of that name is renamed, as with the other names added to events
            for event in events:
                event["correction (column)"] = event.pop("correction", None)
        corrected = [event for event in events if str(event["file"]).startswith(PREFIX)]
        if not corrected:
            continue
        manifest = read_manifest(store, config.grid.parse(part["window"]), part["revision"])
        made = {file.name: file for file in (manifest.files if manifest else ()) if file.reason}
        for event in corrected:
            if (file := made.get(event["file"])) is not None:
                event["correction"] = {"reason": file.reason, "by": file.by}
    return shown


def _own_id(config: Config, row: Mapping[str, str]) -> str | None:
    """The column of the event id that gets the correction's own id, so that it is never a duplicate. Raises WrongUsage where an id of
    several columns has no free text column."""
    if config.events.id_column is not None:
        return None if config.events.id_column in config.key else config.events.id_column
    free = [name for name in config.events.id if name not in row and name != config.events.time and config.columns[name].kind == "text"]
    if config.events.id and not free:
        raise WrongUsage(
            f"--event: leave out one text column of the event id ({', '.join(config.events.id)}); it gets the correction's own id, without "
            "which the correction could be taken for a duplicate"
        )
    return free[0] if free else None


def _key_columns(config: Config, values: Sequence[str]) -> dict[str, str]:
    named, given = config.key, list(values)
    if len(given) == 1 and len(named) > 1 and (shown := values_in(given[0])) is not None:
        given = shown
    if len(given) != len(named):
        were = "1 value was" if len(given) == 1 else f"{len(given)} values were"
        raise WrongUsage(f"KEY: {were} given; the key is {', '.join(named)}, and each column of the event is written --event column=value")
    return dict(zip(named, given, strict=True))


def _event_columns(config: Config, event: Mapping[str, str]) -> dict[str, str]:
    if not event:
        raise WrongUsage("--event: say what the event holds, column by column: --event amount=12.50 --event currency=EUR")
    given = [name for name in config.columns if name not in config.key and name != config.events.id_column]
    for name in event:
        if name in config.key:
            raise WrongUsage(f"--event {name}: is part of the key, which is given before the options; leave it out")
        if name == config.events.id_column:
            raise WrongUsage(f"--event {name}: the id of a correction is made anew, so that it is no duplicate; leave it out")
        if name not in given:
            folded = {known.casefold(): known for known in given}
            near = [folded[close] for close in difflib.get_close_matches(name.casefold(), folded, 2)]
            hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(given)}"
            raise WrongUsage(f"--event {name}: no rule in {config.path.name} knows this column; {hint}")
    return dict(event)


def _line(row: Mapping[str, str], reason: str) -> bytes:
    try:
        reason.encode()
        return (json.dumps(row, ensure_ascii=False) + "\n").encode()
    except UnicodeEncodeError:
        raise WrongUsage("KEY, --event or --reason holds bytes that are not UTF-8 text; write it as UTF-8") from None


def _refuse_rejected(config: Config, file: Path) -> None:
    """Raises WrongUsage with the intake's reason where it rejects the event."""
    import duckdb

    from recon.intake.files import SourceFile, load_events, spec_of
    from recon.storage.hashing import define

    spec = spec_of(config, model.event_columns(config))
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        define(connection, "")  # nothing is looked up by these hashes
        load_events(connection, [SourceFile(file.name, file, partial=True)], spec, "correction")
        rejected = connection.execute("SELECT reason FROM correction_rejects").fetchone()
    if rejected is not None:
        raise WrongUsage(f"{rejected[0]}; correct the value, nothing has landed")
