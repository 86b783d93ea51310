"""Reads a YAML file and remembers the line of each field.

Every value is the text as written, quoted or not, so that nothing is guessed: ``NO``, ``0.10`` and ``2026-11-01`` stay what they are. The
sections read numbers, true and false from that text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from recon.errors import WrongUsage

BYTES_MAX = 1_000_000
DEPTH_MAX = 20
FieldPath = tuple[str | int, ...]


@dataclass(frozen=True)
class File:
    """A file's content and the line of each field."""

    path: Path
    content: dict[str, Any]
    lines: dict[FieldPath, int]

    def place(self, field: FieldPath) -> str:
        """``recon.yaml:12`` of the field, or of the nearest section around it that is written."""
        for size in range(len(field), 0, -1):
            if field[:size] in self.lines:
                return f"{self.path}:{self.lines[field[:size]]}"
        return str(self.path)


def dotted(field: Sequence[str | int]) -> str:
    """``("status", 0, "OK")`` → ``status[0].OK``."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in field).lstrip(".")


EXAMPLE = "see 'recon init DIR' for an example"
MISSING = "name it with --config, or make one with 'recon init DIR'"


def read(path: Path, example: str = EXAMPLE, missing: str = MISSING) -> File:
    """Reads the file. Raises WrongUsage if it is no YAML mapping, repeats a name, or uses anchors. ``example``, ``missing``: the next step
    for a file that has no sections, and for one that is not there."""
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise WrongUsage(f"{path}: no such file; {missing}") from None
    except IsADirectoryError:
        raise WrongUsage(f"{path}: this is a folder; name the file in it, such as {path / 'recon.yaml'}") from None
    except OSError as error:
        raise WrongUsage(f"{path}: cannot be read ({error.strerror or error})") from None
    if len(raw) > BYTES_MAX:
        raise WrongUsage(f"{path}: {len(raw)} bytes are too many for a configuration; at most {BYTES_MAX}")
    lines: dict[FieldPath, int] = {}
    try:
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(raw)
        try:
            document = loader.get_single_node()
        finally:
            loader.dispose()
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        place = f"{path}:{mark.line + 1}" if mark else str(path)
        raise WrongUsage(f"{place}: not YAML: {problem}; check quotes, colons and indentation") from None
    if not isinstance(document, yaml.MappingNode):
        raise WrongUsage(f"{path}: expected sections, each with its name; {example}")
    return File(path, _constructed(path, document, (), lines, set()), lines)


def _constructed(path: Path, node: yaml.Node, field: FieldPath, lines: dict[FieldPath, int], seen: set[int]) -> Any:
    line = node.start_mark.line + 1
    lines.setdefault(field, line)
    if id(node) in seen or len(field) > DEPTH_MAX:
        raise WrongUsage(f"{path}:{line}: {dotted(field)}: anchors, aliases and deep nesting are not used here; write it out")
    seen.add(id(node))
    if isinstance(node, yaml.ScalarNode):
        return node.value
    if isinstance(node, yaml.SequenceNode):
        return [_constructed(path, item, (*field, index), lines, seen) for index, item in enumerate(node.value)]
    content: dict[str, Any] = {}
    for key, value in node.value:
        inner = (*field, str(key.value))
        if not isinstance(key, yaml.ScalarNode):
            raise WrongUsage(f"{path}:{key.start_mark.line + 1}: {dotted(field)}: a name is plain text, not a list or section")
        if key.value in content:
            raise WrongUsage(f"{path}:{key.start_mark.line + 1}: {dotted(inner)} is there twice, first in line {lines[inner]}")
        lines[inner] = key.start_mark.line + 1
        content[key.value] = _constructed(path, value, inner, lines, seen)
    return content
