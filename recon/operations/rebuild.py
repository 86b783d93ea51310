"""Rebuilds all artifacts from the landed events by the current rules, or previews what a rebuild would change.

Protocol and rejected alternatives: docs/decisions/006-rebuilds.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from recon.config import Config
from recon.engines.duckdb.session import connect
from recon.engines.select import engine_of
from recon.errors import Damaged, ReconError, WrongInput
from recon.intake.manifests import Manifest, committed_manifest
from recon.model.progress import spanned
from recon.reading.artifacts import table_of
from recon.reading.exports import write_rows
from recon.serving import builds
from recon.stages.certify import certify_windows
from recon.stages.merge import merge_windows
from recon.stages.reduce import reduce_windows
from recon.state import reachable
from recon.state.certificates import note_certified, uncertified
from recon.state.generations import begin, find_or_begin, was_swept
from recon.state.kept_rules import rules_of
from recon.state.tiers import merge_tiers
from recon.state.timeline import Entry, State, Timeline
from recon.storage import layout, parquet
from recon.storage.port import ObjectStore
from recon.storage.scratch import scratch_folder
from recon.vocabulary.duckdb import literal, quoted

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

    from recon.model.progress import Progress


_Report = Callable[[str, float], None]
"""Called with a stage and the share of it that is done."""


@dataclass(frozen=True)
class Rebuilt:
    """The result of a rebuild: the commit that switched to it, its number of windows, and keys by status before and after."""

    commit: int
    windows: int
    before: dict[str, int]
    after: dict[str, int]
    certificates: int


@dataclass(frozen=True)
class Preview:
    """What a rebuild would change. ``changed``: number of keys whose status, or a value that both rules have, would differ; ``appear`` and
    ``vanish`` are among them. ``added`` and ``removed``: columns that only the new or only the old rules have."""

    rules: tuple[str, str]
    windows: int
    before: dict[str, int]
    after: dict[str, int]
    changed: int
    appear: int
    vanish: int
    added: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)


def rebuild(store: ObjectStore, config: Config, progress: Progress) -> Rebuilt:
    """Makes a generation by the rules of ``config``, or continues an unfinished one, switches to it and certifies every window.

    Raises WrongUsage if nothing is committed yet, and WrongInput for a window that these rules cannot process: then nothing is switched."""
    timeline = Timeline(store)
    generation = find_or_begin(store, config, timeline, timeline.head())
    while True:
        state = timeline.head()
        if by := reachable.switched(timeline, state).get(generation):  # another process has continued the same generation
            switched, state = state, timeline.at(by - 1)
            made = timeline.at(by)
            break
        if was_swept(store, timeline, generation, state):
            generation = begin(store, config, state)
        try:
            made = _caught_up(store, config, generation, state, progress)
            entry = Entry("rebuild", layout.new_attempt(), config.rules_version, generation=(generation, made.commit))
            entry = replace(entry, made=Timeline(store, made.folder).digest(made))
        except ReconError:
            # The generation of a process that was suspended for longer than the grace is swept; it begins another one.
            if not was_swept(store, timeline, generation, timeline.head()):
                raise
            continue
        if (committed := timeline.commit(entry, onto=state)) is not None:
            switched = committed
            break
    builds.retire(store, switched)
    late = uncertified(store, config, switched)
    certified = count(1)
    made_certificates = certify_windows(store, config, switched, late, lambda one: progress("certify", "", next(certified) / len(late)))
    note_certified(store, config, switched, at_most=len(switched.windows))
    return Rebuilt(switched.commit, len(made.windows), _statuses(state), _statuses(made), len(made_certificates))


def preview(store: ObjectStore, config: Config, progress: Progress, file: Path | None = None) -> tuple[Preview, pa.Table]:
    """What a rebuild would change, and the keys that would change, in order of status and key. Columns as in ``previewed``. ``file``: also
    writes these keys; csv, jsonl, parquet or xlsx by its suffix."""
    keys = "FROM changes ORDER BY status_before, status_after, key"
    with previewed(store, config, progress) as (found, connection):
        if file is not None:
            write_rows(connection, keys, file)
        return found, connection.sql(keys).to_arrow_table()


@contextmanager
def previewed(store: ObjectStore, config: Config, progress: Progress) -> Iterator[tuple[Preview, duckdb.DuckDBPyConnection]]:
    """Makes the generation without switching to it. The connection has the table ``changes``: key, status_before, status_after, changed
    (names of the columns that differ), then <column>_before and _after of every measure and derived value."""
    timeline = Timeline(store)
    state = timeline.head()
    made = _caught_up(store, config, find_or_begin(store, config, timeline, state), state, progress)
    old = rules_of(store, config, state.rules)
    with scratch_folder(store) as scratch:
        progress("compare", "", 0)
        before = _written(store, old, state, scratch / "before.parquet")
        progress("compare", "", 0.5)
        after = _written(store, config, made, scratch / "after.parquet")
        with connect(store, config, scratch) as connection:
            added, removed = _compare(connection, before, after)
            changed, appear, vanish = connection.execute(
                "SELECT count(*), count(*) FILTER (WHERE change = 'appears'), count(*) FILTER (WHERE change = 'vanishes') FROM changes"
            ).fetchall()[0]
            rules = (state.rules, config.rules_version)
            yield (
                Preview(rules, len(made.windows), _statuses(state), _statuses(made), changed, appear, vanish, added, removed),
                connection,
            )


def _caught_up(store: ObjectStore, config: Config, generation: str, state: State, progress: Progress) -> State:
    """Brings the generation up to the windows and revisions of ``state``. Returns its state."""
    timeline = Timeline(store, layout.generation(generation))
    made = timeline.head()
    todo = [name for name, window in sorted(state.windows.items()) if window.revision > made.revision(name)]
    for start in range(0, len(todo), config.caps.windows):
        block = todo[start : start + config.caps.windows]
        name = spanned(block)

        def report(stage: str, share: float, start: int = start, name: str = name, size: int = len(block)) -> None:
            progress(f"rebuild: {stage}", name, (start + share * size) / len(todo))

        report("reduce", 0)
        manifests = [committed_manifest(store, config.grid, name, state.windows[name].revision) for name in block]
        _process(store, config, timeline, manifests, report)
    return timeline.head()


def _process(store: ObjectStore, config: Config, timeline: Timeline, manifests: list[Manifest], report: _Report) -> None:
    """Reduces and merges a range of windows into the generation. Reduces again even where a reduction by these rules exists: the store's
    timeline may have superseded it, and a sweep may remove it."""
    try:
        reduced = []
        for number, manifest in enumerate(manifests):
            reduced += reduce_windows(store, config, [manifest], again=True)
            report("reduce", (number + 1) / len(manifests) / 2)
        fetched = engine_of(config).prefetch(store, config, timeline.head(), reduced)
        try:
            merge_windows(store, config, timeline, reduced, fetched, lambda share: report("merge", 0.5 + share / 2))
        finally:
            store.delete(fetched.path)
    except Damaged:
        raise
    except WrongInput as error:
        raise WrongInput(
            f"the rebuild stops, nothing was switched: {error}; correct the rules or the window, then rebuild again"
        ) from error
    merge_tiers(store, config, timeline)


def _written(store: ObjectStore, config: Config, state: State, file: Path) -> Path:
    """Writes all artifacts of a state to a Parquet file. Computes them again from the stateless files where records cannot be read: an
    earlier Recon wrote them."""
    with table_of(store, config, state, then=True) as connection:
        connection.execute(f"COPY artifacts TO {literal(str(file))} (FORMAT parquet)")
    return file


def _compare(connection: duckdb.DuckDBPyConnection, before: Path, after: Path) -> tuple[list[str], list[str]]:
    """Creates the table ``changes``. Returns the columns that only the new rules have, and those that only the old rules have."""
    sides = {"b": parquet.scan(before), "a": parquet.scan(after)}
    fixed = {"key", "status", "windows", "first_window", "last_window"}
    columns = {side: [row[0] for row in connection.execute(f"DESCRIBE FROM {source}").fetchall()] for side, source in sides.items()}
    old, new = ([name for name in columns[side] if name not in fixed] for side in ("b", "a"))
    both = ["status", *(name for name in old if name in new)]
    differ = {name: f"{_compared('b', name)} IS DISTINCT FROM {_compared('a', name)}" for name in both}
    named = ", ".join(f"CASE WHEN {differs} THEN {literal(name)} END" for name, differs in differ.items())
    shown = "".join(
        f", {side}.{quoted(name)} AS {quoted(f'{name}_{when}')}"
        for name in dict.fromkeys((*old, *new))
        for side, when, names in (("b", "before", old), ("a", "after", new))
        if name in names
    )
    connection.execute(f"""
        CREATE TEMP TABLE changes AS
        SELECT coalesce(b.key, a.key) AS key, b.status AS status_before, a.status AS status_after,
               CASE WHEN b.key IS NULL THEN 'appears' WHEN a.key IS NULL THEN 'vanishes' ELSE concat_ws(', ', {named}) END AS change
               {shown}
        FROM {sides["b"]} b FULL JOIN {sides["a"]} a ON b.key = a.key
        WHERE b.key IS NULL OR a.key IS NULL OR {" OR ".join(differ.values())}""")
    return [name for name in new if name not in old], [name for name in old if name not in new]


def _compared(side: str, name: str) -> str:
    """SQL of a value as text, without trailing zeros of a fraction: another scale alone is no change."""
    value = f"{side}.{quoted(name)}"
    text = f"CAST({value} AS VARCHAR)"
    return f"CASE WHEN typeof({value}) LIKE 'DECIMAL%' AND contains({text}, '.') THEN rtrim(rtrim({text}, '0'), '.') ELSE {text} END"


def _statuses(state: State) -> dict[str, int]:
    return dict(state.totals.get("statuses", {}))
