"""What requests may open and write: random trees of folders, files, links, pipes, and hostile paths; os.path.realpath is the judge."""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import tempfile
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recon.config.service import Rights
from recon.service import paths
from recon.service.paths import Places
from recon.service.submissions import Refused

EXAMPLES = int(os.environ.get("RECON_LAW_EXAMPLES", "60"))
NAMES = ("a", "b", "c.csv", "in", ".x", "é", "e\u0301", "[a]", "a b", "%2e%2e", "..a", "-r")
TARGETS = (
    *("..", "../..", "../secret", "../secret/s.csv", "../../secret", "a", "c.csv", "../inside"),
    *("/etc/hosts", "/dev/null", ".", "../in-other"),
)
PATTERNS = ("*", "?", "[", "[!", "[a-", "[z-a]", "**", "*.csv", "*\n")
PARTS = (*NAMES, *PATTERNS, "..", ".", "", "s.csv", "secret", "\udc80", "c.csv\n", "~", "$HOME", "a\\b")
PREFIXES = (
    *("{in}/", "{in}", "{in}/../in/", "{in}/../", "//{in}/", "file://{in}/", "FILE://{in}/", "{root}/"),
    *("", "/", "./", "s3://other/", "{in}-other/"),
)
KINDS = st.sampled_from(["folder", "file", "link", "pipe"])
STEPS = st.lists(
    st.tuples(KINDS, st.lists(st.sampled_from(NAMES), min_size=1, max_size=3), st.sampled_from(TARGETS)),
    max_size=10,
)
PATHS = st.builds(lambda prefix, parts: prefix + "/".join(parts), st.sampled_from(PREFIXES), st.lists(st.sampled_from(PARTS), max_size=4))


def _tree(root: Path, steps: list[tuple[str, list[str], str]]) -> Path:
    """Folders ``in`` and ``in-other`` and a ``secret`` beside them. Returns ``in``."""
    for name in ("in", "in-other", "secret"):
        (root / name).mkdir()
        (root / name / "s.csv").write_text(f"of {name}")
    for kind, names, target in steps:
        path = (root / "in").joinpath(*names)
        with suppress(OSError):
            if os.path.realpath(path.parent).startswith(f"{root}/in"):
                path.parent.mkdir(parents=True, exist_ok=True)
            if kind == "folder":
                path.mkdir()
            elif kind == "file":
                with path.open("x") as file:
                    file.write("inside")
            elif kind == "pipe":
                os.mkfifo(path)
            else:
                path.symlink_to(target)
    return root / "in"


def _has_link(root: Path, path: str) -> bool:
    """Whether any part of a path below ``root`` is a link."""
    at = root
    for part in Path(path).relative_to(root).parts:
        at = at / part
        if at.is_symlink():
            return True
    return False


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(STEPS, st.lists(PATHS, min_size=1, max_size=12))
def test_only_plain_files_of_the_owner_are_opened(steps: list[tuple[str, list[str], str]], asked: list[str]) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        root = Path(os.path.realpath(folder))
        mine = _tree(root, steps)
        places = Places(Rights(read=(str(mine),)))
        for path in (each.format_map({"in": mine, "root": root}) for each in asked):
            try:
                found = list(places.files(path))
            except Refused:
                continue
            for shown, descriptor in found:
                opened = os.readlink(f"/proc/self/fd/{descriptor}")
                assert opened.startswith(f"{mine}/"), path
                assert opened == os.path.realpath(shown) == shown.rstrip("/"), "no link and no other spelling on the way"
                assert not _has_link(mine, shown)
                assert Path(opened).is_file()
                os.close(descriptor)


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(STEPS, st.lists(PATHS, min_size=1, max_size=12))
def test_only_files_of_the_owner_are_written_and_none_is_replaced(steps: list[tuple[str, list[str], str]], asked: list[str]) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        root = Path(os.path.realpath(folder))
        mine = _tree(root, steps)
        (made := root / "made").write_text("made")
        digest = hashlib.sha256(b"made").hexdigest()
        places = Places(Rights(write=(str(mine),)))
        before = _files(root)
        for path in (each.format_map({"in": mine, "root": root}) for each in asked):
            with suppress(Refused):
                places.refuse_unwritable(path)
                places.copy_once(path, made, digest)
                assert os.path.realpath(path) == path
                assert Path(path).read_text() == "made"
        after = _files(root)
        assert {name: after.get(name) for name in before} == before, "what was there is there as it was"
        assert all(name.startswith(f"{mine}/") and after[name] == "made" for name in after.keys() - before.keys())


def _files(root: Path) -> dict[str, str]:
    """Plain files by their real paths, and links as they are."""
    found = {}
    for path in root.rglob("*"):
        if path.is_symlink():
            found[str(path)] = f"-> {os.readlink(path)}"
        elif path.is_file():
            found[str(path)] = path.read_text()
    return found


