"""The index table's adapter: the few calls of DynamoDB that it takes, none of which loses anything to throttling or a lost reply.

Belongs here: calls, their repetition with jittered back-off, what their errors mean, consumed capacity. Does not belong here: what an item
is (items), and what is written when (loading, keeping).

Where it listens, the region and the credentials come from the standard environment, by boto3's own chain; none is kept or logged here.
"""

from __future__ import annotations

import math
import os
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, TypeVar

from recon.errors import ConnectionLost, Damaged, ReconError, Throttled, TimedOut, TryAgain, WrongUsage
from recon.passing import passing
from recon.serving.items import OWNER, Pointer, from_item, item_key, to_item

T = TypeVar("T")

BATCH_ITEMS_MAX = 25
"""What one BatchWriteItem takes."""
REQUESTS_AT_ONCE = 32
TRIES = 10
_WAIT_S, _WAIT_S_MAX = 0.05, 5.0
LATE_S = 60.0
"""How long a request whose reply was lost may still be on its way."""
_ACTIVE_S = 300.0
_CONDITION = "attribute_not_exists(#seq) OR #seq < :seq"
_NAMES = {f"#{name}": name for name in ("seq", "file", "offset", "length", "check")}
_POINTS = "SET #seq = :seq, #file = :file, #offset = :offset, #length = :length, #check = :check"
_DIES = "SET #seq = :seq REMOVE #file, #offset, #length, #check"
_EXPIRED = {"ExpiredToken", "ExpiredTokenException", "RequestExpired"}
_REFUSED = {"AccessDeniedException", "UnrecognizedClientException", "InvalidSignatureException", "MissingAuthenticationTokenException"}


class TableGone(ReconError):
    """There is no table of that name."""


@dataclass(frozen=True)
class Written:
    """What was written. ``items``: put or moved on. ``refused``: stood there already, or something newer. ``units``: write capacity."""

    items: int = 0
    refused: int = 0
    units: float = 0.0

    def __add__(self, other: Written) -> Written:
        return Written(self.items + other.items, self.refused + other.refused, self.units + other.units)


