"""Decides whether an error during processing is the fault of the windows that were processed.

One bad file must not stop every window. So every error that is not known to have another cause is blamed on those windows, including
errors of DuckDB, Arrow and Python and a lack of memory. It is raised as WrongInput, and the caller goes on without the windows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from recon.errors import Damaged, NotReady, ReconError, TryAgain, WrongInput, transient_kind
from recon.storage.open import store_present
from recon.storage.port import ObjectStore

TEXT_LENGTH_MAX = 300


@contextmanager
def blaming(store: ObjectStore, windows: Sequence[str], doing: str) -> Iterator[None]:
    """Raises errors of the block that may be the fault of ``windows`` as WrongInput. ``doing``: such as ``reduced``.

    Raises TryAgain for the store's, the network's and the operating system's errors; all other ReconErrors as they are."""
    try:
        with store_present(store):
            yield
    except ReconError:
        raise
    except Exception as error:
        several = f"windows {windows[0]}..{windows[-1]}"
        named = f"window {windows[0]}" if len(windows) == 1 else several
        raise blamed(error, f"{named} could not be {doing}") from error


def blamed(error: Exception, what: str) -> ReconError:
    """An error of another library or of Python: TryAgain where the window is not at fault, else WrongInput that begins with ``what``."""
    if (kind := transient_kind(error)) is not None or _of_the_system(error):
        return (kind or TryAgain)(f"{first_line(error)}; see to that, then run the same again")
    mend = "correct its file with 'recon land --replace', or run it again"
    if type(error).__name__ == "OutOfMemoryException":  # DuckDB's, which spills what it can
        mend = "raise memory_limit, or engine.memory_limit for Spark's tasks, and run it again"
    return WrongInput(f"{what}: {type(error).__name__}: {first_line(error)}; nothing of it was committed; {mend}")


def isolated(error: BaseException) -> bool:
    """Whether processing continues without the windows of this error."""
    return isinstance(error, WrongInput) and not isinstance(error, NotReady)


def quarantined(error: BaseException) -> bool:
    """Whether the error puts its window in quarantine. Damaged objects do not: the window is tried again once they are restored."""
    return isolated(error) and not isinstance(error, Damaged)


def first_line(error: Exception) -> str:
    """The first line of an error's text, shortened; a MemoryError has none."""
    lines = str(error).strip().splitlines() or ["no further text"]
    return lines[0] if len(lines[0]) <= TEXT_LENGTH_MAX else f"{lines[0][:TEXT_LENGTH_MAX]}…"


def _of_the_system(error: Exception) -> bool:
    """Whether the error is one of the operating system, or DuckDB's for a file that it cannot open, read or write."""
    # Arrow raises OSError without an errno for bytes that it cannot decode.
    if isinstance(error, OSError):
        return error.errno is not None
    return any(kind.__module__.startswith(("duckdb", "_duckdb")) and kind.__name__ == "IOException" for kind in type(error).__mro__)
