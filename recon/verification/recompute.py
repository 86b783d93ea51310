"""Verifying by computing again: the landed events of all windows in one table, judged, folded in one pass and compared.

Shares with the pipeline how files are read (recon.intake.files) and what expressions mean (recon.vocabulary, recon.logic.call);
nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recon.config import Config, model
from recon.config.model import Measure
from recon.errors import WrongInput
from recon.intake.files import EventSpec, SourceFile, load_events, spec_of
from recon.intake.manifests import read_manifest
from recon.model.totals import Totals
from recon.state import reduced
from recon.storage import parquet
from recon.storage.port import NotFound, ObjectStore
from recon.storage.scratch import local_copy
from recon.verification.compare import compare
from recon.verification.conflicts import conflicts_again, differences, ids_under_several_keys
from recon.verification.expected import compute
from recon.verification.findings import UNREADABLE, Findings, said
from recon.verification.records import Seen
from recon.verification.sums import exact, exact_sum_of
from recon.verification.timeline import History
from recon.verification.totals import additive, is_beyond_sums, totals_by
from recon.vocabulary.duckdb import quoted

if TYPE_CHECKING:
    import duckdb

COUNTED, SUPPRESSED, DUPLICATE = 0, 1, 2
"""Fates of an event: in the artifacts; of an identity that stands in an earlier window; not the first of its window."""
_FATES = 3


@dataclass(frozen=True)
class Recomputation:
    """What is computed again and against what. ``newest``: certificates by window. ``damaged``: paths of landed files
    that are not what was landed."""

    store: ObjectStore
    config: Config
    connection: duckdb.DuckDBPyConnection
    history: History
    newest: Mapping[str, Mapping[str, Any]]
    seen: Seen
    damaged: set[str]
    scratch: Path
    findings: Findings


def check_artifacts(task: Recomputation, progress: Callable[[str, float], None]) -> int:
    """Computes every artifact again and compares it with the table ``stored``. Returns the rows that it read.

    Compares nothing where the rules changed or a run is lost: both are named already, and every key would differ."""
    state = task.history.state
    if state.rules != task.config.rules_version or task.seen.runs_lost:
        return 0
    arrived, unread = _load(task, progress)
    _judge(task.connection, task.config)
    compute(task.connection, task.config)
    progress("", 1)
    _check_windows(task, arrived, unread)
    if not unread:
        _check_conflicts(task)
        task.findings.notes += ids_under_several_keys(task.connection, task.config)
    _check_stateless_content(task, arrived)
    compare(task.store, task.config, task.connection, task.history, task.seen, unread, task.scratch, task.findings)
    return sum(arrived.values())


def _load(task: Recomputation, progress: Callable[[str, float], None]) -> tuple[dict[str, int], list[str]]:
    """Fills ``events`` (w: number of the window in the grid, file: place in the order of landing) and ``refused``. Returns the rows
    per window, and the windows that cannot be read."""
    connection, config = task.connection, task.config
    columns = [quoted(f"c_{name}") for name in config.columns]
    typed = "".join(f", {column} {kind.duckdb}" for column, kind in zip(columns, config.columns.values(), strict=True))
    connection.execute(
        "CREATE TABLE events (w INTEGER, key VARCHAR, hi UBIGINT, lo UBIGINT, id VARCHAR, idh UBIGINT, "
        f"time TIMESTAMPTZ, file INTEGER, line BIGINT{typed})"
    )
    connection.execute(f"CREATE TABLE refused (w INTEGER{typed})")
    connection.execute("CREATE TABLE named (w INTEGER, name VARCHAR)")
    spec = spec_of(config, config.columns)
    values = "".join(f", {column}" for column in columns)
    arrived: dict[str, int] = {}
    unread: list[str] = []
    windows = list(task.history.windows.items())
    for done, (name, held) in enumerate(windows):
        progress(name, done / len(windows))
        number = config.grid.index(config.grid.parse(name))
        connection.execute("INSERT INTO named VALUES (?, ?)", [number, name])
        try:
            arrived[name] = _load_window(task, name, held["revision"], spec)
        except _UnreadError as error:
            unread.append(name)
            task.findings.add(
                f"window {name}: revision {held['revision']} can't be read again ({error}); its keys are not compared; "
                "restore its files from a copy of the store"
            )
            continue
        connection.execute(f"INSERT INTO events SELECT {number}, key, hi, lo, id, idh, time, file, line{values} FROM landed")
        connection.execute(f"INSERT INTO refused SELECT {number}{values} FROM landed_rejects")
    return arrived, unread


class _UnreadError(Exception):
    """Why the events of a window cannot be read again."""


def _load_window(task: Recomputation, name: str, revision: int, spec: EventSpec) -> int:
    """Makes the tables ``landed`` and ``landed_rejects``; returns the rows that the files held."""
    import duckdb
    import pyarrow as pa

    try:
        manifest = read_manifest(task.store, task.config.grid.parse(name), revision)
        if manifest is None:
            raise WrongInput("its manifest is gone")
        damaged = [file.name for file in manifest.files if file.path in task.damaged]
        if damaged:
            raise WrongInput(f"{damaged[0]} is not what was landed")
        sources = [SourceFile(file.name, local_copy(task.store, file.path, task.scratch), bool(file.reason)) for file in manifest.files]
        return sum(file.rows for file in load_events(task.connection, sources, spec, "landed"))
    except (*UNREADABLE, duckdb.Error, pa.ArrowException, OSError) as error:
        raise _UnreadError(said(error)) from error


def _judge(connection: duckdb.DuckDBPyConnection, config: Config) -> None:
    """Turns ``events`` into ``judged``, with a fate for every event.

    Within an identity, ordered by window and then by what decides within one, the event before is of the same window (a
    duplicate) or of the nearest earlier window that accepted the identity, since that window's first event was
    accepted."""
    if not config.events.id:
        connection.execute(f"CREATE VIEW judged AS SELECT *, {COUNTED} AS fate FROM events")
        return
    horizon = config.grid.reaches_back(config.events.dedupe)
    connection.execute(f"""
        CREATE TABLE judged AS
        SELECT * EXCLUDE (before),
               CASE WHEN id IS NULL OR before IS NULL THEN {COUNTED} WHEN before = w THEN {DUPLICATE}
                    WHEN w - before <= {horizon} THEN {SUPPRESSED} ELSE {COUNTED} END AS fate
        FROM (SELECT *, lag(w) OVER (PARTITION BY key, id ORDER BY w, time ASC NULLS LAST, file, line) AS before
              FROM events)""")
    connection.execute("DROP TABLE events")


def _check_windows(task: Recomputation, arrived: Mapping[str, int], unread: Sequence[str]) -> None:
    """Each window's recounted rows, money, keys and measures against its commit, and so against its certificate.

    What is a duplicate of an unread window is not known, so the windows after it are compared up to that."""
    connection, config, state = task.connection, task.config, task.history.state
    fates = totals_by(connection, config, "judged", f"w::BIGINT * {_FATES} + fate")
    refused = totals_by(connection, config, "refused", "w")
    measures = additive(config, state)
    sums = "".join(f", {exact_sum_of(quoted('m_' + item.name), item.type)}" for item in measures)
    rows = connection.execute(f"SELECT w, count(*){sums} FROM contributed GROUP BY w").fetchall()
    computed = {row[0]: row[1:] for row in rows}
    missing = [config.grid.index(config.grid.parse(name)) for name in unread] if config.events.id else []
    horizon = config.grid.reaches_back(config.events.dedupe)
    for name in arrived:
        held, number = task.history.windows[name], config.grid.index(config.grid.parse(name))
        counted, suppressed, duplicates = (fates.get(number * _FATES + fate, Totals()) for fate in (COUNTED, SUPPRESSED, DUPLICATE))
        rejected = refused.get(number, Totals())
        recounted = {
            "arrived": Totals(arrived[name], (counted + suppressed + duplicates + rejected).money),
            "accepted": counted + suppressed,
            "duplicates": duplicates,
            "rejected": rejected,
        }
        settled = not any(number - horizon <= other < number for other in missing)
        if settled:
            recounted |= {"suppressed": suppressed, "counted": counted}
        wrong = [
            f"{field}: {difference}"
            for field, totals in recounted.items()
            for difference in Totals.from_json(held[field]).differences(totals)
        ]
        keys, *values = computed.get(number, (0, *(None for _ in measures)))
        wrong += [] if keys == held["keys"] else [f"keys {held['keys']} ≠ {keys}"]
        if settled and not is_beyond_sums(config, held):
            for item, value in zip(measures, values, strict=True):
                committed, again = Decimal(held["measures"].get(item.name, 0)), exact(value, item.type)
                wrong += [] if committed == again else [f"{item.name} {committed} ≠ {again}"]
        if wrong:
            certificate = task.newest.get(name)
            named = f"certificate {certificate['number']} of " if certificate else ""
            task.findings.add(
                f"window {name}: {named}commit {held['commit']} does not tie with the landed events (stated ≠ computed "
                f"again: {'; '.join(wrong)}); 'recon replay {name}'"
            )


def _check_conflicts(task: Recomputation) -> None:
    """The conflicts that each window's figures state, against those of the landed events."""
    again = conflicts_again(task.connection, task.config)
    for name, held in task.history.windows.items():
        if wrong := differences(held, again.get(task.config.grid.index(task.config.grid.parse(name)), {})):
            task.findings.add(
                f"window {name}: the conflicts of commit {held['commit']} are not those of the landed events (stated ≠ computed again: "
                f"{'; '.join(wrong)}); 'recon replay {name}'"
            )


