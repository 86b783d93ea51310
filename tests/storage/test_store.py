"""Stores: whole objects or nothing, created once, under checked names, in a folder and in S3; and what only a folder knows."""

from __future__ import annotations

import errno
import hashlib
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hostile_names import hostile_names
from hypothesis import given, settings
from hypothesis import strategies as st

from recon.errors import Damaged, TryAgain, WrongUsage
from recon.storage.local import LocalStore
from recon.storage.open import open_store
from recon.storage.port import AlreadyExists, NotFound, ObjectStore, check_path


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


@pytest.fixture(params=["folder", "s3"])
def any_store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    """The same is asked of both."""
    return open_store("store" if request.param == "folder" else request.getfixturevalue("in_s3"), tmp_path)


def temporary_files(store: ObjectStore) -> list[str]:
    return os.listdir(store.root / "tmp") if isinstance(store, LocalStore) else []


def test_an_object_comes_back_as_it_was_put(any_store):
    chunks = [b"ab", memoryview(b"cd"), b"", memoryview(bytearray(3_000_000))]
    assert any_store.put_new("a/b/c", chunks) == 3_000_004
    assert any_store.get("a/b/c") == b"abcd" + bytes(3_000_000)
    assert any_store.size("a/b/c") == 3_000_004
    assert any_store.exists("a/b/c")
    if (file := any_store.local("a/b/c")) is not None:
        assert file.read_bytes()[:4] == b"abcd"
    assert temporary_files(any_store) == []


def test_the_storage_tells_when_an_object_was_written(any_store: ObjectStore) -> None:
    before, whole_seconds = datetime.now(UTC), timedelta(seconds=2)
    any_store.put_new("a", [b"x"])
    assert before - whole_seconds <= any_store.modified("a") <= datetime.now(UTC) + whole_seconds
    with pytest.raises(NotFound):
        any_store.modified("b")


def test_an_object_is_never_overwritten_and_the_loser_is_told(any_store):
    any_store.put_new("a", [b"first"])
    with pytest.raises(AlreadyExists, match=r"^a: exists already"):
        any_store.put_new("a", [b"second"])
    assert any_store.get("a") == b"first"
    assert temporary_files(any_store) == []


def test_the_name_is_taken_by_link_even_when_it_appears_after_the_first_look(store):
    def chunks():
        LocalStore(store.root).put_new("a/b", [b"winner"])
        yield b"loser"

    with pytest.raises(AlreadyExists):
        store.put_new("a/b", chunks())
    assert store.get("a/b") == b"winner"
    assert temporary_files(store) == []


def test_a_range_is_exactly_what_was_asked_for_or_damaged(any_store):
    any_store.put_new("a", [b"0123456789"])
    assert any_store.get_range("a", 0, 10) == b"0123456789"
    assert any_store.get_range("a", 3, 4) == b"3456"
    assert any_store.get_range("a", 10, 0) == b""
    for offset, length in [(0, 11), (9, 2), (10, 1), (20, 1), (0, 2**60)]:
        with pytest.raises(Damaged, match=rf"^a: cut short: {length} bytes expected from offset {offset}"):
            any_store.get_range("a", offset, length)
    with pytest.raises(WrongUsage):
        any_store.get_range("a", -1, 1)


def test_a_list_tells_sizes_too(any_store):
    for path, body in {"a/b": b"xx", "a/c/d": b"", "a-b": b"xyz", "b": b"x"}.items():
        any_store.put_new(path, [body])
    assert list(any_store.sizes("")) == [("a-b", 3), ("a/b", 2), ("a/c/d", 0), ("b", 1)]
    assert list(any_store.sizes("a")) == list(any_store.sizes("a/")) == [("a/b", 2), ("a/c/d", 0)]
    assert list(any_store.sizes("c")) == []


def test_what_is_not_there_is_not_found(any_store):
    any_store.put_new("a/b", [b"x"])
    for path in ["x", "a", "a/x", "a/b/c"]:
        for read in (any_store.get, any_store.size, lambda path: any_store.get_range(path, 0, 1)):
            with pytest.raises(NotFound, match=f"^{path}: does not exist"):
                read(path)
        assert not any_store.exists(path)
        if path != "a":
            any_store.delete(path)
    if isinstance(any_store, LocalStore):
        with pytest.raises(WrongUsage):
            any_store.delete("a")


