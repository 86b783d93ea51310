"""Reconciliations with an index table, and what is in the table and in the runs."""

from __future__ import annotations

import os
import shutil
from itertools import count
from pathlib import Path
from typing import Any

import strategies as s
from histories import carry_out, open_in

from recon.api import Reconciliation
from recon.serving import builds
from recon.serving.dynamodb import TableClient
from recon.serving.items import from_item, item_key
from recon.serving.load import read_key
from recon.serving.sync import Synced, sync
from recon.state.runs import open_run
from recon.state.timeline import State, Timeline
from recon.storage.hashing import hash_of, salt_of

YAML = s.STANDARD_YAML + "compaction: {disk: 1.1}\nretention: {grace: 1m}\n"
NAMES = count(1)


def new_table(tables: TableClient) -> str:
    name = f"recon-test-{next(NAMES)}"
    tables.create(name)
    return name


def in_runs(r: Reconciliation, state: State) -> dict[str, tuple[Any, ...]]:
    """Key → where its record lies by the runs, () where nothing is left in it; looked up one by one."""
    found: dict[str, tuple[Any, ...]] = {}
    for ref in state.runs:
        run = open_run(r.store(), ref.path)
        for hi, lo in zip(run.column("hi", 0, run.count).tolist(), run.column("lo", 0, run.count).tolist(), strict=True):
            newest = next(hits for other in state.runs if (hits := open_run(r.store(), other.path).find(hi, lo)))
            for hit in newest:
                key, lives = read_key(r.store().get_range(hit.part_file, hit.offset, hit.length))
                assert key is not None
                assert hash_of(key, salt_of(r.store())) == (hi, lo)
                found[key] = (hit.part_file, hit.offset, hit.length, hit.check) if lives else ()
    return found


def in_table(tables: TableClient, table: str) -> dict[str, tuple[Any, ...]]:
    found = {}
    for page in tables.scan(table):
        for item in page:
            pointer = from_item(item["key"]["S"], item)
            found[pointer.key] = () if pointer.is_tombstone else (pointer.file, pointer.offset, pointer.length, pointer.check)
    return found


def by_name(held: dict[str, tuple[Any, ...]]) -> dict[str, tuple[Any, ...]]:
    return {item_key(key): place for key, place in held.items()}


INDEXED = YAML + "index: {kind: dynamodb, table: %s, share: 1000}\n"


def indexed(folder: Path, name: str | None = None) -> Reconciliation:
    """A reconciliation with an index table of its own, which its runs do not touch by themselves (``kept`` does)."""
    return open_in(folder, INDEXED % (name or f"recon-own-{next(NAMES)}"))


def rows_of(window: int, keys: int = 7) -> tuple[s.Row, ...]:
    """The first window has three keys that later ones do not touch."""
    return tuple(s.Row(order_id=f"K{n}", event_id=f"{window}-{n}", amount=f"{n}.25") for n in range(keys if window else keys + 3))


def add_window(r: Reconciliation, window: int, rows: tuple[s.Row, ...] | None = None) -> None:
    for operation in (s.Land(window, s.File(f"w{window}", rows or rows_of(window))), s.Close(window), s.Run((window,))):
        carry_out(r, operation)


def story(r: Reconciliation, windows: range = range(4)) -> None:
    for window in windows:
        add_window(r, window)


def kept(r: Reconciliation, tables: TableClient, **more: Any) -> Synced:
    done = sync(r.store(), r.config, Timeline(r.store()), tables, **more)
    assert done is not None
    return done


def brought_up(folder: Path, tables: TableClient, windows: range = range(4)) -> Reconciliation:
    """A reconciliation whose index table has the artifacts of these windows."""
    r = indexed(folder)
    story(r, windows)
    kept(r, tables)
    return r


def the_table(r: Reconciliation) -> builds.TableBuild:
    filling = builds.current(r.store(), r.state())
    assert filling is not None
    return filling


def check_table(r: Reconciliation, tables: TableClient) -> str:
    """The standing table holds what the runs say; returns its name."""
    filling = the_table(r)
    assert builds.frontier(r.store(), filling) == r.state().commit
    assert in_table(tables, filling.table) == by_name(in_runs(r, r.state()))
    return filling.table


def copied(base: Path, folder: Path) -> Path:
    shutil.copytree(base / "data", folder / "data", copy_function=os.link)
    return folder
