"""A window that comes after all that a key holds: its contribution is put behind the record's text as it stands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import recon
from recon.api import Reconciliation
from recon.state.lookup import find_record
from recon.state.timeline import Timeline

CONFIG = """\
name: orders
store: ./data
key: order
windows: {start: 2026-11-01T00:00Z, every: 1h}
events: {types: {amount: "decimal(4,4)", day: date, fine: boolean, pieces: integer}, id: event, time: at, dedupe: 2h}
measures:
  lines: {count: "*"}
  billed: {sum: amount}
  pieces: {sum: pieces}
  opened: {first: note}
  closed: {last: note}
  earliest: {first: day}
  least: {min: amount}
  word: {max: note}
  on: {min: day}
  when: {max: at}
  fine: {last: fine}
derived: {open: "billed - least"}
status: [{SMALL: "billed < 1"}, {LARGE: "true"}]
control: {rows: {count: "*"}}
"""
KEYS = ('A,"c":[', 'B]}],"gone":[]}', "Käse 🧀 \\ \t", "D" * 1000)


def reconciliation(folder: Path) -> Reconciliation:
    (folder / "recon.yaml").write_text(CONFIG)
    return recon.open(folder / "recon.yaml")


def event(key: str, number: int, hour: int, **more: object) -> dict[str, object]:
    at = f"2026-11-01T{hour:02d}:00:{number % 60:02d}Z"
    note = f'{number}, "c":[{key}'
    empty = {"day": None, "fine": None, "pieces": None}
    return {"order": key, "event": f"{hour}-{number}", "amount": "-0.1000", "at": at, "note": note, **empty, **more}


def land(r: Reconciliation, hour: int, events: list[dict[str, object]]) -> None:
    file = r.config.path.parent / f"{hour}.jsonl"
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in events))
    r.land([file], window=f"2026-11-01T{hour:02d}:00Z", close=True, again=True)


def lines(r: Reconciliation) -> list[str]:
    """The bytes of every key's record, as text."""
    state = Timeline(r.store()).head()
    return [json.dumps(find_record(r.store(), state, key), ensure_ascii=False) for key in KEYS]


def windows_of(hour: int) -> list[dict[str, object]]:
    plain = [event(key, number, hour) for number, key in enumerate(KEYS)]
    typed = [event(key, 10 + number, hour, day="2026-02-28", fine=True, pieces=number) for number, key in enumerate(KEYS)]
    return plain if hour == 0 else [*plain, *typed, event(KEYS[0], 59, hour, event=None, amount=None)]


def test_windows_one_by_one_give_the_bytes_that_all_at_once_give(tmp_path: Path) -> None:
    one_by_one, at_once = tmp_path / "a", tmp_path / "b"
    for folder in (one_by_one, at_once):
        folder.mkdir()
    first, second = reconciliation(one_by_one), reconciliation(at_once)
    for hour in range(3):
        land(first, hour, windows_of(hour))
        first.run()
        land(second, hour, windows_of(hour))
    second.run()
    assert lines(first) == lines(second)
    assert [len(json.loads(line)["contributions"]) for line in lines(first)] == [3] * len(KEYS)


@pytest.mark.parametrize("hour", [0, 1, 2])
def test_a_replay_which_writes_records_anew_finds_them_equal_byte_by_byte(tmp_path: Path, hour: int) -> None:
    r = reconciliation(tmp_path)
    for each in range(3):
        land(r, each, windows_of(each))
        r.run()
    r.replay(f"2026-11-01T{hour:02d}:00Z")
    report = r.run()
    assert (report.commits != [], report.written) == (True, 0)


@pytest.mark.parametrize(("hour", "duplicates"), [(1, 1), (2, 1), (3, 0)])
def test_an_id_that_came_before_is_suppressed_in_an_appended_window_within_the_horizon(tmp_path: Path, hour: int, duplicates: int) -> None:
    r = reconciliation(tmp_path)
    land(r, 0, windows_of(0))
    r.run()
    land(r, hour, [event(KEYS[1], 1, 0), event(KEYS[1], 7, hour)])
    r.run()
    record = find_record(r.store(), Timeline(r.store()).head(), KEYS[1])
    assert record is not None
    assert [(part["n"], part["d"]) for part in record["contributions"]] == [(1, 0), (2 - duplicates, duplicates)]
    assert r.verify(full=True).ok
