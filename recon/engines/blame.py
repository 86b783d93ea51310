"""Whether an error that was met while windows were processed is the fault of those windows.

One file must not stop every window. So whatever is not known to come from elsewhere belongs to the windows that were being processed:
errors of DuckDB, Arrow and Python as well, and memory that ran out. They are raised as WrongInput, which every caller isolates already.
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
    """An error of another library or of Python: TryAgain where it comes from elsewhere, else WrongInput that begins with ``what``."""
    if (kind := transient_kind(error)) is not None or _of_the_system(error):
        return (kind or TryAgain)(f"{first_line(error)}; see to that, then run the same again")
    return WrongInput(
        f"{what}: {type(error).__name__}: {first_line(error)}; nothing of it was committed; "
        "correct its file with 'recon land --replace', or run it again"
    )


def isolated(error: BaseException) -> bool:
    """Whether the other windows go on without those that this error was met with."""
    return isinstance(error, WrongInput) and not isinstance(error, NotReady)


def quarantined(error: BaseException) -> bool:
    """Whether it is kept as the reason why a window was left out. Damaged objects are no fault of the window's files: once they are
    restored it is tried again."""
    return isolated(error) and not isinstance(error, Damaged)


def first_line(error: Exception) -> str:
    """The first line of an error's text, shortened; a MemoryError has none."""
    lines = str(error).strip().splitlines() or ["no further text"]
    return lines[0] if len(lines[0]) <= TEXT_LENGTH_MAX else f"{lines[0][:TEXT_LENGTH_MAX]}…"


def _of_the_system(error: Exception) -> bool:
    """Errors of the operating system, and DuckDB's own of files that it cannot open, read or write."""
    # Arrow raises OSError without a number for bytes that it cannot decode.
    if isinstance(error, OSError):
        return error.errno is not None
    return any(kind.__module__.startswith(("duckdb", "_duckdb")) and kind.__name__ == "IOException" for kind in type(error).__mro__)
