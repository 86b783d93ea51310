"""Verifying what lies beside the records: landed files, and the stateless files of every window."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recon.config import Config
from recon.config.model import Measure
from recon.errors import Damaged
from recon.intake.manifests import Manifest, read_manifest
from recon.model.totals import Totals
from recon.model.windows import parse_instant
from recon.state import reduced
from recon.state.reduced import Figures
from recon.storage import hashing, layout, parquet
from recon.storage.numbered import number_of
from recon.storage.port import NotFound, ObjectStore
from recon.storage.scratch import file_digest, local_copy
from recon.verification.chain import Chain
from recon.verification.findings import UNREADABLE, Findings, said
from recon.verification.sums import exact, exact_sum_of
from recon.verification.timeline import History
from recon.verification.totals import additive, totals_by
from recon.vocabulary.duckdb import quoted

if TYPE_CHECKING:
    from collections.abc import Callable

    import duckdb

_OF_REVISION = re.compile(r"[a-z]+/(\d{4}-\d\d-\d\dT\d{4}Z)/(\d{6,})-")
_COPY = "restore it from a copy of the store"
_FIGURES = (
    "revision",
    "folder",
    "keys",
    "arrived",
    "accepted",
    "duplicates",
    "conflicting",
    "rejected",
    "unreadable",
    "closed",
)
_COMPLETE = ("expected", "received", "short")
"""Figures of a window's files; commits before these were counted lack them."""


def _revisions_named(store: ObjectStore, history: History) -> dict[str, dict[int, str]]:
    """Window → revision → what in the store says that it was landed."""
    named: dict[str, dict[int, str]] = {}
    for prefix in (layout.QUARANTINE, layout.STATELESS):
        for path in store.list(prefix):
            if (match := _OF_REVISION.match(path)) and (prefix == layout.QUARANTINE or path.endswith(f"/{reduced.FIGURES}")):
                named.setdefault(layout.window_name(match[1]), {})[int(match[2])] = path
    for folder, reduction in history.reductions.items():
        named.setdefault(reduction.window, {}).setdefault(reduction.revision, folder)
    for window, changes in history.changes.items():
        named.setdefault(window, {}).update((figures["revision"], layout.commit(number)) for number, figures in changes.items())
    return named


def _manifests(store: ObjectStore, name: str, history: History, findings: Findings) -> dict[int, Manifest | None]:
    """Revision → manifest, None where it cannot be read. Checks that each is linked to the one before, or numbered without a gap."""
    window, found = parse_instant(name, "window"), dict[int, Manifest | None]()
    chain = Chain(findings, history.linked, f": window {name}")
    for path in store.list(layout.manifests(window)):
        try:
            revision = number_of(path)
            raw = store.get(path)
            manifest = read_manifest(store, window, revision)
            if manifest is None or (manifest.window, layout.manifest(window, manifest.revision)) != (name, path):
                raise Damaged("it is of another window or revision")
        except UNREADABLE as error:
            findings.add(f"{path}: window {name}: the manifest cannot be read ({said(error)}); {_COPY}")
            chain.skip()
            found |= {revision: None} if path.endswith(".json") else {}
            continue
        before = max(found, default=0)
        last = found.get(before)
        # A number may have been given to a landing that was never finished: then the link leads over the gap.
        if revision > before + 1 and (manifest.previous is None or manifest.previous != (last.digest if last else "")):
            chain.skip()
            findings.add(f"{layout.manifest(window, revision - 1)}: window {name}: the manifest is gone though later ones stand; {_COPY}")
        chain.add(path, raw, manifest.previous)
        found[revision] = manifest
    return found


