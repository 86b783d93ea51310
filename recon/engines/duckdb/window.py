"""Reduces one window in DuckDB and ties its rows and money."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recon.config import Config, model
from recon.engines.duckdb import reduce, unusual
from recon.engines.duckdb.session import connect
from recon.errors import WrongInput
from recon.intake.files import EventSpec, FileRows, SourceFile, load_events, spec_of
from recon.intake.manifests import LandedFile, Manifest
from recon.model.totals import Money, Totals, declared_text, declared_totals
from recon.state import reduced
from recon.state.reduced import Figures
from recon.storage import layout, parquet
from recon.storage.port import AlreadyExists, NotFound, ObjectStore
from recon.storage.scratch import file_digest, local_copy, scratch_folder

if TYPE_CHECKING:
    import duckdb


def reduce_window(store: ObjectStore, config: Config, manifest: Manifest) -> Figures:
    """Reduces one window in this process, from its files to its figures."""
    window = config.grid.parse(manifest.window)
    folder = layout.stateless(window, manifest.revision, config.rules_version, layout.new_attempt())
    files, spec = manifest.files, event_spec(config)
    with scratch_folder(store) as scratch, connect(store, config, scratch, f"window {manifest.window}: ") as connection:
        try:
            sources = [SourceFile(file.name, local_file(store, file, scratch), bool(file.reason)) for file in files]
            read = load_events(connection, sources, spec, "landed")
        except WrongInput as error:
            raise WrongInput(f"window {manifest.window}: {error}") from None
        refuse_if_configured(connection, config, manifest, files)
        for number, file in enumerate(files):
            tie_with_declared(connection, config, manifest, file, number, read[number])
        reduce.set_duplicates_aside(connection, config)
        written = ReducedFiles(folder, {name: scratch / name for name in (reduced.EVENTS, reduced.ARTIFACTS, reduced.SET_ASIDE)})
        rows = sum(file.rows for file in read)
        reduce.write_events(connection, config, written.local[reduced.EVENTS], rows)
        artifacts = reduce.logical(connection, config, reduce.reduce_events(config, "events"))
        reduce.write_artifacts(connection, written.local[reduced.ARTIFACTS], artifacts, rows)
        reduce.write_set_aside(connection, config, written.local[reduced.SET_ASIDE])
        figures = figures_of(connection, config, manifest, read, _money(connection, config), written)
        written.copy_into(store)
    # A sweep deletes the files of an attempt that takes too long; then the window is reduced again.
    return figures if finished(store, figures) else reduce_window(store, config, manifest)


def finished(store: ObjectStore, figures: Figures) -> bool:
    """Puts the figures, which complete the folder. Returns False where a sweep has deleted the folder as abandoned."""
    try:
        store.put_new(figures.folder + reduced.FIGURES, [figures.body()])
    except AlreadyExists:
        return False
    return True


def event_spec(config: Config) -> EventSpec:
    """The columns that the intake reads."""
    return spec_of(config, model.event_columns(config))


def _money(connection: duckdb.DuckDBPyConnection, config: Config) -> Money:
    """Control totals of all rows that were read, good and bad."""
    return reduce.totals_of(connection, config, "(FROM landed UNION ALL BY NAME FROM landed_rejects)").money


@dataclass(frozen=True)
class ReducedFiles:
    """The Parquet files of a reduced window on local disk, by name, and the folder of the store that they are for."""

    folder: str
    local: Mapping[str, Path]

    def copy_into(self, store: ObjectStore) -> None:
        for name, path in self.local.items():
            store.copy_in(self.folder + name, path)


def figures_of(
    connection: duckdb.DuckDBPyConnection,
    config: Config,
    manifest: Manifest,
    read: Sequence[FileRows],
    money: Money,
    written: ReducedFiles,
) -> Figures:
    """The figures of a window. ``read``: rows read of each of the manifest's files, in order; ``money``: control totals of all rows read.

    Raises WrongInput where the totals of what was read and of what was written do not tie."""
    aside, artifacts, accepted = (parquet.scan(written.local[name]) for name in (reduced.SET_ASIDE, reduced.ARTIFACTS, reduced.EVENTS))
    rejected = f"(FROM {aside} WHERE kind = 'rejected')"
    duplicates = f"(FROM {aside} WHERE kind <> 'rejected')"
    arrived = Totals(sum(file.rows for file in read), money)
    keys, events, conflicting = connection.execute(
        f"SELECT count(*), coalesce(sum(n), 0), (SELECT count(*) FROM {aside} WHERE kind = 'conflicting') FROM {artifacts}"
    ).fetchall()[0]
    figures = Figures(
        window=manifest.window,
        revision=manifest.revision,
        rules=config.rules_version,
        folder=written.folder,
        files=[_file_figures(file, rows) for file, rows in zip(manifest.files, read, strict=True)],
        keys=keys,
        arrived=arrived,
        accepted=reduce.totals_of(connection, config, accepted),
        duplicates=reduce.totals_of(connection, config, duplicates),
        rejected=reduce.totals_of(connection, config, rejected),
        conflicting=conflicting,
        two_keys=reduce.ids_under_two_keys(connection, artifacts, accepted),
        unreadable=reduce.without_amount(connection, config, rejected),
        without_amount=reduce.without_amount(connection, config, accepted),
        measures=reduce.measure_totals(connection, config, artifacts),
        unusual=unusual.count(connection, config, manifest.window, accepted),
        digests={name: file_digest(path) for name, path in written.local.items()},
        cause=manifest.cause,
        reason=manifest.reason,
        closed=manifest.closed,
        expected=manifest.expected,
        received=len(manifest.received),
        short=manifest.short,
        manifest=manifest.digest,
    )
    differences = arrived.differences(figures.accepted + figures.duplicates + figures.rejected)
    if events != figures.accepted.rows:
        differences.append(f"events in artifacts {events} ≠ {figures.accepted.rows}")
    if differences:
        raise WrongInput(f"window {manifest.window}: reduce does not tie ({'; '.join(differences)}); nothing was committed")
    return figures


def _file_figures(file: LandedFile, rows: FileRows) -> dict[str, Any]:
    origin = {"origin": file.origin} if file.origin else {}
    return {"name": file.name, "digest": file.digest, "bytes": file.bytes, "rows": rows.rows, "rejected": rows.rejected, **origin}


def refuse_if_configured(connection: duckdb.DuckDBPyConnection, config: Config, manifest: Manifest, files: Sequence[LandedFile]) -> None:
    if config.rejects == "keep":
        return
    rows = connection.execute("SELECT file, line, reason FROM landed_rejects ORDER BY file, line LIMIT 1").fetchall()
    if rows:
        first = rows[0]
        raise WrongInput(
            f"window {manifest.window}: {files[first[0]].name}, line {first[1]}: {first[2]}; "
            "correct it with 'recon land --replace', or set 'rejects: keep' to set such rows aside"
        )


def tie_with_declared(
    connection: duckdb.DuckDBPyConnection,
    config: Config,
    manifest: Manifest,
    file: LandedFile,
    number: int,
    read: FileRows,
) -> None:
    """Raises WrongInput where the totals that the sender declared differ from the file's. Compares only declared controls."""
    if file.expect:
        source = f"(FROM (FROM landed UNION ALL BY NAME FROM landed_rejects) WHERE file = {number})"
        tie_declared(config, manifest, file, Totals(read.rows, reduce.totals_of(connection, config, source).money))


