"""Look-up: one key → its artifact, by one ranged read, with the revisions that stand behind its contributions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from recon.config import Config
from recon.errors import WrongInput
from recon.model.moments import Upto
from recon.model.record import named
from recon.model.windows import name_of
from recon.reading.sent import events_of
from recon.state.lookup import find_record
from recon.state.timeline import State
from recon.storage.hashing import hash_of, salt_of
from recon.storage.port import NotFound, ObjectStore


def find_then(store: ObjectStore, state: State, key: str, head: State, rules: Callable[[], Config]) -> dict[str, Any] | None:
    """The record of a key at an earlier ``state``, folded again where its part-files were given back. ``rules``: those of then."""
    try:
        return find_record(store, state, key)
    except NotFound:
        from recon.reading.history import record_then
    if head.rebuilt > state.commit:
        return record_then(store, rules(), state, key)
    # The record of now names every window that has contributed since the last rebuild.
    now = find_record(store, head, key)
    if now is None:
        return None
    return record_then(store, rules(), state, key, [*windows_of(rules(), now), *now["withdrawn"]])


def _carried_windows(config: Config, block: Mapping[str, Any]) -> list[str]:
    """The windows of a block: from its first on so many are in it, so many are not, so many are …"""
    index, found = config.grid.index(config.grid.parse(block["first"])), []
    for place, length in enumerate(block["runs"]):
        found += [name_of(config.grid.at(number)) for number in range(index, index + length)] if place % 2 == 0 else []
        index += length
    return found


def show(
    store: ObjectStore,
    state: State,
    key: str,
    record: dict[str, Any] | None,
    config: Config | None = None,
    upto: Upto | None = None,
    events: bool = False,
    names: tuple[Sequence[str], Sequence[str]] = ((), ()),
) -> dict[str, Any]:
    """One artifact as `recon show --json` prints it, from its ``record`` at that state. Raises WrongInput where the key is unknown (then or
    at all).

    ``upto``: the windows that count. ``events``: adds to each contribution the list of its events; none is carried forward then. Either
    needs the rules in ``config``. ``names``: of measures and derived values; one without a value is None."""
    if record is None:
        raise WrongInput(f"{key}: no artifact has this key at commit {state.commit}; keys are compared letter by letter")
    if upto is not None or (events and "carried" in record):
        from recon.reading.artifacts import fold_record

        assert config is not None
        record = fold_record(store, config, state, record, None if upto is None else name_of(upto.last), opened=events)
        if upto is not None and not record["contributions"] and "carried" not in record:
            raise WrongInput(f"{key}: no window up to and including {name_of(upto.last)} holds this key")
    shown: dict[str, Any] = {
        "key": record["key"],
        "status": record["status"],
        "commit": state.commit,
        "measures": named(record["measures"], names[0]),
        "derived": named(record["derived"], names[1]),
        "contributions": [*_carried(record, names[0]), *(_contribution(state, part, names[0]) for part in record["contributions"])],
        "withdrawn": record["withdrawn"],
    }
    if any("currencies" in part for part in shown["contributions"]):
        shown["currencies"] = sorted({one for part in shown["contributions"] for one in part["currencies"]})
    if upto is not None:
        shown |= upto.told
    if events:
        assert config is not None
        held = events_of(store, config, state, key, hash_of(key, salt_of(store))[0], [part["window"] for part in shown["contributions"]])
        for part in shown["contributions"]:
            part["event_list"] = held[part["window"]]
    return shown


def windows_of(config: Config, record: Mapping[str, Any]) -> list[str]:
    """The windows that contribute to a record, those that are carried forward too."""
    carried = _carried_windows(config, record["carried"]) if "carried" in record else []
    return [*carried, *(part["w"] for part in record["contributions"])]


def _carried(record: Mapping[str, Any], names: Sequence[str]) -> list[dict[str, Any]]:
    """What is carried forward as shown: one line for all of it. Its windows may be of different revisions."""
    block = record.get("carried")
    if block is None:
        return []
    span = {"window": block["first"], "until": block["last"], "windows": block["windows"], "revision": None}
    return [{**span, "measures": _measures(named(block["m"], names)), "events": block["n"], "duplicates": block["d"], **_currencies(block)}]


def _contribution(state: State, part: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """A contribution as shown, with the revision as the timeline has it."""
    return {
        "window": part["w"],
        "revision": state.revision(part["w"]),
        "measures": _measures(named(part["m"], names)),
        "events": part["n"],
        "duplicates": part["d"],
        **_currencies(part),
    }


def _currencies(held: Mapping[str, Any]) -> dict[str, list[str]]:
    """The set of currencies, where they are told apart."""
    return {"currencies": held["u"]} if "u" in held else {}


def _measures(held: Mapping[str, Any]) -> dict[str, Any]:
    """Measures as shown: first and last by their values."""
    return {name: value["v"] if isinstance(value, dict) else value for name, value in held.items()}
