"""Fills a new index table by DynamoDB's import from S3, which costs by the byte instead of by the item.

    serving/imports/<build>/<share>.json.gz      one item a line, as DynamoDB's JSON; removed after the import

The import makes the table, so it has no readers and no other writer. Items are those that updates would write. DynamoDB reads the files
with the rights of the caller.
"""

from __future__ import annotations

import gzip
import io
import json
import math
import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from recon.config import Config
from recon.config.settings import S3Settings
from recon.errors import Damaged, ReconError, WrongUsage
from recon.metering.usage import Tally, counted, from_counts, tally_of, to_counts
from recon.serving.builds import TableBuild
from recon.serving.dynamodb import TableClient, WriteCounts
from recon.serving.items import OWNER, Pointer, to_item
from recon.serving.load import Loaded, load_share
from recon.serving.shares import Share
from recon.storage import layout
from recon.storage.open import open_store
from recon.storage.port import ObjectStore

FILE_ENTRIES = 1_000_000
"""Entries in one file. DynamoDB takes 50,000 files, and recommends at most 4,000,000 items in each."""
_LEVEL = 1
"""Of gzip: the import is billed by bytes before compression."""


@dataclass(frozen=True)
class Imported:
    """What was written for an import. ``size``: bytes before compression, which is what the import costs by."""

    loaded: tuple[Loaded, ...]
    size: int


def check_place(config: Config) -> None:
    """Raises WrongUsage for a store that DynamoDB cannot import from."""
    if not config.location.startswith("s3://"):
        raise WrongUsage(
            f"{config.path.name}: index.fill: import: DynamoDB imports from S3, and the store is {config.location}; write fill: updates"
        )


def import_table(store: ObjectStore, config: Config, tables: TableClient, build: TableBuild, shares: Iterable[Share]) -> Imported:
    """Makes the build's table with the entries of ``shares`` and the item of its owner. Raises Damaged unless DynamoDB has taken every
    item, and RunsGone, TableGone and kinds of TryAgain."""
    written = _written(store, config, build, list(shares))
    bucket, _, prefix = config.location.removeprefix("s3://").partition("/")
    folder = layout.serving_import(build.number)
    done = tables.import_from(build.table, bucket, f"{prefix.rstrip('/')}/{folder}" if prefix.rstrip("/") else folder, build.owner)
    expected = sum(loaded.entries for loaded in written.loaded) + 1
    if (done.items, done.errors) != (expected, 0):
        raise Damaged(
            f"table {build.table}: the import took {done.items:,} of {expected:,} items, with {done.errors:,} errors "
            f"(status {done.status}{f', {done.why}' if done.why else ''}); see the log group /aws-dynamodb/imports, then run the same again"
        )
    if (tally := tally_of(store)) is not None:
        tally.add(counted("dynamodb", "import_megabyte", math.ceil(written.size / 1_000_000)))
    remove_files(store, build)
    return written


def remove_files(store: ObjectStore, build: TableBuild) -> None:
    """Removes what was written for the import of a build. Files that may not be removed stay; nothing reads them."""
    with suppress(ReconError):
        for path in list(store.list(layout.serving_import(build.number))):
            store.delete(path)


def _written(store: ObjectStore, config: Config, build: TableBuild, shares: list[Share]) -> Imported:
    """Writes the files, one process for each core."""
    owner = json.dumps({"Item": {"key": {"S": OWNER}, "owner": {"S": build.owner}}}, separators=(",", ":")).encode() + b"\n"
    store.put_new(f"{layout.serving_import(build.number)}owner.json.gz", [gzip.compress(owner)])
    works = [_Work(config.location, config.path.parent, config.s3, layout.serving_import(build.number), share) for share in shares]
    loaded, size, tally = [], len(owner), tally_of(store)
    for one, written, counts in _each(works):
        loaded.append(one)
        size += written
        if tally is not None:
            tally.add(from_counts(counts))
    return Imported(tuple(loaded), size)


@dataclass(frozen=True)
class _Work:
    """One file to write; all that another process needs."""

    location: str
    base: Path
    s3: S3Settings
    folder: str
    share: Share


Written = tuple[Loaded, int, dict[str, int]]
"""What was written, its bytes before compression, the requests that it took."""


def _each(works: list[_Work]) -> Iterator[Written]:
    processes = min(len(works), os.cpu_count() or 1)
    if processes <= 1:
        yield from map(_write, works)
        return
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(_write, works)


def _write(work: _Work) -> Written:
    tally = Tally()
    store = open_store(work.location, work.base, work.s3, tally)
    file = _ItemFile()
    loaded = load_share(store, file, replace(work.share, fresh=True))
    if file.size:  # else newer runs have all of its keys
        store.put_new(f"{work.folder}{work.share.share}.json.gz", [file.content()])
    return loaded, file.size, to_counts(tally.so_far())


class _ItemFile:
    """A file of items in memory (a recon.serving.load.Items)."""

    def __init__(self) -> None:
        self.size = 0
        self._packed = io.BytesIO()
        self._lines = gzip.GzipFile(fileobj=self._packed, mode="wb", compresslevel=_LEVEL, mtime=0)

    def fill(self, table: str, pointers: Iterable[Pointer], beat: Callable[[], None] = lambda: None) -> WriteCounts:
        lines = [json.dumps({"Item": to_item(pointer)}, separators=(",", ":"), ensure_ascii=False) for pointer in pointers]
        text = "".join(f"{line}\n" for line in lines).encode()
        self.size += len(text)
        self._lines.write(text)
        return WriteCounts(len(lines))

    def update(self, table: str, pointers: Iterable[Pointer], beat: Callable[[], None] = lambda: None) -> WriteCounts:
        raise NotImplementedError("items of an import are never updates")

    def content(self) -> bytes:
        self._lines.close()
        return self._packed.getvalue()
