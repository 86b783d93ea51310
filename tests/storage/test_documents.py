"""Small JSON objects in the store: what is written byte for byte, and what is refused as damaged."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from recon.errors import Damaged
from recon.storage import documents
from recon.storage.local import LocalStore
from recon.storage.port import AlreadyExists, NotFound


@dataclass(frozen=True)
class Note:
    text: str
    size: int
    amounts: dict[str, Any]
    parts: tuple[int, ...] = ()


class Sized(BaseModel):
    size: int


NOTE = Note("half a pair: \ud83d", 3, {"EUR": "12.500", "rows": 2}, (1, 2))
PATH = "notes/1.json"


def test_a_document_comes_back_as_it_was_put(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    body = documents.put(store, PATH, NOTE)
    assert body == b'{"text": "half a pair: \\ud83d", "size": 3, "amounts": {"EUR": "12.500", "rows": 2}, "parts": [1, 2]}'
    assert store.get(PATH) == body
    assert documents.read(store, PATH, Note, "delete it") == NOTE
    assert documents.read(store, PATH, Sized, "delete it").size == 3
    assert documents.encoded({"a": [1]}, **documents.COMPACT) == b'{"a":[1]}'
    assert documents.encoded({"a": 1}, **documents.INDENTED) == b'{\n "a": 1\n}'
    with pytest.raises(AlreadyExists):
        documents.put(store, PATH, NOTE)
    with pytest.raises(NotFound):
        documents.read(store, "notes/2.json", Note, "delete it")


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "Expecting value"),
        (b'{"text": "a", "size": 3', "Expecting ',' delimiter"),
        (b"[]", "dictionary or an instance of Note"),
        (b'{"text": "a", "size": 3}', "amounts: "),
        (b'{"text": "a", "size": "x", "amounts": {}}', "size: Input should be a valid integer"),
        (b'{"text": "a", "size": 1.5, "amounts": {}}', "size: Input should be a valid integer"),
        (b'{"text": "a", "size": 3, "amounts": {}, "more": 1}', "more: "),
        (b"\xff", "codec can't decode"),
    ],
)
def test_what_was_not_written_is_refused_in_one_line_with_its_path_and_the_next_step(tmp_path: Path, raw: bytes, reason: str) -> None:
    store = LocalStore(tmp_path)
    store.put_new(PATH, [raw])
    with pytest.raises(Damaged) as caught:
        documents.read(store, PATH, Note, "delete it")
    assert str(caught.value).startswith(f"{PATH}: damaged (")
    assert str(caught.value).endswith("); delete it")
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)
