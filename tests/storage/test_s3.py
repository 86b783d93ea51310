"""What only a store in S3 knows: keys below a prefix, uploads in parts, pages of a list, credentials, encryption, counted requests.

What it has in common with a folder: test_store. What goes wrong on the way: test_s3_faults. Whole reconciliations: test_s3_pipeline.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import faulty_http
import pytest
import seaweed
from faulty_http import Answered
from hostile_names import hostile_names

from recon.config.settings import S3Settings
from recon.errors import WrongUsage
from recon.storage.open import open_store
from recon.storage.port import AlreadyExists
from recon.storage.s3 import S3Store, multipart, open_s3
from recon.storage.s3 import store as s3_store

PART = 5 << 20


class Counted:
    """A meter: operation → requests, bytes sent, bytes received."""

    def __init__(self) -> None:
        self.requests: Counter[str] = Counter()
        self.sent: Counter[str] = Counter()
        self.received: Counter[str] = Counter()
        self._turn = threading.Lock()

    def count(self, service: str, operation: str, sent: int = 0, received: int = 0) -> None:
        assert service == "s3"
        with self._turn:
            self.requests[operation] += 1
            self.sent[operation] += sent
            self.received[operation] += received


@pytest.fixture
def store(in_s3: str) -> S3Store:
    return open_s3(in_s3)


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multipart, "PART_BYTES", PART)
    monkeypatch.setattr(s3_store, "PIECE_BYTES", PART)


# ---- where it lies ---------------------------------------------------------------------------------------------------


def test_objects_are_keys_below_the_prefix_and_nothing_else_of_the_bucket_is_seen(in_s3: str, seaweed_server: seaweed.Seaweed) -> None:
    client, bucket = seaweed_server.client(), seaweed_server.bucket()
    foreign = {"a", "some/a", "some/prefix-2/a", "some/prefixes", "other/some/prefix/a"}
    for key in foreign:
        client.put_object(Bucket=bucket, Key=key, Body=b"foreign")
    store = open_s3(f"s3://{bucket}/some/prefix/")
    assert store.empty()
    store.put_new("a", [b"ours"])
    assert list(store.list("")) == ["a"]
    assert client.get_object(Bucket=bucket, Key="some/prefix/a")["Body"].read() == b"ours"
    assert set(open_s3(f"s3://{bucket}").list("")) == foreign | {"some/prefix/a"}


@pytest.mark.parametrize(
    "location",
    [
        "s3://",
        "s3:///prefix",
        "s3://Bucket/x",
        "s3://no_bucket/x",
        "s3://127.0.0.1/x",
        "s3://a..b/x",
        "s3://user:secret@bucket/x",
        "s3://bucket:80/x",
        "s3://bucket?x=1",
        "s3://bucket/../other",
        "s3://bucket/a//b",
        "s3://bucket/./a",
        "s3://bucket/a\\b",
        "s3://bucket/a\nb",
        "s3://bucket//a",
        "s3://bucket/tmp",
        f"s3://bucket/{'/'.join(['x' * 100] * 6)}",
        "s3://mine--use1-az4--x-s3/x",
    ],
)
def test_a_location_that_is_no_bucket_or_could_leave_its_prefix_is_refused(location: str) -> None:
    with pytest.raises(WrongUsage, match=r"^store: "):
        open_store(location, Path("/"))


def test_hostile_names_are_refused_everywhere_before_anything_is_asked(in_s3: str) -> None:
    meter = Counted()
    store = open_s3(in_s3, meter=meter)
    calls = [store.get, store.size, store.exists, store.delete, lambda p: store.put_new(p, [b"x"]), lambda p: store.get_range(p, 0, 1)]
    for path in hostile_names:
        for call in [*calls, lambda p: store.copy_in(p, Path(__file__)), lambda p: store.copy_out(p, Path("/nowhere"))]:
            with pytest.raises(WrongUsage):
                call(path)
    assert not meter.requests


def test_a_key_that_is_too_long_with_its_prefix_is_refused(in_s3: str) -> None:
    store = open_s3(in_s3 + "/" + "/".join(["p" * 90] * 5))
    with pytest.raises(WrongUsage, match="longer than the 1024 bytes"):
        store.put_new("/".join(["x" * 99] * 9), [b"x"])


def test_any_name_that_a_store_takes_comes_back_as_it_was(store: S3Store) -> None:
    names = ["a b", "%41", "A", "a/b", "a-b", "a.b", "é/ß", "q?#*{}~|\"<>^`[]'&+=@:;,$!(", "日本/x", "a+b", "%2F", "..a", "a..", "~"]
    for name in names:
        store.put_new(f"n/{name}", [name.encode()])
    assert list(store.list("n")) == sorted(f"n/{name}" for name in names)
    for name in names:
        assert store.get(f"n/{name}") == name.encode()
    for name in names:
        store.delete(f"n/{name}")
    assert list(store.list("n")) == []


def test_a_list_of_several_pages_is_whole_and_sorted(in_s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_store, "PAGE_KEYS", 10)
    store = open_s3(in_s3)
    names = sorted(f"l/{number % 3}/{number:03}" for number in range(35))
    for name in reversed(names):
        store.put_new(name, [b""])
    assert list(store.list("l")) == names
    assert list(store.list("l/1/")) == [name for name in names if name.startswith("l/1/")]
    assert list(store.list("l/1/00")) == []


# ---- large objects ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("extra", [0, 1, PART - 1])
def test_an_object_of_many_parts_comes_back_as_it_was_put_and_is_created_once(in_s3: str, small_parts: None, extra: int) -> None:
    meter = Counted()
    store = open_s3(in_s3, meter=meter)
    body = os.urandom(2 * PART + extra)
    chunks = [body[:100], memoryview(body)[100 : PART + 7], b"", body[PART + 7 :]]
    assert store.put_new("large", iter(chunks)) == len(body)
    assert meter.requests["UploadPart"] == 2 + bool(extra)
    assert meter.sent["UploadPart"] == len(body)
    assert store.get("large") == body
    assert store.size("large") == len(body)
    assert store.get_range("large", PART - 10, PART + 5) == body[PART - 10 : 2 * PART - 5]
    before = meter.requests["UploadPart"]
    with pytest.raises(AlreadyExists):
        store.put_new("large", [bytes(3 * PART)])
    assert meter.requests["UploadPart"] == before, "an object that exists is not uploaded again"
    assert store.get("large") == body


def test_an_upload_whose_source_fails_leaves_nothing_behind(store: S3Store, seaweed_server: seaweed.Seaweed, small_parts: None) -> None:
    def chunks():
        yield bytes(3 * PART)
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        store.put_new("large", chunks())
    assert not store.exists("large")
    assert "Uploads" not in seaweed_server.client().list_multipart_uploads(Bucket=store.location.bucket, Prefix=store.location.prefix)


def test_of_two_uploads_the_second_to_be_completed_is_refused(store: S3Store, small_parts: None) -> None:
    def chunks():
        yield bytes(2 * PART)
        open_s3(str(store.location)).put_new("large", [b"winner" * PART])
        yield bytes(PART)

    with pytest.raises(AlreadyExists):
        store.put_new("large", chunks())
    assert store.get_range("large", 0, 6) == b"winner"


def test_parts_grow_so_that_ten_thousand_of_them_hold_any_object() -> None:
    lengths = [multipart.PART_BYTES << number // multipart.GROWS_EVERY for number in range(10_000)]
    assert sum(lengths) > 5 << 40
    assert max(lengths) <= 5 << 30 or sum(length for length in lengths if length <= 5 << 30) > 5 << 40


# ---- credentials, endpoint, encryption -------------------------------------------------------------------------------


def test_without_credentials_the_next_step_is_told(in_s3: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(WrongUsage, match="no AWS credentials are found; set AWS_PROFILE"):
        open_s3(in_s3)
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(WrongUsage, match="nobody"):
        open_s3(in_s3)


def test_a_profile_gives_credentials_region_and_endpoint(
    in_s3: str, seaweed_server: seaweed.Seaweed, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in seaweed_server.environment:
        monkeypatch.delenv(name)
    (tmp_path / "config").write_text(f"[profile books]\nregion = eu-west-1\nendpoint_url = {seaweed_server.endpoint}\n")
    (tmp_path / "credentials").write_text(f"[books]\naws_access_key_id = {seaweed.KEY}\naws_secret_access_key = {seaweed.SECRET}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_PROFILE", "books")
    store = open_s3(in_s3)
    assert store.put_new("a", [b"x"]) == 1


@pytest.mark.parametrize("name", ["AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID"])
def test_wrong_credentials_are_told_without_the_credentials(in_s3: str, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "AKIAWRONGWRONG")
    store = open_s3(in_s3)
    for call in (lambda: store.get("a"), lambda: store.put_new("a", [b"x"]), lambda: store.size("a")):
        with pytest.raises(WrongUsage, match=r"credentials are not valid|access is denied") as failure:
            call()
        told = (
            f"{failure.value!r} {failure.value.__cause__!r} {failure.value.__context__ if not failure.value.__suppress_context__ else ''}"
        )
        assert "AKIAWRONG" not in told
        assert seaweed.SECRET not in told


def test_a_bucket_that_does_not_exist_is_named(in_s3: str) -> None:
    store = open_s3("s3://recon-there-is-none/x")
    for call in (lambda: store.get("a"), lambda: store.put_new("a", [b"x"]), lambda: list(store.list(""))):
        with pytest.raises(WrongUsage, match=r"s3://recon-there-is-none/x.*the bucket does not exist"):
            call()


def test_with_a_kms_key_everything_is_written_under_it(
    in_s3: str, seaweed_server: seaweed.Seaweed, monkeypatch: pytest.MonkeyPatch, small_parts: None
) -> None:
    """What is asked for is looked at in front of the server, which has no keys: its own answers are given in its place."""
    key = "arn:aws:kms:eu-west-1:111122223333:key/1234"
    with faulty_http.in_front_of(seaweed_server.port) as between:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", between.endpoint)
        started = b"<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>"
        between.harm(lambda asked: asked.method == "POST" and asked.query.startswith("uploads"), lambda *_: Answered(200, (), started))
        done = b"<CompleteMultipartUploadResult><ETag>e</ETag></CompleteMultipartUploadResult>"
        between.harm(lambda asked: asked.method == "POST", lambda *_: Answered(200, (), done))
        between.harm(lambda asked: asked.method == "PUT", lambda *_: Answered(200, (("ETag", '"e"'),), b""), 10)
        store = open_s3(in_s3, S3Settings(kms_key=key))
        store.put_new("small", [b"x"])
        store.put_new("large", [bytes(PART + 1)])
    creating = [one for one in between.asked if "x-amz-server-side-encryption" in one.headers]
    assert [(one.method, one.path.rpartition("/")[2]) for one in creating] == [("PUT", "small"), ("POST", "large")]
    for one in creating:
        assert one.headers["x-amz-server-side-encryption"] == "aws:kms"
        assert one.headers["x-amz-server-side-encryption-aws-kms-key-id"] == key
        assert one.headers["x-amz-server-side-encryption-bucket-key-enabled"] == "true"


def test_aws_itself_is_asked_under_the_name_of_the_bucket(monkeypatch: pytest.MonkeyPatch, in_s3: str) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL_S3")
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    config = open_s3("s3://ledger-books/x")._requests.session().bucket.config
    assert config["endpoint"] == "https://ledger-books.s3.eu-central-1.amazonaws.com"
    assert config["region"] == "eu-central-1"
    assert open_s3("s3://ledger.books/x")._requests.session().bucket.config["endpoint"] == "https://s3.eu-central-1.amazonaws.com"


# ---- what it costs ---------------------------------------------------------------------------------------------------


def test_every_request_is_counted_by_its_name_with_its_bytes(in_s3: str) -> None:
    meter = Counted()
    store = open_s3(in_s3, meter=meter)
    store.put_new("a", [b"12345"])
    store.get("a")
    store.get_range("a", 1, 3)
    store.size("a")
    list(store.list(""))
    store.delete("a")
    assert meter.requests == Counter(PutObject=1, GetObject=2, HeadObject=1, ListObjectsV2=1, DeleteObject=1)
    assert (meter.sent["PutObject"], meter.received["GetObject"]) == (5, 8)


def test_a_refused_put_costs_one_look_at_whose_it_is(in_s3: str) -> None:
    meter = Counted()
    store = open_s3(in_s3, meter=meter)
    store.put_new("a", [b"1"])
    with pytest.raises(AlreadyExists):
        store.put_new("a", [b"1"])
    assert meter.requests == Counter(PutObject=2, HeadObject=1)


def test_a_store_in_s3_loads_its_libraries_only_when_it_is_opened() -> None:
    code = (
        "import recon.api, recon.storage.local, recon.storage.open, sys; sys.exit(bool({'boto3', 'botocore', 'obstore'} & {*sys.modules}))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_without_the_aws_extra_the_next_step_is_told(in_s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore.store", None)
    with pytest.raises(WrongUsage, match=r"pip install 'dagster-recon\[aws\]'"):
        open_s3(in_s3)
