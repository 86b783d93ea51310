"""Archives: each member is a file of its own; what could harm the machine or hide a file is refused, by name."""

from __future__ import annotations

import gzip
import io
import os
import stat
import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from recon.config.settings import Limits
from recon.errors import TryAgain, WrongInput
from recon.intake.converters import unpacking
from recon.intake.converters.unpacking import unchanged, unpack

LIMITS = Limits()


def zipped(members: dict[str, bytes], **fields: Any) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, member in members.items():
            entry = zipfile.ZipInfo(name)
            entry.compress_type = zipfile.ZIP_DEFLATED
            for field, value in fields.items():
                setattr(entry, field, value)
            archive.writestr(entry, member)
    return content.getvalue()


def unpacked(folder: Path, name: str, content: bytes, limits: Limits = LIMITS) -> dict[str, bytes]:
    path, inside = folder / "received", folder / "inside"
    path.write_bytes(content)
    inside.mkdir(exist_ok=True)
    found = {file.shown: file.path.read_bytes() for file in unpack(name, path, limits, inside)}
    assert len(list(inside.iterdir())) == len(found) - (name in found)
    return found


def test_each_member_is_a_file_with_its_parent(tmp_path: Path) -> None:
    content = zipped({"a.csv": b"1", "sub/": b"", "sub/b.csv": b"2", "c.csv.gz": gzip.compress(b"3"), "d.zip": zipped({"e.csv": b"4"})})
    assert unpacked(tmp_path, "x.zip", content) == {
        "x.zip/a.csv": b"1",
        "x.zip/sub/b.csv": b"2",
        "x.zip/c.csv.gz/c.csv": b"3",
        "x.zip/d.zip/e.csv": b"4",
    }


@pytest.mark.parametrize(
    ("name", "content", "files"),
    [
        ("a.csv", b"1", {"a.csv": b"1"}),
        ("a.csv.gz", gzip.compress(b"1", mtime=0) + gzip.compress(b"2", mtime=0), {"a.csv.gz/a.csv": b"12"}),
        ("a.tdf.ZST", zstandard.compress(b"1"), {"a.tdf.ZST/a.tdf": b"1"}),
        ("a.zip", zipped({}), {}),
    ],
)
def test_other_files_are_themselves_and_gzip_and_zstd_have_one(tmp_path: Path, name: str, content: bytes, files: dict[str, bytes]) -> None:
    assert unpacked(tmp_path, name, content) == files


def test_names_are_not_paths_on_this_machine(tmp_path: Path) -> None:
    assert list(unpacked(tmp_path, "x.zip", zipped({"a/..b/...": b"1"}))) == ["x.zip/a/..b/..."]
    assert sorted(path.name for path in (tmp_path / "inside").iterdir()) == ["00001"]


def encrypted() -> bytes:
    content = bytearray(zipped({"a.csv": b"1"}))
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(mark) + place] |= 1
    return bytes(content)


def twice() -> bytes:
    return zipped({"a.csv": b"1", "b.csv": b"2"}).replace(b"b.csv", b"a.csv")


THREE = zipped({"b.zip": zipped({"c.zip": zipped({"d.csv": b"1"})})})
ZEROS = b"\0" * (66 << 20)
BOMB = gzip.compress(ZEROS)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("x.zip", zipped({"../a.csv": b"1"}), "x.zip: its member '../a.csv' has a path that leads out"),
        ("x.zip", zipped({"a/../../b.csv": b"1"}), "leads out"),
        ("x.zip", zipped({"/etc/a.csv": b"1"}), "leads out"),
        ("x.zip", zipped({"C:/a.csv": b"1"}), "leads out"),
        ("x.zip", zipped({"a\\..\\..\\b.csv": b"1"}), "leads out"),
        ("x.zip", zipped({"a.csv": b"/etc/passwd"}, external_attr=(stat.S_IFLNK | 0o777) << 16), "'a.csv' is a link or a device"),
        ("x.zip", encrypted(), "x.zip: its member 'a.csv' is encrypted; send it without a password"),
        ("x.zip", twice(), "x.zip: its member 'a.csv' is there twice"),
        ("x.zip", THREE, "x.zip/b.zip/c.zip: archives are nested deeper than 2"),
        ("x.zip", zipped({"a.csv": b"1"})[:-30], "x.zip: its zip archive can't be read"),
        ("x.zip", b"k,v\na,1\n", "x.zip: its zip archive can't be read"),
        ("x.csv.gz", gzip.compress(b"1", mtime=0)[:-3], "x.csv.gz: the gzip data is cut off"),
        ("x.csv.gz", b"k,v\n", "x.csv.gz: damaged gzip data"),
        ("x.csv.gz", BOMB, "x.csv.gz: its .* bytes expand to more than 250 times as many"),
        ("x.zip", zipped({"a.csv": ZEROS}), "x.zip: its .* bytes expand to more than 250 times as many"),
        ("x.zip", zipped({"a.csv.gz": BOMB}), "x.zip/a.csv.gz: its .* bytes expand to more than 250 times as many"),
    ],
)  # fmt: skip
def test_what_could_harm_is_refused_whole_by_name(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    with pytest.raises(WrongInput, match=says):
        unpacked(tmp_path, name, content)


def test_an_archive_has_no_more_bytes_and_members_than_the_limits_allow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = zipped({"a.csv": os.urandom(2000), "b.csv": os.urandom(2000)})
    with pytest.raises(WrongInput, match=r"x\.zip: it expands to more than 3,072 bytes"):
        unpacked(tmp_path, "x.zip", content, Limits.model_validate({"bytes": "3KiB"}))
    monkeypatch.setattr(unpacking, "MEMBERS_MAX", 1)
    with pytest.raises(WrongInput, match=r"x\.zip: it has more than 1 files"):
        unpacked(tmp_path, "x.zip", content)
    monkeypatch.setattr(unpacking, "DIRECTORY_BYTES_MAX", 60)
    with pytest.raises(WrongInput, match=r"x\.zip: its list of members takes 102 bytes"):
        unpacked(tmp_path, "x.zip", content)
    large = bytearray(content)
    large[-22 + 12 : -22 + 16] = b"\xff" * 4
    record = (
        b"PK\x06\x06"
        + struct.pack("<QHHLLQQQQ", 44, 45, 45, 0, 0, 2, 2, 90, 0)
        + b"PK\x06\x07"
        + struct.pack("<LQL", 0, len(large) - 22, 1)
    )
    with pytest.raises(WrongInput, match=r"x\.zip: its list of members takes 90 bytes"):
        unpacked(tmp_path, "x.zip", bytes(large[:-22] + record + large[-22:]))


def test_a_file_that_is_still_being_written_is_taken_later(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"1")
    with pytest.raises(TryAgain, match=r"a\.csv: the file is still being written"), unchanged("a.csv", path):
        path.write_bytes(b"12")
    with pytest.raises(TryAgain, match=r"a\.csv: the file is gone"), unchanged("a.csv", path):
        path.unlink()


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_a_damaged_archive_gives_its_files_or_an_error_with_its_name(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    content = bytearray(zipped({"a.csv": b"k,v\na,1\n" * 20, "b.csv.gz": gzip.compress(b"k,v\n")}))
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(content)))
    try:
        unpacked(tmp_path_factory.mktemp("fuzz"), "x.zip", bytes(content[: cut or None]))
    except WrongInput as error:
        assert str(error).startswith("x.zip")  # noqa: PT017
