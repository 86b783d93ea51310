"""Objects under ascending numbers: every writer gets a number of its own, and the newest is found by its name."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from recon.storage import numbered
from recon.storage.local import LocalStore


def test_writers_at_once_get_numbers_without_a_gap_or_a_double(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    assert numbered.newest(store, "notes/") == ""
    assert numbered.number_of("") == 0

    def put(writer: int) -> int:
        def attempt() -> int:
            number = numbered.number_of(numbered.newest(store, "notes/")) + 1
            store.put_new(f"notes/{number:06d}.json", [str(writer).encode()])
            return number

        return numbered.put_next(attempt)

    with ThreadPoolExecutor(8) as writers:
        given = list(writers.map(put, range(40)))
    assert sorted(given) == list(range(1, 41))
    assert numbered.newest(store, "notes/") == "notes/000040.json"
    assert {int(store.get(f"notes/{number:06d}.json")) for number in given} == set(range(40))
