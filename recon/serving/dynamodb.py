"""The DynamoDB client of the index table: retries that lose nothing to throttling or lost replies.

Endpoint, region and credentials come from boto3's standard chain; none is stored or logged here.
"""

from __future__ import annotations

import math
import os
import random
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

from tenacity import Retrying, retry_if_exception, stop_after_attempt

from recon.config import Config
from recon.errors import ConnectionLost, Damaged, ReconError, Throttled, TimedOut, TryAgain, WrongUsage, transient_kind
from recon.metering.meter import Meter, NoMeter
from recon.serving.items import OWNER, Pointer, from_item, item_key, to_item
from recon.storage.cache import meter_of
from recon.storage.port import ObjectStore

T = TypeVar("T")

BATCH_ITEMS_MAX = 25
"""Items in one BatchWriteItem at most."""
REQUESTS_AT_ONCE = 32
TRIES = 10
_WAIT_S, _WAIT_S_MAX = 0.05, 5.0
LATE_S = 60.0
"""A request whose reply was lost may still arrive for so many seconds."""
_ACTIVE_S = 300.0
IMPORT_LOOK_S = 10.0
"""Seconds between two looks at an import."""
_IMPORTING = {"IN_PROGRESS", "CANCELLING"}
_UNNAMED = {"BatchWriteItem", "ImportTable", "DescribeImport"}
"""Operations without a field TableName."""
_CONDITION = "attribute_not_exists(#seq) OR #seq < :seq"
_NAMES = {f"#{name}": name for name in ("seq", "file", "offset", "length", "check")}
_POINTS = "SET #seq = :seq, #file = :file, #offset = :offset, #length = :length, #check = :check"
_DIES = "SET #seq = :seq REMOVE #file, #offset, #length, #check"
_EXPIRED = {"ExpiredToken", "ExpiredTokenException", "RequestExpired"}
_REFUSED = {"AccessDeniedException", "UnrecognizedClientException", "InvalidSignatureException", "MissingAuthenticationTokenException"}
_UNSET = {"NoCredentialsError", "PartialCredentialsError", "NoRegionError", "CredentialRetrievalError", "ProfileNotFound"}
_WRITES = {"UpdateItem", "BatchWriteItem", "PutItem"}
_WITH_CAPACITY: dict[str, Any] = {"ReturnConsumedCapacity": "TOTAL"}
_BIG = re.compile(r"(?<!^)(?=[A-Z])")


class TableGone(ReconError):
    """The table does not exist."""


@dataclass(frozen=True)
class WriteCounts:
    """Counts of writes. ``items``: put or updated. ``refused``: the table has this pointer or a newer one. ``units``: write capacity."""

    items: int = 0
    refused: int = 0
    units: float = 0.0

    def __add__(self, other: WriteCounts) -> WriteCounts:
        return WriteCounts(self.items + other.items, self.refused + other.refused, self.units + other.units)


@dataclass(frozen=True)
class ImportCounts:
    """An import that has ended. ``why``: the reason of a failure, as DynamoDB names it."""

    status: str
    items: int = 0
    errors: int = 0
    why: str = ""


