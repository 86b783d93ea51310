"""The port of an engine: it reads inputs, makes relations by SQL, and answers questions about them.

Relations are made by statements of one dialect, DuckDB's, on every engine: what an operation means is compiled once. A relation has the
column ``n``, which numbers its rows, and columns of values and of codes of errors. All engines give equal rows, numbers and figures.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from recon.transformations.engines.views import Select
from recon.transformations.operations.table import Table

if TYPE_CHECKING:
    from recon.transformations.inputs.opening import Opened


class Engine(Protocol):
    """A session of an engine. Every call may raise WrongInput for a total of more than 38 digits or too little memory, and OutOfCapacity
    for too little disk."""

    name: str
    late: bool
    """Whether columns are better computed where they are read, and what looks at other rows apart from the others."""
    watch: Callable[[float], None]
    """Gets the share of the present statement that is done, 0 to 1, if the engine knows it."""

    def load(self, name: str, opened: Opened) -> Table:
        """Reads an input. Raises WrongInput for a row that cannot be read."""
        ...

    def make(self, relation: str, select: Select, stored: bool) -> None:
        """Makes a relation, stored, or computed whenever it is asked for."""
        ...

    def store(self, relation: str) -> None:
        """Stores a relation, unless it is stored."""
        ...

    def drop(self, relation: str) -> None:
        """Gives up a relation and the room that it takes."""
        ...

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        """The rows of a statement that answers in few rows."""
        ...

    def totals(self, relation: str, aggregates: Sequence[str]) -> list[Any]:
        """The values of aggregates over all rows, each a ``count`` or a ``sum``, or for an engine that computes late any other: of nothing
        it is 0."""
        ...

    def kinds(self, relation: str, error: str) -> list[tuple[int, int, int]]:
        """Code, count and first row of the errors in a column, in order of the codes."""
        ...

    def copy(self, select: str, to: Path, suffix: str) -> None:
        """Writes the rows of a SELECT that ends in ``ORDER BY t.n`` to the file ``to``: .csv, .tsv or .parquet."""
        ...

    def rows(self, select: str) -> Generator[Sequence[Sequence[Any]], None, None]:
        """The rows of such a SELECT, some at a time. To be closed where it is not read to its end."""
        ...
