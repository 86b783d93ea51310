"""The common checks: from texts to typed values, and for a row that fails the reason why, as DuckDB SQL.

Belongs here: what text is a number, date, time, boolean or key, the same for every format. Does not belong here:
reading files.

Each value is first tried the cheap way (the text is what the value itself would be written as, or a simple pattern
says that the cast is exact); only texts that fail are looked at closely, and reasons are made for failing rows only.
"""

from __future__ import annotations

from dataclasses import dataclass

from recon.intake.model import KEY_BYTES_MAX, EventSpec
from recon.vocabulary.types import Type

_NUMBER = r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?"
_DAY = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
_CLOCK = r"[T ]([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9](\.[0-9]{1,6}0*)?)?"
_ZONE = r"(Z|[+-]([01][0-9]|2[0-3])(:?[0-5][0-9])?)"
_BLANKS = "' ' || chr(9)"
_TIME_EXAMPLE = "a time such as 2026-11-01T09:30:00Z"


@dataclass(frozen=True)
class Checks:
    """SQL over a relation with line, span, problem and texts t0…: lists for selects on top of each other, inner first.

    ``attempts`` are the texts and the cheap tries at typed values; ``plain`` numbers without exponent where a try
    proved nothing; ``values`` the typed values. ``reason`` is null for a row without fault.
    """

    attempts: tuple[str, ...]
    plain: tuple[str, ...]
    values: tuple[str, ...]
    key: str
    reason: str
    id: str
    time: str


