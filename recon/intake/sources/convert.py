"""Converts a received file: its rows cleaned and checked, as Parquet of text; its rejected rows with reasons; and the figures of both."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recon.config.model import Config
from recon.errors import WrongInput
from recon.intake.connections import connection as connection_of
from recon.intake.converters.decoding import decode
from recon.intake.converters.layouts import DBase, Delimited
from recon.intake.converters.opening import open_conversion
from recon.intake.converters.port import DELETED, Conversion, Received
from recon.intake.converters.tied import EXACT
from recon.intake.files.parquet import LINE, SOURCE_METADATA
from recon.intake.sources.load import Source
from recon.intake.sources.plan import ROWS, Plan, line_prefixes, plan_of
from recon.storage import parquet
from recon.vocabulary.duckdb import computed, literal, quoted

if TYPE_CHECKING:
    import duckdb

_REJECTS_BLOCK = 10_000
_APART_COLUMNS = ["line", "span", "reason", "prefix", "broken"]
"""Of the rows that are set apart; see recon.intake.sources.plan.Plan."""
REPORTED_MAX = 100
"""Rows that the figures list for each check that only reports."""


@dataclass
class Figures:
    """What conversion counted. ``rows`` = ``kept`` + ``rejected`` + ``dead``: records that the source's function could not process.
    ``dropped``: of the rejected, lines that the source drops. ``changes``: column → step → values. ``reasons``: rejected rows by reason.
    ``reported``: check → rows, with the first of them. ``trailers``: lines that state totals; ``deleted``: records that the file marks as
    deleted; neither is a row. ``controls``: the totals that the file carries."""

    rows: int = 0
    kept: int = 0
    rejected: int = 0
    dead: int = 0
    dropped: int = 0
    changes: dict[str, dict[str, int]] = field(default_factory=dict)
    reasons: dict[str, int] = field(default_factory=dict)
    reported: dict[str, dict[str, Any]] = field(default_factory=dict)
    trailers: int = 0
    deleted: int = 0
    controls: list[dict[str, str]] = field(default_factory=list)


@dataclass
class Converted:
    """``clean``: the Parquet file of kept rows. ``rejects``: Parquet of line, place, reason, raw. ``windows``, ``versions``: the distinct
    texts of the columns that tell the window and the version. ``fault``: why the whole file is rejected, None where it is not. ``sums``:
    column → sum of its readable numbers, and the number of others; for the columns that a trailer sums."""

    clean: Path
    rejects: Path
    figures: Figures
    windows: set[str] = field(default_factory=set)
    versions: set[str] = field(default_factory=set)
    fault: str | None = None
    sums: dict[str, tuple[Decimal, int]] = field(default_factory=dict)


def convert(config: Config, source: Source, received: Received, digest: str, folder: Path) -> Converted:
    """Converts one file into ``folder``. Raises WrongInput for a file that can't be read."""
    import pyarrow.parquet as pq

    found = source.match(received.name)
    assert found is not None, "the caller has matched the name"
    conversion = opened(config, source, received, folder)
    plan = plan_of(source, found[1], config.events.zone)
    made = Converted(folder / f"{received.name}.parquet", folder / "rejects.parquet", Figures())
    rejected: list[Any] = []
    with _connected(config, plan) as connection:
        with pq.ParquetWriter(made.clean, _schema(source, received, digest), compression="zstd") as writer:
            for result in _results(connection, conversion, source, plan):
                kept = result.filter(_null(result, "reason"))
                rejected.append(result.filter(_not_null(result, "reason")).select(_APART_COLUMNS))
                _count(made, plan, source, result, kept, conversion)
                writer.write_table(_clean(kept, writer.schema))
        repeats = _repeats(connection, made.clean, source)
        rejected.append(repeats)
        made.figures.kept -= repeats.num_rows
        made.windows = _distinct(connection, made.clean, source.section.window.column)
        made.versions = _distinct(connection, made.clean, source.section.version.column)
    _write_rejects(made, source, conversion, rejected)
    made.fault = _fault(made, source, conversion)
    return made