def check_stateless(
    store: ObjectStore,
    config: Config,
    connection: duckdb.DuckDBPyConnection,
    history: History,
    scratch: Path,
    findings: Findings,
    progress: Callable[[str, float], None],
) -> None:
    """Per committed window: figures as the commit has them, and Parquet files that come to these figures."""
    windows = list(history.windows.items())
    for done, (name, held) in enumerate(windows):
        progress(name, done / len(windows))
        path = f"{held['folder']}{reduced.FIGURES}"
        try:
            figures = reduced.read(store, held["folder"])
        except UNREADABLE as error:
            findings.add(f"{path}: window {name}: the figures cannot be read ({said(error)}); {_COPY}, or 'recon replay {name}'")
            continue
        raw = figures.to_json()
        expected = {**raw, "two_keys": 0, "unusual": {}, "without_amount": {}, **held}  # earlier versions did not count all of them
        wrong = [field for field in (*_FIGURES, *_COMPLETE, "two_keys", "unusual", "without_amount") if raw[field] != expected[field]]
        if wrong or held.get("reduced", figures.digest) != figures.digest:
            findings.add(
                f"{path}: window {name}: the figures differ from those of its commit in {', '.join(wrong) or 'their digest'}; "
                f"{_COPY}, or 'recon replay {name}'"
            )
        if wrong:
            continue
        _check_manifest_of(store, config, figures, findings)
        same_rules = figures.rules == config.rules_version
        checked = _Checked(connection, config, figures, additive(config, history.state) if same_rules else [], same_rules)
        for file in (reduced.EVENTS, reduced.ARTIFACTS, reduced.SET_ASIDE):
            _check_parquet(store, checked, file, scratch, findings)
    _check_earlier(store, history, scratch, findings)


def _check_earlier(store: ObjectStore, history: History, scratch: Path, findings: Findings) -> None:
    """Reductions that earlier commits name, unless a sweep removed them: what was known then is answered from them."""
    held = {figures["folder"] for figures in history.windows.values()}
    for folder, reduction in history.reductions.items():
        if folder in held or folder in history.swept:
            continue
        path = f"{folder}{reduced.FIGURES}"
        try:
            figures = reduced.read(store, folder)
            if reduction.digest and figures.digest != reduction.digest:
                raise Damaged("they differ from those of their commit")
            for name, digest in figures.digests.items():
                path = f"{folder}{name}"
                if file_digest(local_copy(store, path, scratch)) != digest:
                    raise Damaged("its bytes are not those of its digest")
        except UNREADABLE as error:
            findings.add(f"{path}: window {reduction.window}: what an earlier commit names cannot be read ({said(error)}); {_COPY}")


def _check_manifest_of(store: ObjectStore, config: Config, figures: Figures, findings: Findings) -> None:
    """The reduced files are those of the manifest of the same revision."""
    try:
        manifest = read_manifest(store, config.grid.parse(figures.window), figures.revision)
    except UNREADABLE:
        manifest = None
    if manifest is None:
        return  # named by check_landed
    if figures.manifest and figures.manifest != manifest.digest:
        findings.add(
            f"{layout.manifest(config.grid.parse(figures.window), figures.revision)}: window {figures.window}: the manifest is not the one "
            f"that was reduced; {_COPY}"
        )
    landed = sorted((file.name, file.digest, file.bytes) for file in manifest.files)
    of_figures = sorted((file["name"], file["digest"], file["bytes"]) for file in figures.files)
    complete = (manifest.expected, len(manifest.received), manifest.short)
    counted = figures.received is not None
    if landed != of_figures or (counted and complete != tuple(getattr(figures, name) for name in _COMPLETE)):
        findings.add(
            f"{figures.folder}{reduced.FIGURES}: window {figures.window}: the reduced files are not those of the "
            f"manifest of revision {figures.revision}; {_COPY}, or 'recon replay {figures.window}'"
        )


@dataclass(frozen=True)
class _Checked:
    """What one window's Parquet files are held against. ``same_rules``: whether the configuration is theirs."""

    connection: duckdb.DuckDBPyConnection
    config: Config
    figures: Figures
    measures: Sequence[Measure]
    same_rules: bool


