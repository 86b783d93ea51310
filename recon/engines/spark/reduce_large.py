"""Reduce of large windows on Spark: files → events → duplicates set aside → measures per key → pieces by hash → the window's files.

All windows of a range go through one set of jobs; ``w`` is a window's place in the range. Events are aggregated
before the shuffle and after it, so that a key with very many events is one row per task. The stage numbers the partitions itself: one
per slice of the hash space of each window.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from recon import errors
from recon.config import Config, model
from recon.config.model import Measure
from recon.engines.duckdb.reduce import filter_of
from recon.engines.spark.partition import parted
from recon.engines.spark.pieces import ARTIFACTS, DUPLICATES, EVENTS, Pieces, Read, join_pieces, read_file, write_pieces
from recon.engines.spark.session import open_session
from recon.engines.spark.tasks import attempted, parallelism, telling
from recon.errors import ConnectionLost, ReconError, WrongInput
from recon.intake.manifests import Manifest
from recon.state.reduced import Figures
from recon.storage import layout
from recon.storage.port import ObjectStore
from recon.vocabulary import emit_spark
from recon.vocabulary.spark import quoted, to_text
from recon.vocabulary.types import TIMESTAMP

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

SLICE_EVENTS = 1_000_000
"""Target number of events per slice of a window."""
_PATTERN = re.compile(r"[\\{}\[\]*?]")
_BROADCAST_MAX = 500_000
_SUM_OVERFLOWS = ("ARITHMETIC_OVERFLOW", "NUMERIC_VALUE_OUT_OF_RANGE", "DECIMAL_PRECISION_EXCEEDS")


@dataclass(frozen=True)
class _Cut:
    """The number of slices of each window of the range."""

    slices: tuple[int, ...]

    @property
    def part(self) -> str:
        """SQL: the number of an event's partition, from w and hi. A product of 32 bits each: no multiplication overflows."""
        bases = [sum(self.slices[:place]) for place in range(len(self.slices))]
        count, base = (f"element_at(array({', '.join(map(str, values))}), w + 1)" for values in (self.slices, bases))
        return f"{base} + CAST(shiftright((shiftright(hi, 32) + 2147483648) * {count}, 32) AS INT)"

    @property
    def total(self) -> int:
        return sum(self.slices)


def reduce_large(store: ObjectStore, config: Config, manifests: Sequence[Manifest]) -> list[Figures | ReconError]:
    """The figures of each window, or its error."""
    writer = layout.new_attempt()
    # A task gets one file, not the list of all.
    items = [
        (writer, place, replace(manifest, files=(file,)), number)
        for place, manifest in enumerate(manifests)
        for number, file in enumerate(manifest.files)
    ]
    found = attempted(config, "intake", read_file, items)
    read: list[list[Read]] = [[] for _ in manifests]
    bad: dict[int, ReconError] = {}
    for (_, place, _, _), one in zip(items, found, strict=True):
        if isinstance(one, ReconError):
            bad.setdefault(place, one)
        else:
            read[place].append(one)
    good = [place for place in range(len(manifests)) if place not in bad]
    pieces = _Range(store, config, writer, manifests, read).pieces(good, bad)
    good = [place for place in good if place not in bad]
    joined = attempted(config, "join pieces", join_pieces, [(manifests[place], read[place], pieces.get(place, {})) for place in good])
    for paths in pieces.values():
        for path in (path for some in paths.values() for path in some):
            store.delete(path)
    for one in (one for some in read for one in some):
        store.delete(one.events)
        store.delete(one.rejects)
    done = dict(zip(good, joined, strict=True))
    return [bad[place] if place in bad else done[place] for place in range(len(manifests))]