def opened(config: Config, source: Source, received: Received, folder: Path) -> Conversion:
    """The converter of a received file, decoded into ``folder`` where the source declares an encoding. Raises WrongInput."""
    encoding = getattr(source.section.layout, "encoding", None)
    if encoding is not None and not isinstance(source.section.layout, DBase):
        received = decode(received, encoding, folder, config.limits)
    return open_conversion(received, source.section.layout, source.declared, config.limits, scratch=folder)


@contextmanager
def _connected(config: Config, plan: Plan) -> Iterator[duckdb.DuckDBPyConnection]:
    """A DuckDB connection with the reference tables of a plan."""
    import pyarrow as pa

    with connection_of(config.threads, config.memory_limit) as connection:
        for table, path, column in plan.references:
            if not path.is_file():
                raise WrongInput(f"{path}: this reference is not there; see 'reference' in the source")
            read = open_conversion(Received(path.name, path), Delimited(kind="delimited", header=True), [column], config.limits)
            place = 3 + list(read.names).index(column)
            values = pa.chunked_array([batch.column(place) for batch in read.batches()], pa.string())
            connection.register(table, pa.table({"v": values.drop_null()}))
        yield connection


def _results(connection: duckdb.DuckDBPyConnection, conversion: Conversion, source: Source, plan: Plan) -> Iterator[Any]:
    for batch in conversion.batches():
        connection.register(ROWS, _picked(batch, conversion, source))
        yield connection.sql(plan.query).to_arrow_table()
        connection.unregister(ROWS)


def _picked(batch: Any, conversion: Conversion, source: Source) -> Any:
    """A batch with its first column as f0, and the kept columns in the source's order as t0, t1, …"""
    import pyarrow as pa

    places = [list(conversion.names).index(column.column or name) for name, column in source.kept.items()]
    columns = [batch.column(position) for position in (0, 1, 2, 3)] + [batch.column(3 + place) for place in places]
    return pa.table(columns, names=["line", "span", "problem", "f0", *(f"t{position}" for position in range(len(places)))])


def _schema(source: Source, received: Received, digest: str) -> Any:
    import pyarrow as pa

    fields = [(LINE, pa.int64()), *((name, pa.string()) for name in source.kept)]
    return pa.schema(fields, metadata={SOURCE_METADATA: source.name, "recon.file": received.shown, "recon.digest": digest})


def _clean(kept: Any, schema: Any) -> Any:
    import pyarrow as pa

    texts = [kept.column(f"c{position}") for position in range(len(schema.names) - 1)]
    return pa.table([kept.column("line"), *texts], schema=schema)


def _null(table: Any, name: str) -> Any:
    import pyarrow.compute as pc

    return pc.is_null(table.column(name))


def _not_null(table: Any, name: str) -> Any:
    import pyarrow.compute as pc

    return pc.is_valid(table.column(name))


def _count(made: Converted, plan: Plan, source: Source, result: Any, kept: Any, conversion: Conversion) -> None:
    import pyarrow.compute as pc

    figures = made.figures
    figures.kept += kept.num_rows
    for change in plan.changes:
        count = pc.sum(result.column(change.flag)).as_py() or 0
        if count:
            steps = figures.changes.setdefault(change.column, {})
            steps[change.step] = steps.get(change.step, 0) + count
    for report in plan.reports:
        failing = kept.filter(_not_null(kept, report.message))
        if failing.num_rows:
            entry = figures.reported.setdefault(report.check, {"rows": 0, "first": []})
            entry["rows"] += failing.num_rows
            for row in failing.slice(0, REPORTED_MAX - len(entry["first"])).select(["line", report.message]).to_pylist():
                entry["first"].append({"place": conversion.place(row["line"]), "message": row[report.message]})
    for name in source.section.trailer.sums if source.section.trailer else ():
        total, unreadable = made.sums.get(name, (Decimal(0), 0))
        rows = result.filter(pc.invert(result.column("broken"))).column(f"s{list(source.kept).index(name)}")
        made.sums[name] = EXACT.add(total, pc.sum(rows).as_py() or Decimal(0)), unreadable + rows.null_count