class TableClient:
    """The operations on index tables. Safe for many threads. ``client``: boto3's low-level client, which must not retry by itself
    (``open_client``)."""

    def __init__(
        self,
        client: Any,
        requests_at_once: int = REQUESTS_AT_ONCE,
        tries: int = TRIES,
        late_s: float = LATE_S,
        meter: Meter | None = None,
    ) -> None:
        self._client, self._at_once, self._tries, self._late_s = client, requests_at_once, tries, late_s
        self._meter = meter or NoMeter()
        self._in_doubt_until = 0.0

    # ---- tables ----

    def create(self, table: str) -> None:
        """Creates the table, billed by request, if it does not exist; waits until it is active. Raises WrongUsage for another schema."""
        name = {"AttributeName": "key"}
        key = [{**name, "KeyType": "HASH"}]
        with suppress(_InUse):
            types = [{**name, "AttributeType": "S"}]
            form: dict[str, Any] = {"KeySchema": key, "AttributeDefinitions": types, "BillingMode": "PAY_PER_REQUEST"}
            self._call(table, "CreateTable", **form, DeletionProtectionEnabled=True)
        end = time.monotonic() + _ACTIVE_S
        while (found := self._call(table, "DescribeTable")["Table"])["TableStatus"] != "ACTIVE":
            if time.monotonic() > end:
                raise TimedOut(f"table {table}: it is {found['TableStatus']} since {_ACTIVE_S:g} s; look at it in DynamoDB, then run again")
            time.sleep(0.5)
        if found["KeySchema"] != key:
            raise WrongUsage(f"table {table}: its key is not one text named 'key'; name another under index.table")

    def make_recoverable(self, table: str) -> None:
        """Enables point-in-time recovery, for which CreateTable has no option. DynamoDB Local does not support it."""
        with suppress(_Unknown):
            recovery = {"PointInTimeRecoveryEnabled": True}
            self._call(table, "UpdateContinuousBackups", PointInTimeRecoverySpecification=recovery)

    def is_there(self, table: str) -> bool:
        """Whether a table of this name exists, in whatever state."""
        return self.state(table) is not None

    def state(self, table: str) -> str | None:
        """The table's state, such as ACTIVE, or CREATING while an import fills it; None without a table."""
        try:
            return str(self._call(table, "DescribeTable")["Table"]["TableStatus"])
        except TableGone:
            return None

    def import_from(self, table: str, bucket: str, prefix: str, token: str, look_s: float | None = None) -> ImportCounts:
        """Makes the table, billed by request, from the items in the gzipped files below the prefix; protects it from deletion. Returns
        once the import has ended, which takes minutes at least. ``token``: a call with the same one starts no second import."""
        name = {"AttributeName": "key"}
        made = {
            "TableName": table,
            "AttributeDefinitions": [{**name, "AttributeType": "S"}],
            "KeySchema": [{**name, "KeyType": "HASH"}],
            "BillingMode": "PAY_PER_REQUEST",
        }
        source: dict[str, Any] = {"S3BucketSource": {"S3Bucket": bucket, "S3KeyPrefix": prefix}}
        source |= {"InputFormat": "DYNAMODB_JSON", "InputCompressionType": "GZIP"}
        try:
            begun = self._call(table, "ImportTable", ClientToken=token, TableCreationParameters=made, **source)["ImportTableDescription"]
        except _InUse:
            raise TryAgain(f"table {table}: it was made by another process just now; run the same again") from None
        while (now := self._call(table, "DescribeImport", ImportArn=begun["ImportArn"])["ImportTableDescription"])[
            "ImportStatus"
        ] in _IMPORTING:
            time.sleep(IMPORT_LOOK_S if look_s is None else look_s)
        items, errors = (int(now.get(name, 0)) for name in ("ImportedItemCount", "ErrorCount"))
        done = ImportCounts(now["ImportStatus"], items, errors, str(now.get("FailureCode") or ""))
        if done.status == "COMPLETED":
            self._call(table, "UpdateTable", DeletionProtectionEnabled=True)
        return done

    def owner(self, table: str) -> str | None:
        """The id of the build that owns the table; None if the table does not exist or has no owner."""
        try:
            found = self._call(table, "GetItem", Key={"key": {"S": OWNER}}, ConsistentRead=True).get("Item", {})
        except TableGone:
            return None
        return str(found["owner"]["S"]) if "owner" in found else None

    def claim(self, table: str, owner: str) -> bool:
        """Writes the owner into an empty table. False if the table is not empty: it belongs to another build."""
        if self._call(table, "Scan", Limit=1, ConsistentRead=True).get("Items"):
            return False
        try:
            self._call(
                table,
                "PutItem",
                Item={"key": {"S": OWNER}, "owner": {"S": owner}},
                ConditionExpression="attribute_not_exists(#key) OR #owner = :owner",
                ExpressionAttributeNames={"#key": "key", "#owner": "owner"},
                ExpressionAttributeValues={":owner": {"S": owner}},
            )
        except _Refused:
            return False
        return True

    def delete(self, table: str) -> None:
        """Deletes a table; a missing table is no error."""
        with suppress(TableGone, _InUse):
            self._call(table, "UpdateTable", DeletionProtectionEnabled=False)
            self._call(table, "DeleteTable")

    # ---- items ----

    def get(self, table: str, key: str) -> Pointer | None:
        """The pointer of a key, by a consistent read. Raises Damaged for an item that Recon did not write."""
        found = self._call(table, "GetItem", Key={"key": {"S": item_key(key)}}, ConsistentRead=True, **_WITH_CAPACITY).get("Item")
        if found is None:
            return None
        try:
            return from_item(key, found)
        except (ValueError, TypeError, KeyError) as error:
            raise Damaged(f"table {table}: the item of {key} was not written by Recon ({error!r}); next: recon index rebuild") from None

    def update(self, table: str, pointers: Iterable[Pointer], beat: Callable[[], None] = lambda: None) -> WriteCounts:
        """Updates each key's item to a pointer, unless the item has the same or a higher sequence. One call each, many in parallel.

        ``beat`` is called after each in this thread; an error that it raises ends the update after the calls in flight."""
        return self._in_parallel(pointers, lambda pointer: self._update(table, pointer), beat)

    def fill(self, table: str, pointers: Iterable[Pointer], beat: Callable[[], None] = lambda: None) -> WriteCounts:
        """Puts items unconditionally, each key once: only into a new table that is not read yet."""
        waiting = iter(pointers)
        return self._in_parallel(iter(lambda: list(islice(waiting, BATCH_ITEMS_MAX)), []), lambda batch: self._fill(table, batch), beat)

    def settle(self) -> None:
        """Waits until no request of ``fill`` whose reply was lost can still arrive: it would overwrite later writes."""
        while (left := self._in_doubt_until - time.monotonic()) > 0:
            time.sleep(left)

    def scan(self, table: str) -> Iterator[list[dict[str, Any]]]:
        """All items but the owner's, page by page, by consistent reads."""
        start: dict[str, Any] = {}
        while True:
            page = self._call(table, "Scan", ConsistentRead=True, **start, **_WITH_CAPACITY)
            yield [item for item in page["Items"] if item["key"]["S"] != OWNER]
            if "LastEvaluatedKey" not in page:
                return
            start = {"ExclusiveStartKey": page["LastEvaluatedKey"]}

    def _update(self, table: str, pointer: Pointer) -> WriteCounts:
        item = to_item(pointer)
        key = {"key": item.pop("key")}
        names = {place: name for place, name in _NAMES.items() if name in item or pointer.is_tombstone}
        try:
            done = self._call(
                table,
                "UpdateItem",
                Key=key,
                ConditionExpression=_CONDITION,
                UpdateExpression=_DIES if pointer.is_tombstone else _POINTS,
                ExpressionAttributeNames=names,
                ExpressionAttributeValues={f":{name}": value for name, value in item.items()},
                **_WITH_CAPACITY,
            )
        except _Refused:
            units = _units(pointer)  # billed, though the reply does not say so
            self._count(units, "write_unit")
            return WriteCounts(refused=1, units=units)
        return WriteCounts(1, 0, _consumed(done))

    def _fill(self, table: str, pointers: Sequence[Pointer]) -> WriteCounts:
        left: list[Any] = [{"PutRequest": {"Item": to_item(pointer)}} for pointer in pointers]
        units, stuck = 0.0, 0
        while left:
            done = self._call(table, "BatchWriteItem", certain=False, RequestItems={table: left}, **_WITH_CAPACITY)
            units += _consumed(done)
            before, left = len(left), done.get("UnprocessedItems", {}).get(table, [])
            if left:
                stuck = stuck + 1 if len(left) == before else 1
                if stuck >= self._tries:
                    raise Throttled(f"table {table}: DynamoDB left {len(left)} items unprocessed {stuck} times; run the same again later")
                time.sleep(_wait_s(stuck))
        return WriteCounts(len(pointers), 0, units)

    def _in_parallel(self, items: Iterable[T], work: Callable[[T], WriteCounts], beat: Callable[[], None]) -> WriteCounts:
        """``work`` on each item in parallel, in bounded memory. Raises the first error once no call is in flight."""
        done, source = WriteCounts(), iter(items)
        with ThreadPoolExecutor(self._at_once) as pool:
            while block := list(islice(source, self._at_once * 8)):
                for written in pool.map(work, block):
                    done += written
                    beat()
        return done

    # ---- calls ----

    def _call(self, table: str, operation: str, certain: bool = True, **arguments: Any) -> Any:
        """One call, retried while its error is transient. Not ``certain``: it must not arrive late, see ``settle``."""
        call = getattr(self._client, _BIG.sub("_", operation).lower())
        named = {} if operation in _UNNAMED else {"TableName": table}

        def once() -> Any:
            try:
                return call(**named, **arguments)
            except Exception as error:
                self._meter.count("dynamodb", operation)
                if not certain and issubclass(transient_kind(error) or ReconError, (ConnectionLost, TimedOut)):
                    self._in_doubt_until = time.monotonic() + self._late_s
                raise

        tries = Retrying(
            retry=retry_if_exception(lambda error: transient_kind(error) is not None),
            stop=stop_after_attempt(self._tries),
            wait=lambda state: _wait_s(state.attempt_number),
            reraise=True,
        )
        try:
            answer = tries(once)
        except Exception as error:
            raise _own_error(table, operation, error, transient_kind(error), tries.statistics["attempt_number"]) from error
        received = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("content-length", 0)
        self._meter.count("dynamodb", operation, received=int(received))
        units = _consumed(answer)
        self._count(*((units, "write_unit") if operation in _WRITES else (units * 2, "half_read_unit")))
        return answer

    def _count(self, units: float, what: str) -> None:
        for _ in range(math.ceil(units)):
            self._meter.count("dynamodb", what)