class TableClient:
    """DynamoDB as the index uses it, for tables of any name. May be used from many threads; ``client`` is boto3's low-level client, which
    must not repeat calls by itself (``open_client``)."""

    def __init__(self, client: Any, requests_at_once: int = REQUESTS_AT_ONCE, tries: int = TRIES, late_s: float = LATE_S) -> None:
        self._client, self._at_once, self._tries, self._late_s = client, requests_at_once, tries, late_s
        self._in_doubt_until = 0.0

    # ---- tables ----

    def create(self, table: str) -> None:
        """Makes the table, billed by request, unless there is one; returns once it can be used. Raises WrongUsage for another form."""
        key = {"AttributeName": "key"}
        with suppress(_InUse):
            self._call(
                table,
                lambda: self._client.create_table(
                    TableName=table,
                    KeySchema=[{**key, "KeyType": "HASH"}],
                    AttributeDefinitions=[{**key, "AttributeType": "S"}],
                    BillingMode="PAY_PER_REQUEST",
                ),
            )
        end = time.monotonic() + _ACTIVE_S
        while (told := self._describe(table))["TableStatus"] != "ACTIVE":
            if time.monotonic() > end:
                raise TimedOut(f"table {table}: it is {told['TableStatus']} since {_ACTIVE_S:g} s; look at it in DynamoDB, then run again")
            time.sleep(min(0.5, self._late_s))
        if told["KeySchema"] != [{**key, "KeyType": "HASH"}]:
            raise WrongUsage(f"table {table}: its key is not one text named 'key'; name another under index.table")

    def owner(self, table: str) -> str | None:
        """Who fills or filled the table, None where it is gone or nobody's."""
        name = {"key": {"S": OWNER}}
        try:
            found = self._call(table, lambda: self._client.get_item(TableName=table, Key=name, ConsistentRead=True)).get("Item", {})
        except TableGone:
            return None
        return str(found["owner"]["S"]) if "owner" in found else None

    def claim(self, table: str, owner: str) -> bool:
        """Writes who fills an empty table. False where it holds anything already: it belongs to somebody else."""
        if self._call(table, lambda: self._client.scan(TableName=table, Limit=1, ConsistentRead=True)).get("Items"):
            return False
        try:
            self._call(
                table,
                lambda: self._client.put_item(
                    TableName=table,
                    Item={"key": {"S": OWNER}, "owner": {"S": owner}},
                    ConditionExpression="attribute_not_exists(#key) OR #owner = :owner",
                    ExpressionAttributeNames={"#key": "key", "#owner": "owner"},
                    ExpressionAttributeValues={":owner": {"S": owner}},
                ),
            )
        except _Refused:
            return False
        return True

    def delete(self, table: str) -> None:
        """Removes a table; one that is gone is no error."""
        with suppress(TableGone, _InUse):
            self._call(table, lambda: self._client.delete_table(TableName=table))

    def _describe(self, table: str) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self._call(table, lambda: self._client.describe_table(TableName=table))["Table"]
        return found

    # ---- items ----

    def get(self, table: str, key: str) -> Pointer | None:
        """What the table says of a key, with all that was written before. Raises Damaged for an item that is none of ours."""
        name = {"key": {"S": item_key(key)}}
        found = self._call(table, lambda: self._client.get_item(TableName=table, Key=name, ConsistentRead=True)).get("Item")
        if found is None:
            return None
        try:
            return from_item(key, found)
        except (ValueError, TypeError, KeyError) as error:
            raise Damaged(
                f"table {table}: the item of {key} is none of ours ({error!r}); make the table anew: recon index rebuild"
            ) from None

    def update(self, table: str, pointers: Iterable[Pointer]) -> Written:
        """Moves each key's item on to a pointer, unless it holds one of the same sequence or a higher one. One call each, many at once."""
        return self._together(pointers, lambda pointer: self._update(table, pointer))

    def fill(self, table: str, pointers: Iterable[Pointer]) -> Written:
        """Puts items whatever stands there, each key once: only into a new table that nobody reads."""
        waiting = iter(pointers)
        return self._together(iter(lambda: list(islice(waiting, BATCH_ITEMS_MAX)), []), lambda batch: self._fill(table, batch))

    def settle(self) -> None:
        """Waits until no request of ``fill`` whose reply was lost can still be on its way: it would overwrite what came later."""
        while (left := self._in_doubt_until - time.monotonic()) > 0:
            time.sleep(left)

    def scan(self, table: str) -> Iterator[list[dict[str, Any]]]:
        """All items but the owner's, page by page, each with all that was written before."""
        start: dict[str, Any] = {}
        while True:
            page = self._call(table, partial(self._client.scan, TableName=table, ConsistentRead=True, **start))
            yield [item for item in page["Items"] if item["key"]["S"] != OWNER]
            if "LastEvaluatedKey" not in page:
                return
            start = {"ExclusiveStartKey": page["LastEvaluatedKey"]}

    def _update(self, table: str, pointer: Pointer) -> Written:
        item = to_item(pointer)
        key = {"key": item.pop("key")}
        named = {place: name for place, name in _NAMES.items() if name in item or pointer.is_tombstone}
        try:
            done = self._call(
                table,
                lambda: self._client.update_item(
                    TableName=table,
                    Key=key,
                    ConditionExpression=_CONDITION,
                    UpdateExpression=_DIES if pointer.is_tombstone else _POINTS,
                    ExpressionAttributeNames=named,
                    ExpressionAttributeValues={f":{name}": value for name, value in item.items()},
                    ReturnConsumedCapacity="TOTAL",
                ),
            )
        except _Refused:
            return Written(refused=1, units=_units(pointer))  # it is billed, though the reply does not say so
        return Written(1, 0, _consumed([done.get("ConsumedCapacity")]))

    def _fill(self, table: str, pointers: Sequence[Pointer]) -> Written:
        left: list[Any] = [{"PutRequest": {"Item": to_item(pointer)}} for pointer in pointers]
        units, stuck = 0.0, 0
        while left:
            put = partial(self._client.batch_write_item, RequestItems={table: left}, ReturnConsumedCapacity="TOTAL")
            done = self._call(table, put, certain=False)
            units += _consumed(done.get("ConsumedCapacity", ()))
            before, left = len(left), done.get("UnprocessedItems", {}).get(table, [])
            if left:
                stuck = stuck + 1 if len(left) == before else 1
                if stuck >= self._tries:
                    raise Throttled(f"table {table}: DynamoDB left {len(left)} items unprocessed {stuck} times; run the same again later")
                time.sleep(_wait_s(stuck))
        return Written(len(pointers), 0, units)

    def _together(self, asked: Iterable[T], work: Callable[[T], Written]) -> Written:
        """``work`` on each, many at once; of what ``asked`` gives only a little is held. The first error is raised once none is at work."""
        done, source = Written(), iter(asked)
        with ThreadPoolExecutor(self._at_once) as pool:
            while block := list(islice(source, self._at_once * 8)):
                for written in pool.map(work, block):
                    done += written
        return done

    # ---- calls ----

    def _call(self, table: str, call: Callable[[], Any], certain: bool = True) -> Any:
        """A call, again as long as its error passes by itself. Not ``certain``: one that must not come late, see ``settle``."""
        tried = 0
        while True:
            try:
                return call()
            except Exception as error:
                kind = passing(error)
                if not certain and kind is not None and issubclass(kind, (ConnectionLost, TimedOut)):
                    self._in_doubt_until = time.monotonic() + self._late_s
                tried += 1
                if kind is None or tried >= self._tries:
                    raise _told(table, error, kind, tried) from error
            time.sleep(_wait_s(tried))