def quoted(name: str) -> str:
    """A name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"


def checks(spec: EventSpec) -> Checks:
    """The SQL that checks and types the columns ``spec.names``, which come as t0, t1, …"""
    text_of = {name: f"t{position}" for position, name in enumerate(spec.names)}
    first = [f"nullif({text}, '') AS {text}" for text in text_of.values()]
    plain: list[str] = []
    values: list[str] = []
    reasons, faults = ["problem"], ["problem IS NOT NULL"]

    keys = [text_of[name] for name in spec.key]
    for name, text in zip(spec.key, keys, strict=True):
        faults.append(f"{text} IS NULL OR contains({text}, chr(0))")
        reasons.append(f"CASE WHEN {text} IS NULL THEN {literal(name + ': the key is empty')} END")
        reasons.append(f"CASE WHEN contains({text}, chr(0)) THEN {literal(name + ': the key holds a NUL character')} END")
    key = keys[0] if len(keys) == 1 else f"to_json([{', '.join(keys)}])::VARCHAR"
    faults.append(f"strlen({key}) > {KEY_BYTES_MAX}")
    too_long = f"{', '.join(spec.key)}: the key is longer than {KEY_BYTES_MAX} bytes"
    reasons.append(f"CASE WHEN strlen({key}) > {KEY_BYTES_MAX} THEN {literal(too_long)} END")

    typed = [(name, f"v{position}", kind) for position, (name, kind) in enumerate(spec.columns.items())]
    if spec.time is not None:
        typed.insert(0, (spec.time, "v_time", Type("timestamp")))
    for name, value, kind in typed:
        text, attempt, number = text_of[name], f"a{value[1:]}", f"p{value[1:]}"
        if tried := _attempt(text, kind):
            first.append(f"{tried} AS {attempt}")
        if kind.is_number:
            plain.append(f"{_plain_if_unproven(text, attempt, kind)} AS {number}")
        values.append(f"{_value(text, attempt, number, kind)} AS {value}")
        if kind.kind != "text":
            faults.append(f"({value} IS NULL AND {text} IS NOT NULL)")
            reasons.append(f"CASE WHEN {value} IS NULL AND {text} IS NOT NULL THEN {_reason(name, text, number, kind)} END")
    return Checks(
        attempts=tuple(first),
        plain=tuple(plain),
        values=tuple(values),
        key=key,
        reason=f"CASE WHEN {' OR '.join(faults)} THEN coalesce({', '.join(reasons)}) END",
        id=_id(spec, text_of, key),
        time="v_time" if spec.time is not None else "NULL::TIMESTAMPTZ",
    )


def _id(spec: EventSpec, text_of: dict[str, str], key: str) -> str:
    """SQL of the event id: a single column as it is, several as a JSON array of texts. Numbers, dates and times have one text each, however
    a file writes them. Without a number, an id of which a part is null is none: such rows are not known to be the same event."""
    if not spec.id:
        return "NULL::VARCHAR"
    if len(spec.id) == 1 and not spec.numbered:
        return text_of[spec.id[0]]
    values = {name: f"v{position}" for position, (name, kind) in enumerate(spec.columns.items()) if kind.kind != "text"}
    if spec.time is not None:
        values[spec.time] = "v_time"
    parts = [f"CAST({values[name]} AS VARCHAR)" if name in values else text_of[name] for name in spec.id]
    if spec.numbered:
        number = f"row_number() OVER (PARTITION BY {key}, {', '.join(parts)} ORDER BY line)"
        return f"CAST(to_json([{', '.join(parts)}, CAST({number} AS VARCHAR)]) AS VARCHAR)"
    absent = " OR ".join(f"{part} IS NULL" for part in parts)
    return f"CASE WHEN NOT ({absent}) THEN CAST(to_json([{', '.join(parts)}]) AS VARCHAR) END"


def _attempt(text: str, kind: Type) -> str | None:
    if kind.kind in ("decimal", "integer"):
        return f"try_cast({text} AS {kind.duckdb})"
    if kind.kind == "timestamp":
        trimmed = f"trim({text}, {_BLANKS})"
        return (
            f"CASE WHEN regexp_full_match({text}, '{_DAY}{_CLOCK}{_ZONE}') THEN try_cast({text} AS TIMESTAMPTZ) "
            f"WHEN regexp_full_match({trimmed}, '{_DAY}{_CLOCK}{_ZONE}') THEN try_cast({trimmed} AS TIMESTAMPTZ) "
            f"WHEN regexp_full_match({trimmed}, '{_DAY}{_CLOCK}') THEN try_cast({trimmed} || 'Z' AS TIMESTAMPTZ) "
            f"WHEN regexp_full_match({trimmed}, '{_DAY}') THEN try_cast({trimmed} || ' 00:00:00Z' AS TIMESTAMPTZ) END"
        )
    return None


def _plain_if_unproven(text: str, attempt: str, kind: Type) -> str:
    """SQL: null where the attempt is the exact value for sure (or the text null), else the number without exponent."""
    whole, scale = _digits(kind)
    fraction = rf"(\.[0-9]{{1,{scale}}})?" if scale else ""
    simple = rf"[+-]?[0-9]{{1,{max(whole, 1)}}}{fraction}"
    proven = f"{attempt}::VARCHAR = {text} THEN NULL WHEN regexp_full_match({text}, '{simple}')"
    return f"CASE WHEN {text} IS NULL THEN NULL WHEN {proven} THEN NULL ELSE {_plain(text)} END"


def _value(text: str, attempt: str, number: str, kind: Type) -> str:
    """SQL of the typed value of ``text``; null if the text is none (or null)."""
    trimmed = f"trim({text}, {_BLANKS})"
    if kind.kind == "text":
        return text
    if kind.is_number:
        return f"CASE WHEN {number} IS NULL THEN {attempt} ELSE try_cast({_exact(number, kind)} AS {kind.duckdb}) END"
    if kind.kind == "boolean":
        word = f"lower({trimmed})"
        return f"CASE WHEN {word} IN ('true', '1') THEN true WHEN {word} IN ('false', '0') THEN false END"
    if kind.kind == "date":
        # Written back it must be the same, which excludes what DuckDB reads besides: infinity, epoch, BC, 2026-1-1.
        day = f"try_cast({trimmed} AS DATE)"
        return f"CASE WHEN length({trimmed}) = 10 AND {day}::VARCHAR = {trimmed} THEN {day} END"
    # An offset can push an instant out of the years that every engine and Python know.
    first, last = "TIMESTAMPTZ '0001-01-01 00:00:00Z'", "TIMESTAMPTZ '9999-12-31 23:59:59.999999Z'"
    return f"CASE WHEN {attempt} BETWEEN {first} AND {last} THEN {attempt} END"


def _digits(kind: Type) -> tuple[int, int]:
    """Digits before and after the point."""
    return (19, 0) if kind.kind == "integer" else (kind.precision - kind.scale, kind.scale)


def _plain(text: str) -> str:
    """SQL: a number's text without blanks and without exponent; other text comes back without blanks."""
    trimmed = f"trim({text}, {_BLANKS})"
    pattern = r"'^([+-]?)([0-9]*)\.?([0-9]*)[eE]([+-]?[0-9]+)$', ['sign', 'whole', 'part', 'power']"
    digits, point = "(m.whole || m.part)", "(length(m.whole) + m.power::INTEGER)"
    shifted = (
        f"CASE WHEN {point} <= 0 THEN '0.' || repeat('0', -{point}) || {digits} "
        f"WHEN {point} >= length({digits}) THEN {digits} || repeat('0', {point} - length({digits})) "
        f"ELSE left({digits}, {point}) || '.' || substr({digits}, {point} + 1) END"
    )
    # The lambda is there to take the number apart only once.
    moved = f"list_transform([regexp_extract({trimmed}, {pattern})], lambda m: m.sign || {shifted})[1]"
    has_exponent = f"contains(lower({text}), 'e') AND regexp_full_match({trimmed}, '{_NUMBER}')"
    return f"CASE WHEN {has_exponent} THEN {moved} ELSE {trimmed} END"


