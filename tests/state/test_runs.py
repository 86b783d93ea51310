"""Part-files and runs: what was written is found, the newest of it, and a damaged byte never comes out as data."""

from __future__ import annotations

import errno
import hashlib
import itertools
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recon.errors import Damaged, WrongInput
from recon.state.runs import (
    Entries,
    among,
    check_of,
    choose_tiers,
    entries_of,
    find_many,
    merge_entries,
    open_run,
    read,
    read_record,
    read_records,
    write_merged,
    write_run,
)
from recon.state.runs import entries as runs_entries
from recon.state.runs import file as runs_file
from recon.state.runs import merge as runs_merge
from recon.storage import hashing
from recon.storage.local import LocalStore
from recon.storage.port import ReadCost
from recon.storage.ranges import coalesce

MOST = 2**64 - 1
SALT = "a-salt-of-22-characters"[:22]
HEAD = b"a head of 24 bytes......"
"""What comes before the records, which runs and reads do not look at."""
# Forced collisions and extremes: each is the hash of three keys.
HASHES = [(0, 0), (0, 1), (0, MOST), (1, 0), (7, 7), (7, 8), (2**63, 5), (MOST, 0), (MOST, MOST)]
KEYS = [f"{number}-{name}" for number in range(len(HASHES)) for name in "abc"]


def hash_of(key):
    return hashing.hash_of(key, SALT)


def small_hash(key):
    return HASHES[int(key.partition("-")[0])]


class RemoteStore:
    """The same objects, but no files, as object storage has it; counts what is read."""

    def __init__(self, store):
        self._store, self._lock = store, threading.Lock()
        self.requests, self.bytes_read = 0, 0

    def __getattr__(self, name):
        return getattr(self._store, name)

    def local(self, path):
        return None

    def get_range(self, path, offset, length):
        with self._lock:
            self.requests, self.bytes_read = self.requests + 1, self.bytes_read + length
        return self._store.get_range(path, offset, length)


@pytest.fixture(params=["mapped", "remote"])
def store(request, tmp_path):
    local = LocalStore(tmp_path / "store")
    return local if request.param == "mapped" else RemoteStore(local)


def write_part(store, path, records, hash_key=small_hash):
    """{key: body} → entries of a part-file that holds them in this order, behind a head."""
    written = [f"{key}|{body}".encode() for key, body in records.items()]
    store.put_new(path, [HEAD, *written])
    hashes = np.array([hash_key(key) for key in records], dtype=np.uint64).reshape(-1, 2)
    length = np.array([len(record) for record in written], dtype=np.int64)
    check = np.array([check_of(record) for record in written], dtype=np.uint32)
    return entries_of(path, hashes[:, 0], hashes[:, 1], length, check, len(HEAD))


def key_of(record):
    return record.decode().partition("|")[0]


def body_of(record):
    return record.decode().partition("|")[2]


def look_up_all(store, runs, keys, hash_key=small_hash):
    """{key: body} of what the runs hold, by one batch; a key of which nothing is found is left out."""
    hashes = np.array([hash_key(key) for key in keys], dtype=np.uint64).reshape(-1, 2)
    found = find_many(runs, hashes[:, 0], hashes[:, 1])
    assert np.all(np.diff(found.query) >= 0)
    array = read_records(store, found)
    array.validate(full=True)
    records = array.to_pylist()
    right = [(keys[q], record) for q, record in zip(found.query, records, strict=True) if key_of(record) == keys[q]]
    assert len({key for key, _ in right}) == len(right)
    return {key: body_of(record) for key, record in right}


def look_up_one(store, runs, key):
    for run in runs:
        records = [read_record(store, hit) for hit in run.find(*small_hash(key))]
        if records:
            return next((body_of(record) for record in records if key_of(record) == key), None)
    return None


bodies = st.text(alphabet="xyé", max_size=30)
commits = st.lists(st.dictionaries(st.sampled_from(KEYS), bodies, max_size=12), min_size=1, max_size=6)


