"""Where files arrive: a folder, a prefix in S3, or the queue of S3's events."""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import unquote_plus

from recon.config.model import Place
from recon.errors import Damaged, TryAgain, WrongInput, WrongUsage, transient_kind
from recon.storage.open import open_foreign
from recon.storage.port import NotFound

if TYPE_CHECKING:
    from recon.storage.s3 import ForeignObjects

MESSAGES_MAX = 10
"""Of one request to SQS."""
_VISIBLE_AGAIN_S = 900
NAME_BYTES_MAX = 255
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Item:
    """A file in an inbox. ``name``: for the sources' patterns. ``place``: a path or URL. ``stamp``: equal stamps of a place mean equal
    bytes. ``message``: of a queue, what is deleted once the file is received. ``of``: the source that it was made for, which alone takes
    it."""

    name: str
    place: str
    stamp: str
    message: str = ""
    of: str = ""


class Inbox(Protocol):
    """``items`` may be called again: a queue then gives the next messages, others give all files."""

    def items(self) -> list[Item]:
        """Files in order of name; links, hidden files and folders are left out."""
        ...

    def local(self, item: Item, scratch: Path) -> Path:
        """A copy of the file in ``scratch``, which its sender can't change. Raises WrongInput where it is gone, StillChanging where it has
        changed since it was listed: its writer is not done."""
        ...

    def received(self, item: Item) -> None:
        """Says that the file is kept and tracked."""
        ...


class StillChanging(TryAgain):
    """A file's writer is not done, or it was replaced: the next delivery takes it."""


def stamp_of(path: Path) -> str:
    """Size and times of change of a local file: a program that keeps the time of its bytes still changes that of the file. Raises
    WrongInput where it is gone."""
    status = _status_of(path)
    return f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"


def _inode_of(path: Path) -> tuple[int, int]:
    """Which file a path leads to, whatever its content is."""
    status = _status_of(path)
    return status.st_dev, status.st_ino


def _status_of(path: Path) -> os.stat_result:
    try:
        return path.stat()
    except OSError as error:
        raise WrongInput(f"{path}: {error.strerror}; name a file that can be read") from None


def open_inbox(place: Place, location: str) -> Inbox:
    """``location``: a folder, ``s3://bucket/prefix``, or the URL of an SQS queue. Raises WrongUsage for a folder that is not there."""
    if location.startswith("s3://"):
        return BucketInbox(location, open_foreign(location, place.s3))
    if location.startswith(("http://", "https://")):
        return QueueInbox(location, place)
    folder = Path(location)
    if not folder.is_dir():
        raise WrongUsage(f"{folder}: no such folder; name the folder that files arrive in")
    return FolderInbox(folder)


@dataclass(frozen=True)
class FolderInbox:
    """The files of a folder."""

    folder: Path

    def items(self) -> list[Item]:
        found = (path for path in self.folder.iterdir() if not path.name.startswith(".") and not path.is_symlink() and path.is_file())
        return [Item(path.name, str(path.absolute()), stamp_of(path)) for path in sorted(found)]

    def local(self, item: Item, scratch: Path) -> Path:
        local, place = _scratch_file(item, scratch), Path(item.place)
        before = _inode_of(place)
        try:
            shutil.copyfile(item.place, local)
        except OSError as error:
            raise (TryAgain if error.errno == errno.ENOSPC else WrongInput)(f"{item.place}: can't be copied: {error.strerror}") from None
        if stamp_of(place) != item.stamp or _inode_of(place) != before:
            raise StillChanging(f"{item.place}: it changes, and was not received; run the same again when its writer is done")
        return local

    def received(self, item: Item) -> None:
        return None


@dataclass(frozen=True)
class BucketInbox:
    """The objects below a prefix in S3, whatever their keys are."""

    location: str
    store: ForeignObjects

    def items(self) -> list[Item]:
        found = (Item(_name_in(one.path), self._place(one.path), one.version) for one in self.store.listed())
        return sorted((item for item in found if not item.name.startswith(".")), key=lambda item: (item.name, item.place))

    def local(self, item: Item, scratch: Path) -> Path:
        return copied(self.store, item.place.removeprefix(self._place("")), item, scratch)

    def received(self, item: Item) -> None:
        return None

    def _place(self, path: str) -> str:
        return f"{self.location.rstrip('/')}/{path}"


