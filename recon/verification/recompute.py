"""Verifies by recomputing: the landed events of all windows in one table, judged, folded in one pass and compared.

It shares with the pipeline only the reading of files (recon.intake.files) and the meaning of expressions (recon.vocabulary,
recon.logic.call).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from recon.config import Config, model
from recon.config.model import Measure
from recon.errors import WrongInput
from recon.intake.files import EventSpec, SourceFile, load_events, spec_of
from recon.intake.manifests import read_manifest
from recon.model.totals import Totals
from recon.state import reduced
from recon.storage import parquet
from recon.storage.port import NotFound
from recon.storage.scratch import local_copy
from recon.verification.compare import compare
from recon.verification.conflicts import conflicts_again, differences, ids_under_several_keys
from recon.verification.expected import compute
from recon.verification.findings import UNREADABLE, text_of
from recon.verification.proof import Proof
from recon.verification.sums import exact, exact_sum_of
from recon.verification.totals import additive, is_beyond_sums, totals_by
from recon.vocabulary.duckdb import quoted

if TYPE_CHECKING:
    import duckdb

COUNTED, SUPPRESSED, DUPLICATE = 0, 1, 2
"""Fates of an event: counts in the artifacts; repeats an identity of an earlier window; repeats an identity of its own window."""
_FATES = 3


def check_artifacts(proof: Proof, progress: Callable[[str, float], None]) -> int:
    """Recomputes every artifact and compares it with the table ``stored``. Returns the number of events read.

    Compares nothing if the rules changed or a run is lost: either has a finding already, and every key would differ."""
    state = proof.history.state
    if state.rules != proof.config.rules_version or proof.records.runs_lost:
        return 0
    arrived, unread = _load(proof, progress)
    _judge(proof.connection, proof.config)
    compute(proof.connection, proof.config)
    progress("", 1)
    _check_windows(proof, arrived, unread)
    if not unread:
        _check_conflicts(proof)
        proof.findings.notes += ids_under_several_keys(proof.connection, proof.config)
    _check_stateless_content(proof, arrived)
    compare(proof, unread)
    return sum(arrived.values())


def _load(proof: Proof, progress: Callable[[str, float], None]) -> tuple[dict[str, int], list[str]]:
    """Fills ``events`` (w: number of the window in the grid, file: place in the order of landing) and ``refused``. Returns window → rows,
    and the windows that cannot be read."""
    connection, config = proof.connection, proof.config
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
    windows = list(proof.history.windows.items())
    for done, (name, committed) in enumerate(windows):
        progress(name, done / len(windows))
        number = proof.number(name)
        connection.execute("INSERT INTO named VALUES (?, ?)", [number, name])
        try:
            arrived[name] = _load_window(proof, name, committed["revision"], spec)
        except _UnreadError as error:
            unread.append(name)
            proof.findings.add(
                f"window {name}: revision {committed['revision']} can't be read again ({error}); its keys are not compared; "
                "restore its files from a copy of the store"
            )
            continue
        connection.execute(f"INSERT INTO events SELECT {number}, key, hi, lo, id, idh, time, file, line{values} FROM landed")
        connection.execute(f"INSERT INTO refused SELECT {number}{values} FROM landed_rejects")
    return arrived, unread


class _UnreadError(Exception):
    """The events of a window cannot be read again; the message is the reason."""


def _load_window(proof: Proof, name: str, revision: int, spec: EventSpec) -> int:
    """Creates the tables ``landed`` and ``landed_rejects``. Returns the number of rows in the files."""
    import duckdb
    import pyarrow as pa

    try:
        manifest = read_manifest(proof.store, proof.config.grid.parse(name), revision)
        if manifest is None:
            raise WrongInput("its manifest is gone")
        damaged = [file.name for file in manifest.files if file.path in proof.damaged]
        if damaged:
            raise WrongInput(f"{damaged[0]} is not what was landed")
        sources = [SourceFile(file.name, local_copy(proof.store, file.path, proof.scratch), bool(file.reason)) for file in manifest.files]
        return sum(file.rows for file in load_events(proof.connection, sources, spec, "landed"))
    except (*UNREADABLE, duckdb.Error, pa.ArrowException, OSError) as error:
        raise _UnreadError(text_of(error)) from error


def _judge(connection: duckdb.DuckDBPyConnection, config: Config) -> None:
    """Turns ``events`` into ``judged``, with a fate for every event.

    The events of an identity are ordered by window, then by time, file and line. The event before is of the same window (a duplicate), or
    of the nearest earlier window that accepted the identity, since that window's first event was accepted."""
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


