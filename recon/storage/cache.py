"""The cache of records in Redis (ElastiCache, Valkey), in front of object storage. A failing cache costs time, never correctness.

    recon:<namespace>:<name>       name: BLAKE2b-128 of (part-file, offset, length, check), keyed by the store's seal
    value                          BLAKE2b-128 of (name, record), keyed by the seal; then the record

An entry whose digest does not match is a miss.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from hashlib import blake2b
from hmac import compare_digest
from itertools import islice
from typing import TYPE_CHECKING, Any

from recon.config.secrets import ReadSecret, boto3_secret
from recon.errors import Damaged, WrongUsage
from recon.metering.meter import Meter
from recon.storage import layout
from recon.storage.port import AlreadyExists, NotFound, ObjectStore
from recon.storage.redis import connected

if TYPE_CHECKING:
    from recon.config.settings import Cache
    from recon.model.record import RecordAddress

KEYS_AT_ONCE = 256
FAILURES_MAX = 3
PAUSE_S = 30.0
SEAL_BYTES = 32
_MARK_BYTES = 16

_LOG = logging.getLogger(__name__)


class RecordCache:
    """Records by their addresses. ``get`` and ``put`` never raise; a failure counts as a miss. Safe for many threads.

    Callers check a cached record against the index, as they check any other."""

    def __init__(
        self,
        settings: Cache,
        namespace: str,
        seal: Callable[[], bytes],
        meter: Meter | None = None,
        read_secret: ReadSecret = boto3_secret,
        pause_s: float = PAUSE_S,
    ) -> None:
        """``seal`` returns the store's secret. The first request connects."""
        self._settings, self._seal_of, self._meter, self._read_secret = settings, seal, meter, read_secret
        self._prefix = f"recon:{namespace}:".encode()
        self._breaker = Breaker(pause_s)
        self._lock = threading.Lock()
        self._client: Any = None
        self._seal = b""
        self._warned = False

    def get(self, places: Sequence[RecordAddress]) -> list[bytes | None]:
        """The record at each address, None where the cache does not have it, or has other bytes."""
        found: list[bytes | None] = []
        if self._breaker.allows():
            with self._no_worse_than_a_miss():
                while len(found) < len(places):
                    found += self._asked(places[len(found) : len(found) + KEYS_AT_ONCE])
        return found + [None] * (len(places) - len(found))

    def put(self, records: Iterable[tuple[RecordAddress, bytes]]) -> None:
        """Stores records that have been checked, except those larger than ``cache.record_max``."""
        small = ((address, record) for address, record in records if len(record) <= self._settings.record_max)
        if self._breaker.allows():
            with self._no_worse_than_a_miss():
                while batch := list(islice(small, KEYS_AT_ONCE)):
                    self._kept(batch)

    def try_out(self) -> None:
        """Sends one request, and raises its error."""
        connected(self._settings, self._read_secret).get(self._prefix)

    def _asked(self, places: Sequence[RecordAddress]) -> list[bytes | None]:
        client = self._connected()
        names = [self._name(place) for place in places]
        values = client.mget([self._prefix + name for name in names])
        self._breaker.succeeded()
        self._count("mget", sent=sum(map(len, names)), received=sum(len(value) for value in values if value is not None))
        return [self._opened(place, name, value) for place, name, value in zip(places, names, values, strict=True)]

    def _kept(self, batch: Sequence[tuple[RecordAddress, bytes]]) -> None:
        life_s, sent = int(self._settings.ttl.total_seconds()), 0
        pipeline = self._connected().pipeline(transaction=False)
        for place, record in batch:
            name = self._name(place)
            pipeline.set(self._prefix + name, self._mark(name, record) + record, ex=life_s)
            sent += _MARK_BYTES + len(record)
        pipeline.execute()
        self._breaker.succeeded()
        self._count("set", sent=sent)

    def _connected(self) -> Any:
        with self._lock:
            self._seal = self._seal or self._seal_of()
            self._client = self._client or connected(self._settings, self._read_secret)
            return self._client

    def _name(self, place: RecordAddress) -> bytes:
        identity = f"{place.offset} {place.length} {place.check} {place.part_file}".encode()
        return blake2b(identity, key=self._seal, digest_size=_MARK_BYTES).digest()

    def _mark(self, name: bytes, record: bytes) -> bytes:
        return blake2b(name + record, key=self._seal, digest_size=_MARK_BYTES).digest()

    def _opened(self, place: RecordAddress, name: bytes, value: bytes | None) -> bytes | None:
        if value is None:
            self._count("miss")
            return None
        mark, record = value[:_MARK_BYTES], value[_MARK_BYTES:]
        if len(record) != place.length or not compare_digest(mark, self._mark(name, record)):
            self._count("wrong")
            self._warn("holds entries that are damaged, or that recon did not write")
            return None
        self._count("hit", received=len(record))
        return record

    @contextmanager
    def _no_worse_than_a_miss(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # any error: the record can be read from the store
            self._breaker.failed()
            self._count("error")
            with self._lock:
                # Connect anew next time, with the secret read again, as it may have changed.
                self._client = None
            self._warn(reason(error))

    def _count(self, operation: str, sent: int = 0, received: int = 0) -> None:
        if self._meter is not None:
            self._meter.count("redis", operation, sent, received)

    def _warn(self, what: str) -> None:
        with self._lock:
            warned, self._warned = self._warned, True
        if not warned:
            _LOG.warning("recon: cache at %s: %s; reading from the store", self._settings.address, what)


class Breaker:
    """Allows no request for ``pause_s`` seconds after FAILURES_MAX failures in a row, then one request as a trial."""

    def __init__(self, pause_s: float) -> None:
        self._pause_s, self._failures, self._closed_until = pause_s, 0, 0.0
        self._lock = threading.Lock()

    def allows(self) -> bool:
        with self._lock:
            now = time.monotonic()
            if self._failures < FAILURES_MAX:
                return True
            if now < self._closed_until:
                return False
            self._closed_until = now + self._pause_s  # other threads wait for the result of this trial
            return True

    def failed(self) -> None:
        with self._lock:
            self._failures += 1
            self._closed_until = time.monotonic() + self._pause_s

    def succeeded(self) -> None:
        with self._lock:
            self._failures = 0


class CachedStore:
    """A store with a cache of its records. Only recon.state.runs.read uses the cache; every other attribute is the store's own."""

    def __init__(self, store: ObjectStore, records: RecordCache) -> None:
        self.store, self.records = store, records

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)