@dataclass(frozen=True)
class _Range:
    """The large windows of a range. ``writer``: names the attempt in the store; ``read``: the files of each window, as read."""

    store: ObjectStore
    config: Config
    writer: str
    manifests: Sequence[Manifest]
    read: Sequence[Sequence[Read]]

    def pieces(self, good: Sequence[int], bad: dict[int, ReconError]) -> dict[int, Pieces]:
        """The pieces of each good window. Where a sum overflows, the windows are tried one by one, and those that fail added to ``bad``."""
        if not good:
            return {}
        try:
            with telling("reduce"):
                return self._written(good)
        except ConnectionLost as error:
            if not any(name in str(error.__cause__) for name in _SUM_OVERFLOWS):
                raise
            if len(good) > 1:
                return {place: found for single in good for place, found in self.pieces([single], bad).items()}
            reason = str(error.__cause__).splitlines()[0]
            bad[good[0]] = WrongInput(
                f"window {self.manifests[good[0]].window}: a sum outgrew the 38 digits that a decimal holds ({reason}); "
                "look for amounts that are far too large and correct their file with 'recon land --replace'"
            )
            return {}

    def _written(self, good: Sequence[int]) -> dict[int, Pieces]:
        session = open_session(self.config.engine)
        rows = [sum(file.rows.accepted for file in files) if place in good else 0 for place, files in enumerate(self.read)]
        cut = _Cut(tuple(max(1, self.config.engine.slices or 1, -(-count // SLICE_EVENTS)) for count in rows))
        # For Spark's own shuffles, which have 200 partitions by default.
        session.conf.set("spark.sql.shuffle.partitions", str(max(parallelism(self.config), 2 * cut.total)))
        paths = [file.events for place in good for file in self.read[place]]
        session.sparkContext.setJobDescription("recon: duplicates within a window")
        events = session.read.parquet(*(_url(self.store, self.config, path) for path in paths))
        duplicates = _duplicates(session, self.config, events)
        accepted = events if duplicates is None else events.join(duplicates, ["w", "file", "line"], "left_anti")
        pieces: dict[int, Pieces] = {}
        self._write(EVENTS, accepted, cut, pieces)
        self._write(ARTIFACTS, _artifacts(self.config, accepted), cut, pieces)
        if duplicates is not None:
            one_each = _Cut(tuple(1 for _ in self.read))
            self._write(DUPLICATES, events.join(duplicates, ["w", "file", "line"]), one_each, pieces)
            duplicates.unpersist()
        return pieces

    def _write(self, kind: str, rows: DataFrame, cut: _Cut, pieces: dict[int, Pieces]) -> None:
        """Shuffles rows to their slices, and adds the paths that the tasks wrote to ``pieces``, in order of hash."""
        rows.sparkSession.sparkContext.setJobDescription(f"recon: {kind}")
        schema = "w INT, part INT, path STRING, error STRING"
        # The task is a function of the module: a method would take this object, with all it holds, to the executors.
        results = parted(rows, cut.part, cut.total).mapInArrow(partial(_task, self.config, self.writer, kind), schema).collect()
        for result in sorted(results, key=lambda row: row.part):
            if result.error is not None:
                raise _raised(result.error)
            pieces.setdefault(result.w, {}).setdefault(kind, []).append(result.path)


def _url(store: ObjectStore, config: Config, path: str) -> str:
    """The Hadoop path by which Spark reads an object: not a URL; only characters of Hadoop's patterns are escaped."""
    local = store.local(path)
    return _PATTERN.sub(r"\\\g<0>", f"{config.store.rstrip('/')}/{path}" if local is None else f"file://{local}")


def _duplicates(session: SparkSession, config: Config, events: DataFrame) -> DataFrame | None:
    """w, file, line, conflicting of the events that do not count: of each (key, id) of a window the first by (time, file, line) counts.
    None where no hash of an id occurs twice."""
    from pyspark.sql.functions import broadcast, expr

    if not config.events.id:
        return None
    suspects = (
        events.where("idh IS NOT NULL").groupBy("w", "idh").agg(expr("count(*) AS times")).where("times > 1").select("w", "idh").persist()
    )
    count = suspects.count()
    if not count:
        suspects.unpersist()
        return None
    few = broadcast(suspects) if count <= _BROADCAST_MAX else suspects
    values = f"struct({', '.join(['time', *(_column(config, name) for name in model.event_columns(config))])})"
    same = "OVER (PARTITION BY w, key, id ORDER BY time ASC NULLS LAST, file, line)"
    placed = events.join(few, ["w", "idh"], "left_semi").selectExpr(
        "w",
        "file",
        "line",
        f"struct({values}) AS content",
        f"first_value(struct({values})) {same} AS first",
        f"row_number() {same} AS place",
    )
    found = placed.where("place > 1").selectExpr("w", "file", "line", "NOT (content <=> first) AS conflicting").persist()
    found.count()
    suspects.unpersist()
    return found


def _artifacts(config: Config, events: DataFrame) -> DataFrame:
    """One row per window and key: w, hi, lo, key, n, u if events have a currency, ids (sorted), and m_<name> per measure."""
    from pyspark.sql.functions import expr

    ids = "sort_array(collect_list(idh))" if config.events.id else "CAST(array() AS ARRAY<BIGINT>)"
    currency_set = (
        f"sort_array(collect_set(coalesce({_column(config, config.events.currency)}, ''))) AS u" if config.events.currency else ""
    )
    currencies = [expr(currency_set)] if currency_set else []
    measures = [expr(f"{aggregate(config, item)} AS {quoted(f'm_{item.name}')}") for item in config.measures]
    return events.groupBy("w", "hi", "lo", "key").agg(expr("count(*) AS n"), *currencies, expr(f"{ids} AS ids"), *measures)


def aggregate(config: Config, item: Measure) -> str:
    """Spark's aggregate of one measure over events; equals recon.engines.duckdb.reduce.aggregate."""
    names = {name: _column(config, name) for name in config.columns}
    value = "" if item.column is None else _column(config, item.column)
    where = filter_of(item, value, "" if item.where is None else emit_spark(item.where, names))
    if item.kind == "count":
        return f"count({value or '*'}){where}"
    if item.kind == "sum":
        whole = config.columns[str(item.column)].kind == "integer"
        return f"CAST(sum({f'CAST({value} AS DECIMAL(20,0))' if whole else value}){where} AS {item.type.spark})"
    if item.kind in ("min", "max"):
        return f"{item.kind}({value}){where}"
    order = f"'t', {to_text('time', TIMESTAMP)}, 'f', file, 'l', line, 'v', {value}"
    return f"{'min' if item.kind == 'first' else 'max'}(named_struct({order})){where}"


def _column(config: Config, name: str) -> str:
    """SQL reference of an event column."""
    if name in model.event_columns(config):
        return quoted(f"c_{name}")
    return "id" if name == config.events.id_column else "time" if name == config.events.time else "key"


def _task(config: Config, writer: str, kind: str, batches: Any) -> Iterator[Any]:
    yield from write_pieces(config, writer, kind, batches)


def _raised(error: str) -> ReconError:
    kind, _, text = error.partition(": ")
    raised: ReconError = getattr(errors, kind, WrongInput)(text)
    return raised