class _Refused(ReconError):
    """The condition was not met."""


class _InUse(ReconError):
    """The table exists, or is being created or deleted."""


class _Unknown(ReconError):
    """The service does not support the operation."""


_JUDGED = {"ConditionalCheckFailedException": _Refused, "ResourceInUseException": _InUse, "UnknownOperationException": _Unknown}
"""Codes that callers judge for themselves."""


def _own_error(table: str, operation: str, error: Exception, kind: type[TryAgain] | None, tried: int) -> Exception:
    """The error as Recon's own: table, operation, the service's code, next step. Never the request, which may contain keys."""
    response = getattr(error, "response", None)
    code = str(response["Error"].get("Code", "")) if isinstance(response, Mapping) and "Error" in response else type(error).__name__
    what = f"table {table}: {operation} failed ({code}{f', {tried} times' if tried > 1 else ''})"
    if kind is not None:
        return kind(f"{what}; the runs answer meanwhile; run the same again later")
    if code in _JUDGED:
        return _JUDGED[code](table)
    if code == "ResourceNotFoundException":
        return TableGone(f"table {table}: it is not there; the next run makes it anew")
    if code in _EXPIRED:
        return TryAgain(f"{what}: the AWS credentials have expired; sign in again, such as with 'aws sso login', then run the same again")
    if code in _REFUSED:
        return WrongUsage(f"{what}: access is denied; allow dynamodb:{operation} on {table} to the role or user that runs this")
    if code in _UNSET:
        return WrongUsage(f"{what}: give region and credentials as for any AWS tool, such as by AWS_REGION and AWS_PROFILE")
    if response is not None:
        return WrongUsage(f"{what}: DynamoDB refuses the request; check index.table and the table's form, or name another table")
    return error


