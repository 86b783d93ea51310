"""Corrections: one event that a person adds, with a reason, and that stays what it is: an event with a file, a line and a maker."""

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
from recon.config.key import key_asked
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
    """A correction that was begun: kept in the store until it has landed, so that whoever asks for the same goes on with it."""

    attempt: str
    window: str
    line: str
    time: str


def correct(
    store: ObjectStore, config: Config, key: Sequence[str], event: Mapping[str, str], reason: str, now: datetime | None = None
) -> Manifest:
    """Lands one event of a key in the window that lies ``now``. Returns the manifest that landed it; the event's file is its last.

    ``key``: one value per key column, or the key as `show` prints it. ``event``: column → value as text. An event id is made, and the
    time is ``now`` unless it is given. The maker is the operating system's user. Raises WrongUsage for what the intake would reject.

    A correction that failed before it was reported is finished by the same call: in the window and at the time of the first, and
    once, also where the first had landed. After that the same call makes another one."""
    now = now or clock.now(store)
    if not reason.strip():
        raise WrongUsage("--reason: say why the correction is made; 'recon show KEY --events' will tell it")
    if len(reason) > REASON_LENGTH_MAX:
        raise WrongUsage(f"--reason: {len(reason):,} characters are too many; at most {REASON_LENGTH_MAX:,}")
    if now < config.grid.start:
        raise WrongUsage(
            f"the first window, {name_of(config.grid.start)}, has not begun yet; a correction lands in the window that it is now"
        )
    row, attempt = {**_key_columns(config, key), **_event_columns(config, event)}, layout.new_attempt()
    given = json.dumps([row, reason, manifests.operator()], sort_keys=True)
    noted = layout.correction(hashlib.sha256(given.encode()).hexdigest())
    if (column := _own_id(config, row)) is not None:
        row[column] = f"{PREFIX}{attempt}"
    if config.events.time is not None:
        row.setdefault(config.events.time, now.astimezone(UTC).isoformat())
    line = _line(row, reason)
    with tempfile.TemporaryDirectory(prefix="recon-") as folder:
        file = Path(folder) / f"{PREFIX}{attempt}.jsonl"
        file.write_bytes(line)
        _refuse_rejected(config, file)
        begun = _noted(store, noted, _Begun(attempt, name_of(config.grid.last_begun(now)), line.decode(), now.isoformat()))
        file = file.with_name(f"{PREFIX}{begun.attempt}.jsonl")
        file.write_bytes(begun.line.encode())
        manifest = land_correction(store, config.grid.parse(begun.window), file, reason, begun.attempt)
    with suppress(TryAgain):  # it has landed, and a note that stays does no more than make the next equal one the same
        store.delete(noted)
    return manifest


def _noted(store: ObjectStore, path: str, mine: _Begun) -> _Begun:
    """Notes that a correction is begun. Returns the one that is to be landed: an equal one that was begun before goes first."""
    while True:
        try:
            documents.put(store, path, mine)
            return mine
        except AlreadyExists:
            with suppress(NotFound):  # it has landed just now
                return documents.read(store, path, _Begun, "see with 'recon show KEY --events' whether it has landed, then delete it")


def written_key(config: Config, values: Sequence[str]) -> str:
    """A key as artifacts hold it, from the values that ``correct`` takes. Raises WrongUsage where it is not one per key column."""
    return key_asked(config, list(_key_columns(config, values).values()))


def explain(store: ObjectStore, config: Config, shown: dict[str, Any]) -> dict[str, Any]:
    """An artifact shown with its events; those of corrections get ``correction``: {reason, by}."""
    for part in shown["contributions"]:
        events = part.get("event_list", [])
        if "correction" in config.columns:  # as with the other names that lead back to the event, a column of the user's makes room
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
    """The column of the event id that gets a text of the correction's own, so that it is never a duplicate. Raises WrongUsage where an id
    of several columns has none that is free."""
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
    if len(given) == 1 and len(named) > 1:
        try:
            parsed = json.loads(given[0])
        except ValueError:
            parsed = None
        given = parsed if isinstance(parsed, list) and all(isinstance(value, str) for value in parsed) else given
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
            raise WrongUsage(f"--event {name}: is the key, which stands before the options already; leave it out")
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
    """Raises WrongUsage with the intake's own reason where its rules reject the event."""
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
