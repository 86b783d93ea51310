"""Finds one key's record at a state."""

from __future__ import annotations

from typing import Any

from recon.model.record import full
from recon.state.forms import form_of_part
from recon.state.runs import RecordAddress, open_run, read_record
from recon.state.timeline import State
from recon.storage import documents
from recon.storage.hashing import hash_of, salt_of
from recon.storage.port import ObjectStore


def find_record(store: ObjectStore, state: State, key: str) -> dict[str, Any] | None:
    """The record of a key at ``state``, None if there is none. Raises Damaged where its bytes do not match their check, and JsonLines."""
    hi, lo = hash_of(key, salt_of(store))
    for run in state.runs:
        addresses = open_run(store, run.path).find(hi, lo)
        for address in addresses:
            record = record_at(store, address)
            # The hash only finds candidates; the key itself decides.
            if record["key"] == key:
                return record
        if addresses:
            return None  # the newest run with a hash has all keys of that hash
    return None


def record_at(store: ObjectStore, address: RecordAddress) -> dict[str, Any]:
    """The record at an address, as ``recon.model.record.full`` gives it. Raises NotFound, Damaged and JsonLines."""
    form = form_of_part(store, address.part_file)
    with documents.damaged(f"{address.part_file}: the record at offset {address.offset}", documents.RESTORE):
        return full(form, read_record(store, address))