def _distinct(connection: duckdb.DuckDBPyConnection, clean: Path, column: str | None) -> set[str]:
    """The distinct texts of the column that tells the window or the version; none where no column does."""
    if column is None:
        return set()
    return {text for (text,) in connection.execute(f"SELECT DISTINCT {quoted(column)} FROM {parquet.scan(clean)}").fetchall()}


def _repeats(connection: duckdb.DuckDBPyConnection, clean: Path, source: Source) -> Any:
    """The rows that repeat a value of a unique column, as the rows set apart. They are taken out of the clean file."""
    import pyarrow as pa

    found: dict[int, str] = {}
    for name, column in source.kept.items():
        if column.unique:
            earlier = f"first_value({quoted(LINE)}) OVER (PARTITION BY {quoted(name)} ORDER BY {quoted(LINE)})"
            rows = connection.execute(
                f"SELECT line, first, v FROM (SELECT {quoted(LINE)} AS line, {earlier} AS first, {quoted(name)} AS v "
                f"FROM {parquet.scan(clean)} WHERE {quoted(name)} IS NOT NULL) WHERE line <> first ORDER BY line"
            ).fetchall()
            for line, first, value in rows:
                found.setdefault(line, f"{name}: {value[:60]!r} is in line {first} already; each value may be there once")
    if found:
        _without_lines(clean, set(found))
    repeats = [{"line": line, "span": 1, "reason": found[line], "prefix": None, "broken": False} for line in sorted(found)]
    types = (pa.int64(), pa.int32(), pa.string(), pa.string(), pa.bool_())
    return pa.Table.from_pylist(repeats, schema=pa.schema(list(zip(_APART_COLUMNS, types, strict=True))))


def _without_lines(clean: Path, lines: set[int]) -> None:
    """Writes the clean file again without the rows of these lines."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    opened, other = parquet.open_file(clean), clean.with_suffix(".unique")
    unwanted = pa.array(sorted(lines), pa.int64())
    with pq.ParquetWriter(other, opened.schema_arrow, compression="zstd") as writer:
        for batch in opened.iter_batches():
            writer.write_batch(batch.filter(pc.invert(pc.is_in(batch.column(LINE), unwanted))))
    other.replace(clean)


def _write_rejects(made: Converted, source: Source, conversion: Conversion, rejected: Sequence[Any]) -> None:
    """Reads the raw text of the rejected rows, tells dropped lines and trailers from them, and writes them."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.concat_tables(rejected).sort_by("line") if rejected else None
    figures, schema = made.figures, pa.schema([("line", pa.int64()), ("place", pa.string()), ("reason", pa.string()), ("raw", pa.string())])
    reasons: Counter[str] = Counter()
    rows = _with_raw(conversion, table) if table is not None and table.num_rows else iter(())
    with pq.ParquetWriter(made.rejects, schema, compression="zstd") as writer:
        while block := list(islice(rows, _REJECTS_BLOCK)):
            bad = [row for row in block if _is_reject(row, made, source, conversion)]
            reasons.update(row["reason"] for row in bad)
            writer.write_table(pa.Table.from_pylist(bad, schema=schema))
    figures.rejected = reasons.total()
    figures.rows = figures.kept + figures.rejected
    figures.reasons = dict(reasons.most_common(REPORTED_MAX))


def _is_reject(row: dict[str, Any], made: Converted, source: Source, conversion: Conversion) -> bool:
    """Whether a row that was set apart is a reject, not a deleted record or a trailer, which are counted here. Adds its place, and for a
    line that the source drops the reason."""
    figures, trailer = made.figures, source.section.trailer
    row["place"] = conversion.place(row["line"])
    if row["reason"] == DELETED:
        figures.deleted += 1
        return False
    prefix = row["prefix"] or next((prefix for prefix in line_prefixes(source) if row["raw"].startswith(prefix)), None)
    if trailer is not None and prefix == trailer.prefix:
        figures.trailers += 1
        figures.controls += _trailer_totals(source, row["place"], row["raw"])
        return False
    if prefix is not None:
        figures.dropped += 1
        row["reason"] = f"the line begins with {prefix!r}, which the source drops"
    elif row["broken"]:
        for name in trailer.sums if trailer else ():
            total, unreadable = made.sums.get(name, (Decimal(0), 0))
            made.sums[name] = total, unreadable + 1
    return True


