"""Hashes that meet: two keys or two ids of one hash stay two, and nobody outside can make them meet.

Belongs here: the salt of a store, and what happens where hashes of different texts are equal. Does not belong here: look-ups in runs of
forced collisions (test_runs).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from commands import Call
from driving import open_in, records

import recon
from recon import hashing, layout, opening
from recon.api import Reconciliation
from recon.errors import Damaged

ONE, OTHER = (f"TEXTCOLLBYfGiJUETHQ4h{letter}KSMd5zYpgqf1YRDhkmxHkhPWptrkoyz28wnI9V0aHeAuaKnak" for letter in ("Ac", "Ec"))
"""Two printable texts of one MD5, published by Marc Stevens in 2024."""
RULES = """\
name: hashes
store: ./data
key: k
windows: {start: 2026-11-01T00:00Z, every: 1h}
events: {types: {a: "decimal(18,2)"}, id: i, dedupe: 3h}
measures: {total: {sum: a}, lines: {count: "*"}}
control: {rows: {count: "*"}, a: {sum: a}}
"""
WINDOWS = [f"2026-11-01T{hour:02d}:00Z" for hour in range(5)]


@pytest.fixture
def unsalted(monkeypatch: pytest.MonkeyPatch) -> None:
    """New stores are as they were before there were salts: of format 3."""
    monkeypatch.setattr(opening, "FORMAT", hashing.UNSALTED_FORMAT)


@pytest.fixture
def weak(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hashes of three values only: nearly every two keys and ids meet."""
    strong = hashing._number
    monkeypatch.setattr(hashing, "_number", lambda content: strong(content) % 3)
    monkeypatch.setattr(hashing, "_MD5", "(md5_number({text})::UHUGEINT % 3)")


def landed(r: Reconciliation, window: str, rows: Sequence[tuple[str, str, str]], name: str = "a.csv", **how: Any) -> None:
    file = r.config.path.with_name(name)
    file.write_text("k,i,a\n" + "".join(",".join(row) + "\n" for row in rows))
    r.land([file], window, close=True, **how)


def totals(r: Reconciliation) -> dict[str, tuple[str, int]]:
    """Per key, its total and its lines; each is found by a look-up, and in the export, too."""
    found = {row["key"]: (str(row["total"]), row["lines"]) for row in r.artifacts().to_pylist()}
    for key, (total, lines) in found.items():
        shown = r.show(key)
        assert (shown["key"], shown["measures"]) == (key, {"total": total, "lines": lines})
    return found


def test_the_published_pair_has_one_md5() -> None:
    assert ONE != OTHER
    assert hashlib.md5(ONE.encode()).digest() == hashlib.md5(OTHER.encode()).digest()


# ---- the salt ----


def test_a_new_store_has_a_salt_of_its_own_and_the_published_pair_does_not_meet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "new_salt", hashing.new_salt)
    salts = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        r = open_in(tmp_path / name, RULES)
        told = json.loads((tmp_path / name / "data" / "store.json").read_text())
        assert told["format"] == 4
        salts.append(told["salt"])
        assert hashing.salt_of(r.store()) == told["salt"] == hashing.salt_of(recon.open(r.config.path).store())
        assert hashing.hash_of(ONE, told["salt"]) != hashing.hash_of(OTHER, told["salt"])
    assert len(set(salts)) == 2
    assert [len(salt) for salt in salts] == [22, 22]  # 16 bytes in base64


def test_a_store_of_format_3_hashes_as_before(tmp_path: Path, unsalted: None) -> None:
    r = open_in(tmp_path, RULES)
    assert json.loads((tmp_path / "data" / "store.json").read_text())["format"] == 3
    landed(r, WINDOWS[0], [("A", "1", "1.00")])
    r.run()
    (record,) = records(r).values()
    assert record["contributions"][0]["ids"] == [int.from_bytes(hashlib.md5(b"1").digest()[:8], "little")]
    assert hashing.salt_of(r.store()) == ""
    assert r.verify(full=True).problems == []


@pytest.mark.parametrize("salt", [None, "", 7, "short", "x" * 23, "'; DROP TABLE x; --xxx"])
def test_a_store_of_format_4_without_a_sound_salt_is_damaged(tmp_path: Path, salt: object) -> None:
    r = open_in(tmp_path, RULES)
    file = tmp_path / "data" / "store.json"
    held = json.loads(file.read_text())
    file.chmod(0o644)
    file.write_text(json.dumps({**held, "salt": salt}))
    with pytest.raises(Damaged, match=r"^store\.json: damaged \('salt' is not 22 characters of base64\); restore it"):
        recon.open(r.config.path).store()


def test_another_salt_is_another_store_and_verify_sees_it(tmp_path: Path) -> None:
    r = open_in(tmp_path, RULES)
    landed(r, WINDOWS[0], [("A", "1", "1.00")])
    r.run()
    file = tmp_path / "data" / "store.json"
    held = json.loads(file.read_text())
    file.chmod(0o644)
    file.write_text(json.dumps({**held, "salt": hashing.new_salt()}))
    assert any("of another key than its run entry's hash" in problem for problem in recon.open(r.config.path).verify().problems)


def test_the_salt_is_copied_with_the_store_and_shown_by_nothing(recon: Call, own: Path, one_salt: str) -> None:
    assert json.loads((own / "data" / "store.json").read_text())["salt"] == one_salt
    said = []
    for command in (
        *(("status",), ("show", "A112", "--events"), ("breaks",), ("rejects",), ("certificate", "2026-11-01T00:00Z"), ("verify", "--full")),
        *(("compact",), ("doctor",), ("export", "all.jsonl"), ("export", "all.csv"), ("rebuild", "--preview"), ("copy", "../copied")),
    ):
        for more in ((), ("--json",)):
            answer = recon(*command, *more)
            said += [answer.out, answer.err]
    assert json.loads((own.parent / "copied" / "store.json").read_text())["salt"] == one_salt
    files = [file for file in own.rglob("*") if file.is_file() and file != own / "data" / layout.STORE]
    assert len(files) > 10
    assert not any(one_salt in text for text in said)
    assert not [file for file in files if one_salt.encode() in file.read_bytes()]


def test_an_error_of_duckdb_does_not_quote_the_salt(tmp_path: Path, one_salt: str) -> None:
    import duckdb

    from recon.engines.duckdb.session import connect

    r = open_in(tmp_path, RULES)
    with pytest.raises(duckdb.Error) as raised, connect(r.store(), r.config, tmp_path) as connection:
        connection.execute("SELECT key_hash('x'), id_hash(nothing)")
    assert one_salt not in str(raised.value)
