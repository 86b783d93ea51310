"""The fast way of a merge: keys that are new, or to which the newest window arrives, without duplicates across windows.

Their records are made by arithmetic on columns of words; DuckDB only judges the new measures. All other keys take the general way, in
``merge``. Both give equal bytes: docs/decisions/022-records-as-words.md.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recon.config import Config
from recon.config.form import MIXED, form_of
from recon.engines.duckdb import carried_forward, contributions, reduce
from recon.engines.duckdb.reduce import measure
from recon.model.form import TEXT, Form
from recon.records.append import Append, Arriving, can_append, last_at, sharing_ids
from recon.records.columns import Column, array_of, arrow_type, flat, minutes, numbers
from recon.records.decode import Decoder
from recon.records.encode import Encoder, bytes_of
from recon.records.ranges import Bools, Ints, Words, ranges, summed
from recon.records.stored import Stored
from recon.records.tables import header_columns, ids_of, reduced_rows, reduced_slots, status_codes
from recon.storage import parquet

if TYPE_CHECKING:
    import duckdb


@dataclass(frozen=True)
class Quick:
    """The records of a slice that took the fast way: first those of new keys, then those that were appended to. ``length``: words of each.
    ``statuses``: change in the number of artifacts by status. ``arrived``: their reduced artifacts. ``arriving`` and ``places``: what is
    left for the general way, reduced artifacts and existing records."""

    hi: Any
    lo: Any
    length: Ints
    statuses: dict[str, int]
    arrived: pa.Table
    arriving: pa.Table
    places: Ints
    new: Encoder
    append: Append
    status: Ints
    slots: list[Column]

    def write(self, out: Words, start: Ints) -> None:
        """Writes each record at its ``start`` in ``out``, which is zero there."""
        count = len(self.new.length)
        self.new.write(out, start[:count])
        self.append.write(out, start[count:], self.status, self.slots)


def is_quick(config: Config, windows: int) -> bool:
    """Whether keys can take the fast way: a single window arrives, and the rules have no user logic, text or time."""
    return windows == 1 and not config.logic and can_append(form_of(config))


def find(
    connection: duckdb.DuckDBPyConnection, config: Config, artifacts: Mapping[str, Path], stored: Stored, bounds: tuple[int, int]
) -> Quick:
    """Makes the records of all keys that can take the fast way. ``artifacts``: the reduced artifacts of a single window."""
    form = form_of(config)
    ((window, path),) = artifacts.items()
    arriving = _read(path, bounds)
    keys = _Keys(config, form, stored, arriving, int(minutes(pa.array([window]))[0]))
    new = keys.new()
    old, rows = keys.appended()
    append = keys.append(old, rows)
    totals, wide = append.totals()
    judged = _judge(connection, config, form, arriving.take(pa.array(new)), totals)
    slots = [column.take(np.arange(len(new), judged.num_rows)) for column in header_columns(form, judged)]
    for column in slots:
        wide |= False if (found := column.is_wide) is None else found
    if wide.any():
        kept = np.flatnonzero(~wide)
        old, rows, slots = old[kept], rows[kept], [column.take(kept) for column in slots]
        judged = judged.take(pa.array(np.concatenate([np.arange(len(new)), len(new) + kept])))
        append = keys.append(old, rows)
    status = status_codes(form, judged.column("status"))
    encoder = Encoder(form, reduced_rows(form, _beside(arriving.take(pa.array(new)), judged.slice(0, len(new))), keys.window))
    taken = np.concatenate([new, rows])
    return Quick(
        hi=keys.hi[taken],
        lo=keys.lo[taken],
        length=np.concatenate([encoder.length, append.length]),
        statuses=_status_changes(form, status, stored.words[stored.start[old] + 1]),
        arrived=arriving.take(pa.array(taken)),
        arriving=arriving.take(pa.array(_others(len(keys.hi), taken))),
        places=_others(len(stored.hi), old),
        new=encoder,
        append=append,
        status=status[len(new) :],
        slots=slots,
    )


def _read(path: Path, bounds: tuple[int, int]) -> pa.Table:
    """The reduced artifacts with bounds[0] ≤ hi < bounds[1], in order of hash."""
    first, last = (pa.scalar(bound, pa.uint64()) for bound in (bounds[0], bounds[1] - 1))
    return parquet.read(path, None, (pc.field("hi") >= first) & (pc.field("hi") <= last))


def _others(count: int, rows: Ints) -> Ints:
    left = np.ones(count, bool)
    left[rows] = False
    return np.flatnonzero(left)


class _Keys:
    """The keys of a slice, and which of them can take the fast way."""

    def __init__(self, config: Config, form: Form, stored: Stored, arriving: pa.Table, window: int) -> None:
        self._config, self._form, self._stored, self._arriving, self.window = config, form, stored, arriving, window
        self.hi, self.lo = (arriving.column(name).to_numpy() for name in ("hi", "lo"))
        self._n = numbers(flat(arriving.column("n")))
        ids = flat(arriving.column("ids"))
        self._contributions = Arriving(window, self._n, numbers(pc.list_value_length(ids)), ids_of(ids), reduced_slots(form, arriving))
        # A key with very many events has no list of ids, and several currencies are never added up.
        self._fits = (self._n <= reduce.IDS_MAX) & self._single_currency()
        self._old, self._rows, self._new = self._paired()

    def new(self) -> Ints:
        """Rows of new keys."""
        return self._new[self._fits[self._new]]

    def appended(self) -> tuple[Ints, Ints]:
        """Places of existing records and rows of the same keys, where the arriving contribution can be appended."""
        some = self._fits[self._rows]
        old, rows = self._old[some], self._rows[some]
        for check in (self._plain, self._alike):
            some = check(Decoder(self._form, self._stored.words, self._stored.start[old]), rows)
            old, rows = old[some], rows[some]
        return old, rows

    def append(self, old: Ints, rows: Ints) -> Append:
        """Appends the contributions of ``rows`` to the records at ``old``."""
        decoder = Decoder(self._form, self._stored.words, self._stored.start[old])
        return Append(self._form, self._stored.words, decoder, self._contributions.take(rows))

    def _paired(self) -> tuple[Ints, Ints, Ints]:
        """Places of existing records with the rows of the same hash, and the rows of other hashes. Leaves out each ``hi`` that occurs
        twice on one side, or with two ``lo``."""
        at = np.searchsorted(self._stored.hi, self.hi)
        near = np.minimum(at, max(len(self._stored.hi) - 1, 0))
        same = self._stored.hi[near] == self.hi if len(self._stored.hi) else np.zeros(len(self.hi), bool)
        twins = same & (self._stored.lo[near] != self.lo) if len(self._stored.hi) else same
        unusual = [side[1:][side[1:] == side[:-1]] for side in (self.hi, self._stored.hi)] + [self.hi[twins]]
        usual = ~np.isin(self.hi, np.concatenate(unusual))
        rows = np.flatnonzero(same & usual)
        return near[rows], rows, np.flatnonzero(~same & usual)

    def _plain(self, old: Decoder, rows: Ints) -> Bools:
        """Whether nothing but contributions, ids and currencies is in a record, and all its windows are before the arriving one."""
        some = (old.flags & ~TEXT == 0) & (old.kept > 0) & (old.kept < carried_forward.FOLD_MIN)
        newest = old.words[np.where(some, last_at(old), 0)].astype(np.uint32).view(np.int32)
        return np.asarray(some & (newest < self.window))

    def _alike(self, old: Decoder, rows: Ints) -> Bools:
        """Whether a record has the row's key and currency, and shares no id with it. The record is plain."""
        config, arriving = self._config, self._contributions.take(rows)
        keys = flat(self._arriving.column("key")).take(pa.array(rows)).cast(pa.large_string())
        some = _equal_texts(old.words, old.key_at() * 8, old.key_bytes, keys)
        if config.events.currency:
            mixed = 1 + (self._form.statuses or ()).index(MIXED)
            slot = old.words[last_at(old) + 2 + self._form.far_words].view(np.int64)
            text = arriving.slots[0].text
            some &= (old.status != mixed) & _equal_texts(old.words, 8 * (old.text_at + 1) + (slot & 0xFFFFFFFF), slot >> 32, text)
        if config.events.id:
            some &= (old.events() + arriving.n <= reduce.IDS_MAX) & ~sharing_ids(old, arriving)
        return np.asarray(some)

    def _single_currency(self) -> Bools:
        if not self._form.currency:
            return np.ones(len(self.hi), bool)
        return np.asarray(numbers(pc.list_value_length(flat(self._arriving.column("u")))) == 1)