def _with_raw(conversion: Conversion, table: Any) -> Iterator[dict[str, Any]]:
    """The rejected rows in order, each with its raw text."""
    columns = [table.column(name).to_pylist() for name in ("reason", "prefix", "broken")]
    apart = dict(zip(table.column("line").to_pylist(), zip(*columns, strict=True), strict=True))
    for raws in conversion.raw(table.column("line").to_numpy(), table.column("span").to_numpy()):
        for line, raw in zip(raws.column("line").to_pylist(), raws.column("raw").to_pylist(), strict=True):
            reason, prefix, broken = apart.pop(line)
            yield {"line": line, "reason": reason, "prefix": prefix, "broken": broken, "raw": raw}
    if apart:
        raise WrongInput(f"{conversion.place(min(apart))} is gone on the second reading; the file has changed, deliver it again")


def _trailer_totals(source: Source, place: str, raw: str) -> list[dict[str, str]]:
    """The totals that a trailer line declares, cleaned as the columns are; ``computed`` is filled in when the file has been read."""
    trailer = source.section.trailer
    assert trailer is not None
    layout = source.section.layout
    fields = next(csv.reader([raw], delimiter=layout.delimiter)) if isinstance(layout, Delimited) else raw.split()
    found = []
    for what, position in [("rows", trailer.rows), *trailer.sums.items()]:
        if position is None:
            continue
        declared = fields[position - 1].strip() if position <= len(fields) else ""
        if what != "rows":
            sql = literal(declared)
            for step in source.kept[what].clean:
                sql = step.sql(sql)
            declared = str(computed(sql) or "")
        found.append({"where": place, "what": what, "declared": declared, "computed": ""})
    return found


def _fault(made: Converted, source: Source, conversion: Conversion) -> str | None:
    """Why the file as a whole is rejected: totals that it carries differ from its rows, or it has more rejects than the source allows."""
    figures, section = made.figures, source.section
    if section.trailer is not None and figures.trailers != 1:
        says = f"{figures.trailers} lines begin" if figures.trailers else "no line begins"
        return f"{says} with {section.trailer.prefix!r}; expected one trailer: is the file cut off?"
    for control in figures.controls:
        control["computed"] = _computed(made, control["what"])
        if not _equal(control["declared"], control["computed"]):
            declared = control["declared"] or "nothing"
            return f"{control['where']}: the trailer declares {control['what']} {declared}, the rows have {control['computed']}"
    figures.controls += [{**control.__dict__} for control in conversion.controls]
    rows, bad = figures.rows - figures.dropped, figures.rejected - figures.dropped
    rejected = f"{bad:,} of {rows:,} rows are rejected"
    if section.rejects != "row" and bad:
        return f"{rejected}, and the source takes no file with a rejected row"
    if bad > section.most_rejects * rows:
        return f"{rejected}, more than {(section.most_rejects * 100).normalize():f}%"
    nothing = f"{figures.rejected:,} of {figures.rows:,} rows are rejected; nothing is left of the file"
    return nothing if figures.rows and not figures.kept else None


def _computed(made: Converted, what: str) -> str:
    """The number of rows, or the exact sum of a column; of kept and rejected rows alike, since the sender counted both. Lines that the
    source drops are no rows."""
    if what == "rows":
        return str(made.figures.rows - made.figures.dropped)
    total, unreadable = made.sums[what]
    exact = f"{total.normalize(EXACT):f}"
    return f"{exact} and {unreadable} without a readable number" if unreadable else exact


def _equal(declared: str, computed: str) -> bool:
    try:
        return Decimal(declared) == Decimal(computed)
    except InvalidOperation:
        return False
