"""What all sections share: texts, durations, sizes and places in S3, each validated as it is read, and the error for a mistake."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from decimal import Decimal
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ByteSize, ConfigDict, Field, PlainSerializer
from pydantic_core import PydanticCustomError

from recon.errors import WrongUsage
from recon.model.windows import duration_text, parse_duration

MISTAKE = "mistake"
_SIZE = re.compile(r"[1-9][0-9]*(\.[0-9]+)? ?[KMGT]i?B\Z")
T = TypeVar("T")


class Section(BaseModel):
    """A section of ``recon.yaml``; immutable. Defaults are validated too, so that they are written here as users write them."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


def written(default: str | None) -> Any:
    """A default as users write it; its validation gives it the field's type."""
    return default


def mistake(reason: str, *field: str | int) -> PydanticCustomError:
    """The error that a validator raises. ``field``: its path below what is validated. ``reason``: the message after the field's name."""
    return PydanticCustomError(MISTAKE, "{reason}", {"reason": reason, "field": field})


@contextmanager
def mistakes_in(section: str) -> Iterator[None]:
    """Turns a WrongUsage "section.field: reason" into a mistake of that field, or of the section where it names no field."""
    try:
        yield
    except WrongUsage as error:
        name, _, reason = str(error).partition(": ")
        raise mistake(reason, *filter(None, name.removeprefix(section).split("."))) from None


def parsed(parse: Callable[[str, str], T]) -> Callable[[str], T]:
    """A validator made of a parser that raises WrongUsage with the field's name, its second argument, in front."""

    def validate(text: str) -> T:
        with mistakes_in(""):
            return parse(text, "")

    return validate


_read_duration = parsed(parse_duration)


def _duration(value: object) -> object:
    return _read_duration(value) if isinstance(value, str) else value


def _size(value: object) -> object:
    if isinstance(value, str) and not _SIZE.match(value):
        raise PydanticCustomError("size", "not a size such as 4GB")
    return value


def _size_text(size: int) -> str:
    """As it may be written, exactly."""
    return f"{Decimal(size).scaleb(-3).normalize():f}KB"


def as_list(value: object) -> object:
    """A value alone is a list of one."""
    return value if isinstance(value, list | tuple) else [value]


def _text_or_empty(value: object) -> object:
    return "" if value is None else value


Text = Annotated[str, Field(min_length=1)]
OrEmpty = BeforeValidator(_text_or_empty)
"""For texts that are "" where they are not written; their default is None."""
Texts = Annotated[tuple[Text, ...], BeforeValidator(as_list)]
Duration = Annotated[timedelta, BeforeValidator(_duration), PlainSerializer(duration_text, when_used="json")]
Size = Annotated[ByteSize, BeforeValidator(_size), PlainSerializer(_size_text, when_used="json")]
"""Bytes, written with a unit."""
S3Place = Annotated[str, Field(pattern=r"^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/.*)?$")]