@pytest.mark.parametrize(
    "path",
    [
        "to-folder/s.csv",
        "to-folder/*",
        "to-folder",
        "to-folder/",
        "a/to-folder/s.csv",
        "a/to-folder/b/s.csv",
        "to-file",
        "to-f*",
        "pipe",
        "p*",
    ],
)
def test_links_pipes_and_what_lies_behind_them_are_not_there(tmp_path: Path, path: str) -> None:
    mine, secret = tmp_path / "in", tmp_path / "secret"
    (mine / "a").mkdir(parents=True)
    (secret / "b").mkdir(parents=True)
    for place in (secret, secret / "b"):
        (place / "s.csv").write_text("secret")
    for folder in (mine, mine / "a"):
        (folder / "to-folder").symlink_to(secret)
    (mine / "to-file").symlink_to(secret / "s.csv")
    os.mkfifo(mine / "pipe")
    (made := tmp_path / "made").write_text("made")
    places = Places(Rights(read=(str(mine),), write=(str(mine),)))
    with pytest.raises(Refused):
        places.size(f"{mine}/{path}")
    with pytest.raises(Refused):
        list(places.files(f"{mine}/{path}"))
    with pytest.raises(Refused):
        places.copy_once(f"{mine}/{path}", made, hashlib.sha256(b"made").hexdigest())
    assert {str(file.relative_to(secret)) for file in secret.rglob("*")} == {"s.csv", "b", "b/s.csv"}


def test_a_link_that_is_swapped_in_while_paths_are_checked(tmp_path: Path) -> None:
    """A thread replaces a folder and a file by links to a secret and back, as fast as it can."""
    mine, secret = tmp_path / "in", tmp_path / "secret"
    (mine / "folder").mkdir(parents=True)
    secret.mkdir()
    for place in (mine / "folder", secret):
        (place / "f.csv").write_text(f"of {place.name}")
    over = threading.Event()

    (mine / "to-folder").symlink_to(secret)
    (mine / "folder" / "to-file").symlink_to(secret / "f.csv")

    def swap() -> None:
        while not over.is_set():
            _exchange(mine / "folder", mine / "to-folder")
            _exchange(mine / "folder", mine / "to-folder")
            _exchange(mine / "folder" / "f.csv", mine / "folder" / "to-file")
            _exchange(mine / "folder" / "f.csv", mine / "folder" / "to-file")

    thread = threading.Thread(target=swap)
    thread.start()
    places, opened, refused = Places(Rights(read=(str(mine),), write=(str(mine),))), 0, 0
    (made := tmp_path / "made").write_text("made")
    digest = hashlib.sha256(b"made").hexdigest()
    try:
        for number in range(1500):
            for path in (f"{mine}/folder/f.csv", f"{mine}/folder/f*", f"{mine}/folder"):
                try:
                    for _, descriptor in places.files(path):
                        with open(descriptor, "rb") as file:
                            assert file.read() in (b"of folder", b"made"), path
                        opened += 1
                except Refused:
                    refused += 1
            if number % 10 == 0:
                with suppress(Refused):
                    places.copy_once(f"{mine}/folder/{number}", made, digest)
    finally:
        over.set()
        thread.join()
    assert opened
    assert refused
    assert {path.name for path in secret.iterdir()} <= {"f.csv"}


def _exchange(first: Path, second: Path) -> None:
    """Swaps two names at once."""
    here, both = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    assert not ctypes.CDLL(None, use_errno=True).renameat2(here, bytes(first), here, bytes(second), both), os.strerror(ctypes.get_errno())


def test_a_file_that_was_opened_is_read_though_a_link_takes_its_place(tmp_path: Path) -> None:
    (mine := tmp_path / "in").mkdir()
    (tmp_path / "secret").write_text("secret")
    (mine / "f.csv").write_text("mine")
    [(_, descriptor)] = Places(Rights(read=(str(mine),))).files(f"{mine}/f.csv")
    (mine / "f.csv").unlink()
    (mine / "f.csv").symlink_to(tmp_path / "secret")
    (link := tmp_path / "link").symlink_to(f"/proc/{os.getpid()}/fd/{descriptor}")
    assert link.read_text() == "mine"
    os.close(descriptor)


def test_too_many_open_files_may_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no request for a file that is not there."""
    (mine := tmp_path / "in").mkdir()
    (mine / "f.csv").write_text("mine")
    real = os.open

    def full(path: object, *given: object, **named: object) -> int:
        if path == "f.csv":
            raise OSError(24, "Too many open files")
        return real(path, *given, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(paths.os, "open", full)
    with pytest.raises(OSError, match="Too many"):
        list(Places(Rights(read=(str(mine),))).files(f"{mine}/f.csv"))


def test_a_copy_leaves_nothing_where_it_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk, and a file system that cannot make files without names."""
    (mine := tmp_path / "out").mkdir()
    (made := tmp_path / "made").write_text("made")
    digest = hashlib.sha256(b"made").hexdigest()
    places = Places(Rights(write=(str(mine),)))
    monkeypatch.setattr(shutil, "copyfileobj", lambda *given: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    for without in (False, True):
        if without:
            monkeypatch.delattr(os, "O_TMPFILE")
        with pytest.raises(OSError, match="No space"):
            places.copy_once(f"{mine}/folder/f.csv", made, digest)
        assert list((mine / "folder").iterdir()) == []
    monkeypatch.undo()
    monkeypatch.delattr(os, "O_TMPFILE")
    places.copy_once(f"{mine}/folder/f.csv", made, digest)
    places.copy_once(f"{mine}/folder/f.csv", made, digest)
    assert [file.read_text() for file in (mine / "folder").iterdir()] == ["made"]
