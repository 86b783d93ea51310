"""SQL for DuckDB that turns texts into typed values, with the reason for each row that fails.

Each value is first tried the cheap way: the text equals the value's own text, or a simple pattern proves that the cast is exact. Other
texts are examined, and reasons are made for failing rows only.
"""

from __future__ import annotations

from dataclasses import dataclass

from recon.intake.files.spec import KEY_BYTES_MAX, EventSpec
from recon.model.cleaning import cleaned_sql
from recon.vocabulary.duckdb import literal
from recon.vocabulary.types import Type

_NUMBER = r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?"
_DAY = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
_CLOCK = r"[T ]([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9](\.[0-9]{1,6}0*)?)?"
_ZONE = r"(Z|[+-]([01][0-9]|2[0-3])(:?[0-5][0-9])?)"
_BLANKS = "' ' || chr(9)"
_TIME_EXAMPLE = "a time such as 2026-11-01T09:30:00Z"


@dataclass(frozen=True)
class Checks:
    """SQL over a relation with line, span, problem and texts t0…: columns of nested selects, inner first.

    ``attempts``: the texts and the cheap tries at typed values. ``plain``: numbers without exponent where a try proved nothing.
    ``values``: the typed values. ``reason``: null for a row without fault.
    """

    attempts: tuple[str, ...]
    plain: tuple[str, ...]
    values: tuple[str, ...]
    key: str
    reason: str
    id: str
    time: str


def checks(spec: EventSpec) -> Checks:
    """The SQL that checks and types the columns ``spec.names``, which come as t0, t1, …"""
    text_of = {name: f"t{position}" for position, name in enumerate(spec.names)}
    first = [f"nullif({cleaned_sql(text, spec.cleaning.get(name, ()))}, '') AS {text}" for name, text in text_of.items()]
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
        if name in spec.epochs:
            unit = EPOCHS[spec.epochs[name]]
            first.append(f"try_cast({text} AS {unit.kind.duckdb}) AS {attempt}")
            plain.append(f"{_plain_if_unproven(text, attempt, unit.kind)} AS {number}")
            values.append(f"{unit.instant(_value(text, attempt, number, unit.kind))} AS {value}")
            faults.append(f"({value} IS NULL AND {text} IS NOT NULL)")
            reasons.append(f"CASE WHEN {value} IS NULL AND {text} IS NOT NULL THEN {_shown(name, text)} || {literal(unit.reason)} END")
            continue
        if tried := _attempt(text, kind, spec.zone):
            first.append(f"{tried} AS {attempt}")
        if kind.is_number:
            plain.append(f"{_plain_if_unproven(text, attempt, kind)} AS {number}")
        values.append(f"{_value(text, attempt, number, kind)} AS {value}")
        if kind.kind != "text":
            faults.append(f"({value} IS NULL AND {text} IS NOT NULL)")
            reasons.append(f"CASE WHEN {value} IS NULL AND {text} IS NOT NULL THEN {_reason(name, text, number, kind, spec.zone)} END")
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
    """SQL of the event id: a single column unchanged, several as a JSON array of texts, in which equal numbers, dates and times have equal
    texts. Unless ``spec.numbered``, an id with a null part is null: such rows are not known to be the same event."""
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


@dataclass(frozen=True)
class Epoch:
    """Times counted since 1970: the decimal type of the count, and the microseconds of its unit."""

    name: str
    kind: Type
    micros: int

    @property
    def reason(self) -> str:
        return f"is not a time in {self.name} since 1970 (years 1 to 9999)"

    def instant(self, count: str) -> str:
        """SQL of the time; null for a count outside the years 1 to 9999."""
        micros = f"CAST({count} AS DECIMAL(38,6)) * {self.micros}"
        inside = f"v BETWEEN {_FIRST_MICROS} AND {_LAST_MICROS}"
        return f"list_transform([{micros}], lambda v: CASE WHEN {inside} THEN make_timestamptz(CAST(v AS BIGINT)) END)[1]"


_FIRST_MICROS, _LAST_MICROS = -62_135_596_800_000_000, 253_402_300_799_999_999
EPOCHS = {
    "s": Epoch("seconds", Type("decimal", 18, 6), 1_000_000),
    "ms": Epoch("milliseconds", Type("decimal", 18, 3), 1_000),
    "us": Epoch("microseconds", Type("decimal", 18, 0), 1),
}