def _check_windows(proof: Proof, arrived: Mapping[str, int], unread: Sequence[str]) -> None:
    """Compares each window's recounted rows, money, keys and measures with its commit, and so with its certificate.

    Duplicates of an unread window are unknown, so suppressed events are not compared in the windows that it reaches."""
    connection, config = proof.connection, proof.config
    fates = totals_by(connection, config, "judged", f"w::BIGINT * {_FATES} + fate")
    refused = totals_by(connection, config, "refused", "w")
    measures = additive(config, proof.history.state)
    sums = "".join(f", {exact_sum_of(quoted('m_' + item.name), item.type)}" for item in measures)
    rows = connection.execute(f"SELECT w, count(*){sums} FROM contributed GROUP BY w").fetchall()
    computed = {row[0]: row[1:] for row in rows}
    missing = [proof.number(name) for name in unread] if config.events.id else []
    horizon = config.grid.reaches_back(config.events.dedupe)
    for name in arrived:
        committed, number = proof.history.windows[name], proof.number(name)
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
            for difference in Totals.from_json(committed[field]).differences(totals)
        ]
        keys, *values = computed.get(number, (0, *(None for _ in measures)))
        wrong += [] if keys == committed["keys"] else [f"keys {committed['keys']} ≠ {keys}"]
        if settled and not is_beyond_sums(config, committed):
            for item, value in zip(measures, values, strict=True):
                stated, again = Decimal(committed["measures"].get(item.name, 0)), exact(value, item.type)
                wrong += [] if stated == again else [f"{item.name} {stated} ≠ {again}"]
        if wrong:
            certificate = proof.newest.get(name)
            named = f"certificate {certificate['number']} of " if certificate else ""
            proof.findings.add(
                f"window {name}: {named}commit {committed['commit']} does not tie with the landed events (stated ≠ computed "
                f"again: {'; '.join(wrong)}); 'recon replay {name}'"
            )


def _check_conflicts(proof: Proof) -> None:
    """Compares the conflicts that each window's figures state with those of the landed events."""
    again = conflicts_again(proof.connection, proof.config)
    for name, committed in proof.history.windows.items():
        if wrong := differences(committed, again.get(proof.number(name), {})):
            proof.findings.add(
                f"window {name}: the conflicts of commit {committed['commit']} are not those of the landed events "
                f"(stated ≠ computed again: {'; '.join(wrong)}); 'recon replay {name}'"
            )


def _check_stateless_content(proof: Proof, arrived: Mapping[str, int]) -> None:
    """Compares the sorted events and the stateless artifacts, as sets of rows, with the recomputed ones."""
    columns = ["key", "hi", "id", "time", "file", "line", *(f"c_{name}" for name in model.event_columns(proof.config))]
    content = f"sum(hash({', '.join(quoted(name) for name in columns)})::HUGEINT)"
    rows = proof.connection.execute(f"SELECT w, count(*), {content} FROM judged WHERE fate <> {DUPLICATE} GROUP BY w").fetchall()
    _compare_content(proof, reduced.EVENTS, dict.fromkeys(arrived, content), rows)

    # Artifacts are reduced before events are suppressed: in windows with suppressed events the measures cannot be compared.
    plain = "key, hi, lo, {n}, ids"
    full = plain + "".join(f", {_value(item)}" for item in proof.config.measures)
    rows = proof.connection.execute(f"""
        SELECT w, count(*), CASE WHEN sum(d) = 0 THEN sum(hash({full.format(n="n")})::HUGEINT)
                                 ELSE sum(hash({plain.format(n="n + d")})::HUGEINT) END, sum(d)
        FROM contributed GROUP BY w""").fetchall()
    moved = {number for number, *_, suppressed in rows if suppressed}
    stored = {name: f"sum(hash({(plain if proof.number(name) in moved else full).format(n='n')})::HUGEINT)" for name in arrived}
    _compare_content(proof, reduced.ARTIFACTS, stored, [row[:3] for row in rows])


def _value(item: Measure) -> str:
    """SQL of a measure's value in the table ``contributed`` and in stateless artifacts."""
    name = quoted(f"m_{item.name}")
    return f"{name}.v" if item.kind in ("first", "last") else name


def _compare_content(proof: Proof, file: str, content: Mapping[str, str], rows: Sequence[tuple[Any, ...]]) -> None:
    """``content``: window → the SQL aggregate over its file. ``rows``: number of a window, expected rows and expected content."""
    import duckdb

    expected = {row[0]: row[1:] for row in rows}
    for name, aggregate in content.items():
        path = proof.history.windows[name]["folder"] + file
        try:
            source = parquet.scan(local_copy(proof.store, path, proof.scratch))
            found = proof.connection.execute(f"SELECT count(*), {aggregate} FROM {source}").fetchall()
        except (NotFound, duckdb.Error):
            continue  # reported by the check of the stateless files
        if found != [expected.get(proof.number(name), (0, None))]:
            proof.findings.add(f"{path}: window {name}: its rows are not those that the landed files give; 'recon replay {name}'")
