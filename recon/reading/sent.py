"""Lists the events of one key as they were sent, window by window: each is counted or is the duplicate of another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from recon.config import Config, model
from recon.state import reduced
from recon.state.timeline import State
from recon.storage import parquet
from recon.storage.port import ObjectStore
from recon.storage.scratch import scratch_folder

_PLACE = ("window", "file", "line")
_OWN = {"file", "line", "id", "time", "counted", "duplicate_of", "conflict"}
"""Members that every event has. A user's column with such a name is shown as ``name (column)``."""


def events_of(
    store: ObjectStore, config: Config, state: State, key: str, hi: int, windows: Sequence[str]
) -> dict[str, list[dict[str, Any]]]:
    """Window → its events of a key with the hash ``hi``, in order of landing and line: file, line, id, time, columns, and ``counted``. An
    event that is not counted has ``duplicate_of``, the place of the event that counts, and ``conflict``: whether it differs from it."""
    sent = {window: _window(store, config, state, window, key, hi) for window in windows}
    counting: dict[str, tuple[str, dict[str, Any]]] = {}
    for window in sorted(sent):
        first: dict[str, dict[str, Any]] = {}
        for event in sent[window]:
            if event["id"] is not None and event["counted"]:
                first[event["id"]] = event
                before = counting.get(event["id"])
                if before is not None and _near(config, before[0], window):
                    _suppress(event, before[1])
                    counting[event["id"]] = (window, before[1])
                else:
                    counting[event["id"]] = (window, {**event, "window": window})
        for event in sent[window]:
            if event["id"] in first and event is not first[event["id"]]:
                _suppress(event, {**first[event["id"]], "window": window})
    return sent


def _near(config: Config, earlier: str, window: str) -> bool:
    between: timedelta = config.grid.parse(window) - config.grid.parse(earlier)
    return between <= config.grid.reach(config.events.dedupe)


def _suppress(event: dict[str, Any], counting: Mapping[str, Any]) -> None:
    columns = [name for name in event if name not in _OWN or name == "time"]
    event["counted"] = False
    event["duplicate_of"] = {name: counting[name] for name in _PLACE}
    event["conflict"] = any(event[name] != counting[name] for name in columns)


def _window(store: ObjectStore, config: Config, state: State, window: str, key: str, hi: int) -> list[dict[str, Any]]:
    """The events of a key in one window. Accepted events are sorted by hash, so that few are read; duplicates are in another file."""
    import pyarrow as pa

    folder = state.windows[window].folder
    figures = reduced.read(store, folder)
    with scratch_folder(store) as scratch:
        accepted = parquet.read(
            reduced.local_file(store, folder, reduced.EVENTS, scratch), filters=[("hi", "=", pa.scalar(hi, pa.uint64())), ("key", "=", key)]
        )
        rows = [{**row, "counted": True} for row in accepted.to_pylist()]
        if figures.duplicates.rows:
            aside = parquet.read(reduced.local_file(store, folder, reduced.SET_ASIDE, scratch), filters=[("key", "=", key)])
            rows += [{**row, "counted": False} for row in aside.to_pylist() if row["kind"] != "rejected"]
    names = {name: f"{name} (column)" if name in _OWN else name for name in model.event_columns(config)}
    return [
        {
            "file": figures.files[row["file"]]["name"],
            "line": row["line"],
            "id": row["id"],
            "time": row["time"].isoformat() if row.get("time") else None,
            **{shown: _text(row[f"c_{name}"]) for name, shown in names.items()},
            "counted": row["counted"],
        }
        for row in sorted(rows, key=lambda row: (row["file"], row["line"]))
    ]


def _text(value: object) -> object:
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)
