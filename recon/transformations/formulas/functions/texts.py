"""Functions of texts, each with Excel's rule in its docstring. A number becomes a text in the General format, a blank an empty text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from recon.transformations.formulas.compile import MANY, Compiler, Function
from recon.transformations.formulas.layers import Value, column, sql_of
from recon.transformations.formulas.tree import VALUE, Call, Tree
from recon.vocabulary import check
from recon.vocabulary.types import BOOLEAN, INTEGER, TEXT, Type

LENGTH_MAX = 32767
"""Characters of the longest text that REPT makes, as in a cell of Excel."""


def _pieces(args: Sequence[Tree]) -> list[Tree]:
    """The operands of all ``&`` in a row."""
    found, todo = list[Tree](), list(reversed(args))
    while todo:
        one = todo.pop()
        if isinstance(one, Call) and one.name == "&":
            todo += reversed(one.args)
        else:
            found.append(one)
    return found


def concat(compiler: Compiler, args: Sequence[Tree]) -> Value:
    """a & b, CONCAT, CONCATENATE: one text behind the other."""
    values = compiler.texts(_pieces(args))
    return compiler.sql(f"({' || '.join(sql_of(value.node) for value in values)})", TEXT, values)


def joined(compiler: Compiler, args: Sequence[Tree]) -> Value:
    """TEXTJOIN(delimiter, ignore_empty, a, …): texts with the delimiter between them; empty texts are left out where that is TRUE."""
    (delimiter,), ignore, values = compiler.texts(args[:1]), compiler.truth(compiler.value(args[1])), compiler.texts(args[2:])
    between, texts = sql_of(delimiter.node), [sql_of(value.node) for value in values]
    there = ", ".join(f"nullif({text}, '')" for text in texts)
    every = f" || {between} || ".join(texts)
    sql = f"CASE WHEN {sql_of(ignore.node)} THEN concat_ws({between}, {there}) ELSE {every} END"
    return compiler.sql(f"coalesce({sql}, '')", TEXT, [delimiter, ignore, *values])


def _of_text(sql: str, kind: Type = TEXT) -> Callable[[Compiler, Sequence[Tree]], Value]:
    def build(compiler: Compiler, args: Sequence[Tree]) -> Value:
        """LEN: characters. UPPER, LOWER. PROPER: a capital behind each character that is no letter. CLEAN: without the
        characters 0 to 31."""
        (value,) = compiler.texts(args)
        return compiler.sql(sql.format(sql_of(value.node)), kind, [value])

    return build


def trimmed(compiler: Compiler, args: Sequence[Tree]) -> Value:
    """TRIM: no spaces at the ends, one between words."""
    (value,) = compiler.texts(args)
    bare, level = compiler.layers.add(f"trim({sql_of(value.node)}, ' ')", [value])
    twice = "'  ', ' '"  # three times this is most texts, and much faster than the expression
    fewer, level = compiler.layers.add(f"replace(replace(replace({bare}, {twice}), {twice}), {twice})", level)
    found = f"CASE WHEN contains({fewer}, '  ') THEN regexp_replace({fewer}, ' +', ' ', 'g') ELSE {fewer} END"
    return compiler.sql(found, TEXT, [value, Value(column(fewer, TEXT), None, level)])


def _part(side: str) -> Callable[[Compiler, Sequence[Tree]], Value]:
    def build(compiler: Compiler, args: Sequence[Tree]) -> Value:
        """LEFT, RIGHT(text, n): n is 1 unless it is written; #VALUE! below 0."""
        value = compiler.text(compiler.value(args[0]))
        count = compiler.number(compiler.value(args[1])) if len(args) > 1 else Value(check.number("1", 1))
        size = compiler.whole(count)
        cut = f"{side}({sql_of(value.node)}, greatest({size}, 0))"
        return compiler.sql(cut, TEXT, [value, count], f"CASE WHEN {size} < 0 THEN {VALUE} END")

    return build


def middle(compiler: Compiler, args: Sequence[Tree]) -> Value:
    """MID(text, start, n): start counts from 1; #VALUE! for a start below 1 or an n below 0."""
    (value,) = compiler.texts(args[:1])
    numbers = compiler.numbers(args[1:])
    start, size = (compiler.whole(number) for number in numbers)
    cut = f"substr({sql_of(value.node)}, greatest({start}, 1), greatest({size}, 0))"
    return compiler.sql(cut, TEXT, [value, *numbers], f"CASE WHEN {start} < 1 OR {size} < 0 THEN {VALUE} END")


def replaced(compiler: Compiler, args: Sequence[Tree]) -> Value:
    """REPLACE(text, start, n, new): new in place of n characters from start on; #VALUE! for a start below 1 or an n below 0."""
    old, new = compiler.texts([args[0], args[3]])
    numbers = compiler.numbers(args[1:3])
    start, size = (f"greatest({compiler.whole(number)}, {least})" for number, least in zip(numbers, (1, 0), strict=True))
    text = sql_of(old.node)
    sql = f"(left({text}, {start} - 1) || {sql_of(new.node)} || substr({text}, {start} + {size}))"
    wrong = f"CASE WHEN {compiler.whole(numbers[0])} < 1 OR {compiler.whole(numbers[1])} < 0 THEN {VALUE} END"
    return compiler.sql(sql, TEXT, [old, new, *numbers], wrong)


def repeated(compiler: Compiler, args: Sequence[Tree]) -> Value:
    """REPT(text, n): the text n times; #VALUE! below 0, and beyond 32,767 characters."""
    (value,) = compiler.texts(args[:1])
    (times,) = compiler.numbers(args[1:])
    text, count = sql_of(value.node), compiler.whole(times)
    fits = f"{count} >= 0 AND length({text}) * {count} <= {LENGTH_MAX}"
    sql = f"CASE WHEN {fits} AND length({text}) > 0 THEN repeat({text}, {count}) ELSE '' END"
    return compiler.sql(sql, TEXT, [value, times], f"CASE WHEN NOT ({fits}) THEN {VALUE} END")


def exact(compiler: Compiler, args: Sequence[Tree]) -> Value:
    """EXACT(a, b): whether both are one text, with regard to case."""
    values = compiler.texts(args)
    one, two = (sql_of(value.node) for value in values)
    return compiler.sql(f"({one} = {two})", BOOLEAN, values)


_WORDS = r"regexp_extract_all(lower({}), '\pL+|\PL+')"
_PROPER = f"array_to_string(list_transform({_WORDS}, lambda word: upper(word[1]) || word[2:]), '')"

TEXTS: Mapping[str, Function] = {
    "&": Function(2, 2, concat),
    "CONCAT": Function(1, MANY, concat),
    "CONCATENATE": Function(1, MANY, concat),
    "TEXTJOIN": Function(3, MANY, joined),
    "LEN": Function(1, 1, _of_text("length({})", INTEGER)),
    "UPPER": Function(1, 1, _of_text("upper({})")),
    "LOWER": Function(1, 1, _of_text("lower({})")),
    "PROPER": Function(1, 1, _of_text(_PROPER)),
    "TRIM": Function(1, 1, trimmed),
    "CLEAN": Function(1, 1, _of_text(r"regexp_replace({}, '[\x00-\x1F]', '', 'g')")),
    "LEFT": Function(1, 2, _part("left")),
    "RIGHT": Function(1, 2, _part("right")),
    "MID": Function(3, 3, middle),
    "REPLACE": Function(4, 4, replaced),
    "REPT": Function(2, 2, repeated),
    "EXACT": Function(2, 2, exact),
}
