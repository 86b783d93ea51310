"""Looks an artifact up by its key: one ranged read, shown with the revisions behind its contributions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from recon.config.key import key_asked
from recon.errors import WrongInput
from recon.model.form import JsonLines
from recon.model.moments import Upto
from recon.model.record import named
from recon.model.windows import name_of
from recon.reading.contributing import windows_of
from recon.reading.sent import events_of
from recon.state.lookup import find_record
from recon.storage.hashing import hash_of, salt_of
from recon.storage.port import NotFound

if TYPE_CHECKING:
    from recon.config import Config, Place
    from recon.state.timeline import State
    from recon.storage.port import ObjectStore


@dataclass(frozen=True)
class Lookup:
    """One look-up. ``key``: values of the key's columns, or its text. ``upto``: the windows that count, None for all. ``events``: add to
    each contribution the list of its events. ``rules``: reads the rules by which a state was made; called only if they are needed, since
    that takes longer than the look-up."""

    store: ObjectStore
    place: Place
    rules: Callable[[State], Config]
    key: Sequence[str]
    upto: Upto | None = None
    events: bool = False

    def now(self, state: State) -> dict[str, Any]:
        """The artifact at the newest state. Raises WrongInput if the key is unknown."""
        key = key_asked(self.place, self.key)
        return self.shown(state, key, find_record(self.store, state, key))

    def then(self, state: State, head: State) -> dict[str, Any]:
        """The artifact at an earlier ``state``, as the rules of that state read the key. Raises WrongInput if the key is unknown."""
        key = key_asked(self.rules(state), self.key)
        return self.shown(state, key, self._record_then(state, key, head))

    def _record_then(self, state: State, key: str, head: State) -> dict[str, Any] | None:
        """The record at an earlier state; folded again if its part-files are already deleted, or were written by an earlier Recon."""
        try:
            return find_record(self.store, state, key)
        except (NotFound, JsonLines):
            from recon.reading.history import record_then
        rules = self.rules(state)
        if head.rebuilt > state.commit:
            return record_then(self.store, rules, state, key)
        # The newest record names every window that has contributed since the last rebuild.
        newest = find_record(self.store, head, key)
        if newest is None:
            return None
        return record_then(self.store, rules, state, key, [*windows_of(rules, newest), *newest["withdrawn"]])

    def shown(self, state: State, key: str, record: Mapping[str, Any] | None) -> dict[str, Any]:
        """The artifact as `recon show --json` prints it, from its ``record`` at ``state``. Raises WrongInput if there is no record, or no
        contribution in the windows that count."""
        if record is None:
            raise WrongInput(f"{key}: no artifact has this key at commit {state.commit}; keys are compared letter by letter")
        stored, names = record, self.place.names
        if self.upto is not None or (self.events and "carried" in record):
            record = self._folded(state, key, record)
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
            shown["currencies"] = sorted({currency for part in shown["contributions"] for currency in part["currencies"]})
        if self.upto is not None:
            shown |= self.upto.named
        if self.events:
            self._add_events(state, key, shown)
        if len(shown.get("currencies", ())) > 1:
            from recon.reading.currencies import add_by_currency

            add_by_currency(self.store, self.rules(state), state, stored, shown)
        return shown

    def _folded(self, state: State, key: str, record: Mapping[str, Any]) -> dict[str, Any]:
        """The record with the contributions of the windows that count."""
        from recon.reading.artifacts import fold_record

        last = None if self.upto is None else name_of(self.upto.last)
        folded = fold_record(self.store, self.rules(state), state, record, last, opened=self.events)
        if last is not None and not folded["contributions"] and "carried" not in folded:
            raise WrongInput(f"{key}: no window up to and including {last} holds this key")
        return folded

    def _add_events(self, state: State, key: str, shown: dict[str, Any]) -> None:
        windows = [part["window"] for part in shown["contributions"]]
        events = events_of(self.store, self.rules(state), state, key, hash_of(key, salt_of(self.store))[0], windows)
        for part in shown["contributions"]:
            part["event_list"] = events[part["window"]]


def _carried(record: Mapping[str, Any], names: Sequence[str]) -> list[dict[str, Any]]:
    """The block that is carried forward, as one contribution without a revision: its windows may have different revisions."""
    block = record.get("carried")
    if block is None:
        return []
    span = {"window": block["first"], "until": block["last"], "windows": block["windows"], "revision": None}
    return [{**span, "measures": _measures(named(block["m"], names)), "events": block["n"], "duplicates": block["d"], **_currencies(block)}]


def _contribution(state: State, part: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """A contribution as shown, with its revision in the timeline."""
    return {
        "window": part["w"],
        "revision": state.revision(part["w"]),
        "measures": _measures(named(part["m"], names)),
        "events": part["n"],
        "duplicates": part["d"],
        **_currencies(part),
    }


def _currencies(part: Mapping[str, Any]) -> dict[str, list[str]]:
    """The set of currencies, if the configuration names a currency column."""
    return {"currencies": part["u"]} if "u" in part else {}


def _measures(values: Mapping[str, Any]) -> dict[str, Any]:
    """Measures as shown: first and last by their values."""
    return {name: value["v"] if isinstance(value, dict) else value for name, value in values.items()}