def _check_stateless_content(task: Recomputation, arrived: Mapping[str, int]) -> None:
    """The sorted events and the stateless artifacts, each row by row as a set, against what was computed again."""
    columns = ["key", "hi", "id", "time", "file", "line", *(f"c_{name}" for name in model.event_columns(task.config))]
    content = f"sum(hash({', '.join(quoted(name) for name in columns)})::HUGEINT)"
    rows = task.connection.execute(f"SELECT w, count(*), {content} FROM judged WHERE fate <> {DUPLICATE} GROUP BY w").fetchall()
    _compare_content(task, arrived, reduced.EVENTS, dict.fromkeys(arrived, content), rows)

    # Artifacts are reduced before anything is suppressed: where something was, their measures are not computed again.
    plain = "key, hi, lo, {n}, ids"
    full = plain + "".join(f", {_value(item)}" for item in task.config.measures)
    rows = task.connection.execute(f"""
        SELECT w, count(*), CASE WHEN sum(d) = 0 THEN sum(hash({full.format(n="n")})::HUGEINT)
                                 ELSE sum(hash({plain.format(n="n + d")})::HUGEINT) END, sum(d)
        FROM contributed GROUP BY w""").fetchall()
    moved = {number for number, *_, suppressed in rows if suppressed}
    numbers = {name: task.config.grid.index(task.config.grid.parse(name)) for name in arrived}
    stored = {name: f"sum(hash({(plain if number in moved else full).format(n='n')})::HUGEINT)" for name, number in numbers.items()}
    _compare_content(task, arrived, reduced.ARTIFACTS, stored, [row[:3] for row in rows])


def _value(item: Measure) -> str:
    """A measure's value in the table ``contributed`` and in stateless artifacts."""
    name = quoted(f"m_{item.name}")
    return f"{name}.v" if item.kind in ("first", "last") else name


def _compare_content(
    task: Recomputation, arrived: Mapping[str, int], file: str, content: Mapping[str, str], rows: Sequence[tuple[Any, ...]]
) -> None:
    """``content``: per window the SQL aggregate over the file; ``rows``: number of the window, rows and content expected."""
    import duckdb

    expected = {row[0]: row[1:] for row in rows}
    for name in arrived:
        path = task.history.windows[name]["folder"] + file
        number = task.config.grid.index(task.config.grid.parse(name))
        try:
            source = parquet.scan(local_copy(task.store, path, task.scratch))
            query = f"SELECT count(*), {content[name]} FROM {source}"
            found = task.connection.execute(query).fetchall()
        except (NotFound, duckdb.Error):
            continue  # named by the check of the stateless files
        if found != [expected.get(number, (0, None))]:
            task.findings.add(f"{path}: window {name}: its rows are not those that the landed files give; 'recon replay {name}'")
