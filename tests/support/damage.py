"""Damage that somebody does to a store."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from plain_words import encoded
from verified_store import window

from recon.api import Reconciliation
from recon.config.form import form_of
from recon.model.record import full, key_of
from recon.state.runs import check_of, entries_of, open_run, write_run
from recon.storage.hashing import hash_of, salt_of
from recon.storage.sealing import SEAL, sealed
from recon.verification.certificates import check_certificates
from recon.verification.findings import Findings
from recon.verification.timeline import check_timeline
from recon.verification.verify import Verified


def store_of(r: Reconciliation) -> Path:
    return r.config.path.parent / "data"


def rewrite(r: Reconciliation, change: Callable[[dict[str, Any]], object], key: str = "A") -> None:
    """Changes the records in the part-file that holds a key, as the dictionaries of ``recon.model.record.full``, and makes every check
    right again."""
    form = form_of(r.config)

    def changed(data: bytes) -> bytes:
        record = full(form, data)
        change(record)
        return encoded(form, record)

    rewrite_bytes(r, changed, key)


def rewrite_bytes(r: Reconciliation, change: Callable[[bytes], bytes], key: str = "A", rehash: bool = False) -> None:
    """Changes the bytes of the records in the part-file that holds a key, and rewrites its run so that every check is right again.
    ``rehash``: with the hashes of the new records' keys."""
    salt = salt_of(r.store())
    ref = next(ref for ref in r.state().runs if open_run(r.store(), ref.path).find(*hash_of(key, salt)))
    entries = open_run(r.store(), ref.path).entries()
    (path,) = entries.part_files
    order = np.argsort(entries.offset)
    content = (store_of(r) / path).read_bytes()
    head = content[: int(entries.offset.min())]
    places = zip(entries.offset[order].tolist(), entries.length[order].tolist(), strict=True)
    written = [change(content[at : at + length]) for at, length in places]
    hashes = np.stack([entries.hi[order], entries.lo[order]], axis=1)
    if rehash:
        hashes = np.array([hash_of(key_of(data)[0], salt) for data in written], np.uint64)
    for name in (path, ref.path):
        (store_of(r) / name).unlink()
    r.store().put_new(path, [head, *written])
    lengths = np.array([len(data) for data in written], np.uint32)
    checks = np.array([check_of(data) for data in written], np.uint32)
    write_run(r.store(), ref.path, entries_of(path, hashes[:, 0], hashes[:, 1], lengths, checks, len(head)))


def only(r: Reconciliation, pattern: str) -> Path:
    """The first file of the store that matches, in order."""
    return min(store_of(r).glob(pattern))


def flip(file: Path, at: int) -> None:
    content = bytearray(file.read_bytes())
    content[at] ^= 0x04
    file.write_bytes(content)


def flip_records(r: Reconciliation) -> None:
    """Flips a bit of every record in the part-files of the newest run."""
    entries = open_run(r.store(), r.state().runs[0].path).entries()
    for number, path in enumerate(entries.part_files):
        for offset in entries.offset[entries.file == number].tolist():
            flip(store_of(r) / path, offset)


def named(verified: Verified, *words: str) -> bool:
    """Whether one problem holds all the words, and each problem is one line."""
    assert not verified.ok
    assert all("\n" not in problem for problem in verified.problems)
    return any(all(word in problem for word in words) for problem in verified.problems)


def of_timeline_and_certificates(r: Reconciliation) -> Verified:
    """What these two checks alone find."""
    findings = Findings()
    history = check_timeline(r.store(), findings)
    check_certificates(r.store(), r.config, history, findings, lambda name, share: None)
    return Verified(0, 0, 0, 0, 0, problems=findings.lines())


def part_files(r: Reconciliation) -> list[Path]:
    runs = [open_run(r.store(), ref.path) for ref in r.state().runs]
    return [store_of(r) / path for run in runs for path in run.part_files]


def edit(file: Path, change: Callable[[dict], None]) -> None:  # type: ignore[type-arg]
    """Changes an object, and seals it anew where it was sealed."""
    content = json.loads(file.read_text())
    was_sealed = content.pop(SEAL, None) is not None
    change(content)
    file.write_bytes(sealed(content) if was_sealed else json.dumps(content).encode())


def committed(r: Reconciliation, hour: int, name: str) -> Path:
    return store_of(r) / r.state().windows[window(hour)].folder / name


def certificates(r: Reconciliation, hour: int) -> list[Path]:
    return sorted(store_of(r).glob(f"certificates/2026-11-01T{hour:02}00Z/*.json"))
