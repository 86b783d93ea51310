"""The typed tree of an expression: what every engine's emitter and the reference read."""

from __future__ import annotations

from dataclasses import dataclass, field

from recon.vocabulary.types import Type


@dataclass(frozen=True)
class Node:
    """One operation. ``type`` is its result's; operands already have the types that the operation needs.

    ``value`` is what is fixed in the text: a literal's value (None for null), a column's name, a like pattern, the
    digits of round, (start, length) of substr. ``at`` is the column in the text, from 1, and no part of the meaning.
    A ``case`` has condition, value, condition, value …, else.
    """

    op: str
    args: tuple[Node, ...]
    type: Type
    value: object = None
    at: int = field(default=1, compare=False)

    @property
    def canonical(self) -> list[object]:
        """Nested lists of texts: equal for equal meaning, whatever the spacing and brackets of the text were."""
        return [self.op, str(self.type), repr(self.value), [arg.canonical for arg in self.args]]


@dataclass(frozen=True)
class Expression:
    """A checked expression: ``columns`` are the names it reads."""

    text: str
    type: Type
    columns: frozenset[str]
    tree: Node
