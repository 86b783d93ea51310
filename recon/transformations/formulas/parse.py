"""Reads a formula: formualizer has the grammar; the digits of numbers come from its tokens, since its tree has doubles."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from decimal import Decimal
from itertools import chain
from typing import Any

from recon.errors import WrongUsage
from recon.transformations.formulas.letters import cells, lettered
from recon.transformations.formulas.tree import ERRORS, Call, ColumnOf, Error, Number, Omitted, TableColumn, Text, Tree, Truth

LENGTH_MAX, DEPTH_MAX = 8192, 64
CHAIN_MAX = 250
"""Operators in a row: formualizer's trees have at most 256 levels, and each operator of a chain is one."""
_OPERATORS = {"OpPrefix", "OpInfix", "OpPostfix"}
_BINARY = {"+", "-", "*", "/", "^", "&", "=", "<>", "<", "<=", ">", ">="}
_REFUSED = {
    **dict.fromkeys(("LET", "LAMBDA"), "compute the part as a column of its own"),
    **dict.fromkeys(("OFFSET", "INDIRECT", "ROW", "COLUMN", "ADDRESS"), "there are no cells; name a column, such as [@amount]"),
    **dict.fromkeys(("RAND", "RANDBETWEEN", "RANDARRAY"), "the same request gives the same result"),
    **dict.fromkeys(("HLOOKUP", "LOOKUP", "XMATCH"), "use XLOOKUP, or the operation xlookup"),
    **dict.fromkeys(("FILTER", "SORT", "SORTBY", "UNIQUE"), "use the operations filter, sort or remove_duplicates"),
    **dict.fromkeys(("TEXTSPLIT", "SEQUENCE", "VSTACK", "HSTACK"), "a formula gives one value for each row"),
}
"""Function that no formula can have → what to do instead."""
_SPREAD = frozenset(("SUM", "AVERAGE", "MIN", "MAX", "COUNT", "COUNTA", "COUNTBLANK", "AND", "OR", "XOR", "CONCAT"))
"""Functions that take a range within the row."""
_OWN_ROW = re.compile(r"\[@(?:\[(?P<bracketed>.*)\]|(?P<plain>[^\[\]]*))\]\Z", re.DOTALL)
_COLUMN = re.compile(r"(?P<table>[^\W\d]\w*)?\[(?:\[(?P<bracketed>[^@#].*)\]|(?P<plain>[^@#\[].*))\]\Z", re.DOTALL)
_TABLE = re.compile(r"[^\W\d]\w*\Z")
_BRACKET = re.compile(r"(?<!')[\[\]]")
_WHOLE = re.compile(r"\[(?P<name>.*)\]\Z", re.DOTALL)
_ESCAPED = re.compile(r"'(['\[\]#@])")


def parsed(text: str) -> Tree:
    """The tree of ``=ROUND([@amount]*1.05, 2)``. Raises WrongUsage for what is no formula, or is not supported, by name."""
    import formualizer
    from formualizer import ParserError, TokenizerError

    if not text.startswith("="):
        raise WrongUsage(f"a formula begins with '=', this text begins with {text[:10]!r}")
    if len(text) > LENGTH_MAX:
        raise WrongUsage(f"a formula has at most {LENGTH_MAX:,} characters, this one has {len(text):,}")
    if "\0" in text:
        raise WrongUsage("a formula has no character 0; leave it out")
    if _depth(text) > DEPTH_MAX:
        raise WrongUsage(f"functions and brackets are nested at most {DEPTH_MAX} deep; compute a part as a column of its own")
    try:
        tree = formualizer.parse(text).to_dict()
        tokens = formualizer.tokenize(text).tokens()
    except (ParserError, TokenizerError) as error:
        if "height limit" in str(error):
            raise _too_long(text) from None
        raise WrongUsage(f"{text[:80]!r} is no formula: {error}") from None
    places = {token.value: token.start + 1 for token in reversed(tokens)}
    digits = iter([token.value for token in tokens if str(token.subtype).endswith("Number")])
    try:
        found = _Reader(digits, places).tree(tree, 1)
    except RecursionError:
        raise _too_long(text) from None
    if next(digits, None) is not None:
        raise WrongUsage(f"{text[:80]!r}: its numbers run into each other; write them with spaces around")
    return found


def _too_long(text: str) -> WrongUsage:
    """The error of a formula whose tree is too high for the parser, with the number of its operators."""
    import formualizer

    operators = [token for token in formualizer.tokenize(text).tokens() if str(token.token_type) in _OPERATORS]
    return WrongUsage(
        f"{text[:40]!r}… is too long a chain of operators: it has {len(operators):,}, and at most some {CHAIN_MAX} may follow one another; "
        "use SUM or CONCAT, or compute a part as a column of its own, such as part: '=[@a]+[@b]', and go on with [@part]"
    )