def _exact(number: str, kind: Type) -> str:
    """SQL: the plain ``number`` if it fits exactly, shortened to what its cast needs; null for any other."""
    whole, scale = _digits(kind)
    fits = rf"[+-]?0*[0-9]{{0,{whole}}}(\.[0-9]{{0,{scale}}}0*)?"
    needed = rf"^[+-]?0*[0-9]{{0,{whole}}}(\.[0-9]{{0,{scale}}})?"
    return (
        f"CASE WHEN regexp_full_match({number}, '{fits}') AND regexp_matches({number}, '[0-9]') "
        f"THEN regexp_extract({number}, '{needed}') END"
    )


def _reason(name: str, text: str, number: str, kind: Type) -> str:
    """SQL of what is wrong with ``text``, in one line."""
    flat = f"replace(replace({text}, chr(10), ' '), chr(13), ' ')"
    short = f"CASE WHEN length({text}) > 40 THEN left({flat}, 39) || '…' ELSE {flat} END"
    shown = f"{literal(name + ': ' + chr(39))} || {short} || ''' '"
    if kind.kind == "boolean":
        return f"{shown} || 'is not true, false, 1 or 0'"
    if kind.kind == "date":
        return f"{shown} || 'is not a date such as 2026-11-01'"
    if kind.kind == "timestamp":
        return f"{shown} || {literal(f'is not {_TIME_EXAMPLE}')}"
    scale = _digits(kind)[1]
    trimmed = f"trim({text}, {_BLANKS})"
    excess = f"regexp_full_match(coalesce({number}, {text}), '[^.]*\\.[0-9]{{{scale}}}[0-9]*[1-9][0-9]*')"
    article = "an" if kind.kind == "integer" else "a"
    too_fine = "is not a whole number" if scale == 0 else f"has more than {scale} decimal{'s' * (scale != 1)}"
    too_big = "does not fit 64 bits" if kind.kind == "integer" else f"does not fit {kind}"
    return (
        f"{shown} || CASE WHEN regexp_full_match(lower({trimmed}), '[+-]?(nan|inf|infinity)') THEN 'is not a number' "
        f"WHEN NOT regexp_full_match({trimmed}, '{_NUMBER}') THEN {literal(f'is not {article} {kind}')} "
        f"WHEN {excess} THEN '{too_fine}' ELSE '{too_big}' END"
    )
