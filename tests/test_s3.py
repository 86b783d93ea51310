"""A store in S3: whole objects or nothing, created once, under checked names, on a real server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import seaweed

from recon.s3 import S3Store, open_s3
from recon.store import AlreadyExists


@pytest.fixture(scope="module")
def server() -> Iterator[seaweed.Seaweed]:
    with seaweed.server() as running:
        yield running


@pytest.fixture
def store(server: seaweed.Seaweed, monkeypatch: pytest.MonkeyPatch) -> S3Store:
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    return open_s3(f"s3://{server.bucket()}/some/prefix")


def test_an_object_comes_back_as_it_was_put(store):
    chunks = [b"ab", memoryview(b"cd"), b"", memoryview(bytearray(3_000_000))]
    assert store.put_new("a/b/c", chunks) == 3_000_004
    assert store.get("a/b/c") == b"abcd" + bytes(3_000_000)
    assert store.size("a/b/c") == 3_000_004
    assert store.exists("a/b/c")
    assert list(store.list("")) == list(store.list("a")) == ["a/b/c"]


def test_a_large_object_goes_in_parts_and_is_created_once(store):
    body = bytes(range(256)) * 200_000
    assert store.put_new("a/large", [body]) == len(body)
    assert store.get("a/large") == body
    assert store.get_range("a/large", 16_777_200, 40) == body[16_777_200:16_777_240]
    with pytest.raises(AlreadyExists):
        store.put_new("a/large", [body])
