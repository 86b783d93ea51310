"""Files that arrive in S3: by the queue of its events, and by listing a prefix."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import seaweed
from folders import EXAMPLES
from ministack_server import Ministack, ministack

import recon
from recon.errors import WrongInput, WrongUsage
from recon.intake.sources.inbox import objects_in
from recon.storage.open import open_store
from recon.transformations.run import carry_out, read_request

DATA = EXAMPLES / "franchise" / "data"
WINDOW = "2016-06-01T00:00Z"


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ministack]:
    with ministack(tmp_path_factory.mktemp("ministack")) as server:
        yield server


@pytest.fixture
def bucket(aws: Ministack, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> tuple[str, str]:
    """The name of a bucket whose events go to a queue, and the queue's URL."""
    for name, value in {
        "AWS_ENDPOINT_URL": aws.endpoint,
        "AWS_ACCESS_KEY_ID": seaweed.KEY,
        "AWS_SECRET_ACCESS_KEY": seaweed.SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    name = f"inbox-{abs(hash(request.node.name)) % 10**8}"
    aws.client("s3").create_bucket(Bucket=name)
    sqs = aws.client("sqs")
    url = sqs.create_queue(QueueName=name)["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    wired = {"QueueConfigurations": [{"QueueArn": arn, "Events": ["s3:ObjectCreated:*"]}]}
    aws.client("s3").put_bucket_notification_configuration(Bucket=name, NotificationConfiguration=wired)
    return name, url


def site(folder: Path) -> recon.api.Reconciliation:
    shutil.copytree(EXAMPLES / "franchise", folder, ignore=shutil.ignore_patterns("data"))
    return recon.open(folder / "recon.yaml")


def put(aws: Ministack, bucket: str, key: str, body: bytes) -> None:
    aws.client("s3").put_object(Bucket=bucket, Key=key, Body=body)


def waiting(aws: Ministack, url: str) -> int:
    answer = aws.client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    return int(answer["ApproximateNumberOfMessages"]) + int(answer["ApproximateNumberOfMessagesNotVisible"])


def test_objects_named_by_the_queue_land_once_and_their_messages_go(aws: Ministack, bucket: tuple[str, str], tmp_path: Path) -> None:
    name, url = bucket
    for path in sorted(DATA.iterdir()):
        put(aws, name, f"stores/2016 06 01/{path.name}", path.read_bytes())
    put(aws, name, "stores/readme.txt", b"not for us")
    r = site(tmp_path / "site")
    found = r.deliver(url)
    assert (len(found.files), found.failed, found.closed) == (13, [], [WINDOW])
    assert found.unknown == ["readme.txt"]
    assert waiting(aws, url) == 0
    put(aws, name, "stores/again/IL-101.tdf", (DATA / "IL-101.tdf").read_bytes())
    again = r.deliver(url)
    assert (again.files, [file.name for file in again.again], waiting(aws, url)) == ([], ["IL-101.tdf"], 0)


def test_a_file_that_may_be_for_a_source_with_a_mistake_stays_in_the_queue(aws: Ministack, bucket: tuple[str, str], tmp_path: Path) -> None:
    name, url = bucket
    put(aws, name, "shop_1.csv", b"a\n1\n")
    r = site(tmp_path / "site")
    (tmp_path / "site" / "sources" / "shop.yaml").write_text("files: 'shop_*.csv'\n")
    found = r.deliver(url)
    assert (found.unknown, list(found.broken), waiting(aws, url)) == (["shop_1.csv"], ["shop"], 1)


def test_a_message_whose_object_is_gone_stays_in_the_queue_and_is_named(aws: Ministack, bucket: tuple[str, str], tmp_path: Path) -> None:
    name, url = bucket
    put(aws, name, "IL-101.tdf", (DATA / "IL-101.tdf").read_bytes())
    aws.client("s3").delete_object(Bucket=name, Key="IL-101.tdf")
    found = site(tmp_path / "site").deliver(url)
    assert [(shown, "is gone" in reason) for shown, reason in found.failed] == [("IL-101.tdf", True)]
    assert waiting(aws, url) == 1


def test_a_prefix_is_listed_and_only_what_changed_is_read_again(aws: Ministack, bucket: tuple[str, str], tmp_path: Path) -> None:
    name, _ = bucket
    for path in sorted(DATA.iterdir())[:3]:
        put(aws, name, f"stores/{path.name}", path.read_bytes())
    r = site(tmp_path / "site")
    assert [file.state for file in r.deliver(f"s3://{name}/stores").files] == ["landed"] * 3
    nothing = r.deliver(f"s3://{name}/stores")
    assert (nothing.files, nothing.again) == ([], [])
    put(aws, name, "stores/IL-101.tdf", (DATA / "IL-101.tdf").read_bytes() + b"v101\t1.00\t4\ti9\t2016-06-01\ta\tb\tc\n")
    assert [(file.name, file.kept) for file in r.deliver(f"s3://{name}/stores").files] == [("IL-101.tdf", 9)]


def test_a_queue_that_does_not_exist_is_named(aws: Ministack, bucket: tuple[str, str], tmp_path: Path) -> None:
    with pytest.raises(WrongUsage, match="no-such-queue"):
        site(tmp_path / "site").deliver(bucket[1] + "-no-such-queue")


def event(key: str, name: str = "ObjectCreated:Put") -> dict[str, Any]:
    return {"eventName": name, "s3": {"bucket": {"name": "b"}, "object": {"key": key, "size": 3, "eTag": "e", "sequencer": "1"}}}


def test_messages_of_s3_name_created_objects_alone_also_by_way_of_sns() -> None:
    body = json.dumps({"Records": [event("a+b/%C3%9C.csv"), event("gone.csv", "ObjectRemoved:Delete")]})
    assert [(item.name, item.place) for item in objects_in(body)] == [("Ü.csv", "s3://b/a b/Ü.csv")]
    assert objects_in(json.dumps({"TopicArn": "arn", "Message": body})) == objects_in(body)
    assert objects_in(json.dumps({"Event": "s3:TestEvent"})) == []
    for other in ("", "[]", "{}", '{"Records": [{}]}', "null", '"text"'):
        with pytest.raises(WrongInput, match="no event of S3"):
            objects_in(other)


ODD = ("/{}", "stores//{}", "stores/./{}", "stores/../{}", "a//b//{}", " a/{}", "c\x01d/{}")
"""Keys that S3 allows and that are no tidy paths."""


def put_odd(aws: Ministack, bucket: str) -> list[str]:
    """Files of the franchise under odd keys, beside what consoles make to show a folder. Returns the files' names."""
    names = [path.name for path in sorted(DATA.iterdir())][: len(ODD)]
    for key, name in zip(ODD, names, strict=True):
        put(aws, bucket, key.format(name), (DATA / name).read_bytes())
    put(aws, bucket, "stores/empty/", b"")
    return names


@pytest.mark.parametrize("by", ["queue", "prefix"])
def test_no_key_is_lost_whatever_it_is(aws: Ministack, bucket: tuple[str, str], tmp_path: Path, by: str) -> None:
    name, url = bucket
    names = put_odd(aws, name)
    found = site(tmp_path / "site").deliver(url if by == "queue" else f"s3://{name}")
    assert sorted((file.name, file.state) for file in found.files) == [(each, "landed") for each in sorted(names)]
    assert (found.failed, found.unknown) == ([], [])


def test_a_key_that_ends_in_no_file_name_is_named_with_what_to_do(aws: Ministack, bucket: tuple[str, str], tmp_path: Path) -> None:
    name, _ = bucket
    long = f"stores/IL-{'1' * 300}.tdf"
    for key in (long, "stores/IL-9.tdf/"):
        put(aws, name, key, b"x")
    r = site(tmp_path / "site")
    found = r.deliver(f"s3://{name}")
    assert found.unknown == ["IL-9.tdf/"]
    ((_, reason),) = found.failed
    assert f"s3://{name}/{long}" in reason
    assert "is no file name of 1 to 255 bytes; copy the object to another key" in reason


def test_transformations_read_odd_keys_and_the_own_store_leaves_them_out(aws: Ministack, bucket: tuple[str, str], tmp_path: Path) -> None:
    name, _ = bucket
    for key in ("a//b.csv", "a//c.csv", "/d.csv", "tidy.csv"):
        put(aws, name, key, f"k\n{key}\n".encode())
    inputs = {"one": {"path": f"s3://{name}//d.csv"}, "two": {"path": f"s3://{name}/a//*.csv"}}
    request = tmp_path / "request.json"
    operations = [{"append": {"table": "one", "rows_of": ["two"]}}]
    request.write_text(json.dumps({"inputs": inputs, "operations": operations, "outputs": [{"table": "one", "path": "out.csv"}]}))
    carry_out(read_request(request))
    assert (tmp_path / "out.csv").read_text().split() == ["k", "/d.csv", "a//b.csv", "a//c.csv"]
    with pytest.raises(WrongUsage, match=r"/gone\.csv: there is no such object; put it there, or correct the path"):
        carry_out(read_request(written(tmp_path, f"s3://{name}//gone.csv")))
    assert list(open_store(f"s3://{name}", tmp_path).list("")) == ["tidy.csv"]


def written(folder: Path, path: str) -> Path:
    request = folder / "other.json"
    request.write_text(json.dumps({"inputs": {"t": {"path": path}}, "outputs": [{"table": "t", "path": "t.csv"}]}))
    return request
