"""Names that no object of a store may have."""

from __future__ import annotations

hostile_names = [
    "",
    "/",
    "/etc/passwd",
    "../x",
    "a/../../x",
    "a//b",
    "a/",
    "./a",
    "a/.",
    "a\\b",
    "a/..",
    "..",
    "tmp",
    "tmp/x",
    "a\x00b",
    "a\nb",
    "\x7f",
    "x" * 241,
    "/".join(["x" * 100] * 11),
    chr(0xD800),  # half a surrogate pair
    "é" * 121,
]
