"""Criteria: one SELECT on the views ``files``, ``runs`` and ``windows``, checked against a list of what may be in it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from recon.errors import WrongUsage

if TYPE_CHECKING:
    from sqlglot import exp

LENGTH_MAX, NODES_MAX, DEPTH_MAX = 4_000, 500, 30
FUNCTION = re.compile(r"([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*):([A-Za-z_]\w*)\Z")
VIEWS: dict[str, tuple[str, ...]] = {
    "files": (
        *("id", "source", "name", "window", "state", "version", "rows", "kept", "rejected_rows", "size"),
        *("received_at", "landed_at", "rejected_at", "reason"),
    ),
    "runs": ("id", "aggregation", "scope", "state", "attempt", "claimed_at", "started_at", "ended_at", "reason"),
    "windows": ("source", "window", "files", "rows", "bytes", "last_received_at"),
}
"""View → its columns. Each has only the rows of the definition's reconciliation."""
PARAMETERS = ("scope", "aggregation")
_ALLOWED = frozenset(
    (
        *("Select", "From", "Table", "Alias", "TableAlias", "Column", "Identifier", "Star", "Literal", "Null", "Boolean", "Paren"),
        *("Placeholder", "Where", "Group", "Having", "Order", "Ordered", "Limit", "Join", "Subquery", "Exists", "In", "Between", "Is"),
        *("Not", "And", "Or", "EQ", "NEQ", "LT", "LTE", "GT", "GTE", "Add", "Sub", "Mul", "Div", "Mod", "Neg", "Like", "Case", "If"),
        *("Coalesce", "Nullif", "Count", "Sum", "Min", "Max", "Avg", "Abs", "Lower", "Upper", "Length", "Trim", "Substring"),
        *("Distinct", "Tuple", "Concat", "DPipe", "Cast", "DataType"),
    )
)
_CASTS = ("TEXT", "VARCHAR", "INT", "BIGINT", "DECIMAL")


def parsed(text: str, field: str = "criteria") -> exp.Select:
    """The SELECT as a tree in which everything is allowed. Raises WrongUsage that begins with ``field``."""
    import sqlglot
    from sqlglot import exp
    from sqlglot.errors import SqlglotError

    if len(text) > LENGTH_MAX:
        raise WrongUsage(f"{field}: {len(text):,} characters are too many; at most {LENGTH_MAX:,}")
    if _brackets(text) > DEPTH_MAX:
        raise WrongUsage(f"{field}: brackets are nested too deeply; at most {DEPTH_MAX}")
    if re.search(r"--|/\*|;|\\|\$", text):
        raise WrongUsage(f"{field}: ';', comments, '\\' and '$' are not used here; write one SELECT")
    try:
        trees = sqlglot.parse(text, dialect="sqlite")
    except (SqlglotError, RecursionError) as error:
        reason = str(error).splitlines()[0] if str(error) else "too deeply nested"
        raise WrongUsage(f"{field}: no SELECT ({reason})") from None
    if len(trees) != 1 or not isinstance(trees[0], exp.Select):
        raise WrongUsage(f"{field}: expected one SELECT, such as select count(*) = 13 from files where window = :scope")
    tree = trees[0]
    nodes = list(tree.walk())
    if len(nodes) > NODES_MAX:
        raise WrongUsage(f"{field}: too long a SELECT; at most {NODES_MAX} terms")
    for node in nodes:
        _check(node, field)
    return _resolved(tree, field)


def _resolved(tree: exp.Select, field: str) -> exp.Select:
    """The tree with each column's view written out: databases differ in how they read a name that is none."""
    from sqlglot import exp
    from sqlglot.errors import SqlglotError
    from sqlglot.optimizer.qualify import qualify

    if len(tree.expressions) != 1 or tree.is_star:
        raise WrongUsage(f"{field}: expected one value, such as select count(*) = 13 from files where window = :scope")
    schema: dict[str, object] = {view: dict.fromkeys(columns, "TEXT") for view, columns in VIEWS.items()}
    try:
        found = qualify(tree, schema=schema, dialect="sqlite", expand_stars=False, quote_identifiers=False, identify=False)
    except SqlglotError as error:
        known = "; ".join(f"{view} has {', '.join(columns)}" for view, columns in VIEWS.items())
        raise WrongUsage(f"{field}: {str(error).splitlines()[0]}; {known}") from None
    assert isinstance(found, exp.Select)
    return found


def _brackets(text: str) -> int:
    depth = deepest = 0
    for character in text:
        depth += (character == "(") - (character == ")")
        deepest = max(deepest, depth)
    return deepest


def _check(node: Any, field: str) -> None:
    from sqlglot import exp

    kind = type(node).__name__
    if kind == "Anonymous" or kind not in _ALLOWED:
        shown = node.sql()[:60]
        raise WrongUsage(
            f"{field}: {shown!r} is not used here; known are comparisons, and, or, not, case, count, sum, min, max, avg, coalesce"
        )
    if isinstance(node, exp.Table):
        if node.name.lower() not in VIEWS or node.args.get("db") or node.args.get("catalog") or not isinstance(node.this, exp.Identifier):
            raise WrongUsage(f"{field}: there is no {node.sql()[:60]!r}; the views are {', '.join(VIEWS)}")
    elif isinstance(node, exp.Placeholder) and node.name not in PARAMETERS:
        raise WrongUsage(f"{field}: there is no {node.sql()[:60]!r}; known are {', '.join(':' + name for name in PARAMETERS)}")
    elif isinstance(node, exp.DataType) and node.this.name not in _CASTS:
        raise WrongUsage(f"{field}: a cast to {node.sql()} is not used here; known are {', '.join(_CASTS)}")
    elif isinstance(node, exp.Select) and any(
        node.args.get(name) for name in ("with", "with_", "into", "locks", "laterals", "windows", "qualify")
    ):
        raise WrongUsage(f"{field}: a SELECT here has no WITH, INTO, LATERAL or locks")


def statement(tree: exp.Select, views: Mapping[str, exp.Expression], values: Mapping[str, str], dialect: str) -> str:
    """The SELECT for a database, at most two rows of it: each view replaced by its query in ``views``, and each parameter by its value, as
    a quoted text."""
    from sqlglot import exp

    def replaced(node: Any) -> Any:
        if isinstance(node, exp.Placeholder):
            return exp.Literal.string(values[node.name])
        if not isinstance(node, exp.Table):
            return node
        return exp.Subquery(this=views[node.name].copy(), alias=exp.TableAlias(this=exp.to_identifier(node.alias or node.name)))

    return f"SELECT * FROM ({tree.transform(replaced).sql(dialect=dialect, identify=True)}) AS answer LIMIT 2"