def test_deleting_removes_the_object_and_frees_the_name(any_store):
    any_store.put_new("a/b", [b"1"])
    any_store.delete("a/b")
    assert not any_store.exists("a/b")
    assert any_store.put_new("a/b", [b"22"]) == 2


def test_a_local_file_is_copied_in(any_store, tmp_path):
    source = tmp_path / "source"
    source.write_bytes(os.urandom(2_500_000))
    assert any_store.copy_in("landed/file", source) == 2_500_000
    assert any_store.get("landed/file") == source.read_bytes()
    for wrong in (tmp_path / "absent", tmp_path):
        with pytest.raises(WrongUsage, match=str(wrong)):
            any_store.copy_in("landed/other", wrong)
    assert not any_store.exists("landed/other")


@pytest.mark.parametrize("length", [0, 1, 2_500_000, 40_000_000])
def test_an_object_is_copied_out_to_a_file(any_store, tmp_path, length):
    body = os.urandom(length)
    any_store.put_new("a", [body])
    assert any_store.copy_out("a", tmp_path / "out") == length
    assert (tmp_path / "out").read_bytes() == body
    with pytest.raises(NotFound):
        any_store.copy_out("b", tmp_path / "other")


def test_a_store_is_empty_until_anything_lies_in_it(any_store):
    assert any_store.empty()
    any_store.put_new("a/b", [b""])
    assert not any_store.empty()
    assert any_store.get("a/b") == b""


def test_an_object_and_a_folder_can_not_share_a_name(store):
    store.put_new("a/b", [b"x"])
    with pytest.raises(WrongUsage, match=r"'a'.*folder"):
        store.put_new("a", [b"x"])
    with pytest.raises(WrongUsage, match=r"a/b/c"):
        store.put_new("a/b/c", [b"x"])
    assert temporary_files(store) == []


names = st.lists(st.sampled_from(["a", "b", "a-b", "a.b", "a0", "é", "A"]), min_size=1, max_size=3).map("/".join)


@settings(max_examples=25, deadline=None)
@given(st.sets(names, max_size=8), names)
def test_listing_is_recursive_sorted_and_by_folder(paths, prefix):
    with tempfile.TemporaryDirectory() as folder:
        store, put = LocalStore(Path(folder)), set()
        for path in sorted(paths):
            try:
                store.put_new(path, [b"x"])
                put.add(path)
            except WrongUsage:
                assert any(path.startswith(other + "/") or other.startswith(path + "/") for other in put)
        (store.root / "tmp" / "unfinished").write_bytes(b"x")
        assert list(store.list("")) == sorted(put)
        below = sorted(path for path in put if path.startswith(prefix + "/"))
        assert list(store.list(prefix)) == list(store.list(prefix + "/")) == below


hostile = st.sampled_from(hostile_names)


@given(hostile)
def test_hostile_names_are_refused_everywhere_with_one_short_line(path):
    with tempfile.TemporaryDirectory() as folder:
        store = LocalStore(Path(folder) / "store")
        calls = [store.get, store.size, store.exists, store.delete, store.local, lambda p: store.put_new(p, [b"x"])]
        for call in [*calls, lambda p: store.get_range(p, 0, 1), lambda p: store.copy_in(p, Path(__file__))]:
            with pytest.raises(WrongUsage) as failure:
                call(path)
            assert "\n" not in str(failure.value)
            assert len(str(failure.value)) < 250
        assert os.listdir(folder) == ["store"]


@given(st.text(alphabet="ab./\\\0\n~é", max_size=12))
def test_a_name_that_passes_stays_in_the_store(path):
    try:
        check_path(path)
    except WrongUsage:
        return
    assert os.path.normpath("/store/" + path) == "/store/" + path


def test_files_that_were_not_put_there_do_not_hide_objects(store):
    store.put_new("a", [b"x"])
    (store.root / "line\nfeed").write_bytes(b"x")
    os.mkfifo(store.root / "pipe")
    (store.root / "dangling").symlink_to("nowhere")
    assert list(store.list("")) == ["a"]


