"""Verifies the manifests and the stateless files of every window."""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recon.errors import Damaged
from recon.intake.manifests import Manifest, read_manifest
from recon.model.totals import Totals
from recon.model.windows import parse_instant
from recon.state import reduced
from recon.state.reduced import Figures
from recon.storage import hashing, layout, parquet
from recon.storage.documents import RESTORE
from recon.storage.numbered import number_of
from recon.storage.port import NotFound, ObjectStore
from recon.storage.scratch import file_digest, local_copy
from recon.verification.chain import Chain
from recon.verification.findings import UNREADABLE, Findings, text_of
from recon.verification.proof import Proof
from recon.verification.sums import exact, exact_sum_of
from recon.verification.timeline import History
from recon.verification.totals import additive, totals_by
from recon.vocabulary.duckdb import quoted

if TYPE_CHECKING:
    from collections.abc import Callable


_OF_REVISION = re.compile(r"[a-z]+/(\d{4}-\d\d-\d\dT\d{4}Z)/(\d{6,})-")
_FIGURES = ("revision", "folder", "keys", "arrived", "accepted", "duplicates", "conflicting", "rejected", "unreadable", "closed")
_COMPLETE = ("expected", "received", "short")
"""Figures of a window's files; early commits lack them."""


def _revisions_named(store: ObjectStore, history: History) -> dict[str, dict[int, str]]:
    """Window → revision → the object of the store that refers to this revision."""
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
    """Revision → manifest, None if it cannot be read. Checks that each is linked to the one before, or numbered without a gap."""
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
            findings.add(f"{path}: window {name}: the manifest cannot be read ({text_of(error)}); {RESTORE}")
            chain.skip()
            found |= {revision: None} if path.endswith(".json") else {}
            continue
        before = max(found, default=0)
        last = found.get(before)
        # A landing that was never finished leaves a gap in the numbers, which the link skips.
        if revision > before + 1 and (manifest.previous is None or manifest.previous != (last.digest if last else "")):
            chain.skip()
            findings.add(f"{layout.manifest(window, revision - 1)}: window {name}: the manifest is gone though later ones exist; {RESTORE}")
        chain.add(path, raw, manifest.previous)
        found[revision] = manifest
    return found


def check_stateless(proof: Proof, progress: Callable[[str, float], None]) -> None:
    """Checks for each committed window that its figures are those of the commit, and that its Parquet files agree with its figures."""
    findings, windows = proof.findings, list(proof.history.windows.items())
    for done, (name, committed) in enumerate(windows):
        progress(name, done / len(windows))
        path = f"{committed['folder']}{reduced.FIGURES}"
        try:
            figures = reduced.read(proof.store, committed["folder"])
        except UNREADABLE as error:
            findings.add(f"{path}: window {name}: the figures cannot be read ({text_of(error)}); {RESTORE}, or 'recon replay {name}'")
            continue
        raw = figures.to_json()
        expected = {**raw, "two_keys": 0, "unusual": {}, "without_amount": {}, **committed}  # earlier versions did not count all of them
        wrong = [field for field in (*_FIGURES, *_COMPLETE, "two_keys", "unusual", "without_amount") if raw[field] != expected[field]]
        wrong += ["source_rejected"] if committed.get("source_rejected", 0) != figures.source_rejected else []
        if wrong or committed.get("reduced", figures.digest) != figures.digest:
            findings.add(
                f"{path}: window {name}: the figures differ from those of its commit in {', '.join(wrong) or 'their digest'}; "
                f"{RESTORE}, or 'recon replay {name}'"
            )
        if wrong:
            continue
        _check_manifest_of(proof, figures)
        for file in (reduced.EVENTS, reduced.ARTIFACTS, reduced.SET_ASIDE):
            _check_parquet(proof, figures, file)
    _check_earlier(proof)


def _check_earlier(proof: Proof) -> None:
    """Checks the reductions that earlier commits name, unless a sweep removed them: questions about earlier states are answered from
    them."""
    history = proof.history
    current = {figures["folder"] for figures in history.windows.values()}
    for folder, reduction in history.reductions.items():
        if folder in current or folder in history.swept:
            continue
        path = f"{folder}{reduced.FIGURES}"
        try:
            figures = reduced.read(proof.store, folder)
            if reduction.digest and figures.digest != reduction.digest:
                raise Damaged("they differ from those of their commit")
            for name, digest in figures.digests.items():
                path = f"{folder}{name}"
                if file_digest(local_copy(proof.store, path, proof.scratch)) != digest:
                    raise Damaged("its bytes are not those of its digest")
        except UNREADABLE as error:
            proof.findings.add(
                f"{path}: window {reduction.window}: what an earlier commit names cannot be read ({text_of(error)}); {RESTORE}"
            )