def tie_declared(config: Config, manifest: Manifest, file: LandedFile, found: Totals) -> None:
    """Raises WrongInput where the totals that the sender declared differ from those that were ``found`` in the file."""
    if not file.expect:
        return
    declared = declared_totals(file.expect, found.rows)
    if declared is None:
        raise WrongInput(
            f"window {manifest.window}: {file.name}: its declared control totals ({declared_text(file.expect)}) are not all numbers; "
            f"land it again with --replace {file.name} and right totals"
        )
    unknown = sorted(set(declared.money) - set(found.money))
    if unknown:
        raise WrongInput(
            f"window {manifest.window}: {file.name}: declares {unknown[0]!r}, which is no total under 'control' in {config.path.name}"
        )
    compared = Totals(found.rows, {name: found.money[name] for name in declared.money})
    if differences := declared.differences(compared):
        raise WrongInput(
            f"window {manifest.window}: {file.name}: the declared control totals do not tie (declared ≠ found: "
            f"{'; '.join(differences)}); land a corrected file with --replace {file.name}"
        )


def local_file(store: ObjectStore, file: LandedFile, scratch: Path) -> Path:
    """A landed file as a local path: the stored file in a folder, else a copy."""
    try:
        local = local_copy(store, file.path, scratch)
    except NotFound:
        raise WrongInput(f"{file.name}: its landed bytes are gone from the store ({file.path}); land it again with --replace") from None
    if file_digest(local) != file.digest:
        raise WrongInput(
            f"{file.name}: its bytes in the store ({file.path}) are not those that landed (SHA-256 {file.digest[:16]}…); "
            "land it again with --replace"
        )
    return local
