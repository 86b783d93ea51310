"""What restricts an answer, as the commands print it: missing files, unreadable rows, windows that are not processed yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from recon.cli.screen import as_json, count, say, warn
from recon.errors import WrongInput
from recon.model.windows import name_of

if TYPE_CHECKING:
    from recon.api import Reconciliation
    from recon.reading.caveats import Caveat


def say_caveats(found: Sequence[Caveat], json: bool, on_stdout: bool = True) -> int:
    """Prints caveats: the wrong ones on stderr, the others beside the answer. Returns the exit status. ``on_stdout``: false if standard
    output must hold nothing but rows."""
    for caveat in found:
        if caveat.wrong or caveat.kind == "nothing_processed" or not on_stdout:
            warn(caveat.text)
        elif not json:
            say(f"note: {caveat.text}")
    return 1 if any(caveat.wrong or caveat.kind == "nothing_processed" for caveat in found) else 0


def say_written(file: str, rows: int, what: str, found: Sequence[Caveat], json: bool) -> int:
    """Reports a file that was written, with the caveats of its rows. ``what``: a row's name. Returns the exit status."""
    if json:
        as_json({"file": file, "rows": rows, "caveats": [asdict(caveat) for caveat in found]})
    else:
        say(f"wrote {count(rows, what)} to {Path(file)}")
    return say_caveats(found, json)


def refuse_unprocessed(reconciliation: Reconciliation, window: str | None) -> None:
    """Raises WrongInput if a list is empty because no window, or not the given one, has been processed yet."""
    processed = reconciliation.state().windows
    if not processed:
        raise WrongInput("no window has been processed yet; 'recon status' says what waits")
    if window is not None and name_of(reconciliation.config.grid.parse(window)) not in processed:
        raise WrongInput(f"window {window} has not been processed yet; 'recon status {window}' says what it waits for")