def _attempt(text: str, kind: Type, zone: str | None) -> str | None:
    if kind.kind in ("decimal", "integer"):
        return f"try_cast({text} AS {kind.duckdb})"
    if kind.kind == "timestamp":
        trimmed = f"trim({text}, {_BLANKS})"
        stated = (
            f"CASE WHEN regexp_full_match({text}, '{_DAY}{_CLOCK}{_ZONE}') THEN try_cast({text} AS TIMESTAMPTZ) "
            f"WHEN regexp_full_match({trimmed}, '{_DAY}{_CLOCK}{_ZONE}') THEN try_cast({trimmed} AS TIMESTAMPTZ) "
        )
        if zone:
            local = f"regexp_full_match({trimmed}, '{_DAY}({_CLOCK})?')"
            return f"{stated} WHEN {local} THEN {_instant(f'try_cast({trimmed} AS TIMESTAMP)', zone, 'NULL')} END"
        clock = f"WHEN regexp_full_match({trimmed}, '{_DAY}{_CLOCK}') THEN try_cast({trimmed} || 'Z' AS TIMESTAMPTZ) "
        day = f"WHEN regexp_full_match({trimmed}, '{_DAY}') THEN try_cast({trimmed} || ' 00:00:00Z' AS TIMESTAMPTZ)"
        return f"{stated} {clock if zone == '' else ''} {day} END"
    return None


def _instant(local: str, zone: str, otherwise: str) -> str:
    """SQL of the instant at which clocks in ``zone`` show ``local``, a TIMESTAMP; ``otherwise`` where there is none, or two.

    It tries the zone's offsets a day before and a day after: around a change of the clocks these are the old and the new offset.
    """
    at, name = "timezone('UTC', {})", literal(zone)

    def offset(days: int) -> str:
        return f"(timezone({name}, {at.format(f'l + INTERVAL ({days}) DAY')}) - (l + INTERVAL ({days}) DAY))"

    def shows(instant: str) -> str:
        return f"timezone({name}, {at.format(instant)}) = l"

    chosen = (
        f"CASE WHEN u[1] = u[2] AND {shows('u[1]')} THEN {at.format('u[1]')} WHEN {shows('u[1]')} AND {shows('u[2]')} THEN {otherwise} "
        f"WHEN {shows('u[1]')} THEN {at.format('u[1]')} WHEN {shows('u[2]')} THEN {at.format('u[2]')} END"
    )
    inner = f"list_transform([[l - {offset(-1)}, l - {offset(1)}]], lambda u: {chosen})[1]"
    return f"list_transform([{local}], lambda l: {inner})[1]"


def _plain_if_unproven(text: str, attempt: str, kind: Type) -> str:
    """SQL: null where the attempt is proven exact, or the text is null; else the number without exponent."""
    whole, scale = _digits(kind)
    fraction = rf"(\.[0-9]{{1,{scale}}})?" if scale else ""
    simple = rf"[+-]?[0-9]{{1,{max(whole, 1)}}}{fraction}"
    proven = f"{attempt}::VARCHAR = {text} THEN NULL WHEN regexp_full_match({text}, '{simple}')"
    return f"CASE WHEN {text} IS NULL THEN NULL WHEN {proven} THEN NULL ELSE {_plain(text)} END"


def _value(text: str, attempt: str, number: str, kind: Type) -> str:
    """SQL of the typed value of ``text``; null if the text is no such value, or null."""
    trimmed = f"trim({text}, {_BLANKS})"
    if kind.kind == "text":
        return text
    if kind.is_number:
        return f"CASE WHEN {number} IS NULL THEN {attempt} ELSE try_cast({_exact(number, kind)} AS {kind.duckdb}) END"
    if kind.kind == "boolean":
        word = f"lower({trimmed})"
        return f"CASE WHEN {word} IN ('true', '1') THEN true WHEN {word} IN ('false', '0') THEN false END"
    if kind.kind == "date":
        # Written back it must be the same text, which excludes others that DuckDB accepts: infinity, epoch, BC, 2026-1-1.
        day = f"try_cast({trimmed} AS DATE)"
        return f"CASE WHEN length({trimmed}) = 10 AND {day}::VARCHAR = {trimmed} THEN {day} END"
    # An offset can move an instant out of the years that Python and every engine support.
    first, last = "TIMESTAMPTZ '0001-01-01 00:00:00Z'", "TIMESTAMPTZ '9999-12-31 23:59:59.999999Z'"
    return f"CASE WHEN {attempt} BETWEEN {first} AND {last} THEN {attempt} END"


