"""Delimited text, character by character: an oracle for its readers."""

from __future__ import annotations


def plain_records(text: str, delimiter: str, width: int, quotes: bool = True) -> list[tuple[int, list[str] | None]]:
    """What CSV text holds, character by character: the line of each record, and its fields, or None for a line that begins no record."""
    found: list[tuple[int, list[str] | None]] = []
    line, rest = 1, text if text.endswith("\n") else text + "\n"
    while rest:
        fields, taken = plain_record(rest, delimiter, quotes)
        if taken is None:
            taken = rest.index("\n") + 1
        blank = rest[:taken] in ("\n", "\r\n") or (
            width > 1 and fields is not None and len(fields) == 1 and not rest[:taken].strip(" \t\r\n")
        )
        if not blank:
            found.append((line, fields))
        line += rest.count("\n", 0, taken)
        rest = rest[taken:]
    return found


def plain_record(text: str, delimiter: str, quotes: bool = True) -> tuple[list[str] | None, int | None]:
    """The fields of the record that ``text`` begins with, and its length; None where its quotes or carriage returns are not right."""
    fields, field, place = [], "", 0
    while True:
        quoted = quotes and text[place] == '"'
        place += quoted
        while True:
            if place == len(text):
                return None, None
            character, following = text[place], text[place + 1 : place + 2]
            if quoted and character == '"' and following == '"':
                field, place = field + '"', place + 2
            elif quoted and character == '"':
                place += 1
                break
            elif not quoted and (character in (delimiter, "\n") or (character, following) == ("\r", "\n")):
                break
            elif not quoted and character == "\r":
                return None, None
            else:
                field, place = field + character, place + 1
        fields, field = [*fields, field], ""
        if text[place : place + 1] == delimiter:
            place += 1
        elif text[place : place + 1] == "\n" or text[place : place + 2] == "\r\n":
            return fields, place + (1 if text[place] == "\n" else 2)
        else:
            return None, None
