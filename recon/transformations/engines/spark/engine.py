"""The engine on Spark: relations are data frames, and statements are carried out by DuckDB in tasks on the rows that belong together."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recon import errors
from recon.config.settings import Engine as Settings
from recon.engines.spark.partition import parted
from recon.engines.spark.session import open_session
from recon.engines.spark.tasks import Logged, telling
from recon.errors import ConnectionLost, ReconError
from recon.storage import parquet
from recon.transformations.engines.duckdb import DuckDB
from recon.transformations.engines.numbering import ORDER, Numbered, numbered, ordered, split
from recon.transformations.engines.reading import nothing
from recon.transformations.engines.spark.cutting import Cut, cut_of, is_counting
from recon.transformations.engines.spark.pieces import Pieces
from recon.transformations.engines.spark.tasks import DELETED, DIGEST, LAST, PART, PLACED, Numbering, Reading, Step, Writing
from recon.transformations.engines.views import NAME, Select, Views
from recon.transformations.inputs.opening import Opened
from recon.transformations.operations.table import ROW, Table
from recon.transformations.request.files import Objects

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

FEW = 1_000
"""Rows of a relation that every task gets."""
_RAISED = re.compile(r"recon\.errors\.(\w+): (.*)")


class Spark:
    """See recon.transformations.engines.port.Engine. ``scratch``: a folder of the driver's own. The driver's own DuckDB has each relation
    without its rows, from which the columns of what is computed are known before any row is."""

    name = "spark"
    late = False

    def __init__(self, session: SparkSession, settings: Settings, driver: DuckDB, pieces: Pieces, scratch: Path) -> None:
        self._session, self._settings, self._driver, self._pieces, self._scratch = session, settings, driver, pieces, scratch
        self._frames: dict[str, DataFrame] = {}
        self._views = Views()
        self._kept: list[DataFrame] = []
        self.watch: Callable[[float], None] = lambda share: None
        self._slices = settings.slices or max(2, session.sparkContext.defaultParallelism)
        session.conf.set("spark.sql.shuffle.partitions", str(self._slices))

    @staticmethod
    @contextmanager
    def session(shared: str, settings: Settings, scratch: Path, objects: Objects) -> Iterator[Spark]:
        """An engine in this process's Spark, or in a new one. ``shared``: a place that driver and tasks see. Raises WrongUsage where Spark
        is not there."""
        with Pieces.below(shared, objects) as pieces, DuckDB.session(scratch, "1GB") as driver:
            engine = Spark(open_session(settings), settings, driver, pieces, scratch)
            try:
                yield engine
            finally:
                for frame in [*engine._frames.values(), *engine._kept]:
                    frame.unpersist()

    def load(self, name: str, opened: Opened) -> Table:
        """See the port. Each file is read by one task, which fetches it where it is in S3."""
        table = Table(name, f"i_{name}", opened.columns)
        self._shape(table.relation, nothing(opened.columns))
        marked = f"CAST(0 AS BIGINT) AS {LAST}, CAST(0 AS BIGINT) AS {DELETED}, '' AS {DIGEST}"
        schema = self._driver.schema(f"SELECT *, CAST(0 AS INTEGER) AS {PART}, {marked} FROM {table.relation}")
        parts = [] if opened.apart else [replace(part) for part in opened.parts]
        fresh = replace(opened, files=opened.files if opened.apart else [], parts=parts)
        reading = Logged("read", Reading(fresh, schema, self._settings.memory_limit))
        count = len(opened.files if opened.apart else parts)
        places = self._session.range(0, count, 1, count)
        with self._failing("read"):
            read = self._keep(places.mapInArrow(reading, _spark(schema)))
            marks = sorted(read.where(f"{ROW} IS NULL").select(PART, LAST, DELETED, DIGEST).collect())
        before = [sum(mark[1] for mark in marks[:place]) for place in range(count)]
        opened.deleted, opened.last = sum(mark[2] for mark in marks), before[-1] + marks[-1][1]
        opened.read_as = [mark[3] for mark in marks] if opened.apart else []
        numbers = ", ".join(map(str, before))
        others = [name for name in read.columns if name not in (ROW, PART, LAST, DELETED, DIGEST)]
        shifted = f"{ROW} + element_at(array({numbers}), {PART} + 1) AS {ROW}"
        rows = read.where(f"{ROW} IS NOT NULL").selectExpr(shifted, *others)
        self._frames[table.relation] = rows.repartition(self._slices, ROW) if count < self._slices else rows
        return table

    def make(self, relation: str, select: Select, stored: bool) -> None:
        """See the port."""
        select = str(select)
        self._shape(relation, select)
        if stored:
            self._frames[relation] = self._frame(select).persist(_level())
        else:
            self._views.add(relation, select)

    def store(self, relation: str) -> None:
        """See the port."""
        if relation in self._views:
            frame = self._frame(f"SELECT * FROM {relation}").persist(_level())
            self._views.take(relation)
            self._frames[relation] = frame

    def drop(self, relation: str) -> None:
        """See the port."""
        self._driver.drop(relation)
        if relation in self._views:
            self._views.take(relation)
        else:
            self._frames.pop(relation).unpersist()

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        """See the port."""
        if not is_counting(statement):
            with self._failing("query"):
                found = self._frame(statement).toArrow()
            return list(zip(*(column.to_pylist() for column in found.columns), strict=True))
        aggregates, _, source = statement.removeprefix("SELECT ").partition(" FROM ")
        results = split(aggregates)
        listed = ", ".join(f"{one} AS x{at}" for at, one in enumerate(results))
        select = f"SELECT {listed} FROM {source}"
        with self._failing("count"):
            parts = self._frame(select, Cut("rows")).toArrow()
        self._driver.run("CREATE OR REPLACE TEMP TABLE parts AS " + _typed_nothing(parts.schema))
        for batch in parts.to_batches():
            self._driver.insert("parts", "SELECT * FROM arriving", batch)
        return self._driver.query(f"SELECT {', '.join(f'sum(x{at})' for at in range(len(results)))} FROM parts")

    def totals(self, relation: str, aggregates: Sequence[str]) -> list[Any]:
        """See the port."""
        return [value or 0 for value in self.query(f"SELECT {', '.join(aggregates)} FROM {relation}")[0]]

    def kinds(self, relation: str, error: str) -> list[tuple[int, int, int]]:
        """See the port."""
        found = self.query(f"SELECT {error}, count(*), min({ROW}) FROM {relation} WHERE {error} IS NOT NULL GROUP BY {error}")
        return sorted((int(code), int(count), int(first)) for code, count, first in found)

    def copy(self, select: str, to: Path, suffix: str) -> None:
        """See the port. The tasks sort and write pieces; the driver puts them one behind the other."""
        self._driver.copy(self._written(select), to, suffix)

    def rows(self, select: str) -> Generator[Sequence[Sequence[Any]], None, None]:
        """See the port."""
        return self._driver.rows(self._written(select))

    def _written(self, select: str) -> str:
        """SELECT of rows in order, from pieces that the tasks have written."""
        found = ordered(select)
        assert found is not None, f"an output is in order of a column: {select[-60:]}"
        pieces, frame = self._pieces.new(), self._frame(found)
        with self._failing("write"):
            parts = frame.repartitionByRange(self._slices, ORDER).sortWithinPartitions(ORDER)
            places = [row.path for row in sorted(parts.mapInArrow(Logged("write", Writing(pieces)), "number INT, path STRING").collect())]
        if not places:
            return f"SELECT * EXCLUDE ({ORDER}) FROM ({found}) LIMIT 0"
        folder = Path(tempfile.mkdtemp(dir=self._scratch))
        return f"SELECT * EXCLUDE ({ORDER}) FROM {parquet.scan([pieces.fetched(place, folder) for place in places])}"

    @property
    def _known(self) -> set[str]:
        return {*self._frames, *self._views}

    def _frame(self, select: str, cut: Cut | None = None) -> DataFrame:
        """The rows of a SELECT, computed when an action asks for them."""
        if cut is None and (found := numbered(select)) is not None:
            return self._numbered(found)
        names = sorted(set(NAME.findall(select)) & self._known)
        cut = cut or cut_of(select, set(names))
        schema = self._driver.schema(select)
        if cut.beside:
            others, few = [name for name in names if name != cut.beside], self._few(cut.beside)
            if few is not None and len(others) == 1:
                rows = self._frame(f"SELECT * FROM {others[0]}")
                return self._step(rows, {others[0]: rows}, select, schema, (cut.beside, *few))
            cut = Cut("whole")
        if cut.kind == "keys":
            frames = [self._keyed(name, cut) for name in names]
            rows = parted(self._tagged(frames, "part"), "part", self._slices).drop("part")
            return self._step(rows, dict(zip(names, (frame.drop("part") for frame in frames), strict=True)), select, schema)
        if cut.kind == "whole":
            needed = {name: self._needed(name, select) for name in names}
            return self._step(self._tagged(list(needed.values())).repartition(1), needed, select, schema)
        views = self._views.behind(select)
        words = set(NAME.findall(" ".join([select, *views.values()])))
        for name, view in views.items():
            inside = set(NAME.findall(view)) & self._known
            if numbered(view) is not None or cut_of(view, inside) != Cut("rows"):
                frame = self._frame(view)
                return self._with(name, frame, lambda: self._frame(select, cut))
        bases = {name: frame for name, frame in self._frames.items() if name in words}
        return self._step(self._tagged(list(bases.values())), bases, self._views.over(select), schema)

    def _with(self, name: str, frame: DataFrame, then: Callable[[], DataFrame]) -> DataFrame:
        """What ``then`` makes while a view is known by its rows."""
        select = str(self._views.take(name))
        self._frames[name] = frame
        try:
            return then()
        finally:
            del self._frames[name]
            self._views.add(name, select)

    def _needed(self, name: str, select: str) -> DataFrame:
        """A relation, with the columns only that a SELECT may need."""
        words, columns = set(NAME.findall(select)), list(self._driver.columns_of(name))
        few = [column for column in columns if column in words] or columns[:1]
        listed = columns if "*" in select.replace("count(*)", "") else few
        return self._frames[name].select(*listed) if name in self._frames else self._frame(f"SELECT {', '.join(listed)} FROM {name}")

    def _keyed(self, name: str, cut: Cut) -> DataFrame:
        """A relation with the partition ``part`` of each row, which rows with equal keys have in common."""
        keys = cut.keys[name]
        part = f"hash({', '.join(keys)})"
        if not cut.nulls_meet and ROW in self._driver.columns_of(name):
            part = f"CASE WHEN {' OR '.join(f'({key}) IS NULL' for key in keys)} THEN hash({ROW}) ELSE {part} END"
        return self._frame(f"SELECT *, CAST({part} % {self._slices} AS INTEGER) AS part FROM {name}", Cut("rows"))

    def _tagged(self, frames: Sequence[DataFrame], *extra: str) -> DataFrame:
        """The rows of all frames: of one as they are, of several as structs beside the place of their frame."""
        from pyspark.sql.functions import lit, struct

        if len(frames) == 1:
            return frames[0]
        kept = [[name for name in frame.columns if name not in extra] for frame in frames]
        kinds = [frame.select(*names).schema for frame, names in zip(frames, kept, strict=True)]
        tagged = []
        for side, frame in enumerate(frames):
            structs = [(struct(*kept[at]) if at == side else lit(None).cast(kind)).alias(f"s{at}") for at, kind in enumerate(kinds)]
            tagged.append(frame.select(*extra, lit(side).alias("side"), *structs))
        first, *others = tagged
        for other in others:
            first = first.union(other)
        return first

    def _few(self, name: str) -> tuple[str, tuple[Any, ...]] | None:
        """The columns of a relation, as in CREATE TABLE, and its rows; None where it has more than ``FEW``."""
        with self._failing("query"):
            found = self._frame(f"SELECT * FROM {name}").limit(FEW + 1).toArrow()
        if found.num_rows > FEW:
            return None
        columns = ", ".join(f"{one} {kind}" for one, kind in self._driver.columns_of(name).items())
        return columns, tuple(found.to_batches())

    def _step(
        self,
        rows: DataFrame,
        frames: Mapping[str, DataFrame],
        select: str,
        schema: Any,
        beside: tuple[str, str, tuple[Any, ...]] | None = None,
    ) -> DataFrame:
        """The result of a SELECT in each partition of rows of some relations. ``beside``: see ``Step``."""
        kinds = {name: self._driver.columns_of(name) for name in frames}
        relations = tuple((name, ", ".join(f"{one} {kinds[name][one]}" for one in frame.columns)) for name, frame in frames.items())
        return rows.mapInArrow(Logged("transform", Step(select, relations, schema, self._settings.memory_limit, beside)), _spark(schema))

    def _numbered(self, found: Numbered) -> DataFrame:
        from pyspark.sql.functions import col, spark_partition_id

        rows = self._frame(found.select)
        order = []
        for at, (descends, nulls_first) in enumerate(found.order):
            key = col(f"o{at}")
            up = key.asc_nulls_first if nulls_first else key.asc_nulls_last
            down = key.desc_nulls_first if nulls_first else key.desc_nulls_last
            order.append(down() if descends else up())
        with self._failing("sort"):
            ranged = rows.repartitionByRange(self._slices, *order).sortWithinPartitions(*order)
            ranged = self._keep(ranged.withColumn(PLACED, spark_partition_id()))
            counts: dict[int, int] = dict(ranged.groupBy(PLACED).count().collect())
        before = [sum(counts.get(other, 0) for other in range(at)) for at in range(1 + max(counts, default=0))]
        kept = [name for name in ranged.columns if not re.fullmatch(r"o\d+", name)]
        fields = [f"`{one.name}` {one.dataType.simpleString()}" for one in ranged.select(*kept).schema.fields[:-1]]
        fields.insert(found.place, f"`{found.name}` bigint")
        return ranged.select(*kept).mapInArrow(Logged("number", Numbering(before, found.place, found.name)), ", ".join(fields))

    def _keep(self, frame: DataFrame) -> DataFrame:
        """Persists what is read twice, until the session ends."""
        self._kept.append(frame.persist(_level()))
        return self._kept[-1]

    def _shape(self, relation: str, select: str) -> None:
        self._driver.run(f"CREATE TEMP TABLE {relation} AS ({select}) WITH NO DATA")

    @contextmanager
    def _failing(self, what: str) -> Iterator[None]:
        """Raises an error of Recon's in a task as itself, any other failure of Spark as ConnectionLost."""
        try:
            with telling(f"transform: {what}"):
                yield
        except ConnectionLost as error:
            raised = _RAISED.findall(str(error.__cause__))
            kind = getattr(errors, raised[-1][0], None) if raised else None
            if isinstance(kind, type) and issubclass(kind, ReconError):
                raise kind(raised[-1][1].strip()) from None
            raise


def _level() -> Any:
    from pyspark import StorageLevel

    return StorageLevel.DISK_ONLY


def _spark(schema: Any) -> Any:
    from pyspark.sql.pandas.types import from_arrow_schema

    return from_arrow_schema(schema)


def _typed_nothing(schema: Any) -> str:
    """A SELECT of no rows with the columns of decimals and whole numbers of an Arrow schema."""
    import pyarrow as pa

    kinds = [f"DECIMAL(38,{one.type.scale})" if pa.types.is_decimal(one.type) else "BIGINT" for one in schema]
    return f"SELECT {', '.join(f'CAST(NULL AS {kind}) AS {one.name}' for one, kind in zip(schema, kinds, strict=True))} LIMIT 0"
