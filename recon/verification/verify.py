"""Verify: proves a store by reading all of it; with ``full``, by recomputing every artifact from the landed events."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from recon.config import Config
from recon.errors import OutOfCapacity
from recon.serving.dynamodb import client_of
from recon.storage.cache import uncached
from recon.storage.hashing import define, salt_of
from recon.storage.port import ObjectStore
from recon.storage.scratch import scratch_folder
from recon.verification.certificates import check_certificates
from recon.verification.compare import keep_stored, start_stored
from recon.verification.findings import Findings
from recon.verification.index_table import check_table
from recon.verification.landed import check_landed
from recon.verification.proof import Proof
from recon.verification.recompute import check_artifacts
from recon.verification.records import live_records
from recon.verification.reduced import check_stateless
from recon.verification.timeline import check_timeline, check_watermark
from recon.verification.totals import add_sums, additive, check_sums, start_sums
from recon.verification.traces import check_head, check_rules, check_traces, digest_given

if TYPE_CHECKING:
    import duckdb

    from recon.model.progress import Progress


@dataclass(frozen=True)
class Verified:
    """The result of a verification. ``commit``: the verified state. ``records``, ``runs``, ``certificates``, ``windows``: numbers of live
    records and so on. ``events``: rows read again from the landed files, 0 unless ``full``. ``problems``: one line each; the last line
    counts those that are not listed. ``items``: of the index table, 0 if there is none. ``head``: the digest of the newest entry."""

    commit: int
    records: int
    runs: int
    certificates: int
    windows: int
    events: int = 0
    problems: list[str] = field(default_factory=list)
    items: int = 0
    head: str = ""
    notes: list[str] = field(default_factory=list)
    """Observations that are no problem of the store: ids under several keys."""

    @property
    def ok(self) -> bool:
        return not self.problems


def verify(store: ObjectStore, config: Config, *, full: bool, progress: Progress | None, head: str | None = None) -> Verified:
    """Proves the store at its newest commit. Damage is listed, never raised; nothing is changed. ``head``: a digest that ``recon head``
    printed earlier, which an entry must still have.

    Raises TryAgain (the store or DynamoDB is unavailable, the disk is full) and WrongUsage (the user's logic breaks its contract, ``head``
    is no digest, or the records are JSON lines of an earlier version)."""
    kept = None if head is None else digest_given(head)
    store = uncached(store)  # the bytes in the store are what is proved
    findings, events, items = Findings(), 0, 0

    def report(stage: str) -> Callable[[str, float], None]:
        return lambda window, share: progress(f"verify {stage}", window, share) if progress else None

    report("timeline")("", 0)
    history = check_timeline(store, findings)
    check_watermark(config, history, findings)
    if kept is not None:
        check_head(history, kept, findings)
    check_traces(store, history, findings)
    check_rules(store, config, history, findings)
    damaged = check_landed(store, history, findings, report("landed files"))
    certificates, newest = check_certificates(store, config, history, findings, report("certificates"))
    with scratch_folder(store) as scratch, _database(store, config, scratch) as connection:
        proof = Proof(store, config, connection, history, scratch, findings, newest, frozenset(damaged))
        check_stateless(proof, report("stateless files"))
        _check_records(proof, full, report("records"))
        if full:
            events = _recomputed(proof, report("events"))
        if config.index.kind == "dynamodb":
            items = check_table(proof, client_of(store, config), report("index table"))
    state = history.state
    return Verified(
        state.commit,
        proof.records.live,
        len(state.runs),
        certificates,
        len(state.windows),
        events,
        findings.lines(),
        items,
        history.digests.get(state.commit, ""),
        findings.notes,
    )


def _recomputed(proof: Proof, progress: Callable[[str, float], None]) -> int:
    """Recomputes every artifact. Returns the number of events read; 0 if a sum does not fit, which is a finding."""
    import duckdb

    try:
        return check_artifacts(proof, progress)
    except duckdb.OutOfRangeException as error:
        proof.findings.add(
            f"a sum outgrew the 38 digits that a decimal holds ({str(error).splitlines()[0]}): the artifacts could not be computed "
            "again, and none was compared; look for amounts that are far too large and correct their file with 'recon land --replace'"
        )
        return 0


def _check_records(proof: Proof, full: bool, progress: Callable[[str, float], None]) -> None:
    """Reads every record once: checks its bytes, adds it to the sums, and with ``full`` copies it for the comparison."""
    config, connection, state = proof.config, proof.connection, proof.history.state
    if state.commit and state.rules != config.rules_version:
        proof.findings.add(
            f"{config.path}: the rules changed since commit {state.commit} (version {state.rules}, now {config.rules_version}); "
            "measures were not added up or computed again; put the rules back and run 'recon verify' again"
        )
    measures = additive(config, state)
    start_sums(connection, measures)
    start_stored(connection)
    for batch in live_records(proof, lambda share: progress("", share)):
        with batch.registered(connection):
            add_sums(connection, config, measures)
            if full and state.rules == config.rules_version:
                keep_stored(connection, config)
    # An unreadable record has a finding already; sums without it would repeat that for every window.
    if proof.records.complete:
        check_sums(connection, config, proof.history, measures, proof.findings)


@contextmanager
def _database(store: ObjectStore, config: Config, scratch: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """A database in a file of its own, so that tables of all events need no memory."""
    import duckdb

    # DuckDB takes "?" in a database's path for a URL's query and a backslash for a slash. A database in memory spills as well.
    name = ":memory:" if {"?", "\\"} & set(str(scratch)) else str(scratch / "verify.duckdb")
    connection = duckdb.connect(
        name,
        config={
            "threads": config.threads,
            "memory_limit": config.memory_limit,
            "temp_directory": str(scratch / "spill"),
        },
    )
    try:
        for setting in (
            "TimeZone = 'UTC'",
            "preserve_insertion_order = false",
            "autoinstall_known_extensions = false",
            "enable_progress_bar = false",
        ):
            connection.execute(f"SET {setting}")
        define(connection, salt_of(store))
        yield connection
    except duckdb.IOException as error:
        if "No space left" in str(error):
            raise OutOfCapacity(f"{scratch}: the disk is full; free some room and verify again, nothing was changed") from error
        raise
    finally:
        connection.close()