def _digits(kind: Type) -> tuple[int, int]:
    """Digits before and after the point."""
    return (19, 0) if kind.kind == "integer" else (kind.precision - kind.scale, kind.scale)


def _plain(text: str) -> str:
    """SQL: a number's text without blanks and exponent; any other text without blanks."""
    trimmed = f"trim({text}, {_BLANKS})"
    pattern = r"'^([+-]?)([0-9]*)\.?([0-9]*)[eE]([+-]?[0-9]+)$', ['sign', 'whole', 'part', 'power']"
    digits, point = "(m.whole || m.part)", "(length(m.whole) + m.power::INTEGER)"
    shifted = (
        f"CASE WHEN {point} <= 0 THEN '0.' || repeat('0', -{point}) || {digits} "
        f"WHEN {point} >= length({digits}) THEN {digits} || repeat('0', {point} - length({digits})) "
        f"ELSE left({digits}, {point}) || '.' || substr({digits}, {point} + 1) END"
    )
    # The lambda avoids parsing the number twice.
    moved = f"list_transform([regexp_extract({trimmed}, {pattern})], lambda m: m.sign || {shifted})[1]"
    has_exponent = f"contains(lower({text}), 'e') AND regexp_full_match({trimmed}, '{_NUMBER}')"
    return f"CASE WHEN {has_exponent} THEN {moved} ELSE {trimmed} END"


def _exact(number: str, kind: Type) -> str:
    """SQL: the plain ``number`` if it fits exactly, without superfluous zeros; else null."""
    whole, scale = _digits(kind)
    fits = rf"[+-]?0*[0-9]{{0,{whole}}}(\.[0-9]{{0,{scale}}}0*)?"
    needed = rf"^[+-]?0*[0-9]{{0,{whole}}}(\.[0-9]{{0,{scale}}})?"
    return (
        f"CASE WHEN regexp_full_match({number}, '{fits}') AND regexp_matches({number}, '[0-9]') "
        f"THEN regexp_extract({number}, '{needed}') END"
    )


def _shown(name: str, text: str) -> str:
    """SQL of the name and the beginning of the text, in one line."""
    flat = f"replace(replace({text}, chr(10), ' '), chr(13), ' ')"
    short = f"CASE WHEN length({text}) > 40 THEN left({flat}, 39) || '…' ELSE {flat} END"
    return f"{literal(name + ': ' + chr(39))} || {short} || ''' '"


def _no_instant(text: str, zone: str | None) -> str:
    """SQL of why a text is no time."""
    trimmed, otherwise = f"trim({text}, {_BLANKS})", literal(f"is not {_TIME_EXAMPLE}")
    local = f"regexp_full_match({trimmed}, '{_DAY}({_CLOCK})?') AND try_cast({trimmed} AS TIMESTAMP) IS NOT NULL"
    if zone is None:
        hint = "has no time zone; write one, as in 2026-11-01T09:30:00Z, or set events.zone"
        return f"CASE WHEN {local} THEN {literal(hint)} ELSE {otherwise} END"
    if zone:
        # Only texts without one instant reach this: the clocks showed them twice, or never.
        twice = f"contains(CAST({_instant(f'try_cast({trimmed} AS TIMESTAMP)', zone, _TWICE)} AS VARCHAR), '9998-')"
        words = f"CASE WHEN coalesce({twice}, false) THEN 'is twice' ELSE 'does not exist' END"
        changed = f"{words} || {literal(f' in {zone}, where the clocks change; write it with its offset, such as -05:00')}"
        return f"CASE WHEN {local} THEN {changed} ELSE {otherwise} END"
    return otherwise


_TWICE = "TIMESTAMPTZ '9998-07-01 00:00:00Z'"
"""Marks a time that exists twice. No local time of that year does, so it has no other meaning."""


def _reason(name: str, text: str, number: str, kind: Type, zone: str | None) -> str:
    """SQL of what is wrong with ``text``, in one line."""
    shown = _shown(name, text)
    if kind.kind == "boolean":
        return f"{shown} || 'is not true, false, 1 or 0'"
    if kind.kind == "date":
        return f"{shown} || 'is not a date such as 2026-11-01'"
    if kind.kind == "timestamp":
        return f"{shown} || {_no_instant(text, zone)}"
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