def _equal_texts(words: Words, at: Ints, size: Ints, texts: Any) -> Bools:
    """Whether the bytes at ``at`` in ``words`` are these texts."""
    content, bounds = bytes_of(texts)
    equal = np.diff(bounds) == size
    rows = np.flatnonzero(equal)
    differ = words.view(np.uint8)[ranges(at[rows], size[rows])] != content[ranges(bounds[rows], size[rows])]
    equal[rows] = summed(differ, size[rows]) == 0
    return np.asarray(equal)


def _judge(connection: duckdb.DuckDBPyConnection, config: Config, form: Form, new: pa.Table, totals: list[Column]) -> pa.Table:
    """m_<name>, x_<name> and status of new keys, whose measures are those of their only contribution, and then of ``totals``."""
    columns = {}
    for item, total in zip(form.measures, totals, strict=True):
        kind = arrow_type(item)
        columns[f"m_{item.name}"] = pa.chunked_array([*new.column(f"m_{item.name}").cast(kind).chunks, array_of(item, total).cast(kind)])
    values = pa.table(columns)
    connection.register("quick_values", values.append_column("place", pa.array(np.arange(values.num_rows))))
    names = ", ".join(measure(item.name) for item in config.measures)
    judged = connection.sql(contributions.judged(config, f"SELECT place, {names} FROM quick_values")).to_arrow_table()
    connection.unregister("quick_values")
    place = judged.column("place").to_numpy()
    return judged if (np.diff(place) == 1).all() else judged.take(pa.array(np.argsort(place)))


def _beside(table: pa.Table, judged: pa.Table) -> pa.Table:
    """Reduced artifacts with the columns that ``_judge`` adds."""
    for name in judged.column_names:
        if name == "status" or name.startswith("x_"):
            table = table.append_column(name, judged.column(name))
    return table


def _status_changes(form: Form, status: Ints, before: Words) -> dict[str, int]:
    """Change in the number of artifacts by status. ``before``: the second words of the records that were appended to."""
    names = ["", *(form.statuses or ())]
    change: Counter[str] = Counter()
    for codes, sign in ((status, 1), ((before.view(np.int64) >> 32) & 0xFFFF, -1)):
        for code, count in enumerate(np.bincount(codes, minlength=len(names)).tolist()):
            change[names[code]] += sign * count
    return {name: count for name, count in change.items() if count}
