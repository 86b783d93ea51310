"""The expression language of measures, derived values and statuses: small, typed, total, with the same meaning on every engine.

``parse`` reads text, ``types`` and ``check`` have the type rules, ``reference`` evaluates in Python, ``duckdb`` and ``spark`` emit SQL.
The expressions of a reconciliation are read by ``recon.config.load``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from recon.vocabulary.tree import Expression, Node
from recon.vocabulary.types import Type, parse_type

if TYPE_CHECKING:
    from recon.vocabulary.duckdb import emit_duckdb
    from recon.vocabulary.parse import parse_expression
    from recon.vocabulary.reference import evaluate
    from recon.vocabulary.spark import emit_spark

MEANING = 2
"""Version of the meaning of expressions, measures and duplicates; part of every rules version."""

__all__ = ["MEANING", "Expression", "Node", "Type", "emit_duckdb", "emit_spark", "evaluate", "parse_expression", "parse_type"]


def __getattr__(name: str) -> Any:
    """Imports parser, reference and emitters on first use, since look-ups need none of them."""
    from importlib import import_module

    modules = {"emit_duckdb": "duckdb", "emit_spark": "spark", "evaluate": "reference", "parse_expression": "parse"}
    if name in modules:
        return getattr(import_module(f"recon.vocabulary.{modules[name]}"), name)
    raise AttributeError(f"module 'recon.vocabulary' has no attribute {name!r}")
