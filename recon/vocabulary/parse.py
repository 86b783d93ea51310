"""Parses text into a typed tree. sqlglot reads the grammar; only the constructs listed here are accepted."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from recon.errors import WrongUsage
from recon.vocabulary import check, reference
from recon.vocabulary.check import Unfit
from recon.vocabulary.tree import Expression, Node
from recon.vocabulary.types import BOOLEAN, TEXT, Type, parse_type

if TYPE_CHECKING:
    from sqlglot import exp

LENGTH_MAX = 4_000
DEPTH_MAX = 100
BRACKETS_MAX = 16

_COMPARISONS = {"EQ": "eq", "NEQ": "ne", "LT": "lt", "LTE": "le", "GT": "gt", "GTE": "ge"}
_ARITHMETIC = {"Add": "add", "Sub": "sub", "Mul": "mul", "Div": "div", "Mod": "mod"}
# sqlglot class → function of the vocabulary and, in order, the arguments of the class that are its operands.
_CALLS: dict[str, tuple[str, tuple[str, ...]]] = {
    "Coalesce": ("coalesce", ("this", "expressions")),
    "Nullif": ("nullif", ("this", "expression")),
    "Least": ("least", ("this", "expressions")),
    "Greatest": ("greatest", ("this", "expressions")),
    "Abs": ("abs", ("this",)),
    "Sign": ("sign", ("this",)),
    "Round": ("round", ("this", "decimals")),
    "Floor": ("floor", ("this",)),
    "Ceil": ("ceil", ("this",)),
    "Lower": ("lower", ("this",)),
    "Upper": ("upper", ("this",)),
    "Trim": ("trim", ("this",)),
    "Length": ("length", ("this",)),
    "Substring": ("substr", ("this", "start", "length")),
    "Year": ("year", ("this",)),
    "Month": ("month", ("this",)),
    "Day": ("day", ("this",)),
}
_ANONYMOUS = ("weekday", "add_days")
# Flags for sqlglot's dialects, without meaning for the expression.
_INERT = {"typed", "safe", "coalesce", "ignore_nulls", "date_part_boundary", "nested", "quoted", "is_string", "_type"}
# Names, for messages, of syntax that has no keyword.
_SHOWN = {
    "Alias": "a second value without an operator",
    "Block": "';'",
    "Bracket": "'[ ]'",
    "IntDiv": "'//'",
    "JSONExtract": "'->'",
    "NullSafeEQ": "is not distinct from",
    "NullSafeNEQ": "is distinct from",
    "Placeholder": "a parameter",
    "Select": "a query",
    "Star": "'*' as a value",
    "Subquery": "a subquery",
}
_NAMES = sorted({*check.FUNCTIONS, "concat", "cast", "try_cast", "date_trunc"} - {"month_start"})
_SPELLINGS = {*_NAMES, "substring", "ceiling", "case", "in", "between", "like", "is", "not"}


def parse_expression(text: str, columns: Mapping[str, Type], field: str) -> Expression:
    """Parses ``text``, which may use ``columns`` (name → type). Raises WrongUsage: one line with ``field`` and the column in the text."""
    try:
        reader = _Converter(text, columns)
        tree = reader.node(_parsed(text), 1)
        if check.is_null(tree):
            raise Unfit("null has no type of its own; write cast(null as decimal(18,2)) or another type", 1)
        return Expression(text, tree.type, frozenset(reader.used), tree)
    except Unfit as unfit:
        shown = text if len(text) <= 120 else text[:117] + "..."
        raise WrongUsage(f"{field}: {unfit.why} (at column {unfit.at} of {_one_line(shown)!r})") from None


def _parsed(text: str) -> exp.Expr:
    if len(text) > LENGTH_MAX:
        raise Unfit(f"an expression has at most {LENGTH_MAX} characters, this one has {len(text)}", LENGTH_MAX)
    if "\0" in text:
        raise Unfit("an expression holds no NUL character", text.index("\0") + 1)
    if not text.strip():
        raise Unfit("the expression is empty", 1)
    import sqlglot
    from sqlglot.errors import ParseError, TokenError

    try:
        _bounded(sqlglot.tokenize(text, read="duckdb"))
        return sqlglot.parse_one(text, read="duckdb")
    except TokenError:
        raise Unfit("a quote or comment is not closed", len(text)) from None
    except ParseError as error:
        first: dict[str, Any] = error.errors[0] if error.errors else {}
        why = str(first.get("description", "it is not an expression")).split(" for <class")[0].rstrip(".")
        why = "something is missing here" if why.startswith("Required keyword") else why
        line, column = int(first.get("line") or 1), int(first.get("col") or 1)
        lines = text.split("\n")
        at = sum(len(earlier) + 1 for earlier in lines[: line - 1]) + max(column, 1)
        raise Unfit(_one_line(why), min(at, len(text))) from None
    except RecursionError:
        raise Unfit("the expression is nested too deep; split it into derived values", 1) from None


_NO_COMMENTS = "-- and /* begin a comment, which an expression doesn't have; write - (-x), comment in YAML"


def _bounded(tokens: list[Any]) -> None:
    """Refuses, before parsing, text that would exhaust the parser's stack or that the parser would complete by itself."""
    if not tokens:  # only comments, which sqlglot leaves out
        raise Unfit(_NO_COMMENTS, 1)
    depth, cast_to = 0, False
    for token, following in zip(tokens, [*tokens[1:], None], strict=True):
        word = token.text.lower()
        if cast_to and word in ("decimal", "numeric", "dec") and (following is None or following.text != "("):
            # sqlglot would insert DuckDB's default digits.
            raise Unfit(f"{word} needs its digits; write decimal(18,2)", token.start + 1)
        if token.comments:
            raise Unfit(_NO_COMMENTS, token.end + 1)
        if word == "@":
            raise Unfit("@ is not part of the vocabulary; write abs(x)", token.start + 1)
        cast_to = word in ("as", "::")
        opened = word in ("(", "case", "[", "{")
        depth += opened - (word in (")", "end", "]", "}"))
        if depth > BRACKETS_MAX:
            raise Unfit(f"brackets and cases nest at most {BRACKETS_MAX} deep; split it into derived values", token.start + 1)


