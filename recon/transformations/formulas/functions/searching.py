"""Functions that look for a text in another, each with Excel's rule in its docstring."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from recon.errors import WrongUsage
from recon.transformations.formulas.compile import Compiler, Function, literal_integer
from recon.transformations.formulas.layers import Value, column, sql_of
from recon.transformations.formulas.tree import NA, VALUE, Tree
from recon.vocabulary import check
from recon.vocabulary.types import INTEGER, TEXT

INSTANCE_MAX = 32767
PATTERN_MAX = 255
"""Characters of a text that SEARCH looks for, as in Excel."""


def regular(pattern: str) -> str:
    """SQL of the regular expression that a pattern with ``*``, ``?``, ``~*``, ``~?`` and ``~~`` means. ``pattern``: SQL of a text."""
    escaped = rf"regexp_replace({pattern}, '([.+^$(){{}}|\[\]\\])', '\\\1', 'g')"
    kept = {"~~": "\ue000", "~*": "\ue001", "~?": "\ue002"}  # characters of no text, so that those with ~ are not wildcards
    wild = {"*": ".*", "?": ".", "\ue000": "~", "\ue001": r"\*", "\ue002": r"\?"}
    for old, new in {**kept, **wild}.items():
        escaped = f"replace({escaped}, '{old}', '{new}')"
    return escaped


def _found(wildcards: bool) -> Callable[[Compiler, Sequence[Tree]], Value]:
    def build(compiler: Compiler, args: Sequence[Tree]) -> Value:
        """FIND(text, within, start): where it begins, from 1 on, with regard to case. SEARCH: without regard to case; ``?`` is any
        character, ``*`` any number of them, ``~`` takes the next as it is; at most 255 characters. #VALUE! where it is not."""
        values = compiler.texts(args[:2])
        start = compiler.number(compiler.value(args[2])) if len(args) > 2 else Value(check.number("1", 1))
        text, within = (sql_of(value.node) for value in values)
        first = compiler.whole(start)
        rest = f"substr({within}, greatest({first}, 1))"
        if wildcards:
            form = f"'(?s)^(.*?)' || {regular(f'lower(left({text}, {PATTERN_MAX}))')}"
            rest = f"lower({rest})"
            found = f"length({text}) <= {PATTERN_MAX} AND regexp_matches({rest}, {form})"
            place = f"CASE WHEN {found} THEN length(regexp_extract({rest}, {form}, 1)) + 1 ELSE 0 END"
        else:
            place = f"CASE WHEN {text} = '' THEN 1 ELSE strpos({rest}, {text}) END"
        name, level = compiler.layers.add(place, [*values, start])
        wrong = f"CASE WHEN {first} < 1 OR {first} > greatest(length({within}), 1) OR {name} = 0 THEN {VALUE} END"
        below = [*values, start, Value(column(name, INTEGER), None, level)]
        return compiler.sql(f"CAST({name} + {first} - 1 AS BIGINT)", INTEGER, below, wrong)

    return build


def substitute(compiler: Compiler, args: Sequence[Tree]) -> Value:
    """SUBSTITUTE(text, old, new, n): every old, or with n, a number as it is written, the n-th, with regard to case; an empty old changes
    nothing."""
    values = compiler.texts(args[:3])
    text, old, new = (sql_of(value.node) for value in values)
    changed = f"replace({text}, {old}, {new})"
    if len(args) > 3:
        place = literal_integer(args[3], "the fourth argument of SUBSTITUTE", 1, INSTANCE_MAX)
        before, pieces = _before(text, old, f"{place}"), f"string_split({text}, {old})"
        ends = f"left({text}, {before}) || {new} || substr({text}, {before} + length({old}) + 1)"
        changed = f"CASE WHEN len({pieces}) > {place} THEN {ends} ELSE {text} END"
    return compiler.sql(f"CASE WHEN {old} = '' THEN {text} ELSE {changed} END", TEXT, values)


def _before(text: str, delimiter: str, place: str) -> str:
    """SQL of the number of characters before the delimiter at a place, where there is one."""
    pieces = f"array_to_string(string_split({text}, {delimiter})[1:{place}], '')"
    return f"(length({pieces}) + ({place} - 1) * length({delimiter}))"


def _side(after: bool) -> Callable[[Compiler, Sequence[Tree]], Value]:
    def build(compiler: Compiler, args: Sequence[Tree]) -> Value:
        """TEXTBEFORE, TEXTAFTER(text, delimiter, n): what is before, after the n-th delimiter, with regard to case; from the end where n, a
        number as it is written, is below 0. #N/A where there is none. An empty delimiter is at the beginning, or from the end at the
        end."""
        values = compiler.texts(args[:2])
        place = literal_integer(args[2], "the third argument", -INSTANCE_MAX, INSTANCE_MAX) if len(args) > 2 else 1
        if place == 0:
            raise WrongUsage("the third argument counts from 1, or from the end from -1")
        text, delimiter = (sql_of(value.node) for value in values)
        pieces = f"string_split({text}, {delimiter})"
        cut = f"{place}" if place > 0 else f"len({pieces}) - {-place}"
        before = _before(text, delimiter, f"({cut})")
        found = f"substr({text}, {before} + length({delimiter}) + 1)" if after else f"left({text}, {before})"
        whole = text if after == (place > 0) else "''"
        sql = f"CASE WHEN {delimiter} = '' THEN {whole} WHEN len({pieces}) > {abs(place)} THEN {found} END"
        return compiler.sql(sql, TEXT, values, f"CASE WHEN {delimiter} <> '' AND len({pieces}) <= {abs(place)} THEN {NA} END")

    return build


SEARCHING: Mapping[str, Function] = {
    "FIND": Function(2, 3, _found(wildcards=False)),
    "SEARCH": Function(2, 3, _found(wildcards=True)),
    "SUBSTITUTE": Function(3, 4, substitute),
    "TEXTBEFORE": Function(2, 3, _side(after=False)),
    "TEXTAFTER": Function(2, 3, _side(after=True)),
}
