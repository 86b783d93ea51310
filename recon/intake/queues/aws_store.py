"""The record store in DynamoDB: one table, keys ``file`` and ``at``.

    file                          how far the cleaner is
    in#<first>#<last>#<round>     a parcel that became open, never changed; its INSERT is what the stream sends to the process queue
    kept#<first>#<last>#<round>   records that are not open: edited, or too large to travel
    st#<first>                    last, count, round, state, reason. There is none before a parcel is first changed
    out#<first>#<last>#<round>    a result, written in one transaction with its state
    act#<first>#<time>            what somebody did

Opened parcels are put without a condition and 25 at once: one that is there already is the same. Everything else is one conditional
write of its state. ``dead`` and ``place`` are on dead parcels only, for the index of that name.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

from recon.errors import Damaged, TryAgain
from recon.intake.queues.aws_queue import Refused, again_while_left, called, refuse_left
from recon.intake.queues.parcels import Parcel, names_of
from recon.intake.queues.port import Action, Counts, DeadLetter, Progress

DEAD = "dead"
"""The index of dead parcels: ``dead``, the reconciliation; ``place``, file and first line."""
_BATCH = 25
_SETTLE = 20
Item = dict[str, Any]


class DynamoRecordStore:
    """``client``: boto3's low-level client of DynamoDB."""

    def __init__(self, client: Any, table: str) -> None:
        self._client, self._table = client, table

    # ---- files ----

    def begin(self, file: str, name: str) -> Progress:
        item = {**_key(file, "file"), "name": {"S": name}, "rows": {"N": "0"}, "cleaned_to": {"N": "0"}, "cleaned": {"BOOL": False}}
        try:
            self._call("put_item", Item=item, ConditionExpression="attribute_not_exists(#file)", ExpressionAttributeNames={"#file": "file"})
        except Refused:
            item = self._get(file, "file") or item
        return _progress(item)

    def started(self, file: str) -> bool:
        return self._get(file, "file") is not None

    def advance(self, file: str, progress: Progress) -> None:
        values = {
            ":line": _number(progress.line),
            ":rows": _number(progress.rows),
            ":done": {"BOOL": progress.complete},
            ":no": {"BOOL": False},
        }
        try:
            self._call(
                "update_item",
                Key=_key(file, "file"),
                UpdateExpression="SET cleaned_to = :line, #rows = :rows, cleaned = :done",
                ConditionExpression="cleaned = :no AND cleaned_to <= :line",
                ExpressionAttributeNames={"#rows": "rows"},
                ExpressionAttributeValues=values,
            )
        except Refused:
            return  # another cleaner is as far, or further

    def counts(self, file: str) -> Counts:
        for _ in range(_SETTLE):
            found = self._get(file, "file")
            progress = _progress(found) if found else Progress()
            states = list(self._query(file, "st#"))
            spans = [(int(one["at"]["S"][3:]), int(one["last"]["N"])) for one in states]
            if all(last < first for (_, last), (first, _) in pairwise(spans)):
                return _counted(progress, states)
        raise TryAgain(f"table {self._table}: parcels of a file are being split all the time; run the same again")

    # ---- parcels ----

    def put(self, parcels: Sequence[Parcel]) -> None:
        for one in parcels:
            if one.refused:
                self._put_refused(one)
        self._put_all(list({(one.file, _at("in", one)): _opened(one) for one in parcels if not one.refused}.values()))

    def are_open(self, parcels: Sequence[Parcel]) -> list[bool]:
        keys = list({(one.file, one.first): _key(one.file, _state_at(one.first)) for one in parcels}.values())
        states = {(one["file"]["S"], one["at"]["S"]): one for one in self._get_all(keys)}
        return [_is_open(one, states.get((one.file, _state_at(one.first)))) for one in parcels]

    def split(self, parcel: Parcel, parts: Sequence[Parcel]) -> bool:
        writes = [self._change(parcel, ("open",), _state_of(parts[0], "open"))]
        for part in parts[1:]:
            writes.append(self._put_new({**_key(part.file, _state_at(part.first)), **_state_of(part, "open")}))
        writes += [self._put(_opened(part)) for part in parts]
        return self._transact(writes)

    def note(self, parcel: Parcel, reason: str) -> None:
        self._transact([self._change(parcel, ("open",), {**_state_of(parcel, "open"), "reason": {"S": reason}})])

    def finish(self, results: Sequence[Parcel]) -> None:
        for one in results:
            names = {"names": {"S": json.dumps(names_of(one))}}
            out = {**_key(one.file, _at("out", one)), **names, "records": {"S": one.records}, "count": _number(one.count)}
            self._transact([self._change(one, ("open", "dead"), _state_of(one, "finished")), self._put(out)])

    def bury(self, parcel: Parcel, reason: str) -> None:
        state = self._get(parcel.file, _state_at(parcel.first)) or {}
        noted = state.get("reason", {}).get("S") or reason
        self._transact([self._change(parcel, ("open",), _dead(parcel, "dead", noted))])

    # ---- lost messages ----

    def stored_firsts(self, file: str) -> set[int]:
        only = {"ProjectionExpression": "#at"}
        return {int(item["at"]["S"].split("#")[1]) for kind in ("in#", "kept#") for item in self._query(file, kind, **only)}

    def open_parcels(self, file: str) -> Iterator[Parcel]:
        states = {item["at"]["S"]: item for item in self._query(file, "st#")}
        for item in self._query(file, "in#"):
            parcel = _parcel(item)
            if _is_open(parcel, states.get(_state_at(parcel.first))):
                yield parcel

    def reopen(self, parcel: Parcel, reason: str) -> bool:
        later = replace(parcel, round=parcel.round + 1)
        action = Action("resend", reason, datetime.now(UTC))
        return self._act(parcel, action, _state_of(later, "open"), [self._put(_opened(later))], state="open")

    # ---- results ----

    def results(self, file: str) -> Iterator[Parcel]:
        for item in self._query(file, "out#"):
            yield _parcel(item)

    def result_names(self, file: str) -> list[str]:
        wanted = {"ProjectionExpression": "#names", "ExpressionAttributeNames": {"#names": "names"}}
        return list(dict.fromkeys(name for item in self._query(file, "out#", **wanted) for name in json.loads(item["names"]["S"])))

    # ---- dead letters ----

    def dead_letters(self, prefix: str, discarded: bool = False) -> Iterator[DeadLetter]:
        names: dict[str, str] = {}
        for state in self._dead(prefix):
            if state["state"]["S"] == "dead" or discarded:
                file, first = state["file"]["S"], int(state["at"]["S"][3:])
                if file not in names:
                    names[file] = (self._get(file, "file") or {}).get("name", {}).get("S", file)
                last, count, round_ = (int(state[name]["N"]) for name in ("last", "count", "round"))
                parcel = Parcel(file, first, last, count, round_)
                since = datetime.fromisoformat(state["changed_at"]["S"])
                yield DeadLetter(self._with_records(parcel), names[file], state["reason"]["S"], since, state["state"]["S"] == "discarded")

    def actions(self, parcel: Parcel) -> list[Action]:
        found = self._query(parcel.file, f"act#{parcel.first:012}#")
        return [
            Action(one["what"]["S"], one["reason"]["S"], datetime.fromisoformat(one["at"]["S"][17:]), one.get("before", {}).get("S"))
            for one in found
        ]

    def edit(self, parcel: Parcel, records: str, reason: str) -> bool:
        later = replace(parcel, round=parcel.round + 1, records=records)
        kept = {**_key(parcel.file, _at("kept", later)), "records": {"S": records}}
        noted = (self._get(parcel.file, _state_at(parcel.first)) or {}).get("reason", {}).get("S", "")
        action = Action("edit", reason, datetime.now(UTC), parcel.records)
        return self._act(parcel, action, _dead(later, "dead", noted), [self._put(kept)])

    def redrive(self, parcel: Parcel, reason: str) -> bool:
        later = replace(parcel, round=parcel.round + 1, refused="")
        action = Action("redrive", reason, datetime.now(UTC))
        return self._act(parcel, action, _state_of(later, "open"), [self._put(_opened(later))])

    def discard(self, parcel: Parcel, reason: str) -> bool:
        noted = (self._get(parcel.file, _state_at(parcel.first)) or {}).get("reason", {}).get("S", "")
        return self._act(parcel, Action("discard", reason, datetime.now(UTC)), _dead(parcel, "discarded", noted), [])

    def _act(self, parcel: Parcel, action: Action, after: Item, more: Sequence[Item], state: str = "dead") -> bool:
        item = {
            **_key(parcel.file, f"act#{parcel.first:012}#{action.at.isoformat()}"),
            "what": {"S": action.what},
            "reason": {"S": action.reason},
        }
        if action.before is not None:
            item["before"] = {"S": action.before}
        return self._transact([self._change(parcel, (state,), after), self._put(item), *more])

    def _with_records(self, parcel: Parcel) -> Parcel:
        for kind in ("in", "kept"):
            item = self._get(parcel.file, _at(kind, parcel))
            if item is not None:
                return replace(parcel, records=item["records"]["S"])
        raise Damaged(f"table {self._table}: {parcel.shown}: its records are not in the table; deliver the file again")

    # ---- requests ----

    def _put_refused(self, parcel: Parcel) -> None:
        kept = {**_key(parcel.file, _at("kept", parcel)), "records": {"S": parcel.records}}
        state = {**_key(parcel.file, _state_at(parcel.first)), **_dead(parcel, "dead", parcel.refused)}
        self._transact([self._put_new(state), self._put(kept)])

    def _put_all(self, items: Sequence[Item]) -> None:
        """Puts items, and those that DynamoDB leaves unprocessed again, until none is left."""
        for start in range(0, len(items), _BATCH):
            left = [{"PutRequest": {"Item": item}} for item in items[start : start + _BATCH]]
            for again in again_while_left():
                with again:
                    answer = self._called("batch_write_item", RequestItems={self._table: left})
                    left = answer.get("UnprocessedItems", {}).get(self._table, [])
                    refuse_left(left, f"table {self._table}: DynamoDB left unprocessed")

    def _get_all(self, keys: Sequence[Item]) -> list[Item]:
        left, found = list(keys), []
        for again in again_while_left():
            with again:
                answer = self._called("batch_get_item", RequestItems={self._table: {"Keys": left, "ConsistentRead": True}}) if left else {}
                found += answer.get("Responses", {}).get(self._table, [])
                left = answer.get("UnprocessedKeys", {}).get(self._table, {}).get("Keys", [])
                refuse_left(left, f"table {self._table}: DynamoDB did not read")
        return found

    def _get(self, file: str, at: str) -> Item | None:
        found: Item | None = self._call("get_item", Key=_key(file, at), ConsistentRead=True).get("Item")
        return found

    def _query(self, file: str, prefix: str, **more: Any) -> Iterator[Item]:
        values = {":file": {"S": file}, ":at": {"S": prefix}}
        names = {"#file": "file", "#at": "at", **more.pop("ExpressionAttributeNames", {})}
        condition = {"KeyConditionExpression": "#file = :file AND begins_with(#at, :at)", "ExpressionAttributeValues": values}
        yield from self._pages(ConsistentRead=True, ExpressionAttributeNames=names, **condition, **more)

    def _dead(self, prefix: str) -> Iterator[Item]:
        values = {":of": {"S": prefix.split("/")[0]}, ":place": {"S": prefix}}
        condition = {"KeyConditionExpression": "#dead = :of AND begins_with(#place, :place)", "ExpressionAttributeValues": values}
        yield from self._pages(IndexName=DEAD, ExpressionAttributeNames={"#dead": "dead", "#place": "place"}, **condition)

    def _pages(self, **arguments: Any) -> Iterator[Item]:
        while True:
            page = self._call("query", **arguments)
            yield from page["Items"]
            if "LastEvaluatedKey" not in page:
                return
            arguments["ExclusiveStartKey"] = page["LastEvaluatedKey"]

    def _change(self, parcel: Parcel, states: Sequence[str], state: Item) -> Item:
        """The write of a parcel's state, on condition that it has these lines, this round, and one of the states."""
        numbers = ("last", "count", "round")
        some = {f":state{number}": {"S": one} for number, one in enumerate(states)}
        known = f"{' AND '.join(f'#{name} = :{name}' for name in numbers)} AND #state IN ({', '.join(some)})"
        never = "attribute_not_exists(#state) OR " if "open" in states and parcel.round == 0 else ""
        return {
            "Put": {
                "TableName": self._table,
                "Item": {**_key(parcel.file, _state_at(parcel.first)), **state},
                "ConditionExpression": f"{never}({known})",
                "ExpressionAttributeNames": {f"#{name}": name for name in (*numbers, "state")},
                "ExpressionAttributeValues": {f":{name}": _number(getattr(parcel, name)) for name in numbers} | some,
            }
        }

    def _put(self, item: Item) -> Item:
        return {"Put": {"TableName": self._table, "Item": item}}

    def _put_new(self, item: Item) -> Item:
        only = {"ConditionExpression": "attribute_not_exists(#at)", "ExpressionAttributeNames": {"#at": "at"}}
        return {"Put": {"TableName": self._table, "Item": item, **only}}

    def _transact(self, writes: Sequence[Item]) -> bool:
        """All of the writes, or False where a condition is not met. The token makes a repeated request the same one."""
        token = str(uuid.uuid4())
        try:
            for again in again_while_left():
                with again:
                    self._called("transact_write_items", TransactItems=list(writes), ClientRequestToken=token)
        except Refused:
            return False
        return True

    def _call(self, operation: str, **arguments: Any) -> Any:
        return self._called(operation, TableName=self._table, **arguments)

    def _called(self, operation: str, **arguments: Any) -> Any:
        return called(f"table {self._table}", self._client, operation, **arguments)


