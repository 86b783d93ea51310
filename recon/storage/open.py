"""Opens a reconciliation's store, and refuses a store that belongs to another configuration."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit
from weakref import WeakKeyDictionary

from recon.config import Place
from recon.config.secrets import ReadSecret, boto3_secret
from recon.errors import TryAgain, WrongUsage
from recon.metering.meter import Meter
from recon.metering.usage import Tally
from recon.storage import documents, layout
from recon.storage.cache import in_front_of
from recon.storage.hashing import SALT, new_salt, remember
from recon.storage.local import LocalStore
from recon.storage.port import AlreadyExists, NotFound, ObjectStore

if TYPE_CHECKING:
    from recon.config.settings import S3Settings
    from recon.metering.meter import Meter
    from recon.storage.s3 import ForeignObjects


FORMAT = 5
"""The format of new stores. In formats 3 and 4 part-files contain JSON lines until 'recon rebuild' has made them again; the store keeps its
number. Format 3 also has no salt, and its older objects have no seals and links."""
READ = (3, 4, FORMAT)
_formats: WeakKeyDictionary[ObjectStore, int] = WeakKeyDictionary()
_NONE = "there is no store; land a first file ('recon land FILE --window W'), or bring back the one that was there"


def format_of(store: ObjectStore) -> int:
    """The number of a store's format, read once. Raises NotFound where there is no store, and Damaged."""
    if store not in _formats:
        _formats[store] = documents.read(store, layout.STORE, dict[str, Any], documents.RESTORE)["format"]
    return _formats[store]


def open_for(place: Place, create: bool = False, meter: Meter | None = None, read_secret: ReadSecret = boto3_secret) -> ObjectStore:
    """The store of a reconciliation, with the configured cache in front of it. ``create``: makes a store where there is none. ``meter``
    counts the requests to both; by default a tally of the store's own.

    Raises WrongUsage for a folder that is not a store, and for a store of another reconciliation or with another grid of windows."""
    folder = place.store_path
    if folder is not None and not create and not folder.exists():
        raise WrongUsage(f"{folder}: {_NONE}")
    if folder is not None and folder.exists() and not folder.is_dir():
        raise WrongUsage(f"{folder}: this is a file; 'store' in {place.path.name} names a folder")
    meter = meter or Tally()
    store = in_front_of(
        open_store(place.store, place.path.parent, place.s3, meter, place.shared), place.cache, place.name, meter, read_secret
    )
    identity = _identity(place)
    raw = _identity_object(store, place, identity if create else None)
    found = documents.parsed(f"{place.store}: {layout.STORE}", raw, dict[str, Any], documents.RESTORE)
    if (made := found.get("format")) not in READ:
        raise WrongUsage(
            f"{place.store}: a store of format {made!r}, and this recon reads formats {READ[0]} to {FORMAT}; use the one that made it"
        )
    remember(store, found)
    _formats[store] = made
    for field, expected in identity.items():
        there = found.get(field, "" if field == "windows.zone" else None)
        if there != expected:
            raise WrongUsage(
                f"{place.path}: {field} is {_shown(expected)}, but the store was made with {_shown(there)}; "
                "put it back, or name a new store"
            )
    return store


def _identity_object(store: ObjectStore, place: Place, identity: dict[str, Any] | None) -> bytes:
    """The bytes of ``store.json``. With ``identity`` it is made where the location is empty."""
    try:
        return store.get(layout.STORE)
    except NotFound:
        if not store.empty():
            kind = "prefix" if place.store_path is None else "folder"
            if store.exists(layout.COPYING):
                raise WrongUsage(
                    f"{place.store_path or place.store}: an unfinished copy of a store; run 'recon copy' to this {kind} again"
                ) from None
            raise WrongUsage(
                f"{place.store_path or place.store}: this {kind} is not a store (it has no store.json); name an empty or a new {kind}"
            ) from None
        if identity is None:
            raise WrongUsage(f"{place.store}: {_NONE}") from None
    fields = {field: value for field, value in identity.items() if value != ""}
    try:
        return documents.put(store, layout.STORE, {"format": FORMAT, **fields, SALT: new_salt()}, **documents.INDENTED)
    except AlreadyExists:
        return store.get(layout.STORE)


@contextmanager
def store_present(store: ObjectStore) -> Iterator[None]:
    """Raises TryAgain in place of an error in the block if the store is gone (its disk was unmounted, its folder moved): such errors look
    like damage, or like windows that are not ready, and no data must be blamed for them."""
    try:
        yield
    except TryAgain:
        raise
    except Exception as error:  # DuckDB and Arrow have errors of their own for a missing file
        if store.exists(layout.STORE):
            raise
        raise TryAgain(f"the store is away: {layout.STORE} is gone ({error}); bring it back, then run the same again") from error


def _shown(value: object) -> str:
    return "UTC" if value == "" else repr(value)


def _identity(place: Place) -> dict[str, Any]:
    return {
        "name": place.name,
        "windows.zone": place.grid.zone,
        "windows.start": place.grid.start.isoformat(),
        "windows.every": str(place.grid.every),
    }


def open_store(location: str, base: Path, s3: S3Settings | None = None, meter: Meter | None = None, shared: bool = False) -> ObjectStore:
    """The store at ``location``: a folder (relative to ``base``, absolute, ``~/…``), a ``file://`` URL, or ``s3://bucket/prefix``.

    A folder that does not exist is made, a bucket is not. ``meter`` counts every request to S3. ``shared``: see LocalStore. Raises
    WrongUsage for a location that can't be a store, and where credentials are missing.
    """
    scheme, separator, _ = location.partition("://")
    if not separator:
        if not location.strip() or "\0" in location:
            raise WrongUsage(f"store: {location!r} is not a location; write a folder such as ./data")
        return LocalStore(base / Path(location).expanduser(), shared)
    if scheme == "file":
        url = urlsplit(location)
        if url.netloc not in ("", "localhost") or not url.path.startswith("/"):
            raise WrongUsage(f"store: {location!r} names a host; write file:///absolute/folder")
        return LocalStore(Path(unquote(url.path)), shared)
    if scheme == "s3":
        from recon.storage.s3 import open_s3

        return open_s3(location, s3, meter)
    raise WrongUsage(f"store: {location!r} has an unknown scheme; write a folder such as ./data, file:///… or s3://…")


def open_foreign(location: str, s3: S3Settings | None = None) -> ForeignObjects:
    """The objects that other programs put below ``s3://bucket/prefix``. Raises WrongUsage for the location and the credentials."""
    from recon.storage.s3 import ForeignObjects

    return ForeignObjects(location, s3)