def _wait_s(tried: int) -> float:
    """Seconds before the next try: full jitter below a bound that doubles, so that clients that fail together do not retry together."""
    return random.uniform(0, min(_WAIT_S_MAX, _WAIT_S * 2 ** (tried - 1)))  # noqa: S311


def _units(pointer: Pointer) -> float:
    item = to_item(pointer)
    size = sum(len(name) + len(str(value).encode()) for name, attribute in item.items() for value in attribute.values())
    return float(math.ceil(size / 1024))


def _consumed(answer: Mapping[str, Any]) -> float:
    """Capacity units, of one table or a list of tables."""
    consumed = answer.get("ConsumedCapacity", ())
    return sum(float(table["CapacityUnits"]) for table in ([consumed] if isinstance(consumed, Mapping) else consumed))


def open_client(requests_at_once: int = REQUESTS_AT_ONCE, tries: int = TRIES, meter: Meter | None = None) -> TableClient:
    """A client with the environment's region and credentials. Raises WrongUsage without boto3, a region or credentials."""
    try:
        import boto3
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError
    except ImportError:
        raise WrongUsage("index: kind: dynamodb needs the aws extra: pip install 'dagster-recon[aws]'") from None
    settings = Config(
        retries={"mode": "standard", "total_max_attempts": 1},  # TableClient retries, by the kind of each operation
        max_pool_connections=requests_at_once,
        connect_timeout=5,
        read_timeout=10,
        parameter_validation=False,
    )
    try:
        client = boto3.session.Session().client("dynamodb", region_name=os.environ.get("AWS_REGION") or None, config=settings)
    except BotoCoreError as error:
        raise _own_error("of the index", "connecting", error, None, 1) from None
    return TableClient(client, requests_at_once, tries, meter=meter)


def client_of(store: ObjectStore, config: Config) -> TableClient:
    """The client of a configuration; the store's meter counts its requests, too."""
    return open_client(config.index.requests_at_once, meter=meter_of(store))