@settings(max_examples=40, deadline=None)
@given(commits, st.data())
def test_runs_hold_what_a_dict_holds_however_their_tiers_are_merged(commits, data):
    with tempfile.TemporaryDirectory() as folder:
        local = LocalStore(Path(folder))
        stores, model, paths = [local, RemoteStore(local)], {}, []
        for number, commit in enumerate(commits):
            touched = {small_hash(key) for key in commit}
            # The invariant: what shares a hash with a written record is written with it.
            written = {key: body for key, body in {**model, **commit}.items() if small_hash(key) in touched}
            model |= commit
            parts = [write_part(local, f"{number}/{p}", {k: b for k, b in written.items() if small_hash(k)[1] % 2 == p}) for p in (0, 1)]
            write_run(local, f"{number}/run", merge_entries(parts))
            paths.insert(0, f"{number}/run")
        for merge in range(data.draw(st.integers(0, 3))):
            start = data.draw(st.integers(0, len(paths) - 1))
            stop = data.draw(st.integers(start + 1, len(paths)))
            path, inputs = f"tier/{merge}", [open_run(local, path) for path in paths[start:stop]]
            if data.draw(st.booleans()):
                write_merged(local, path, inputs)
            else:
                write_run(local, path, merge_entries([run.entries() for run in inputs]))
            paths[start:stop] = [path]
        for store in stores:
            runs = [open_run(store, path) for path in paths]
            for run in runs:
                run.verify()
            queries = data.draw(st.permutations(KEYS))
            assert look_up_all(store, runs, queries) == model
            assert {key: look_up_one(store, runs, key) for key in KEYS} == {key: model.get(key) for key in KEYS}
        if len(paths) == 1:
            assert open_run(local, paths[0]).count == len(model)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.integers(0, 40), max_size=30, unique=True), min_size=1, max_size=5), st.integers(1, 50))