def _unit(tree: exp.Expr) -> str:
    unit = tree.args.get("unit")
    return str(unit.name).lower() if unit is not None else ""


def _one_line(text: str) -> str:
    return re.sub(r"\s+", " ", text)


class _Converter:
    """Converts the parsed tree of one text. ``used``: the columns found so far."""

    def __init__(self, text: str, columns: Mapping[str, Type]) -> None:
        self.text, self.columns = text, columns
        self.used: set[str] = set()

    def node(self, tree: exp.Expr, depth: int) -> Node:
        if depth > DEPTH_MAX:
            raise Unfit(f"the expression is more than {DEPTH_MAX} operations deep; split it into derived values", self.at(tree))
        kind = type(tree).__name__
        read = self._forms().get(kind)
        if read is not None:
            return read(tree, depth + 1)
        if kind in _COMPARISONS:
            return check.comparison(_COMPARISONS[kind], *self.operands(tree, depth, "this", "expression"))
        if kind in _ARITHMETIC:
            return check.arithmetic(_ARITHMETIC[kind], *self.operands(tree, depth, "this", "expression"))
        if kind in _CALLS:
            name, arguments = _CALLS[kind]
            return self.call(name, tree, self.operands(tree, depth, *arguments))
        raise self.foreign(tree)

    def _forms(self) -> dict[str, Callable[[Any, int], Node]]:
        return {
            "Column": self.column,
            "Literal": self.literal,
            "Boolean": lambda tree, _: Node("literal", (), BOOLEAN, bool(tree.this), self.at(tree)),
            "Null": lambda tree, _: Node("null", (), TEXT, None, self.at(tree)),
            "Paren": lambda tree, depth: self.operands(tree, depth, "this")[0],
            "Neg": lambda tree, depth: check.negative(*self.operands(tree, depth, "this")),
            "Not": lambda tree, depth: check.logical("not", self.operands(tree, depth, "this")),
            "And": lambda tree, depth: check.logical("and", self.operands(tree, depth, "this", "expression")),
            "Or": lambda tree, depth: check.logical("or", self.operands(tree, depth, "this", "expression")),
            "Is": self.missing,
            "In": lambda tree, depth: check.within("in", self.operands(tree, depth, "this", "expressions")),
            "Between": lambda tree, depth: check.within("between", self.operands(tree, depth, "this", "low", "high")),
            "Like": self.like,
            "Case": self.case,
            "Cast": self.cast,
            "TryCast": self.cast,
            "DPipe": lambda tree, depth: check.joined(self.operands(tree, depth, "this", "expression")),
            "Concat": lambda tree, depth: self.concat(tree, depth),
            "Anonymous": self.anonymous,
            "DateDiff": self.days_between,
            "DateTrunc": self.month_start,
            "TimestampTrunc": self.month_start,
        }

    def operands(self, tree: exp.Expr, depth: int, *arguments: str) -> list[Node]:
        """The named arguments of a node, in order. Refuses any other argument that is set."""
        self.only(tree, *arguments)
        found: list[Node] = []
        for argument in arguments:
            value = tree.args.get(argument)
            for item in value if isinstance(value, list) else [value] if value is not None else []:
                found.append(self.node(item, depth + 1))
        return found

    def only(self, tree: exp.Expr, *arguments: str) -> None:
        """Refuses a node with other arguments than ``arguments``, such as an escape, a subquery, a table or an order."""
        for argument, value in tree.args.items():
            if argument not in arguments and argument not in _INERT and value:
                raise self.foreign(value if hasattr(value, "args") else tree)

    def at(self, tree: exp.Expr) -> int:
        """The column of the node's first token, from 1, if sqlglot has it."""
        places = [node.meta["start"] for node in tree.walk() if isinstance(node.meta.get("start"), int)]
        return min(places) + 1 if places else 1

    def foreign(self, tree: exp.Expr) -> Unfit:
        """The error for a construct outside the vocabulary, with the most similar one inside it."""
        own = tree.meta.get("start")
        at = own + 1 if isinstance(own, int) else self.at(tree)
        word = re.match(r"\w+", self.text[at - 1 :])
        called = isinstance(own, int) or type(tree).__name__ == "Anonymous"
        kind = type(tree).__name__
        name = word[0].lower() if word and called else _SHOWN.get(kind, re.sub(r"(?<=[a-z])(?=[A-Z])", " ", kind).lower())
        near = [] if name in _NAMES else difflib.get_close_matches(name, _NAMES, 1)
        hint = f"did you mean {near[0]}?" if near else "docs/configuration.md lists what is"
        return Unfit(f"{name} is not part of the vocabulary; {hint}", at)

    def column(self, tree: exp.Column, depth: int) -> Node:
        if tree.args.get("table"):
            raise Unfit(f'names have no prefix; a name with a point in it is quoted, "{tree.sql()}"', self.at(tree))
        self.only(tree, "this")
        if type(tree.this).__name__ != "Identifier":
            raise self.foreign(tree.this)
        name = str(tree.this.this)
        try:
            kind = self.columns[name]
        except KeyError:
            near = difflib.get_close_matches(name, list(self.columns), 1)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(self.columns) or 'none'}"
            raise Unfit(f"{name!r} is not known here; {hint}", self.at(tree)) from None
        self.used.add(name)
        return Node("column", (), kind, name, self.at(tree))

    def literal(self, tree: exp.Literal, depth: int) -> Node:
        at = self.at(tree)
        return Node("literal", (), TEXT, str(tree.this), at) if tree.is_string else check.number(str(tree.this), at)

    def missing(self, tree: exp.Is, depth: int) -> Node:
        self.only(tree, "this", "expression")
        if type(tree.expression).__name__ != "Null":
            raise Unfit("after 'is' only null or not null can stand", self.at(tree.expression))
        return check.missing(self.node(tree.this, depth))

    def like(self, tree: exp.Like, depth: int) -> Node:
        self.only(tree, "this", "expression", "negate")
        found = check.like(self.node(tree.this, depth), self.node(tree.expression, depth))
        return check.logical("not", [found]) if tree.args.get("negate") else found

    def case(self, tree: exp.Case, depth: int) -> Node:
        if tree.this is not None:
            raise Unfit("write 'case when x = 1 then …' instead of 'case x when 1 then …'", self.at(tree))
        self.only(tree, "ifs", "default")
        for branch in tree.args["ifs"]:
            self.only(branch, "this", "true")
        branches = [(self.node(one.this, depth), self.node(one.args["true"], depth)) for one in tree.args["ifs"]]
        default = tree.args.get("default")
        otherwise = Node("null", (), TEXT, None, self.at(tree)) if default is None else self.node(default, depth)
        return check.case(branches, otherwise)

    def cast(self, tree: exp.Cast, depth: int) -> Node:
        self.only(tree, "this", "to")
        to, node = self.type(tree.args["to"], self.at(tree)), self.node(tree.this, depth)
        result = check.cast(node, to)
        if node.op == "literal" and result.op == "cast":
            value = reference.cast(node.value, node.type, to)
            if value is None:
                zone = "; it needs a zone such as Z or -05:00" if to.kind == "timestamp" else ""
                raise Unfit(f"{node.value!r} is not a {to}{zone}", node.at)
            result = Node("literal", (), to, value, node.at)
        return result

    def type(self, tree: exp.Expr, at: int) -> Type:
        digits = [str(parameter.this.this) for parameter in tree.expressions if type(parameter).__name__ == "DataTypeParam"]
        name = str(getattr(tree.this, "value", tree.this)).lower()
        if len(digits) != len(tree.expressions) or any(v for k, v in tree.args.items() if k not in ("this", "expressions")):
            raise Unfit(f"{name} is not a type of the vocabulary", at)
        name = "timestamp" if name == "timestampntz" else name
        try:
            return parse_type(name + (f"({','.join(digits)})" if digits else ""), "cast")
        except WrongUsage as error:
            raise Unfit(str(error), at) from None

    def call(self, name: str, tree: exp.Expr, nodes: list[Node]) -> Node:
        own = tree.meta.get("start")
        word = re.match(r"\w+", self.text[own:]) if isinstance(own, int) else None
        if word and word[0].lower() not in _SPELLINGS:
            raise self.foreign(tree)  # sqlglot parses nvl, ifnull and others as functions of the vocabulary
        fewest, most, build = check.FUNCTIONS[name]
        if not fewest <= len(nodes) <= most:
            count = str(fewest) if fewest == most else f"{fewest} to {most}"
            raise Unfit(f"{name} takes {count} values, not {len(nodes)}", self.at(tree))
        return build(nodes)

    def concat(self, tree: exp.Concat, depth: int) -> Node:
        return check.joined(self.operands(tree, depth, "expressions"))

    def anonymous(self, tree: exp.Anonymous, depth: int) -> Node:
        name = str(tree.this).lower()
        if name not in _ANONYMOUS:
            raise self.foreign(tree)
        self.only(tree, "this", "expressions")
        return self.call(name, tree, [self.node(item, depth) for item in tree.expressions])

    def days_between(self, tree: exp.DateDiff, depth: int) -> Node:
        if _unit(tree) != "day":
            raise Unfit("date_diff counts days only; write date_diff('day', first, last)", self.at(tree))
        self.only(tree, "this", "expression", "unit")
        last, first = self.node(tree.this, depth), self.node(tree.expression, depth)
        return self.call("date_diff", tree, [first, last])

    def month_start(self, tree: exp.Expr, depth: int) -> Node:
        if _unit(tree) != "month":
            raise Unfit("date_trunc knows months only; write date_trunc('month', x)", self.at(tree))
        self.only(tree, "this", "unit")
        return self.call("month_start", tree, [self.node(tree.this, depth)])
