"""The vocabulary of measures, derived values and rules: small, typed, total, of one meaning on every engine.

Belongs here: what leaves the package. ``types`` has the types, ``parse`` reads text, ``check`` has the type rules,
``reference`` the meaning, ``duckdb`` and ``spark`` each engine's text. Does not belong here: which expressions a
reconciliation has; that is ``recon.config.load``.
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
"""Counts changes of what expressions, measures and duplicates mean; part of every rules version."""

__all__ = ["MEANING", "Expression", "Node", "Type", "emit_duckdb", "emit_spark", "evaluate", "parse_expression", "parse_type"]


def __getattr__(name: str) -> Any:
    """Loads parser, meaning and engines when they are first asked for: a look-up needs none of them."""
    from importlib import import_module

    rooms = {"emit_duckdb": "duckdb", "emit_spark": "spark", "evaluate": "reference", "parse_expression": "parse"}
    if name in rooms:
        return getattr(import_module(f"recon.vocabulary.{rooms[name]}"), name)
    raise AttributeError(f"module 'recon.vocabulary' has no attribute {name!r}")