def test_merging_stretch_by_stretch_gives_what_merging_at_once_gives(commits, stretch):
    parts = []
    for number, rows in enumerate(commits):
        hi, lo = np.array(rows, dtype=np.uint64) // 4, np.array(rows, dtype=np.uint64) % 4
        parts.append(entries_of(f"p{number}", hi, lo, np.full(len(rows), 1 + number), np.full(len(rows), number)))
    whole = merge_entries(parts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs_merge, "MERGE_STRETCH_ENTRIES", stretch)
        stretched = merge_entries(parts)
    expected = {}
    for number in reversed(range(len(commits))):
        expected |= {(row // 4, row % 4): number for row in commits[number]}
    for merged in (whole, stretched):
        found = zip(merged.hi.tolist(), merged.lo.tolist(), strict=True)
        assert list(found) == sorted(expected)
        assert merged.check.tolist() == [expected[h] for h in sorted(expected)]
        assert [merged.part_files[f] for f in merged.file] == [f"p{expected[h]}" for h in sorted(expected)]
        assert set(merged.part_files) == {f"p{number}" for number in expected.values()}
        assert {name: str(getattr(merged, name).dtype) for name in runs_entries.COLUMNS} == {
            name: str(np.dtype(kind)) for name, kind in runs_entries.COLUMNS.items()
        }


def many(count, start=0):
    return {f"key-{number}": f"{number:0{number % 40}}" for number in range(start, start + count)}


@pytest.mark.parametrize("count", [0, 1, 2, 1023, 1024, 1025, 5000])
def test_runs_of_any_size_find_every_key_and_no_other(store, count):
    entries = write_part(store, "part", many(count), hash_of)
    assert len(entries) == count
    size = write_run(store, "run", entries)
    assert size == store.size("run")
    run = open_run(store, "run")
    run.verify()
    assert look_up_all(store, [run], [*many(count + 500)], hash_of) == many(count)
    assert look_up_all(store, [run], [*many(3, start=count)], hash_of) == {}
    for key, body in list(many(count).items())[:20]:
        (hit,) = run.find(*hash_of(key))
        assert read_record(store, hit) == f"{key}|{body}".encode()
    assert run.find(0, 0) == run.find(MOST, MOST) == run.find(*hash_of("absent")) == []
    whole = run.entries()
    for name in runs_entries.COLUMNS:
        assert np.array_equal(getattr(whole, name), getattr(entries, name))


def test_many_entries_of_one_hi_across_blocks_are_all_found(store):
    rows = 2600
    lo = np.arange(rows, dtype=np.uint64)
    for name, hi in [("same", np.full(rows, 9, np.uint64)), ("steps", np.arange(rows, dtype=np.uint64) // 1500)]:
        entries = entries_of(name, hi, lo, np.full(rows, 3), np.arange(rows))
        write_run(store, f"{name}.run", entries)
        run = open_run(store, f"{name}.run")
        asked = np.random.default_rng(1).permutation(rows)
        found = find_many([run], hi[asked], lo[asked])
        assert np.array_equal(found.check, asked)
        assert np.array_equal(found.query, np.arange(rows))
        assert [hit.check for row in (0, 1023, 1024, 1499, 1500, 2599) for hit in run.find(int(hi[row]), row)] == [
            0,
            1023,
            1024,
            1499,
            1500,
            2599,
        ]
        assert len(find_many([run], hi, lo + np.uint64(rows))) == 0


small_hashes = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=30)


@given(small_hashes, small_hashes)
def test_which_hashes_are_among_others_is_what_a_set_says(hashes, others):
    (hi, lo), (their_hi, their_lo) = (np.array(pairs, "<u8").reshape(-1, 2).T for pairs in (hashes, sorted(others)))
    assert among(hi, lo, their_hi, their_lo).tolist() == [pair in set(others) for pair in hashes]


def test_a_hash_asked_for_twice_is_answered_twice_and_an_empty_batch_not_at_all(store):
    write_run(store, "run", write_part(store, "part", {"4-a": "x", "4-b": "y"}))
    run = open_run(store, "run")
    found = find_many([run], np.array([7, 5, 7], np.uint64), np.array([7, 7, 7], np.uint64))
    assert found.query.tolist() == [0, 0, 2, 2]
    assert read_records(store, found).to_pylist() == [b"4-a|x", b"4-b|y"] * 2
    for runs in ([run], []):
        assert read_records(store, find_many(runs, np.zeros(0, np.uint64), np.zeros(0, np.uint64))).to_pylist() == []
    assert len(find_many([], np.array([7], np.uint64), np.array([7], np.uint64))) == 0


class Written(dict):
    def __repr__(self):
        return "written"


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The bytes of a part-file, of a run over it, and its keys."""
    store = LocalStore(tmp_path_factory.mktemp("written"))
    write_run(store, "run", write_part(store, "part", many(1500), hash_of))
    return Written({"part": store.get("part"), "run": store.get("run")})


def damaged_store(folder, written, name, change):
    local = LocalStore(Path(folder))
    for path, content in written.items():
        local.put_new(path, [change(content) if path == name else content])
    return [local, RemoteStore(local)]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_a_flipped_byte_anywhere_is_never_answered_with_data_or_as_absent(written, data):
    name = data.draw(st.sampled_from(["part", "run"]))
    # The head is not a record's; see test_forms.py.
    position = data.draw(st.integers(len(HEAD) if name == "part" else 0, len(written[name]) - 1))
    flip = data.draw(st.integers(1, 255))

    def change(content):
        return content[:position] + bytes([content[position] ^ flip]) + content[position + 1 :]

    with tempfile.TemporaryDirectory() as folder:
        for store in damaged_store(folder, written, name, change):
            answer = None
            with suppress(Damaged, WrongInput):
                answer = look_up_all(store, [open_run(store, "run")], [*many(1500)], hash_of)
            # A run has bytes that this look-up does not read; nothing else may come out.
            assert answer is None or (name == "run" and answer == many(1500))


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_verify_finds_a_flipped_byte_anywhere_in_a_run(written, data):
    position = data.draw(st.integers(0, len(written["run"]) - 1))
    change = data.draw(st.integers(1, 255))
    body = bytearray(written["run"])
    body[position] ^= change
    with tempfile.TemporaryDirectory() as folder:
        for store in damaged_store(folder, written, "run", lambda _: bytes(body)):
            with pytest.raises((Damaged, WrongInput), match=r"^run: "):
                open_run(store, "run").verify()


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_cut_file_is_damaged_and_named(written, data):
    name = data.draw(st.sampled_from(["part", "run"]))
    length = data.draw(st.integers(0, len(written[name]) - 1))
    with tempfile.TemporaryDirectory() as folder:
        for store in damaged_store(folder, written, name, lambda content: content[:length]):
            with pytest.raises(Damaged, match=f"^{name}: "):
                look_up_all(store, [open_run(store, "run")], [*many(1500)], hash_of)


def test_the_first_bad_record_is_named_by_part_file_and_offset(store):
    entries = write_part(store, "part", many(100), hash_of)
    write_run(store, "run", entries)
    file = LocalStore.local(store if isinstance(store, LocalStore) else store._store, "part")
    row = 40
    body = bytearray(file.read_bytes())
    body[int(entries.offset[row]) + 3] ^= 255
    file.write_bytes(body)
    run = open_run(store, "run")
    with pytest.raises(Damaged, match=rf"^part: the record at offset {entries.offset[row]} "):
        read_records(store, find_many([run], entries.hi, entries.lo))
    (hit,) = run.find(int(entries.hi[row]), int(entries.lo[row]))
    with pytest.raises(Damaged, match=rf"^part: the record at offset {entries.offset[row]} "):
        read_record(store, hit)


def test_records_come_in_the_order_found_from_several_part_files_and_sizes_across_buffer_borders(store, monkeypatch):
    monkeypatch.setattr(read, "_BUFFER_STEP", 64)
    monkeypatch.setattr(read, "_BUFFER_MAX", 64 + 127)
    monkeypatch.setattr(LocalStore, "cost", ReadCost(gap_max_bytes=10, request_max_bytes=100, requests_at_once=16))
    records = {f"{n}": "x" * (n % 60) for n in range(200)}
    parts = [write_part(store, f"part{p}", {k: b for k, b in records.items() if hash_of(k)[0] % 3 == p}, hash_of) for p in range(3)]
    write_run(store, "run", merge_entries(parts))
    assert look_up_all(store, [open_run(store, "run")], [*records], hash_of) == records


@contextmanager
def on_a_disk() -> Iterator[LocalStore]:
    """A store in a folder that can be read past the system's pages, as nearly every file system on a disk can be."""
    with tempfile.TemporaryDirectory() as folder:
        yield LocalStore(Path(folder))


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(0, 40_000), min_size=1, max_size=40), st.data())
def test_records_read_past_the_systems_pages_or_together_are_those_read_one_by_one(lengths, data):
    with on_a_disk() as local, pytest.MonkeyPatch.context() as patched:
        patched.setattr(read, "_DIRECT_PIECE", data.draw(st.sampled_from([1, 3, 2048])))
        bodies = {f"k{number}": "é" * (length // 2) for number, length in enumerate(lengths)}
        write_run(local, "run", write_part(local, "part", bodies, hash_of))
        keys = data.draw(st.lists(st.sampled_from(sorted(bodies)), min_size=1, max_size=60))
        hi, lo = (np.array(column, np.uint64) for column in zip(*map(hash_of, keys), strict=True))
        found = find_many([open_run(local, "run")], hi, lo)
        alone = read_records(local, found)
        assert read_records(RemoteStore(local), found).equals(alone)
        direct = read._read_directly(local, found)
        assert direct is not None
        assert direct.equals(alone)
        patched.setattr(read, "_share_uncached", lambda store, found: 1.0)
        assert read_records(local, found).equals(alone)
        assert [key_of(record) for record in alone.to_pylist()] == keys


@pytest.mark.parametrize("damage", ["flipped", "cut"])
def test_damage_is_found_past_the_systems_pages_too(damage):
    with on_a_disk() as local:
        entries = write_part(local, "part", {f"k{number}": "x" * 3_000 for number in range(50)}, hash_of)
        write_run(local, "run", entries)
        found = find_many([open_run(local, "run")], entries.hi, entries.lo)
        file = local.root / "part"
        file.chmod(0o644)
        content = bytearray(file.read_bytes())
        content[-10] ^= 1
        file.write_bytes(content if damage == "flipped" else content[:-100])
        with pytest.raises(Damaged, match=f"part: the record at offset {int(entries.offset.max())} is cut or not what was written"):
            read._read_directly(local, found)


@pytest.mark.parametrize("refused", ["by the file system", "by the system"])
def test_where_there_are_no_such_reads_pages_are_read(refused, monkeypatch):
    asked, opened = [], os.open

    def refuses(path, flags, *more, **named):
        if flags & direct:
            asked.append(path)
            raise OSError(errno.EINVAL, "Invalid argument")
        return opened(path, flags, *more, **named)

    with on_a_disk() as local:
        entries = write_part(local, "part", {"k": "x"}, hash_of)
        write_run(local, "run", entries)
        found = find_many([open_run(local, "run")], entries.hi, entries.lo)
        direct = os.O_DIRECT
        monkeypatch.setattr(read, "_share_uncached", lambda store, found: 1.0)
        if refused == "by the system":
            monkeypatch.delattr(os, "O_DIRECT")
        monkeypatch.setattr(os, "open", refuses)
        assert read_records(local, found).to_pylist() == [b"k|x"]
        assert len(asked) == (refused == "by the file system")


def _held(file):
    """Whether the system holds the first page of a file: some file systems live in memory, and some can't tell."""
    try:
        return os.preadv(file, [bytearray(1)], 0, os.RWF_NOWAIT) == 1
    except BlockingIOError:
        return False
    except OSError:
        return True


@pytest.mark.skipif(not hasattr(os, "RWF_NOWAIT"), reason="only Linux tells which pages it holds")
def test_how_much_of_a_file_the_system_holds_is_found_out(tmp_path):
    local = LocalStore(tmp_path)
    entries = write_part(local, "part", {f"k{number}": "x" * 5_000 for number in range(400)}, hash_of)
    write_run(local, "run", entries)
    found = find_many([open_run(local, "run")], entries.hi, entries.lo)
    read_records(local, found)
    assert read._share_uncached(local, found) == 0.0
    with open(tmp_path / "part", "rb") as handle:
        os.posix_fadvise(handle.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    with open(tmp_path / "part", "rb") as handle:
        told = _held(handle.fileno())
    assert (read._share_uncached(local, found) > 0.5) is not told
    (tmp_path / "part").unlink()
    assert read._share_uncached(local, found) == 0.0


def test_object_storage_is_asked_for_what_the_batch_needs(tmp_path):
    local = LocalStore(tmp_path)
    count = 200_000
    hi = np.arange(count, dtype=np.uint64) << np.uint64(40)
    lo = np.zeros(count, dtype=np.uint64)
    local.put_new("part", [HEAD, b"0123456789abcdef" * count])
    check = np.full(count, check_of(b"0123456789abcdef"), dtype=np.uint32)
    write_run(local, "run", entries_of("part", hi, lo, np.full(count, 16), check, len(HEAD)))
    remote = RemoteStore(local)
    run = open_run(remote, "run")
    assert remote.requests <= 2
    assert remote.bytes_read < 70_000
    remote.requests = remote.bytes_read = 0
    assert len(run.find(int(hi[77_777]), 0)) == 1
    assert remote.requests <= 6
    assert remote.bytes_read < 40_000
    remote.requests = remote.bytes_read = 0
    wanted = np.arange(5, count, 50_000)
    records = read_records(remote, find_many([run], hi[wanted], lo[wanted]))
    assert len(records) == 4
    assert remote.requests <= 4 * 7
    assert remote.bytes_read < 4 * 20_000
    remote.requests = remote.bytes_read = 0
    assert len(read_records(remote, find_many([run], hi, lo))) == count
    assert remote.requests < 20


def test_a_run_of_another_version_says_so(store, written):
    body = bytearray(written["run"])
    body[8] = 3
    store.put_new("run", [bytes(body)])
    with pytest.raises(WrongInput, match=r"^run: is of version 3"):
        open_run(store, "run")


def test_entries_that_break_the_invariant_or_the_form_are_refused(store):
    one, two = np.array([1], np.uint64), np.array([3])
    apart = Entries(("a", "b"), *(np.array([5, 5], dtype=kind) for kind in list(runs_entries.COLUMNS.values())[:4]),
                    np.array([0, 1], np.uint32), np.array([0, 0], np.uint32))  # fmt: skip
    with pytest.raises(WrongInput, match="a and b both hold"):
        merge_entries([apart])
    with pytest.raises(WrongInput, match="a and b both hold"):
        write_run(store, "run", apart)
    with pytest.raises(WrongInput, match=r"^part: records of 0 to 0 bytes"):
        entries_of("part", one, one, np.array([0]), two)
    with pytest.raises(WrongInput, match=r"^part: records of 5000000000"):
        entries_of("part", one, one, np.array([5_000_000_000]), two)
    with pytest.raises(WrongInput, match=r"^part: 1 hashes"):
        entries_of("part", one, one, np.array([1, 2]), two)
    entries = entries_of("part", np.array([1, 2], np.uint64), np.zeros(2, np.uint64), np.array([1, 1]), np.zeros(2))
    with pytest.raises(WrongInput, match=r"^run: its entries are not sorted"):
        write_run(store, "run", Entries(entries.part_files, entries.hi[::-1], *(
            getattr(entries, name) for name in list(runs_entries.COLUMNS)[1:])))  # fmt: skip
    assert not store.exists("run")


def test_hashes_are_md5_of_salt_and_text_read_little_endian_as_duckdb_reads_it_and_checks_are_crc_32():
    import duckdb

    digest = hashlib.md5(f"{SALT}A112é".encode()).digest()
    assert hash_of("A112é") == (int.from_bytes(digest[8:], "little"), int.from_bytes(digest[:8], "little"))
    assert check_of(b"123456789") == 0xCBF43926  # the check value in every description of CRC-32
    for salt in (SALT, ""):
        with duckdb.connect() as connection:
            hashing.define(connection, salt)
            halves = ", ".join(hashing.halves("key_hash('A112é')"))
            hi, lo, of_id, nothing = connection.execute(f"SELECT {halves}, id_hash('A112é'), key_hash(NULL)").fetchall()[0]
        assert hashing.hash_of("A112é", salt) == (hi, lo)
        assert (of_id, nothing) == (lo, None)


@settings(deadline=None)
@given(st.lists(st.integers(0, 10**9), max_size=60), st.integers(2, 8))
def test_tiers_are_neighbours_of_one_level_and_few_runs_stay(sizes, fanout):
    while (chosen := choose_tiers(sizes, fanout)) is not None:
        assert chosen.stop - chosen.start >= fanout
        sizes[chosen] = [sum(sizes[chosen])]
    assert len(sizes) < fanout * (2 + np.emath.logn(fanout, 60 * 10**9 / 4096))


def test_equal_batches_are_rewritten_about_once_a_level():
    sizes, written_entries, batch = [], 0, 10_000
    for _ in range(512):
        sizes.insert(0, batch)
        while (chosen := choose_tiers(sizes)) is not None:
            written_entries += sum(sizes[chosen])
            sizes[chosen] = [sum(sizes[chosen])]
    assert sum(sizes) == 512 * batch
    assert written_entries <= 4 * 512 * batch
    assert len(sizes) <= 7 * 4


def test_the_rooms_behind_the_door_need_neither_duckdb_nor_pyarrow_to_be_imported():
    code = "import sys, recon.state.runs; print([m for m in ('duckdb', 'pyarrow', 'pandas') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_blocks_are_as_the_decision_says():
    assert runs_file.BLOCK == 1024
    assert sum(np.dtype(kind).itemsize for kind in runs_entries.COLUMNS.values()) == 36


ranges_of_a_file = st.lists(st.tuples(st.integers(0, 3000), st.integers(1, 400)), min_size=1, max_size=60)
costs = st.builds(ReadCost, st.integers(0, 500), st.integers(1, 1000), st.integers(1, 5))


@settings(deadline=None)
@given(ranges_of_a_file, costs)
def test_ranges_put_together_by_any_cost_hold_all_that_was_asked_for_and_span_no_gap_that_is_too_large(ranges, cost):
    ranges = sorted(ranges)
    starts, stops = np.array([a for a, _ in ranges]), np.array([a + length for a, length in ranges])
    first = coalesce(starts, stops, cost).tolist()
    assert first[0] == 0
    for a, b in itertools.pairwise([*first, len(ranges)]):
        begin, end = int(starts[a]), int(stops[a:b].max())
        assert all(begin <= start and stop <= end for start, stop in zip(starts[a:b].tolist(), stops[a:b].tolist(), strict=True))
        assert end - begin <= cost.request_max_bytes + max(length for _, length in ranges)
        reached = np.maximum.accumulate(stops)[a : b - 1]
        assert (starts[a + 1 : b] - reached <= cost.gap_max_bytes).all()


@settings(deadline=None, max_examples=50)
@given(st.data(), costs)
def test_records_and_look_ups_through_ranges_put_together_are_those_of_plain_reads(data, cost):
    with tempfile.TemporaryDirectory() as folder:
        remote = RemoteStore(LocalStore(Path(folder)))
        remote.cost = cost
        records = {f"{n}": "x" * data.draw(st.integers(0, 40)) for n in range(data.draw(st.integers(1, 80)))}
        keys = list(records)
        entries = [write_part(remote, f"part{p}", {k: records[k] for k in keys[p::2]}, hash_of) for p in range(2)]
        write_run(remote, "run", merge_entries([one for one in entries if len(one)]))
        asked = data.draw(st.lists(st.sampled_from([*keys, "absent"]), min_size=1, max_size=40))
        run = open_run(remote, "run")
        hi, lo = (np.array(column, dtype=np.uint64) for column in zip(*map(hash_of, asked), strict=True))
        found = find_many([run], hi, lo)
        plain = [[read_record(LocalStore(Path(folder)), hit) for hit in run.find(*hash_of(key))] for key in asked]
        told = [[] for _ in asked]
        for query, record in zip(found.query.tolist(), read_records(remote, found).to_pylist(), strict=True):
            told[query].append(record)
        assert told == plain