def _key(file: str, at: str) -> Item:
    return {"file": {"S": file}, "at": {"S": at}}


def _number(value: int) -> Item:
    return {"N": str(value)}


def _at(kind: str, parcel: Parcel) -> str:
    return f"{kind}#{parcel.first:012}#{parcel.last:012}#{parcel.round:04}"


def _state_at(first: int) -> str:
    return f"st#{first:012}"


def _opened(parcel: Parcel) -> Item:
    return {**_key(parcel.file, _at("in", parcel)), "count": _number(parcel.count), "records": {"S": parcel.records}}


def _state_of(parcel: Parcel, state: str) -> Item:
    numbers = {name: _number(getattr(parcel, name)) for name in ("last", "count", "round")}
    return {**numbers, "state": {"S": state}, "reason": {"S": ""}, "changed_at": {"S": datetime.now(UTC).isoformat()}}


def _dead(parcel: Parcel, state: str, reason: str) -> Item:
    listed = {"dead": {"S": parcel.file.split("/")[0]}, "place": {"S": f"{parcel.file}#{parcel.first:012}"}}
    return {**_state_of(parcel, state), **listed, "reason": {"S": reason}}


def _is_open(parcel: Parcel, state: Item | None) -> bool:
    if state is None:
        return parcel.round == 0
    known = tuple(int(state[name]["N"]) for name in ("last", "count", "round"))
    return state["state"]["S"] == "open" and known == (parcel.last, parcel.count, parcel.round)


def _parcel(item: Item) -> Parcel:
    """The parcel of an ``in#`` or ``out#`` item."""
    _, first, last, round_ = item["at"]["S"].split("#")
    return Parcel(item["file"]["S"], int(first), int(last), int(item["count"]["N"]), int(round_), item["records"]["S"])


def parcel_inserted(image: Mapping[str, Any]) -> Parcel | None:
    """The parcel in the new image of a stream's record; None for any other item."""
    return _parcel(dict(image)) if image["at"]["S"].startswith("in#") else None


def _progress(item: Item) -> Progress:
    return Progress(int(item["cleaned_to"]["N"]), int(item["rows"]["N"]), item["cleaned"]["BOOL"])


def _counted(progress: Progress, states: Sequence[Item]) -> Counts:
    totals: dict[str, int] = {"open": 0, "finished": 0, "dead": 0, "discarded": 0}
    for one in states:
        totals[one["state"]["S"]] += int(one["count"]["N"])
    dead = totals["dead"] + totals["discarded"]
    known = totals["open"] + totals["finished"] + dead
    return Counts(max(progress.rows, known), progress.complete, totals["open"], totals["finished"], dead, totals["discarded"])
