"""Small JSON objects in the store: put once, and read back as a checked type.

An object that cannot be read as its type raises Damaged with its path, the reason and the next step.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from functools import cache
from typing import Any, TypeVar, cast

from pydantic import TypeAdapter, ValidationError

from recon.errors import Damaged
from recon.storage.port import ObjectStore

T = TypeVar("T")

INDENTED: Mapping[str, Any] = {"indent": 1}
COMPACT: Mapping[str, Any] = {"separators": (",", ":")}
RESTORE = "restore it from a copy of the store"
"""The next step for an object that nothing else can replace."""


def encoded(value: Any, **style: Any) -> bytes:
    """A value as JSON; a dataclass becomes an object of its fields. ``style``: arguments of ``json.dumps``."""
    return json.dumps(value, default=asdict, **style).encode()


def put(store: ObjectStore, path: str, value: Any, **style: Any) -> bytes:
    """Puts a value as JSON and returns its bytes. Raises AlreadyExists."""
    body = encoded(value, **style)
    store.put_new(path, [body])
    return body


def read(store: ObjectStore, path: str, kind: type[T], next_step: str) -> T:
    """The object at ``path`` as a ``kind``. Raises NotFound, and Damaged."""
    return parsed(path, store.get(path), kind, next_step)


def parsed(path: str, raw: bytes, kind: type[T], next_step: str) -> T:
    """The bytes of the object at ``path`` as a ``kind``. Raises Damaged."""
    with damaged(path, next_step):
        return checked(json.loads(raw), kind)


def checked(value: Any, kind: type[T]) -> T:
    """A value parsed from JSON as a ``kind``: a dataclass takes exactly its fields, a pydantic model ignores others. Raises ValueError."""
    found: T = _adapter(cast(Any, kind)).validate_python(value, extra="forbid" if is_dataclass(kind) else None)
    return found


@contextmanager
def damaged(path: str, next_step: str) -> Iterator[None]:
    """Raises Damaged in place of the errors that code meets in an object that is not what was written."""
    try:
        yield
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(map(str, first["loc"]))
        raise Damaged(f"{path}: damaged ({field}{': ' if field else ''}{first['msg']}); {next_step}") from None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise Damaged(f"{path}: damaged ({error}); {next_step}") from None


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)