def cache_of(store: ObjectStore) -> RecordCache | None:
    """The cache in front of a store, if there is one."""
    return store.records if isinstance(store, CachedStore) else None


def uncached(store: ObjectStore) -> ObjectStore:
    """The store without its cache, for proofs of its content."""
    return store.store if isinstance(store, CachedStore) else store


def meter_of(store: ObjectStore) -> Meter | None:
    """The meter that counts the requests to a store and its cache; None for a folder."""
    meter: Meter | None = getattr(uncached(store), "meter", None)
    return meter


def in_front_of(
    store: ObjectStore, settings: Cache, namespace: str, meter: Meter | None = None, read_secret: ReadSecret = boto3_secret
) -> ObjectStore:
    """The store with the configured cache. A folder gets none, as its records are memory-mapped."""
    if settings.kind == "none" or store.local(layout.STORE) is not None:
        return store
    return CachedStore(store, RecordCache(settings, settings.namespace or namespace, lambda: seal_of(store), meter, read_secret))


def seal_of(store: ObjectStore) -> bytes:
    """The store's secret, which marks cache entries as its own. The first caller makes it; it is never put into a cache."""
    try:
        seal = store.get(layout.CACHE_SEAL)
    except NotFound:
        with suppress(AlreadyExists):
            store.put_new(layout.CACHE_SEAL, [secrets.token_bytes(SEAL_BYTES)])
        seal = store.get(layout.CACHE_SEAL)
    if len(seal) != SEAL_BYTES:
        raise Damaged(f"{layout.CACHE_SEAL}: {len(seal)} bytes, {SEAL_BYTES} are expected; delete it, and a new one is made")
    return seal


def reason(error: Exception) -> str:
    """Why a request failed, without text from the server or a secret."""
    if isinstance(error, WrongUsage | Damaged):
        return str(error)
    kinds = {kind.__name__ for kind in type(error).__mro__}
    if "AuthenticationError" in kinds or "NoPermissionError" in kinds:
        return "user or password is refused, or may not read and write its keys (cache.user, cache.secret)"
    if "TimeoutError" in kinds:
        return "no answer in time (cache.timeout_ms)"
    if "ConnectionError" in kinds or isinstance(error, OSError):
        return "cannot be reached (cache.url, its certificate)"
    return f"an error of the server or of this library, {type(error).__name__}"
