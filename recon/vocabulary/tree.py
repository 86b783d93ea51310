"""The typed tree of an expression, from which the reference evaluates and the engines emit SQL."""

from __future__ import annotations

from dataclasses import dataclass, field

from recon.vocabulary.types import Type


@dataclass(frozen=True)
class Node:
    """An operation. ``type``: of its result. ``args``: operands, already converted to the types that the operation needs.

    ``value``: a constant of the text, which is a literal's value (None for null), a column's name, a like pattern, the digits of round, or
    (start, length) of substr. ``at``: the column in the text, from 1, which is no part of the meaning. The operands of ``case`` are
    condition, value, condition, value …, else."""

    op: str
    args: tuple[Node, ...]
    type: Type
    value: object = None
    at: int = field(default=1, compare=False)

    @property
    def canonical(self) -> list[object]:
        """The tree as nested lists, independent of the text's spacing and brackets."""
        return [self.op, str(self.type), repr(self.value), [arg.canonical for arg in self.args]]


@dataclass(frozen=True)
class Expression:
    """A checked expression. ``columns``: the names that it reads."""

    text: str
    type: Type
    columns: frozenset[str]
    tree: Node