def test_sixteen_threads_race_and_exactly_one_wins_each_name(any_store):
    barrier, wins = threading.Barrier(16), []
    turns = 10 if isinstance(any_store, LocalStore) else 1  # the server lets racers wait for seconds

    def race(number):
        for turn in range(turns):
            barrier.wait()
            try:
                any_store.put_new(f"new/{turn}/name", [b"%d" % number])
                wins.append((turn, number))
            except AlreadyExists:
                assert any_store.exists(f"new/{turn}/name")

    threads = [threading.Thread(target=race, args=(n,)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(turn for turn, _ in wins) == list(range(turns))
    assert all(any_store.get(f"new/{turn}/name") == b"%d" % number for turn, number in wins)


def _race_in_a_process(root, number, barrier, wins):
    store = LocalStore(root)
    for turn in range(10):
        barrier.wait()
        try:
            store.put_new(f"new/{turn}/name", [b"%d" % number])
            wins.put((turn, number))
        except AlreadyExists:
            pass


def test_sixteen_processes_race_and_exactly_one_wins_each_name(store):
    context = multiprocessing.get_context("fork")
    barrier, wins = context.Barrier(16), context.Queue()
    workers = [context.Process(target=_race_in_a_process, args=(store.root, n, barrier, wins)) for n in range(16)]
    for worker in workers:
        worker.start()
    won = [wins.get(timeout=20) for _ in range(10)]
    for worker in workers:
        worker.join()
    assert wins.empty()
    assert sorted(turn for turn, _ in won) == list(range(10))
    assert all(store.get(f"new/{turn}/name") == b"%d" % number for turn, number in won)


_WRITER = """
import hashlib, os, sys
from pathlib import Path
from recon.storage.local import LocalStore
store = LocalStore(Path(sys.argv[1]))
print("ready", flush=True)
for number in range(10**9):
    body = os.urandom(40_000)
    digest = hashlib.sha256(body).hexdigest()
    store.put_new(f"{sys.argv[2]}/{number % 7}/{number}-{digest}", (body[i:i+1000] for i in range(0, 40_000, 1000)))
"""


def test_a_writer_killed_at_any_moment_leaves_whole_objects_or_nothing(tmp_path):
    root = tmp_path / "store"
    for turn in range(8):
        writer = subprocess.Popen([sys.executable, "-c", _WRITER, str(root), str(turn)], stdout=subprocess.PIPE)
        writer.stdout.readline()
        time.sleep(0.011 * (turn + 1))
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
    store = LocalStore(root)
    paths = list(store.list(""))
    assert len(paths) > 8
    for path in paths:
        assert hashlib.sha256(store.get(path)).hexdigest() == path.rpartition("-")[2]
    left_over = len(temporary_files(store))
    assert store.sweep_temporary(older_than_s=3600) == 0
    assert store.sweep_temporary(older_than_s=0) == left_over
    assert temporary_files(store) == []
    assert list(store.list("")) == paths


def test_a_temporary_folder_is_swept_once_nothing_in_it_is_written_any_more(store):
    for name, age_s in [("old", 100), ("busy", 0)]:
        folder = store.root / "tmp" / name / "deep"
        folder.mkdir(parents=True)
        (folder / "file").write_bytes(b"x")
        for path in (folder.parent, folder, folder / "file"):
            os.utime(path, times=(time.time() - 100,) * 2)
        os.utime(folder / "file", times=(time.time() - age_s,) * 2)
    assert store.sweep_temporary(older_than_s=50) == 1
    assert temporary_files(store) == ["busy"]


def test_a_writer_whose_temporary_file_was_swept_fails_and_creates_nothing(store):
    def chunks():
        yield b"x" * 2_000_000
        assert store.sweep_temporary(older_than_s=-1) == 1
        yield b"y"

    with pytest.raises(TryAgain, match=r"^a: .*swept"):
        store.put_new("a", chunks())
    assert not store.exists("a")


def test_an_object_is_synced_before_its_name_appears_and_its_folders_after(store, monkeypatch):
    calls, fsync, link = [], os.fsync, os.link

    def spying_fsync(handle):
        path = os.readlink(f"/proc/self/fd/{handle}")
        calls.append(("sync", os.path.relpath(path, store.root).replace(os.sep, "/").partition("tmp/")[0]))
        fsync(handle)

    def spying_link(source, target):
        calls.append(("link", os.path.relpath(target, store.root)))
        link(source, target)

    monkeypatch.setattr(os, "fsync", spying_fsync)
    monkeypatch.setattr(os, "link", spying_link)
    store.put_new("a/b/c", [b"x"])
    assert calls[0] == ("sync", "")  # the temporary file
    linked = calls.index(("link", "a/b/c"))
    assert set(calls[1:linked]) == {("sync", "."), ("sync", "a")}  # the new folders' own entries
    assert calls[linked + 1 :] == [("sync", "a/b")]
    calls.clear()
    with pytest.raises(AlreadyExists):
        LocalStore(store.root).put_new("a/b/c", [b"x"])
    assert {("sync", "a/b"), ("sync", "a"), ("sync", ".")} <= set(calls)  # the winner may not have come so far


@pytest.mark.parametrize(
    ("number", "kind", "says"),
    [
        (errno.ENOSPC, TryAgain, "no space left"),
        (errno.EDQUOT, TryAgain, "no space left"),
        (errno.EACCES, TryAgain, "permissions"),
        (errno.EIO, TryAgain, "check the disk"),
    ],
)
def test_a_failing_disk_is_one_line_that_names_the_path_and_leaves_nothing(store, monkeypatch, number, kind, says):
    def fail(handle):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(kind, match=rf"^a/b: .*{says}"):
        store.put_new("a/b", [b"x"])
    monkeypatch.undo()
    assert not store.exists("a/b")
    assert temporary_files(store) == []
    assert store.put_new("a/b", [b"x"]) == 1


def test_a_failure_of_the_source_leaves_nothing(store):
    def chunks():
        yield b"x"
        raise ValueError("source")

    with pytest.raises(ValueError, match="source"):
        store.put_new("a", chunks())
    assert list(store.list("")) == []
    assert temporary_files(store) == []


def test_a_file_system_without_hard_links_is_refused_when_the_store_is_opened(tmp_path, monkeypatch):
    def no_links(source, target):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    with pytest.raises(WrongUsage, match=r"no hard links"):
        LocalStore(tmp_path)
    assert os.listdir(tmp_path / "tmp") == []


def test_a_folder_that_may_only_be_read_opens_and_says_so_when_written_to(tmp_path, monkeypatch):
    LocalStore(tmp_path).put_new("a", [b"x"])

    def read_only(path, flags, mode=0o777, **other):
        if flags & os.O_CREAT:
            raise OSError(errno.EROFS, "Read-only file system")
        return os_open(path, flags, mode, **other)

    os_open = os.open
    monkeypatch.setattr(os, "open", read_only)
    monkeypatch.setattr("recon.storage.local._write_synced", lambda file, *_: os.open(file, os.O_CREAT))
    store = LocalStore(tmp_path)
    assert store.get("a") == b"x"
    with pytest.raises(TryAgain, match=r"^b: Read-only file system"):
        store.put_new("b", [b"x"])


def test_locations(tmp_path):
    assert open_store("./data", tmp_path).root == tmp_path / "data"
    assert (tmp_path / "data").is_dir()
    assert open_store(str(tmp_path / "x"), Path("/elsewhere")).root == tmp_path / "x"
    assert open_store(f"file://{tmp_path}/with%20space", Path("/elsewhere")).root == tmp_path / "with space"
    (tmp_path / "file").write_text("x")
    wrong = {
        "s3://no_bucket/prefix": "is no bucket's name",
        "gs://bucket": "unknown scheme",
        "file://host/x": "names a host",
        "": "not a location",
        "./file": "is a file; name a folder",
        "./file/below": "is a file; name a folder",
    }
    for location, says in wrong.items():
        with pytest.raises(WrongUsage, match=says):
            open_store(location, tmp_path)


def test_a_tmp_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "tmp").write_text("x")
    with pytest.raises(WrongUsage, match="name a folder"):
        LocalStore(tmp_path)


def test_importing_the_store_is_cheap():
    code = "import sys, recon.storage.local; print([m for m in ('duckdb', 'pyarrow', 'numpy', 'obstore') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
