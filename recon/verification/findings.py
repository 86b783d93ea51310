"""The findings of a verification: problems, listed up to a limit and counted beyond it."""

from __future__ import annotations

from dataclasses import dataclass, field

from recon.errors import Damaged, WrongInput
from recon.storage.port import NotFound

LISTED_MAX = 100

UNREADABLE = (Damaged, WrongInput, NotFound, ValueError, TypeError, KeyError, AttributeError, StopIteration)
"""What reading a damaged object can raise. TryAgain and WrongUsage are no damage: the store is unavailable, or a rule is wrong."""


@dataclass
class Findings:
    """Problems in the order in which they were found: the first LISTED_MAX as texts, the others as a count."""

    listed: list[str] = field(default_factory=list)
    unlisted: int = 0
    notes: list[str] = field(default_factory=list)
    """Observations that are no problem of the store."""

    def add(self, problem: str) -> None:
        """Adds one problem, as one line."""
        if len(self.listed) < LISTED_MAX:
            self.listed.append(" ".join(problem.split()))
        else:
            self.unlisted += 1

    def add_unlisted(self, count: int) -> None:
        """Adds problems that are only counted."""
        self.unlisted += count

    @property
    def room(self) -> int:
        """The number of problems that can still be listed."""
        return LISTED_MAX - len(self.listed)

    def lines(self) -> list[str]:
        """The listed problems, and a last line that counts the others."""
        if not self.unlisted:
            return self.listed
        return [*self.listed, f"and {self.unlisted} more; mend the ones above first, then run 'recon verify' again"]


def text_of(error: BaseException) -> str:
    """An error as one line: its message if it is one of Recon's errors, else its class and message."""
    if isinstance(error, (Damaged, WrongInput)):
        return str(error)
    if isinstance(error, NotFound):
        return "it is gone"
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
