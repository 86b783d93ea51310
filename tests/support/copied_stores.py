"""A store to copy, copies of it, and what a copy must be."""

from __future__ import annotations

import atexit
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

import faulty_store
import strategies as s
from histories import carry_out, check_store, open_in
from superseded import YAML, story

from recon.api import Reconciliation
from recon.operations.copy.copy import Copied, copy
from recon.reading.artifacts import live_records
from recon.state.timeline import State
from recon.storage import layout
from recon.storage.local import LocalStore
from recon.storage.port import ObjectStore

MADE_ANEW = (layout.LANDINGS, "frontiers/")
"""What a copy has of its own."""


def here(folder: Path, windows: int = 3) -> tuple[Reconciliation, s.State]:
    """The story's store, to copy and to change."""
    made, state = _told(windows)
    shutil.copytree(made, folder / "here")
    return Reconciliation(folder / "here" / "recon.yaml"), state


@cache
def _told(windows: int) -> tuple[Path, s.State]:
    """The same, made once in a process and never changed."""
    folder = Path(tempfile.mkdtemp(prefix="recon-told-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder, story(open_in(folder, YAML), windows)


def at(folder: Path, store: Path | str, text: str = YAML) -> Reconciliation:
    """The same reconciliation on another store."""
    folder.mkdir(exist_ok=True)
    (folder / "recon.yaml").write_text(text.replace("store: ./data", f"store: {store}"))
    return Reconciliation(folder / "recon.yaml")


def beside(store: Path) -> Reconciliation:
    """A copy in a folder, opened."""
    return at(store.with_name(store.name + "-home"), store)


def check_copy(r: Reconciliation, state: s.State) -> None:
    found = r.verify(full=True)
    assert found.ok, found.problems
    check_store(r, state)


def more(r: Reconciliation, state: s.State, window: int, keys: Iterable[int] = range(8)) -> s.State:
    """One window more: landed, closed and run."""
    rows = tuple(s.Row(order_id=f"K{n}", event_id=f"{window}-{n}", amount=f"{n}.75") for n in keys)
    for operation in (s.Land(window, s.File(f"w{window}", rows)), s.Close(window), s.Run((window,))):
        carry_out(r, operation)
        state = s.apply(state, operation)
    return state


def held(store: ObjectStore) -> dict[str, bytes]:
    return {path: store.get(path) for path in store.list("") if not path.startswith(MADE_ANEW)}


def lines(store: ObjectStore, state: State) -> list[str]:
    return sorted(line for batch in live_records(store, state) for line in batch.column("record").to_pylist())


def into(r: Reconciliation, target: ObjectStore) -> Copied:
    return copy(r.store(), target, "the target")


class Died(BaseException):
    """The process's end, with no handler and no last word."""


def dying(number: int, after: bool) -> Callable[[faulty_store.Call], None]:
    """Nothing is written from the ``number``-th write on; ``after``: but that one."""
    lock, seen = threading.Lock(), 0

    def hook(call: faulty_store.Call) -> None:
        nonlocal seen
        if call.kind in ("put_new", "delete"):
            with lock:
                seen += 1
                if seen > number - (not after):
                    raise Died

    return hook


def killed(r: Reconciliation, target: Path, number: int) -> bool:
    """Whether a copy that dies at its ``number``-th write did not come to its end."""
    try:
        into(r, faulty_store.WatchedStore(LocalStore(target), before=dying(number, after=False)))
    except Died:
        return True
    return False
