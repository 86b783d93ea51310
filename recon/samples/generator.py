"""Synthetic events with known answers, written to a folder."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recon.errors import WrongUsage
from recon.model.windows import Grid, name_of, parse_duration, parse_instant
from recon.samples.generator_rows import (
    BAD_TIME,
    CURRENCIES,
    DEDUPE_DAYS,
    GOOD,
    LONG_AMOUNT,
    NO_KEY,
    STATUSES,
    TEXT_AMOUNT,
    TYPES,
    Orders,
    Rows,
    concatenated,
    draw_duplicates,
    draw_events,
    draw_rejects,
)

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    Integers = npt.NDArray[np.int64]
    Flags = npt.NDArray[np.bool_]

FORMATS = ("csv", "jsonl", "parquet")
EVENTS_MAX = 500_000_000
LINES_MAX = 1_000_000  # JSON lines made at once: a string array holds 2 GiB
SHARE_MAX = 0.3  # of duplicates and of rejects each, so that enough events are left to duplicate

_YAML = """\
# {events:,} synthetic events of {keys:,} orders in {windows:,} windows, seed {seed}.
# files.json names the files of each window, answers.json and answers.parquet what must come out.
name: generated
store: ./data
key: order_id
windows: {{start: {start}, every: {every}}}
events:
  types: {{amount: "decimal(18,2)"}}
  id: event_id
  time: booked_at
  dedupe: {dedupe}d
measures:
  billed: {{sum: amount, where: "event_type = 'INVOICE'"}}
  paid:   {{sum: amount, where: "event_type = 'PAYMENT'"}}
  lines:  {{count: "*"}}
derived:
  balance: coalesce(billed, 0) - coalesce(paid, 0)
status:
  - {{MATCHED: "balance = 0"}}
  - {{UNPAID: "paid is null"}}
  - {{BREAK: "true"}}
