"""The existing records of a slice of the keys, as words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from recon.model.form import Form
from recon.records.columns import words_of
from recon.records.decode import decode
from recon.records.ranges import Bools, Ints, Words, ranges, summed


@dataclass(frozen=True)
class Stored:
    """Existing records in order of hash: their words one behind another, and where each begins."""

    hi: Any
    lo: Any
    words: Words
    start: Ints
    length: Ints

    @staticmethod
    def of(existing: pa.Table) -> Stored:
        """``existing``: hi, lo, record."""
        hi, lo = (existing.column(name).to_numpy() for name in ("hi", "lo"))
        return Stored(hi, lo, *words_of(existing.column("record")))

    def equal(self, places: Ints, words: Words, start: Ints, length: Ints) -> Bools:
        """Whether each of the records at ``start`` in ``words`` is equal to the one at its place; False for the place -1."""
        same = places >= 0
        same[same] = self.length[places[same]] == length[same]
        rows = np.flatnonzero(same)
        differ = self.words[ranges(self.start[places[rows]], length[rows])] != words[ranges(start[rows], length[rows])]
        same[rows] = summed(differ, length[rows]) == 0
        return same

    def table(self, form: Form, places: Ints) -> pa.Table:
        """Some records as a table: hi, lo, ``place``, and the columns of ``recon.records.decode``."""
        decoded = decode(form, self.words, self.start[places])
        for name, column in {"hi": self.hi[places], "lo": self.lo[places], "place": places}.items():
            decoded = decoded.append_column(name, pa.array(column))
        return decoded