def _check_manifest_of(proof: Proof, figures: Figures) -> None:
    """Checks that the reduced files are those of the manifest of the same revision."""
    findings, window = proof.findings, proof.config.grid.parse(figures.window)
    try:
        manifest = read_manifest(proof.store, window, figures.revision)
    except UNREADABLE:
        manifest = None
    if manifest is None:
        return  # reported by check_landed
    if figures.manifest and figures.manifest != manifest.digest:
        path = layout.manifest(window, figures.revision)
        findings.add(f"{path}: window {figures.window}: the manifest is not the one that was reduced; {RESTORE}")
    landed = sorted((file.name, file.digest, file.bytes, str(file.origin)) for file in manifest.files)
    of_figures = sorted((file["name"], file["digest"], file["bytes"], str(file.get("origin", {}))) for file in figures.files)
    complete = (manifest.expected, len(manifest.received), manifest.short)
    counted = figures.received is not None
    if landed != of_figures or (counted and complete != tuple(getattr(figures, name) for name in _COMPLETE)):
        findings.add(
            f"{figures.folder}{reduced.FIGURES}: window {figures.window}: the reduced files are not those of the "
            f"manifest of revision {figures.revision}; {RESTORE}, or 'recon replay {figures.window}'"
        )


def _check_parquet(proof: Proof, figures: Figures, file: str) -> None:
    import duckdb
    import pyarrow as pa

    check = {reduced.EVENTS: _events, reduced.ARTIFACTS: _artifacts, reduced.SET_ASIDE: _set_aside}[file]
    window, path = figures.window, figures.folder + file
    try:
        local = local_copy(proof.store, path, proof.scratch)
        wrong = check(proof, figures, local)
        if file_digest(local) != figures.digests.get(file):
            wrong.append("its bytes are not those of its digest")
    except NotFound:
        wrong = ["it is gone"]
    except (duckdb.Error, pa.ArrowException, OSError) as error:
        wrong = [f"it cannot be read: {error}"]
    if wrong:
        proof.findings.add(f"{path}: window {window}: not as its figures say ({'; '.join(wrong)}); {RESTORE}, or 'recon replay {window}'")


def _events(proof: Proof, figures: Figures, path: Path) -> list[str]:
    """The differences of the accepted events from their figures; of a key's hash these rows have the high half only."""
    return _by_hash(proof, path, ("hi",)) + _totals(proof, figures, parquet.scan(path), figures.accepted)


def _artifacts(proof: Proof, figures: Figures, path: Path) -> list[str]:
    """The differences of the stateless artifacts from their figures."""
    measures = additive(proof.config, proof.history.state) if _same_rules(proof, figures) else []
    sums = "".join(f", {exact_sum_of(quoted('m_' + item.name), item.type)}" for item in measures)
    keys, events, *values = _row(proof, f"SELECT count(*), coalesce(sum(n), 0){sums} FROM {parquet.scan(path)}")
    compared: list[tuple[str, object, object]] = [("keys", keys, figures.keys), ("events", events, figures.accepted.rows)]
    compared += [
        (item.name, exact(value, item.type), Decimal(figures.measures.get(item.name, 0)))
        for item, value in zip(measures, values, strict=True)
    ]
    return _by_hash(proof, path, ("hi", "lo")) + [f"{what} {found} ≠ {stated}" for what, found, stated in compared if found != stated]


def _set_aside(proof: Proof, figures: Figures, path: Path) -> list[str]:
    """The differences of the rejected rows, and of the duplicates within the window, from their figures."""
    rows = f"SELECT * FROM {parquet.scan(path)}"
    wrong = _totals(proof, figures, f"({rows} WHERE kind = 'rejected')", figures.rejected)
    return wrong + _totals(proof, figures, f"({rows} WHERE kind <> 'rejected')", figures.duplicates)


def _same_rules(proof: Proof, figures: Figures) -> bool:
    return figures.rules == proof.config.rules_version


def _by_hash(proof: Proof, path: Path, halves: Sequence[str]) -> list[str]:
    """Reads every value, and checks that the rows are in order of their keys' hashes, as look-ups and merges expect."""
    import numpy as np

    of_key = dict(zip(("hi", "lo"), hashing.halves("key_hash(key)"), strict=True))
    differs = " OR ".join(f"{half} IS DISTINCT FROM {of_key[half]}" for half in halves)
    query = f"SELECT count(*) FILTER (WHERE {differs}), bit_xor(hash(rows)) FROM {parquet.scan(path)} rows"
    foreign, _ = _row(proof, query)
    table = parquet.read(path, halves)
    columns = [table.column(half).to_numpy() for half in halves]
    after = columns[-1][1:] < columns[-1][:-1]
    for column in reversed(columns[:-1]):
        after = (column[1:] < column[:-1]) | ((column[1:] == column[:-1]) & after)
    wrong = [f"{foreign} keys are not those of their hashes"] if foreign else []
    unordered = int(np.count_nonzero(after))
    return wrong + ([f"{unordered} rows are out of the order of their hashes"] if unordered else [])


def _totals(proof: Proof, figures: Figures, source: str, expected: Totals) -> list[str]:
    if not _same_rules(proof, figures):
        (rows,) = _row(proof, f"SELECT count(*) FROM {source}")
        return Totals(rows).differences(Totals(expected.rows))
    return totals_by(proof.connection, proof.config, source, "1").get(1, Totals()).differences(expected)


def _row(proof: Proof, query: str) -> tuple[Any, ...]:
    return tuple(proof.connection.execute(query).fetchall()[0])
