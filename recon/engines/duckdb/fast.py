"""The fast way of a merge: keys to which contributions arrive, or whose contributions are replaced, without duplicates across windows.

Their records are made by arithmetic on columns; DuckDB only judges the new measures. All other keys take the general way, in ``merge``.
Both give equal bytes: docs/decisions/022-records-as-words.md.
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
from recon.config.form import form_of
from recon.engines.duckdb import carried_forward, contributions, reduce
from recon.engines.duckdb.reduce import measure
from recon.model.form import TEXT, WIDE, Form
from recon.records.columns import Column, Rows, array_of, column_of, flat, minutes, numbers
from recon.records.contributions import Contributions, joined, of_records, sharing_ids, totals
from recon.records.decode import Decoder
from recon.records.encode import Encoder, encode
from recon.records.ranges import Bools, Ints, Words, before
from recon.records.stored import Stored
from recon.records.tables import ids_of, reduced_slots, status_codes
from recon.storage import parquet

if TYPE_CHECKING:
    import duckdb


@dataclass(frozen=True)
class Fast:
    """The keys of a slice that took the fast way. ``records``: those that change, in order of hash. ``statuses``: change in the number of
    artifacts by status. ``arrived``: their reduced artifacts. ``arriving`` and ``places``: what is left for the general way, reduced
    artifacts and existing records. Reduced artifacts have their window in the column ``w``."""

    hi: Any
    lo: Any
    records: Encoder
    statuses: dict[str, int]
    arrived: pa.Table
    arriving: pa.Table
    places: Ints


def is_fast(config: Config) -> bool:
    """Whether keys can take the fast way: the rules have no user logic, and no measure or derived value is a text or depends on a time."""
    return not config.logic and not any(item.type == "text" or item.is_timed for item in form_of(config).slots)


def find(
    connection: duckdb.DuckDBPyConnection, config: Config, artifacts: Mapping[str, Path], stored: Stored, bounds: tuple[int, int]
) -> Fast:
    """Makes the records of all keys that can take the fast way. ``artifacts``: the reduced artifacts of each window of the range."""
    form = form_of(config)
    arriving = pa.concat_tables([_read(window, artifacts[window], bounds) for window in sorted(artifacts)])
    keys = _Keys(form, stored, arriving)
    found = _contributions(config, form, keys, minutes(pa.array(sorted(artifacts))))
    measures, wide = totals(form, found, found.kept)
    if wide.any():
        measures = [column.take(np.flatnonzero(~wide)) for column in measures]
        found = found.take(np.flatnonzero(~np.repeat(wide, found.kept)))
    judged = _judge(connection, config, form, measures)
    derived = [column_of(item, flat(judged.column(f"x_{item.name}"))) for item in form.derived]
    records = found.of[before(found.kept)]
    made = _Made(
        records, keys.key.take(pa.array(keys.first[records])), status_codes(form, judged.column("status")), measures + derived, found
    )
    old = keys.old[records]
    statuses = _status_changes(form, made.status, stored.words[stored.start[old[old >= 0]] + 1])
    encoder = Encoder(form, made.rows())
    equal = made.equal(form, stored, old, encoder.length)
    if equal.any():
        made = made.take(np.flatnonzero(~equal))
        encoder = Encoder(form, made.rows())
    taken = np.zeros(len(keys.first), bool)
    taken[records] = True
    of_records, of_arriving = np.split(taken[keys.number], [len(stored.hi)])
    return Fast(
        hi=keys.hi[keys.first[made.records]],
        lo=keys.lo[keys.first[made.records]],
        records=encoder,
        statuses=statuses,
        arrived=arriving.filter(pa.array(of_arriving)),
        arriving=arriving.filter(pa.array(~of_arriving)),
        places=np.flatnonzero(~of_records),
    )


@dataclass(frozen=True)
class _Made:
    """New records as columns. ``records``: their numbers; ``slots``: of the headers; ``found``: their contributions."""

    records: Ints
    key: pa.LargeStringArray
    status: Ints
    slots: list[Column]
    found: Contributions

    def take(self, rows: Ints) -> _Made:
        """Some records, in order."""
        some = np.zeros(len(self.records), bool)
        some[rows] = True
        found = self.found.take(np.flatnonzero(np.repeat(some, self.found.kept)))
        slots = [column.take(rows) for column in self.slots]
        return _Made(self.records[rows], self.key.take(pa.array(rows)), self.status[rows], slots, found)

    def rows(self) -> Rows:
        found, zeros = self.found, np.zeros(len(self.records), np.int64)
        return Rows(
            key=self.key.cast(pa.large_binary()),
            status=self.status,
            slots=self.slots,
            kept=found.kept,
            window=found.window,
            n=found.n,
            d=np.zeros(len(found.of), np.int64),
            c_slots=found.slots,
            c_ids=found.counts,
            ids=found.ids,
            withdrawn=zeros,
            gone=zeros[:0],
        )

    def equal(self, form: Form, stored: Stored, old: Ints, length: Ints) -> Bools:
        """Which records, of ``length`` words, are equal to those at ``old``, of which -1 is none. With one more window none is."""
        equal = np.zeros(len(old), bool)
        alike = np.flatnonzero(old >= 0)
        alike = alike[stored.length[old[alike]] == length[alike]]
        if len(alike):
            equal[alike] = stored.equal(old[alike], *encode(form, self.take(alike).rows()))
        return equal


def _read(window: str, path: Path, bounds: tuple[int, int]) -> pa.Table:
    """The reduced artifacts with bounds[0] ≤ hi < bounds[1], in order of hash."""
    first, last = (pa.scalar(bound, pa.uint64()) for bound in (bounds[0], bounds[1] - 1))
    table = parquet.read(path, None, (pc.field("hi") >= first) & (pc.field("hi") <= last))
    return table.append_column("w", pa.repeat(pa.scalar(window), table.num_rows))


class _Keys:
    """The keys of a slice, numbered by their hashes. ``hi``, ``lo``, ``key`` and ``number``: of existing records, then of arriving rows.
    ``first``: the first of them of each number; ``old``: the place of its existing record, -1 for none. ``usual``: which numbers may take
    the fast way. Their arriving rows are of different windows, and all of one key."""

    def __init__(self, form: Form, stored: Stored, arriving: pa.Table) -> None:
        count = len(stored.hi)
        self.stored, self.arriving = stored, arriving
        self.hi, self.lo = (np.concatenate([getattr(stored, name), arriving.column(name).to_numpy()]) for name in ("hi", "lo"))
        decoder = Decoder(form, stored.words, stored.start)
        self.key = pa.concat_arrays([decoder.keys().cast(pa.large_string()), flat(arriving.column("key")).cast(pa.large_string())])
        self.windows = minutes(flat(arriving.column("w")))
        order = np.argsort(self.hi, kind="stable")
        same = np.zeros(len(order), bool)
        same[1:] = self.hi[order[1:]] == self.hi[order[:-1]]
        self.number = np.empty(len(order), np.int64)
        self.number[order] = np.cumsum(~same) - 1
        self.first = order[~same]
        self.old = np.where(self.first < count, self.first, -1)
        self.usual = np.ones(len(self.first), bool)
        self._leave_out(order, same)
        plain = (decoder.flags & ~(TEXT | WIDE) == 0) & (decoder.kept > 0)
        self.usual[self.number[:count][~plain]] = False
        self.usual[self.number[count:][~_fits(form, arriving)]] = False
        self.usual[np.bincount(self.number[count:], minlength=len(self.first)) == 0] = False

    def _leave_out(self, order: Ints, same: Bools) -> None:
        """Leaves out hashes of which two rows have different keys, or come from one place: the records, or a window."""
        later = np.flatnonzero(same)
        one, other = order[later - 1], order[later]
        source = np.concatenate([np.full(len(self.stored.hi), np.iinfo(np.int64).min), self.windows])
        twin = (self.lo[one] != self.lo[other]) | (source[one] == source[other])
        twin |= ~np.asarray(pc.equal(self.key.take(pa.array(one)), self.key.take(pa.array(other))).to_numpy(zero_copy_only=False))
        self.usual[self.number[other[twin]]] = False


def _fits(form: Form, arriving: pa.Table) -> Bools:
    """Which arriving rows have a list of ids, and a single currency: several are never added up."""
    fits = numbers(flat(arriving.column("n"))) <= reduce.IDS_MAX
    if form.currency:
        fits &= numbers(pc.list_value_length(flat(arriving.column("u")))) == 1
    return np.asarray(fits)


def _contributions(config: Config, form: Form, keys: _Keys, ranged: Ints) -> Contributions:
    """The contributions, after the merge, of the keys that can take the fast way. ``ranged``: the windows of the range."""
    count, usual = len(keys.stored.hi), keys.usual
    places = np.flatnonzero(usual[keys.number[:count]])
    old = of_records(Decoder(form, keys.stored.words, keys.stored.start[places]), keys.number[places])
    rows = np.flatnonzero(usual[keys.number[count:]])
    new = _arrived(form, keys, rows)
    wrong = np.zeros(len(usual), bool)
    replaced = np.isin(old.window, ranged)
    if replaced.any():
        # The record lists a window that contributed and no longer does: the general way.
        wrong[old.of[replaced][~_among(old.place[replaced], new.place)]] = True
        old = old.take(np.flatnonzero(~replaced))
    for side in (old, new):
        wrong[side.of[side.is_wide]] = True
    found = joined(old.narrow(), new.narrow())
    wrong |= np.bincount(found.of, minlength=len(usual)) > carried_forward.FOLD_MIN
    if form.currency:
        code = pc.dictionary_encode(found.slots[0].text).indices.to_numpy()
        wrong[found.of[1:][(found.of[1:] == found.of[:-1]) & (code[1:] != code[:-1])]] = True
    if config.events.id:
        wrong |= np.bincount(found.of, found.n, minlength=len(usual)) > reduce.IDS_MAX
        wrong |= sharing_ids(found, len(usual))
    return found.take(np.flatnonzero(~wrong[found.of])) if wrong.any() else found


def _among(values: Ints, others: Ints) -> Bools:
    """Which values are among the others, of which there is at least one."""
    ordered = np.sort(others)
    return np.asarray(ordered[np.minimum(np.searchsorted(ordered, values), len(ordered) - 1)] == values)


def _arrived(form: Form, keys: _Keys, rows: Ints) -> Contributions:
    """The contributions in some of the arriving rows."""
    number = keys.number[len(keys.stored.hi) :]
    table = keys.arriving if len(rows) == keys.arriving.num_rows else keys.arriving.take(pa.array(rows))
    ids = flat(table.column("ids"))
    n, counts = numbers(flat(table.column("n"))), numbers(pc.list_value_length(ids))
    return Contributions(number[rows], keys.windows[rows], n, counts, ids_of(ids), reduced_slots(form, table))


def _judge(connection: duckdb.DuckDBPyConnection, config: Config, form: Form, totals: list[Column]) -> pa.Table:
    """m_<name>, x_<name> and status of records with these measures."""
    columns = {f"m_{item.name}": array_of(item, total) for item, total in zip(form.measures, totals, strict=True)}
    values = pa.table(columns)
    connection.register("fast_values", values.append_column("place", pa.array(np.arange(values.num_rows))))
    names = ", ".join(measure(item.name) for item in config.measures)
    judged = connection.sql(contributions.judged(config, f"SELECT place, {names} FROM fast_values")).to_arrow_table()
    connection.unregister("fast_values")
    place = judged.column("place").to_numpy()
    return judged if (np.diff(place) == 1).all() else judged.take(pa.array(np.argsort(place)))


def _status_changes(form: Form, status: Ints, old: Words) -> dict[str, int]:
    """Change in the number of artifacts by status. ``old``: the second words of the existing records."""
    names = ["", *(form.statuses or ())]
    change: Counter[str] = Counter()
    for codes, sign in ((status, 1), ((old.view(np.int64) >> 32) & 0xFFFF, -1)):
        for code, count in enumerate(np.bincount(codes, minlength=len(names)).tolist()):
            change[names[code]] += sign * count
    return {name: count for name, count in change.items() if count}
