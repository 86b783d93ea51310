"""Patterns of file names: ``IL-{store}.tdf``, ``bank_{day}_*.csv``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

from recon.config.fields import mistake

_TOKEN = re.compile(r"\{([A-Za-z_]\w*)\}|(\*)|(\?)|([^{}*?]+)|(.)")


@dataclass(frozen=True)
class NamePattern:
    """``*`` is any text, ``?`` one character, ``{part}`` a named text of at least one character; as short as the rest allows."""

    text: str

    @cached_property
    def _regex(self) -> re.Pattern[str]:
        made, seen = "", set()
        for part, star, question, plain, other in _TOKEN.findall(self.text):
            if other:
                raise mistake(f"{self.text!r}: {other!r} is not part of a name such as {{day}}", "files")
            if part in seen:
                raise mistake(f"{self.text!r} has {{{part}}} twice; name each part once", "files")
            seen |= {part} - {""}
            made += f"(?P<{part}>.+?)" if part else ".*?" if star else "." if question else re.escape(plain)
        return re.compile(made, re.DOTALL)

    @property
    def parts(self) -> frozenset[str]:
        return frozenset(self._regex.groupindex)

    def match(self, name: str) -> dict[str, str] | None:
        """The parts of a file's name; None where it does not match."""
        found = self._regex.fullmatch(name)
        return None if found is None else found.groupdict()

    def without(self, name: str, part: str) -> str:
        """A name that matches, with ``{part}`` in place of that part: equal for all versions of a file."""
        found = self._regex.fullmatch(name)
        assert found is not None
        first, last = found.span(part)
        return f"{name[:first]}{{{part}}}{name[last:]}"