@dataclass
class QueueInbox:
    """The objects that a queue of S3's events names. A message is deleted when its files are received; until then it comes back, and
    the queue's own rule moves it to its dead-letter queue."""

    url: str
    place: Place
    _stores: dict[str, ForeignObjects] = field(default_factory=dict)
    _left: dict[str, int] = field(default_factory=dict)

    def items(self) -> list[Item]:
        answer = _asked(self.url, "receive_message", MaxNumberOfMessages=MESSAGES_MAX, VisibilityTimeout=_VISIBLE_AGAIN_S)
        found: list[Item] = []
        for message in answer.get("Messages", []):
            receipt = message["ReceiptHandle"]
            try:
                items = objects_in(message["Body"])
            except WrongInput as error:
                _LOG.warning("queue %s: message %s: %s", self.url, message["MessageId"], error)
                continue
            found += [Item(item.name, item.place, item.stamp, receipt) for item in items]
            self._left[receipt] = len(items)
            if not items:  # S3's own test event, or a removal
                self._done(receipt)
        return found

    def local(self, item: Item, scratch: Path) -> Path:
        bucket, _, key = item.place.removeprefix("s3://").partition("/")
        if bucket not in self._stores:
            self._stores[bucket] = open_foreign(f"s3://{bucket}", self.place.s3)
        return copied(self._stores[bucket], key, item, scratch)

    def received(self, item: Item) -> None:
        self._left[item.message] -= 1
        if not self._left[item.message]:
            self._done(item.message)

    def waiting(self) -> int:
        """About how many messages wait."""
        answer = _asked(self.url, "get_queue_attributes", AttributeNames=["ApproximateNumberOfMessages"])
        return int(answer["Attributes"]["ApproximateNumberOfMessages"])

    def _done(self, receipt: str) -> None:
        _asked(self.url, "delete_message", ReceiptHandle=receipt)


def objects_in(body: str) -> list[Item]:
    """The objects that were created, by one message of S3's events, also by way of SNS. Raises WrongInput for another message."""
    try:
        event = json.loads(body)
        event = json.loads(event["Message"]) if "TopicArn" in event else event
        if event.get("Event") == "s3:TestEvent":
            return []
        found = []
        for record in event["Records"]:
            if record["eventName"].startswith("ObjectCreated"):
                key, bucket = unquote_plus(record["s3"]["object"]["key"]), record["s3"]["bucket"]["name"]
                described = record["s3"]["object"]
                if key.endswith("/") and not described.get("size"):
                    continue  # what consoles make to show a folder
                stamp = f"{described.get('size', 0)} {described.get('eTag', '')} {described.get('sequencer', '')}"
                found.append(Item(_name_in(key), f"s3://{bucket}/{key}", stamp))
        return found
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise WrongInput(
            f"a message of the queue is no event of S3 ({type(error).__name__}); it will go to the dead-letter queue"
        ) from None


def _name_in(key: str) -> str:
    """The last part of a key; of one that ends in a slash with that slash, since it has no file name."""
    folder, slash, name = key.rpartition("/")
    return name or f"{folder.rpartition('/')[2]}{slash}"


def copied(store: ForeignObjects, path: str, item: Item, scratch: Path) -> Path:
    """An object as a local file of the item's name. Raises WrongInput where it is gone, StillChanging where it is replaced meanwhile: a
    long object is read in pieces, which would be of two versions."""
    local = _scratch_file(item, scratch)
    try:
        before = store.version(path)
        store.copy_out(path, local)
        same = store.version(path) == before
    except NotFound:
        raise WrongInput(f"{item.place}: the object is gone; upload it again") from None
    except Damaged:  # the new version is shorter
        same = False
    if not same:
        raise StillChanging(f"{item.place}: it was replaced while it was read, and was not received; run the same again")
    return local


def _scratch_file(item: Item, scratch: Path) -> Path:
    """Raises WrongInput for an object whose key ends in no file name."""
    if "/" in item.name or "\0" in item.name or item.name in (".", "..") or len(item.name.encode()) > NAME_BYTES_MAX:
        raise WrongInput(
            f"{item.place!r}: the last part of its key is no file name of 1 to {NAME_BYTES_MAX} bytes; copy the object to another key"
        )
    folder = scratch / "inbox"
    folder.mkdir(exist_ok=True)
    return folder / item.name


def _asked(url: str, operation: str, **arguments: Any) -> dict[str, Any]:
    """One request to SQS. Raises the kind of error that says whether it may pass."""
    try:
        import boto3
        from botocore.exceptions import BotoCoreError, ClientError
    except ImportError:
        raise WrongUsage("inbox: a queue needs the aws extra: pip install 'dagster-recon[aws]'") from None
    try:
        answer: dict[str, Any] = getattr(boto3.client("sqs"), operation)(QueueUrl=url, **arguments)
        return answer
    except (BotoCoreError, ClientError) as error:
        kind = transient_kind(error)
        if kind is not None:
            raise kind(f"queue {url}: {error}; run the same again") from error
        raise WrongUsage(f"queue {url}: {error}") from None


def locations(inboxes: Sequence[str | None], folder: Path) -> list[str]:
    """The distinct inboxes, folders as absolute paths; ``folder``: of the configuration."""
    remote = ("s3://", "http://", "https://", "breaks:")
    return sorted({text if text.startswith(remote) else str((folder / text).resolve()) for text in inboxes if text is not None})
