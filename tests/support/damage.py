"""Damage that somebody does to a store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from recon.api import Reconciliation
from recon.state.runs import check_of, entries_of, open_run, write_run
from recon.storage.hashing import hash_of, salt_of


def store_of(r: Reconciliation) -> Path:
    return r.config.path.parent / "data"


def rewrite(r: Reconciliation, change: Callable[[bytes], bytes], key: str = "A") -> None:
    """Rewrites the part-file that holds a key, and its run so that every check is right again."""
    ref = next(ref for ref in r.state().runs if open_run(r.store(), ref.path).find(*hash_of(key, salt_of(r.store()))))
    entries = open_run(r.store(), ref.path).entries()
    (path,) = entries.part_files
    order = np.argsort(entries.offset)
    hi, lo = np.array(entries.hi[order]), np.array(entries.lo[order])
    lines = [change(line) for line in (store_of(r) / path).read_bytes().splitlines(keepends=True)]
    for name in (path, ref.path):
        (store_of(r) / name).unlink()
    r.store().put_new(path, lines)
    lengths = np.array([len(line) for line in lines], np.uint32)
    checks = np.array([check_of(line) for line in lines], np.uint32)
    write_run(r.store(), ref.path, entries_of(path, hi, lo, lengths, checks))