class _Refused(ReconError):
    """The condition did not hold."""


class _InUse(ReconError):
    """The table exists, or is being made or removed."""


def _told(table: str, error: Exception, kind: type[TryAgain] | None, tried: int) -> Exception:
    """The error in our own words: table, service's code, next step. Never the request, which may hold keys."""
    response = getattr(error, "response", None)
    code = str(response["Error"].get("Code", "")) if isinstance(response, Mapping) and "Error" in response else type(error).__name__
    if kind is not None:
        return kind(f"table {table}: {code} from DynamoDB, {tried} times; the runs answer meanwhile; run the same again later")
    if code == "ConditionalCheckFailedException":
        return _Refused(table)
    if code == "ResourceInUseException":
        return _InUse(table)
    if code == "ResourceNotFoundException":
        return TableGone(f"table {table}: it is not there; the next run makes it anew")
    if code in _EXPIRED:
        return TryAgain(f"table {table}: the credentials have expired ({code}); renew them, then run the same again")
    if code in _REFUSED:
        return WrongUsage(f"table {table}: DynamoDB refuses these credentials ({code}); see the roles in docs/operations.md")
    if code in ("NoCredentialsError", "PartialCredentialsError", "NoRegionError", "CredentialRetrievalError", "ProfileNotFound"):
        return WrongUsage(f"table {table}: {code}: give region and credentials as for any AWS tool, such as AWS_REGION and AWS_PROFILE")
    return error


def _wait_s(tried: int) -> float:
    """Full jitter: anything up to a bound that doubles, so that many who were refused together do not come back together."""
    return random.uniform(0, min(_WAIT_S_MAX, _WAIT_S * 2 ** (tried - 1)))  # noqa: S311


def _units(pointer: Pointer) -> float:
    item = to_item(pointer)
    size = sum(len(name) + len(str(value).encode()) for name, attribute in item.items() for value in attribute.values())
    return float(math.ceil(size / 1024))


def _consumed(told: Iterable[Mapping[str, Any] | None]) -> float:
    return sum(float(one["CapacityUnits"]) for one in told if one)


def open_client(requests_at_once: int = REQUESTS_AT_ONCE, tries: int = TRIES) -> TableClient:
    """The client of the environment's region and credentials. Raises WrongUsage without boto3, a region or credentials."""
    try:
        import boto3
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError
    except ImportError:
        raise WrongUsage("index: kind: dynamodb needs the aws extra: pip install 'recon[aws]'") from None
    once = Config(
        retries={"mode": "standard", "total_max_attempts": 1},  # repeated here, by what is known of each call
        max_pool_connections=requests_at_once,
        connect_timeout=5,
        read_timeout=10,
        parameter_validation=False,
    )
    try:
        client = boto3.session.Session().client("dynamodb", region_name=os.environ.get("AWS_REGION") or None, config=once)
    except BotoCoreError as error:
        raise _told("of the index", error, None, 1) from None
    return TableClient(client, requests_at_once, tries)
