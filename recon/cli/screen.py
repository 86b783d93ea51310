"""How answers look: JSON for programs, tables and sentences for people.

rich is imported only when a table is drawn.
"""

from __future__ import annotations

import json
import re
import sys
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any

Cell = object
PLAIN_WIDTH = 2_000  # characters, where no terminal limits them: a table in a pipe is never cut or folded
NOTHING = "\u2013"  # an en dash
_UNSEEN = re.compile("[\x7f-\x9f\xad\u061c\u200b-\u200c\u200e\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff\ufff9-\ufffb]")
"""C1 controls, direction marks and other invisible characters; json.dumps escapes the controls below U+0020 itself."""
_BLANK = "\u2420"  # the picture of a blank
_JOINER = "\u200d"  # joins emoji; invisible by itself, but harmless
_WHAT = {"disk": "disk ÷ live", "writes": "written ÷ changed"}


def plain(text: str) -> str:
    """The text with control characters escaped, so that it moves no cursor and breaks no line."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == _JOINER else c.encode("unicode_escape").decode() for c in text)


def seen(text: str) -> str:
    """A text from a file, such as a key. If it could be mistaken for another text, it is quoted and its invisible characters are marked: a
    blank at an end is ``␠``; other white space, characters without width and separable accents are escaped."""
    parted = not unicodedata.is_normalized("NFC", text)
    drawn = any(unicodedata.category(c) == "So" for c in text)  # emoji, which joiners may hold together
    marked = "".join(_escape(c) if _is_unseen(c, drawn) or (parted and unicodedata.combining(c)) else c for c in text)
    inner = marked.strip(" ")
    if inner == text:
        return plain(text)
    left = len(marked) - len(marked.lstrip(" "))
    right = len(marked) - left - len(inner)
    return f"'{_BLANK * left}{plain(inner)}{_BLANK * right}'"


def _is_unseen(character: str, drawn: bool) -> bool:
    if character == " " or (character == _JOINER and drawn):
        return False
    return character.isspace() or unicodedata.category(character) == "Cf"


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode()


def say(text: str = "") -> None:
    """Prints one line on stdout."""
    print(plain(text))


def number(value: int) -> str:
    """1234567 → 1,234,567."""
    return f"{value:,}"


def amount(value: object) -> str:
    """An exact decimal (text, int, Decimal) with separators, in its own scale; a dash for null; other text unchanged."""
    if value is None:
        return NOTHING
    if isinstance(value, bool):
        return str(value).lower()
    try:
        exact = Decimal(str(value))
    except ArithmeticError:
        return plain(str(value))
    return f"{exact:,f}" if exact.is_finite() else str(value)


def count(value: int, singular: str, plural: str = "") -> str:
    """``1 window``, ``1,200 windows``."""
    return f"{number(value)} {singular if value == 1 else plural or singular + 's'}"


def seconds(value: float) -> str:
    return f"{value:.1f} s" if value < 100 else f"{value:,.0f} s"


def table(columns: Sequence[str], rows: Iterable[Sequence[Cell]], right: Sequence[str] = ()) -> None:
    """Prints a table after a blank line. ``right``: names of right-aligned columns. Cells are never read as markup."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name in columns:
        drawn.add_column(Text(plain(name)), justify="right" if name in right else "left", overflow="fold")
    for row in rows:
        drawn.add_row(*(Text(NOTHING if cell is None else seen(cell) if isinstance(cell, str) else plain(str(cell))) for cell in row))
    width = None if sys.stdout.isatty() else PLAIN_WIDTH
    console = Console(file=sys.stdout, width=width, highlight=False)
    with console.capture() as lines:
        console.print(drawn)
    print("\n" + "\n".join(line.rstrip() for line in lines.get().splitlines()))


def warn(text: str) -> None:
    """Prints one line on stderr: something is wrong."""
    print(f"recon: {plain(text)}", file=sys.stderr)


def as_json(answer: object) -> None:
    """Prints one JSON document on stdout: decimals as strings, times as ISO 8601, nulls as null. Characters that a terminal might act on
    are JSON escapes, so that a program reads the same text."""
    text = json.dumps(answer, indent=2, ensure_ascii=False, default=_json_value)
    print(_UNSEEN.sub(lambda found: json.dumps(found[0])[1:-1], text))


def _json_value(value: object) -> object:
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, (datetime, date)):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} has no JSON form")


def say_bounds(figures: Mapping[str, Any]) -> None:
    """Prints ``disk ÷ live: 1.21 (bound 1.5); written ÷ changed: 1.62``: both ratios, and the bound of the ratio that is configured."""
    parts = []
    for name, what in _WHAT.items():
        ratio, bound = figures[name], figures[f"{name}_bound"]
        text = f"{what}: {NOTHING if ratio is None else f'{ratio:.2f}'}"
        if figures["bound"] == name:
            text += f" (bound {bound:g})" if ratio is None or ratio <= bound else f" (above its bound {bound:g} until the next compaction)"
        parts.append(text)
    say("; ".join(parts))