def _check_parquet(store: ObjectStore, checked: _Checked, file: str, scratch: Path, findings: Findings) -> None:
    import duckdb
    import pyarrow as pa

    check = {reduced.EVENTS: _events, reduced.ARTIFACTS: _artifacts, reduced.SET_ASIDE: _set_aside}[file]
    window, path = checked.figures.window, checked.figures.folder + file
    try:
        local = local_copy(store, path, scratch)
        wrong = check(checked, local)
        if file_digest(local) != checked.figures.digests.get(file):
            wrong.append("its bytes are not those of its digest")
    except NotFound:
        wrong = ["it is gone"]
    except (duckdb.Error, pa.ArrowException, OSError) as error:
        wrong = [f"it cannot be read: {error}"]
    if wrong:
        findings.add(f"{path}: window {window}: not as its figures say ({'; '.join(wrong)}); {_COPY}, or 'recon replay {window}'")


def _events(checked: _Checked, path: Path) -> list[str]:
    """What does not hold of the accepted events; of a key's hash they hold the high half."""
    source = parquet.scan(path)
    return _by_hash(checked, path, ("hi",)) + _totals(checked, source, checked.figures.accepted)


def _artifacts(checked: _Checked, path: Path) -> list[str]:
    """What does not hold of the stateless artifacts."""
    source = parquet.scan(path)
    sums = "".join(f", {exact_sum_of(quoted('m_' + item.name), item.type)}" for item in checked.measures)
    keys, events, *values = _row(checked.connection, f"SELECT count(*), coalesce(sum(n), 0){sums} FROM {source}")
    figures = checked.figures
    expected: list[tuple[str, object, object]] = [
        ("keys", keys, figures.keys),
        ("events", events, figures.accepted.rows),
    ]
    expected += [
        (item.name, exact(value, item.type), Decimal(figures.measures.get(item.name, 0)))
        for item, value in zip(checked.measures, values, strict=True)
    ]
    return _by_hash(checked, path, ("hi", "lo")) + [f"{what} {found} ≠ {said}" for what, found, said in expected if found != said]


def _set_aside(checked: _Checked, path: Path) -> list[str]:
    """What does not hold of the rejected rows and the duplicates within the window."""
    rows = f"SELECT * FROM {parquet.scan(path)}"
    wrong = _totals(checked, f"({rows} WHERE kind = 'rejected')", checked.figures.rejected)
    return wrong + _totals(checked, f"({rows} WHERE kind <> 'rejected')", checked.figures.duplicates)


def _by_hash(checked: _Checked, path: Path, halves: Sequence[str]) -> list[str]:
    """Reads every value, and checks that the rows lie in order of their keys' hashes, as look-ups and merges expect."""
    import numpy as np

    of_key = dict(zip(("hi", "lo"), hashing.halves("key_hash(key)"), strict=True))
    differs = " OR ".join(f"{half} IS DISTINCT FROM {of_key[half]}" for half in halves)
    (foreign, _) = _row(
        checked.connection,
        f"SELECT count(*) FILTER (WHERE {differs}), bit_xor(hash(rows)) FROM {parquet.scan(path)} rows",
    )
    table = parquet.read(path, halves)
    columns = [table.column(half).to_numpy() for half in halves]
    after = columns[-1][1:] < columns[-1][:-1]
    for column in reversed(columns[:-1]):
        after = (column[1:] < column[:-1]) | ((column[1:] == column[:-1]) & after)
    wrong = [f"{foreign} keys are not those of their hashes"] if foreign else []
    unordered = int(np.count_nonzero(after))
    return wrong + ([f"{unordered} rows are out of the order of their hashes"] if unordered else [])


def _totals(checked: _Checked, source: str, expected: Totals) -> list[str]:
    if not checked.same_rules:
        (rows,) = _row(checked.connection, f"SELECT count(*) FROM {source}")
        return Totals(rows).differences(Totals(expected.rows))
    return totals_by(checked.connection, checked.config, source, "1").get(1, Totals()).differences(expected)


def _row(connection: duckdb.DuckDBPyConnection, query: str) -> tuple[Any, ...]:
    return tuple(connection.execute(query).fetchall()[0])
