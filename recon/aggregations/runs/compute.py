"""Computes an aggregation: an engine reduces the versions by the definition's configuration, and the artifacts become rows of the
target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from recon.aggregations.definitions.load import ROWS, Definition
from recon.config.model import Config
from recon.engines.duckdb.session import connect
from recon.engines.select import engine_of
from recon.errors import WrongInput
from recon.intake.manifests import LandedFile, Manifest
from recon.state import reduced
from recon.state.reduced import Figures
from recon.storage import layout, parquet
from recon.storage.port import ObjectStore
from recon.storage.scratch import local_copy
from recon.vocabulary.duckdb import literal, quoted
from recon.vocabulary.types import TEXT, Type


@dataclass(frozen=True)
class Computed:
    """``rows``: a local Parquet file with the target's key and measure columns, one row per key; ``count``: their number. ``totals``: sums
    of the sum and count measures, as text. ``rows_in``: of the files; ``rows_used``: those that the filter keeps. ``place``: the cluster
    and step that computed it, empty for this process."""

    rows: Path
    count: int
    totals: Mapping[str, str]
    rows_in: int
    rows_used: int
    place: Mapping[str, Any] = field(default_factory=dict)


class Reduce(Protocol):
    """Reduces the files of a manifest that the store does not have. Returns the figures, and the place where it was done."""

    def __call__(self, store: ObjectStore, config: Config, manifest: Manifest, /) -> tuple[Figures, Mapping[str, Any]]: ...


def reduce_here(store: ObjectStore, config: Config, manifest: Manifest) -> tuple[Figures, Mapping[str, Any]]:
    """Reduces in this process, by the configured engine."""
    (figures,) = engine_of(config).reduce(store, config, [manifest])
    return figures, {}


def compute(
    store: ObjectStore,
    definition: Definition,
    files: Sequence[Mapping[str, Any]],
    number: int,
    folder: Path,
    reduce: Reduce = reduce_here,
) -> Computed:
    """Aggregates files, rows of the table ``files``. ``number``: of the run. Raises WrongInput for a row that has no key or does not fit
    its type, with file and line, and where rows do not tie."""
    if not files:
        return _nothing(definition, folder)
    landed = {str(file["landed_path"]): _landed(file) for file in files}
    manifest = Manifest(_window(files), layout.revision_of_run(number), tuple(landed.values()), True, "aggregate")
    figures, place = reduce(store, definition.config, manifest)
    expected = sum(int(file["kept"]) for file in {str(file["landed_path"]): file for file in files}.values())
    if figures.accepted.rows != expected:
        raise WrongInput(
            f"{definition.name}: {figures.accepted.rows:,} rows were aggregated, the files have {expected:,}; nothing was loaded"
        )
    try:
        return _rows(store, definition, figures, folder, place)
    finally:
        for path in list(store.list(figures.folder)):
            store.delete(path)


def remove_leftovers(store: ObjectStore, number: int) -> None:
    """Removes the artifacts of a run whose process died before it could."""
    own = layout.aggregated(number)
    for path in [path for path in store.list(layout.AGGREGATED) if path.startswith(own)]:
        store.delete(path)


def _window(files: Sequence[Mapping[str, Any]]) -> str:
    """The first window of a run's files."""
    return min(str(file["window"]) for file in files)


def _nothing(definition: Definition, folder: Path) -> Computed:
    """The result of no file: no row."""
    import duckdb

    kinds = definition.column_types
    rows = folder / "rows.parquet"
    with duckdb.connect() as connection:
        columns = ", ".join(f"CAST(NULL AS {kind.duckdb}) AS {quoted(name)}" for name, kind in kinds.items())
        connection.execute(f"COPY (SELECT {columns} LIMIT 0) TO {literal(str(rows))} (FORMAT parquet)")
    return Computed(rows, 0, dict.fromkeys(_additive(definition), "0"), 0, 0)


def _additive(definition: Definition) -> list[str]:
    """The measures that can be added up."""
    return [measure.name for measure in definition.config.measures if measure.kind in ("sum", "count") and measure.name != ROWS]


def _landed(file: Mapping[str, Any]) -> LandedFile:
    if file["landed_path"] is None:
        raise WrongInput(f"{file['name']}: it landed before aggregations were there; run 'recon source reconvert {file['source']}'")
    return LandedFile(
        file["landed_as"] or file["name"], file["landed_digest"], int(file["size"]), file["landed_path"], {"rows": file["kept"]}
    )


def _rows(store: ObjectStore, definition: Definition, figures: Figures, folder: Path, place: Mapping[str, Any]) -> Computed:
    """The artifacts as rows of the target, without keys of which the filter keeps no row."""
    config = definition.config
    artifacts = parquet.scan(local_copy(store, figures.folder + reduced.ARTIFACTS, folder))
    keys = [_key(name, at, len(definition.key_types), kind) for at, (name, kind) in enumerate(definition.key_types.items())]
    kinds = {measure.name: measure.type for measure in config.measures if measure.name != ROWS}
    measures = [f"{quoted(f'm_{name}')} AS {quoted(name)}" for name in kinds]
    additive = _additive(definition)
    rows = folder / "rows.parquet"
    kept = f"(FROM {artifacts} WHERE {quoted(f'm_{ROWS}')} > 0)"
    with connect(store, config, folder, f"aggregation {definition.name}: ") as connection:
        unread = " OR ".join(["false", *(f"{expression} IS NULL" for expression in keys)])
        if bad := connection.execute(f"SELECT key FROM {kept} WHERE {unread} LIMIT 1").fetchone():
            kinds_told = ", ".join(f"{name} {kind}" for name, kind in definition.key_types.items())
            raise WrongInput(f"{definition.name}: key {bad[0]!r} does not fit the types of its columns, {kinds_told}")
        columns = [f"{expression} AS {quoted(name)}" for expression, name in zip(keys, definition.key_types, strict=True)]
        connection.execute(f"COPY (SELECT {', '.join([*columns, *measures])} FROM {kept}) TO {literal(str(rows))} (FORMAT parquet)")
        sums = "".join(f", coalesce(sum({quoted(f'm_{name}')}), 0)" for name in [ROWS, *additive])
        count, used, *totals = connection.execute(f"SELECT count(*){sums} FROM {kept}").fetchall()[0]
    named = {name: str(value) for name, value in zip(additive, totals, strict=True)}
    return Computed(rows, int(count), named, figures.arrived.rows, int(used), place)


def _key(name: str, at: int, columns: int, kind: Type) -> str:
    """SQL of a key column's value: null where the text is no such value. ``recon.model.key`` has the text of a key of several columns."""
    text = "key" if columns == 1 else f"json_extract_string(key, {literal(f'$[{at}]')})"
    return text if kind == TEXT else f"TRY_CAST({text} AS {kind.duckdb})"
