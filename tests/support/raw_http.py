"""HTTP byte by byte, for what no client would send."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

WAIT_S = 120.0


def connection(url: str) -> socket.socket:
    """A connection to a server."""
    host, _, port = url.removeprefix("http://").partition(":")
    return socket.create_connection((host, int(port)), WAIT_S)


def exchange(url: str, pieces: Iterable[bytes], *, shut: bool = False) -> bytes:
    """All that a server answers to some bytes, until it closes the connection. ``shut``: send the end after them."""
    with connection(url) as sending:
        with suppress(BrokenPipeError, ConnectionResetError):
            for piece in pieces:
                sending.sendall(piece)
        if shut:
            sending.shutdown(socket.SHUT_WR)
        return received(sending)


def received(connected: socket.socket, upto: bytes | None = None) -> bytes:
    """What a server sends until some bytes are there, or until it closes the connection."""
    found = b""
    with suppress(ConnectionResetError):
        while (upto is None or upto not in found) and (piece := connected.recv(65_536)):
            found += piece
    return found


def answer(found: bytes) -> tuple[int, dict[str, str], Any]:
    """Status, headers and JSON of an answer."""
    head, _, body = found.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return int(first.split()[1]), headers, json.loads(body)
