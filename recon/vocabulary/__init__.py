"""The vocabulary of measures, derived values and rules: small, typed, total, of one meaning on every engine.

Belongs here: what leaves the package. ``types`` has the types, ``parse`` reads text, ``check`` has the type rules,
``reference`` the meaning, ``duckdb`` (and later others) an engine's text. Does not belong here: which expressions a
reconciliation has; that is ``recon.config``.
"""

from recon.vocabulary.duckdb import emit_duckdb
from recon.vocabulary.parse import parse_expression
from recon.vocabulary.reference import evaluate
from recon.vocabulary.tree import Expression, Node
from recon.vocabulary.types import Type, parse_type

MEANING = 1
"""Counts changes of what expressions mean; part of every rules version."""

__all__ = ["MEANING", "Expression", "Node", "Type", "emit_duckdb", "evaluate", "parse_expression", "parse_type"]