control: {{rows: {{count: "*"}}, amount: {{sum: amount, by: currency}}}}
"""


@dataclass(frozen=True)
class Sample:
    """What is generated: ``events`` rows of ``keys`` orders in ``windows`` windows. Duplicates and rejected rows are among the events; a
    share above 0 gives at least one, if there are three events or more. The same arguments give the same rows. Raises WrongUsage for
    arguments that are out of range or do not fit together."""

    events: int
    keys: int
    windows: int
    seed: int
    start: str = "2026-11-01T00:00Z"
    every: str = "1h"
    formats: tuple[str, ...] = FORMATS
    duplicate_share: float = 0.01
    reject_share: float = 0.001

    def __post_init__(self) -> None:
        _ = self.grid
        for name, count in (("events", self.events), ("keys", self.keys), ("windows", self.windows)):
            if not 1 <= count <= EVENTS_MAX:
                raise WrongUsage(f"{name}: {count} is not a number from 1 to {EVENTS_MAX:,}")
        if not self.formats or len(set(self.formats)) < len(self.formats) or not set(self.formats) <= set(FORMATS):
            raise WrongUsage(f"formats: {', '.join(self.formats) or 'none'}; name one or more of {', '.join(FORMATS)}, each once")
        if self.seed < 0:
            raise WrongUsage(f"seed: {self.seed} is negative; name 0 or more")
        for name, share in (("duplicate_share", self.duplicate_share), ("reject_share", self.reject_share)):
            if not 0 <= share <= SHARE_MAX:
                raise WrongUsage(f"{name}: {share} is not a share from 0 to {SHARE_MAX}")
        if self.keys > self.originals:
            raise WrongUsage(
                f"keys: {self.keys} orders need as many events, and of {self.events} only {self.originals} are neither duplicates "
                "nor rejects"
            )

    @property
    def grid(self) -> Grid:
        return Grid(parse_instant(self.start, "start"), parse_duration(self.every, "every"))

    @property
    def duplicates(self) -> int:
        return self._part(self.duplicate_share)

    @property
    def rejects(self) -> int:
        return self._part(self.reject_share)

    @property
    def originals(self) -> int:
        """The number of events that are neither duplicates nor rejected."""
        return self.events - self.duplicates - self.rejects

    def _part(self, share: float) -> int:
        return max(1, round(self.events * share)) if share > 0 and self.events > 2 else 0


def generate(sample: Sample, out: Path) -> dict[str, Any]:
    """Writes events and the results expected from them into the new folder ``out``; returns the expected results.

    The folder gets ``recon.yaml``, ``events/<window>/…`` (one file per format and window), ``files.json`` ({window: [file, …]}, in the
    windows' order), ``answers.json`` (figures per window, totals, artifacts by status; money as text, by currency) and ``answers.parquet``
    (one row per order: key, currency, status, billed, paid, lines, balance). In each window, rows = accepted + duplicates + rejected, and
    duplicates = those of the same window + those of an earlier one; the amount of a rejected row counts if it is readable.

    Raises WrongUsage if ``out`` is not empty.
    """
    import numpy as np

    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise WrongUsage(f"{out}: there is something already; name a new folder")
    grid, formats, windows = sample.grid, sample.formats, sample.windows
    draw = np.random.default_rng(sample.seed)
    originals, orders = draw_events(draw, sample.originals, sample.keys, windows, int(grid.every.total_seconds()))
    copies = draw_duplicates(draw, originals, sample.duplicates, windows, grid.every)
    bad = draw_rejects(draw, originals, sample.rejects, sample.originals)
    rows = concatenated([originals, copies, bad])
    rows = rows.take(draw.permutation(sample.events))
    shape = draw.integers(0, len(formats), sample.events)
    if "parquet" in formats:
        typed = (shape == formats.index("parquet")) & (rows.wrong != GOOD)
        rows.wrong[typed] = NO_KEY

    out.mkdir(parents=True, exist_ok=True)
    files = _write_events(out, rows, shape, orders, grid, formats)
    arguments = {name: getattr(sample, name) for name in ("events", "keys", "windows", "seed", "start", "every")}
    answers = {"arguments": arguments, **_answers(rows, orders, grid, windows)}
    _write_orders(out / "answers.parquet", orders)
    (out / "files.json").write_text(json.dumps(files, indent=1) + "\n", encoding="utf-8")
    (out / "answers.json").write_text(json.dumps(answers, indent=1) + "\n", encoding="utf-8")
    text = _YAML.format(**arguments | {"start": name_of(grid.start)}, dedupe=DEDUPE_DAYS)
    (out / "recon.yaml").write_text(text, encoding="utf-8")
    return answers


def _answers(rows: Rows, orders: Orders, grid: Grid, windows: int) -> dict[str, Any]:
    """The expected results: figures per window and in all, artifacts by status, measures over all artifacts."""
    import numpy as np

    good = rows.wrong == GOOD
    repeats = good & (rows.copy_of_window >= 0)
    earlier = repeats & (rows.copy_of_window < rows.window)
    parts = {
        "rows": good | ~good,
        "accepted": good & ~repeats,
        "duplicates": repeats,
        "duplicates_within": repeats & ~earlier,
        "duplicates_earlier": earlier,
        "rejected": ~good,
    }
    counts = {name: np.bincount(rows.window[part], minlength=windows) for name, part in parts.items()}
    amounts = {name: _by_currency(rows, part, orders, windows) for name, part in parts.items()}
    touched = np.unique(rows.window[good] * len(orders.lines) + rows.order[good]) // len(orders.lines)
    keys = np.bincount(touched, minlength=windows)

    def figures(places: Any) -> dict[str, Any]:
        sums = {name: cents[:, places].reshape(len(CURRENCIES), -1).sum(axis=1) for name, cents in amounts.items()}
        return {
            **{name: int(count[places].sum()) for name, count in counts.items()},
            "amount": {
                currency: {name: _text(int(cents[place])) for name, cents in sums.items()} for place, currency in enumerate(CURRENCIES)
            },
        }

    names = [name_of(start) for start in grid.between(grid.start, grid.at(windows - 1))]
    statuses = np.bincount(orders.statuses(), minlength=len(STATUSES))
    return {
        "windows": {name: {**figures(place), "keys": int(keys[place])} for place, name in enumerate(names)},
        "totals": figures(slice(None)),
        "artifacts": {
            "count": len(orders.lines),
            "by_status": {status: int(count) for status, count in zip(STATUSES, statuses, strict=True)},
        },
        # Over all currencies these are sums to compare with, not money; by currency they are.
        "measures": {**_money_of(orders, slice(None)), "lines": int(orders.lines.sum())},
        "measures_by_currency": {currency: _money_of(orders, orders.currency == place) for place, currency in enumerate(CURRENCIES)},
    }


def _money_of(orders: Orders, some: Any) -> dict[str, str]:
    return {"billed": _text(int(orders.billed[some].sum())), "paid": _text(int(orders.paid[some].sum()))}


def _by_currency(rows: Rows, part: Flags, orders: Orders, windows: int) -> Integers:
    """Cents of the rows in ``part`` with a readable amount, in an array of shape (currencies, windows)."""
    import numpy as np

    some = part & (rows.wrong != TEXT_AMOUNT) & (rows.wrong != LONG_AMOUNT)
    place = orders.currency[rows.order[some]] * windows + rows.window[some]
    # bincount adds doubles, which is exact: EVENTS_MAX amounts of about CENTS_MAX stay far below 2**53.
    sums = np.bincount(place, weights=rows.cents[some], minlength=len(CURRENCIES) * windows)
    cents: Integers = sums.astype(np.int64).reshape(len(CURRENCIES), windows)
    return cents


def _text(cents: int) -> str:
    sign, positive = ("-", -cents) if cents < 0 else ("", cents)
    return f"{sign}{positive // 100}.{positive % 100:02d}"


def _decimals(cents: Integers) -> pa.Array:
    """int64 cents as decimal128(18,2), without arithmetic: the 16 bytes of a value are the cents and their sign."""
    import numpy as np
    import pyarrow as pa

    words = np.empty((len(cents), 2), dtype=np.int64)
    words[:, 0], words[:, 1] = cents, cents >> 63
    return pa.Array.from_buffers(pa.decimal128(18, 2), len(cents), [None, pa.py_buffer(words)])


def _numbered(prefix: str, numbers: Integers, digits: int) -> pa.Array:
    import pyarrow as pa
    import pyarrow.compute as pc

    padded = pc.utf8_lpad(pa.array(numbers).cast(pa.string()), digits, "0")
    return pc.binary_join_element_wise(prefix, padded, "")


def _chosen(names: tuple[str, ...], places: Integers) -> pa.Array:
    import pyarrow as pa

    return pa.array(names).take(pa.array(places))


def _write_events(out: Path, rows: Rows, shape: Integers, orders: Orders, grid: Grid, formats: tuple[str, ...]) -> dict[str, list[str]]:
    """One file per window and format that has rows. Returns {window: [path below ``out``, …]} in the windows' order."""
    import numpy as np

    place = rows.window * len(formats) + shape
    by_place = np.argsort(place, kind="stable")
    places, firsts = np.unique(place[by_place], return_index=True)
    files: dict[str, list[str]] = {}
    for number, some in zip(places, np.split(by_place, firsts[1:]), strict=True):
        window, suffix = name_of(grid.at(int(number) // len(formats))), formats[int(number) % len(formats)]
        folder = window.replace(":", "-")
        path = out / "events" / folder / f"orders-{folder}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_file(path, suffix, rows.take(some), orders, grid)
        files.setdefault(window, []).append(path.relative_to(out).as_posix())
    return files


def _write_file(path: Path, suffix: str, rows: Rows, orders: Orders, grid: Grid) -> None:
    import pyarrow as pa
    import pyarrow.compute as pc

    wrong = pa.array(rows.wrong)
    booked = pa.array(rows.second + int(grid.start.timestamp()))
    columns = {
        "event_id": _numbered("E", rows.event, 10),
        "order_id": pc.if_else(pc.equal(wrong, NO_KEY), "", _numbered("ORD-", rows.order, 9)),
        "event_type": _chosen(TYPES, rows.kind),
        "amount": _decimals(rows.cents),
        "currency": _chosen(CURRENCIES, orders.currency[rows.order]),
        "booked_at": booked.cast(pa.timestamp("s", tz="UTC")),
    }
    if suffix == "parquet":
        import pyarrow.parquet as pq

        pq.write_table(pa.table(columns), path)
        return
    amount = columns["amount"].cast(pa.string())
    amount = pc.if_else(pc.equal(wrong, LONG_AMOUNT), pc.binary_join_element_wise(amount, "5", ""), amount)
    columns["amount"] = pc.if_else(pc.equal(wrong, TEXT_AMOUNT), "pending", amount)
    # Formatting times is slow, and times repeat, so each distinct time is formatted once.
    times = columns["booked_at"].dictionary_encode()
    text = pc.strftime(times.dictionary, format="%Y-%m-%dT%H:%M:%SZ").take(times.indices)
    columns["booked_at"] = pc.if_else(pc.equal(wrong, BAD_TIME), "yesterday", text)
    if suffix == "csv":
        import pyarrow.csv

        options = pyarrow.csv.WriteOptions(quoting_style="none")
        pyarrow.csv.write_csv(pa.table(columns), path, options)
        return
    with path.open("wb") as file:
        for batch in pa.table(columns).to_batches(max_chunksize=LINES_MAX):
            file.write(_json_lines(batch))


def _json_lines(batch: pa.RecordBatch) -> pa.Buffer:
    """Lines of JSON. Amounts are strings, since readers may turn numbers into doubles. No value has a character that JSON escapes."""
    import pyarrow.compute as pc

    pieces: list[Any] = []
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        pieces += [f'{"," if pieces else "{"}"{name}":"', column, '"']
    # The data buffer of a new string array is its texts one after the other.
    return pc.binary_join_element_wise(*pieces, "}\n", "").buffers()[2]


def _write_orders(path: Path, orders: Orders) -> None:
    """key, currency, status, billed, paid (null without payments), lines, balance of every order."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    columns = {
        "key": _numbered("ORD-", np.arange(len(orders.lines)), 9),
        "currency": _chosen(CURRENCIES, orders.currency),
        "status": _chosen(STATUSES, orders.statuses()),
        "billed": _decimals(orders.billed),
        "paid": pc.if_else(pa.array(orders.payments > 0), _decimals(orders.paid), None),
        "lines": pa.array(orders.lines),
        "balance": _decimals(orders.billed - orders.paid),
    }
    pq.write_table(pa.table(columns), path)