def _depth(text: str) -> int:
    """The deepest nesting of round brackets outside texts."""
    depth = deepest = 0
    for character in re.sub(r'"[^"]*"', "", text):
        depth += (character == "(") - (character == ")")
        deepest = max(deepest, depth)
    return deepest


class _Reader:
    """``digits``: the numbers of the text, in the order in which the tree has them. ``places``: token → its first character, from 1."""

    def __init__(self, digits: Iterator[str], places: Mapping[str, int]) -> None:
        self._digits, self._places = digits, places

    def tree(self, node: dict[str, Any], depth: int) -> Tree:
        if depth > 4 * DEPTH_MAX:
            raise RecursionError
        kind = node["node_type"]
        if kind == "Literal":
            return self._literal(node["value"])
        if kind == "Reference":
            with self._at(node["reference"]):
                return _column(node["reference"])
        if kind == "BinaryOp" and node["operator"] in _BINARY:
            return Call(node["operator"], (self.tree(node["left"], depth + 1), self.tree(node["right"], depth + 1)))
        if kind == "UnaryOp":
            return self._unary(node, depth)
        if kind == "Function":
            name = node["name"].upper().removeprefix("_XLFN.")
            if name in _REFUSED:
                raise WrongUsage(f"{name} is not supported: {_REFUSED[name]}")
            args = [self._arguments(name, at, arg, depth + 1) for at, arg in enumerate(node["args"])]
            return Call(name, tuple(chain.from_iterable(args)))
        what = {"Array": "an array constant such as {1,2}", "Omitted": "an omitted argument"}.get(
            kind, f"the operator {node.get('operator')}"
        )
        raise WrongUsage(f"{what} is not supported; write it out")

    def _arguments(self, function: str, at: int, node: dict[str, Any], depth: int) -> list[Tree]:
        """An argument; of a range within the row, such as ``A2:C2``, all its cells."""
        if function in _SPREAD and node["node_type"] == "Reference":
            with self._at(node["reference"]):
                if found := cells(node["reference"]):
                    return [*found]
        return [self._argument(function, at, node, depth)]

    @contextmanager
    def _at(self, reference: str) -> Iterator[None]:
        """Puts the place of a reference behind its mistake."""
        try:
            yield
        except WrongUsage as error:
            place = self._places.get(reference)
            raise WrongUsage(f"{error}" + (f" (at character {place} of the formula)" if place else "")) from None

    def _argument(self, function: str, at: int, node: dict[str, Any], depth: int) -> Tree:
        if function == "XLOOKUP" and node["node_type"] == "Omitted":
            return Omitted()
        if (function, at) == ("VLOOKUP", 1) and node["node_type"] == "Reference" and _TABLE.match(node["reference"]):
            return TableColumn(node["reference"], None)
        return self.tree(node, depth)

    def _literal(self, value: object) -> Tree:
        if isinstance(value, bool):
            return Truth(value)
        if isinstance(value, str):
            return Error(ERRORS[value]) if value in ERRORS else Text(value)
        text = next(self._digits, "")
        try:
            return Number(Decimal(text))
        except ArithmeticError:
            raise WrongUsage(f"the number {text or value!r} cannot be read; write digits and a point") from None

    def _unary(self, node: dict[str, Any], depth: int) -> Tree:
        sign = node["operator"]
        if sign == "@" and node["operand"].get("node_type") == "Reference":
            found = _WHOLE.match(node["operand"]["reference"])
            if found is not None:
                return ColumnOf(_unescaped(found["name"]))
        operand = self.tree(node["operand"], depth + 1)
        if sign == "+":
            return operand
        if sign in ("-", "%"):
            return Call("NEG" if sign == "-" else "%", (operand,))
        raise WrongUsage(f"the operator {sign} is not supported")


def _column(reference: str) -> Tree:
    found = _OWN_ROW.match(reference)
    if found is None:
        if (by_letters := lettered(reference)) is not None:
            return by_letters
        whole = _COLUMN.match(reference)
        name = "" if whole is None else whole["bracketed"] or whole["plain"]
        if whole is not None and not _BRACKET.search(name):
            return TableColumn(whole["table"] or "", _unescaped(name))
        raise WrongUsage(f"{reference}: such cells and ranges are not supported; name a column of the row, such as [@amount] or B2")
    name = found["bracketed"] if found["bracketed"] is not None else found["plain"]
    return ColumnOf(_unescaped(name))


def _unescaped(name: str) -> str:
    """Excel writes ``'``, ``[``, ``]``, ``#`` and ``@`` in a column's name with ``'`` before them."""
    return _ESCAPED.sub(r"\1", name)
