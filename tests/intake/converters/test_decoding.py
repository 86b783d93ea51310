"""Encodings: a file becomes UTF-8 exactly, or is refused with the byte."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recon.config.settings import Limits
from recon.errors import WrongInput
from recon.intake.converters import Received, decoding
from recon.intake.converters.decoding import decode, propose_encoding


def decoded(folder: Path, content: bytes, encoding: str) -> bytes:
    path = folder / "received"
    path.write_bytes(content)
    return decode(Received("a.csv", path), encoding, folder, Limits()).path.read_bytes()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "latin-1", "cp1252", "cp437", "shift_jis"])
def test_text_of_any_encoding_becomes_utf8_without_a_mark(tmp_path: Path, encoding: str) -> None:
    text = "k,v\r\na,1\n" if encoding in ("shift_jis", "cp437") else "k,v\r\nä,1\n"
    assert decoded(tmp_path, text.encode(encoding), encoding) == text.encode()


@pytest.mark.parametrize(("mark", "encoding"), [(b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be")])
def test_a_byte_order_mark_is_not_text(tmp_path: Path, mark: bytes, encoding: str) -> None:
    assert decoded(tmp_path, mark + "k,v\n".encode(encoding), encoding) == b"k,v\n"


def test_utf8_is_not_copied(tmp_path: Path) -> None:
    path = tmp_path / "received"
    path.write_bytes("ä".encode())
    assert decode(Received("a.csv", path), "utf-8", tmp_path, Limits()).path == path


@pytest.mark.parametrize(
    ("content", "encoding", "says"),
    [
        (b"k,v\na,\xe4\n", "utf-8", r"a.csv: byte 6 \(line 2\): e4 0a is not utf-8 \(invalid continuation byte\)"),
        (b"k,v\na,\xe4", "utf-8", r"a.csv: byte 6 \(line 2\): e4 is not utf-8 \(unexpected end of data\)"),
        (b"k\nv\na,\x81", "cp1252", r"a.csv: byte 6 \(line 3\): 81 is not cp1252"),
        ("k\n".encode("utf-16-le") + b"\x00\xd8a\0", "utf-16-le", r"a.csv: byte 4 \(line 2\)"),
        ("k\n".encode("utf-16") + b"a", "utf-16", r"a.csv: byte 6 \(line 2\): 61 is not utf-16"),
        ("k\n".encode("utf-16-le"), "utf-16", "a.csv: byte 0: there is no byte order mark"),
        ("k\n".encode("utf-16"), "utf-8", "a.csv: byte 0: it begins with the byte order mark of utf-16"),
        (b"\xef\xbb\xbfk", "cp1252", "a.csv: byte 0: it begins with the byte order mark of utf-8"),
        (b"a\n+2D0-", "utf-7", "a.csv: line 2: half of a surrogate pair"),
    ],
)
def test_what_does_not_decode_is_refused_with_its_byte_and_line(tmp_path: Path, content: bytes, encoding: str, says: str) -> None:
    with pytest.raises(WrongInput, match=says):
        decoded(tmp_path, content, encoding)


@settings(max_examples=100, deadline=None)
@given(content=st.binary(max_size=40), encoding=st.sampled_from(["utf-8", "utf-16-le", "cp1252", "latin-1"]), size=st.integers(1, 9))
def test_any_bytes_decode_as_python_says_whatever_the_blocks(content: bytes, encoding: str, size: int) -> None:
    original = decoding.BLOCK_BYTES
    decoding.BLOCK_BYTES = size
    try:
        with tempfile.TemporaryDirectory() as folder:
            try:
                found = decoded(Path(folder), content, encoding).decode("utf-8")
            except WrongInput as error:
                if "byte order mark" in str(error):
                    return
                with pytest.raises(UnicodeDecodeError) as wrong:
                    content.decode(encoding)
                assert f"byte {wrong.value.start} " in str(error)  # noqa: PT017
            else:
                assert found == content.decode(encoding).removeprefix("\ufeff")
    finally:
        decoding.BLOCK_BYTES = original


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "cp1252"])
def test_an_encoding_is_proposed(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(("Größe,Betrag in €,Straße\n" * 20).encode(encoding))
    assert propose_encoding(path) == encoding
