"""Finds one key's record at a state."""

from __future__ import annotations

from typing import Any

from recon.model.record import full
from recon.state.runs import open_run, read_record
from recon.state.timeline import State
from recon.storage.hashing import hash_of, salt_of
from recon.storage.port import ObjectStore


def find_record(store: ObjectStore, state: State, key: str) -> dict[str, Any] | None:
    """The record of a key at ``state``, None if the state holds none. Raises Damaged rather than return bytes that don't check."""
    hi, lo = hash_of(key, salt_of(store))
    for run in state.runs:
        hits = open_run(store, run.path).find(hi, lo)
        for hit in hits:
            record = full(read_record(store, hit))
            # The hash only finds candidates; what counts is the key itself.
            if record["key"] == key:
                return record
        if hits:
            return None  # the newest run that holds a hash holds all keys of that hash
    return None
