"""Drives the library through histories and compares its store with the oracle."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import strategies as s
from hypothesis import HealthCheck, settings
from oracle import Artifact, Contribution, Picked, Result, Rules, oracle
from plain_words import encoded

import recon
from recon.api import Reconciliation
from recon.config.form import form_of
from recon.engines.duckdb import carried_forward
from recon.model.record import full, named
from recon.model.totals import Totals
from recon.model.windows import name_of
from recon.reading.artifacts import live_records
from recon.state import certificates
from recon.state.reduced import Figures


def open_in(folder: Path, text: str = s.STANDARD_YAML) -> Reconciliation:
    """A reconciliation with this recon.yaml in an empty folder; its store is there already."""
    (folder / "recon.yaml").write_text(text)
    opened = recon.open(folder / "recon.yaml")
    opened.store(create=True)
    return opened


def carry_out(r: Reconciliation, operation: s.Operation) -> Any:
    """One operation of a history on the library. A run takes just the windows that it names, in one range."""
    if isinstance(operation, s.Run):
        return run_range(r, operation.windows)
    window = name_of(s.at(operation.window))
    if isinstance(operation, (s.Land, s.Replace)):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / operation.file.name
            path.write_bytes(operation.file.content)
            return r.land([path], window, replace=getattr(operation, "old", None), again=True)
    if isinstance(operation, s.Unland):
        return r.unland(operation.name, window, "a test takes it back")
    if isinstance(operation, s.Close):
        return r.close(window, "a test closes it")
    return r.replay(window)


def run_range(r: Reconciliation, windows: tuple[int, ...]) -> Any:
    """Processes those of ``windows`` that are due as one range, consecutive or not."""
    from recon.planning import due
    from recon.stages.pipeline import PlainCalls, process
    from recon.stages.work import Work
    from recon.state.timeline import Timeline

    work = Work(r.store(), r.config, Timeline(r.store()))
    names = {name_of(s.at(window)) for window in windows}
    block = [m.window for m in due.due(work.store, work.config, work.head()).ready if m.window in names]
    if block:
        process(work, block, PlainCalls())
    assert not work.report.bad, work.report.bad
    return work.report


def records(r: Reconciliation) -> dict[str, dict[str, Any]]:
    """Every live record by key, those without contributions too."""
    state, form = r.state(), form_of(r.config)
    found: dict[str, dict[str, Any]] = {}
    for batch in live_records(r.store(), state) if state.runs else ():
        for data in batch.column("record").to_pylist():
            record = full(form, data)
            assert encoded(form, record) == data
            fill_in(record, *r.place.names)
            assert record["key"] not in found
            found[record["key"]] = record
    return found


def fill_in(record: dict[str, Any], measures: Sequence[str], derived: Sequence[str]) -> None:
    """Adds None for each measure and derived value that the record has no value of."""
    record["measures"], record["derived"] = named(record["measures"], measures), named(record["derived"], derived)
    for part in (*record["contributions"], *([record["carried"]] if "carried" in record else [])):
        part["m"] = named(part["m"], measures)


def value(raw: Any) -> Any:
    """An oracle's value as it stands in a record."""
    if isinstance(raw, Picked):
        return value(raw.value)
    if isinstance(raw, datetime):
        return raw.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return raw


def same(stored: Any, expected: Any) -> bool:
    """Equal as numbers where the oracle has a decimal, else equal."""
    expected = value(expected)
    if isinstance(expected, Decimal) or (isinstance(expected, int) and isinstance(stored, str)):
        return stored is not None and Decimal(stored) == expected
    return bool(stored == expected)


def check_artifact(record: Mapping[str, Any], expected: Artifact, rules: Rules = s.STANDARD_RULES) -> None:
    """The record is the oracle's artifact: old contributions are in its block, if decision 008 has one, and nowhere else."""
    assert record["status"] == expected.status
    for name, wanted in {**expected.measures, **expected.derived}.items():
        stored = {**record["measures"], **record["derived"]}[name]
        assert same(stored, wanted), f"{expected.key}: {name} {stored} ≠ {wanted}"
    border = carried_until([c.window for c in expected.contributions], rules)
    folded = [c for c in expected.contributions if c.window < border]
    assert ("carried" in record) == bool(folded)
    if folded:
        check_block(record["carried"], folded, rules)
    kept = expected.contributions[len(folded) :]
    assert [part["w"] for part in record["contributions"]] == [name_of(c.window) for c in kept]
    for part, contribution in zip(record["contributions"], kept, strict=True):
        assert (part["n"], part["d"]) == (contribution.n, contribution.d)
        assert part.get("u", []) == contribution.currencies
        for name, wanted in contribution.measures.items():
            stored = part["m"][name]
            if isinstance(stored, dict):
                stored = stored["v"]
            assert same(stored, wanted), f"{expected.key} in {part['w']}: {name} {stored} ≠ {wanted}"


def carried_until(windows: Sequence[datetime], rules: Rules) -> datetime:
    """Where the contributions of a key begin that are not folded: decision 008, in plain Python."""
    horizon = rules.dedupe // s.EVERY if rules.id else 0
    newest, step = (max(windows) - s.START) // s.EVERY, carried_forward.STEP
    moved = (newest - 2 * horizon - step) // step
    return s.at(step * moved) if len(windows) > carried_forward.FOLD_MIN and moved > 0 else datetime.min.replace(tzinfo=UTC)


def windows_of(block: Mapping[str, Any]) -> list[str]:
    """The names of the windows in a block."""
    index, found = (datetime.fromisoformat(block["first"]) - s.START) // s.EVERY, []
    for place, length in enumerate(block["runs"]):
        found += [name_of(s.at(number)) for number in range(index, index + length)] if place % 2 == 0 else []
        index += length
    return found


def check_block(block: Mapping[str, Any], folded: Sequence[Contribution], rules: Rules) -> None:
    windows = [name_of(c.window) for c in folded]
    assert windows_of(block) == windows
    assert (block["first"], block["last"], block["windows"]) == (windows[0], windows[-1], len(windows))
    assert (block["n"], block["d"]) == (sum(c.n for c in folded), sum(c.d for c in folded))
    assert block.get("u", []) == sorted({one for c in folded for one in c.currencies})
    assert set(block["m"]) == {measure.name for measure in rules.measures}
    for measure in rules.measures:
        held = [(c.measures[measure.name], c.window) for c in folded if c.measures[measure.name] is not None]
        stored = block["m"][measure.name]
        if measure.kind in ("first", "last") and held:
            ends = min if measure.kind == "first" else max
            picked, _ = ends(held, key=lambda one: (one[0].time, one[1]))
            assert stored["t"] == value(picked.time)
            assert same(stored["v"], picked)
            continue
        fold = {"min": min, "max": max}.get(measure.kind, sum)
        assert same(stored, fold(one for one, _ in held) if held else None), f"{measure.name} {stored}"


def follow(r: Reconciliation, history: s.History, rules: Rules = s.STANDARD_RULES) -> None:
    """Carries out a history, and compares the store with the oracle after every run."""
    for operation, state in zip(history.operations, history.states(), strict=True):
        carry_out(r, operation)
        if isinstance(operation, s.Run):
            check_store(r, state, rules)


def check_store(r: Reconciliation, state: s.State, rules: Rules = s.STANDARD_RULES) -> None:
    """The store answers just as the oracle does over the committed revisions."""
    expected = oracle(state.committed_events(), rules)
    held = records(r)
    live = {key: record for key, record in held.items() if record["contributions"]}
    assert set(live) == set(expected.artifacts)
    for key, record in live.items():
        check_artifact(record, expected.artifacts[key], rules)
    check_certificates(r, state, expected)
    statuses: dict[str, int] = {}
    for artifact in expected.artifacts.values():
        statuses[artifact.status or ""] = statuses.get(artifact.status or "", 0) + 1
    assert r.state().totals.get("statuses", {}) == statuses


def check_certificates(r: Reconciliation, state: s.State, expected: Result) -> None:
    for window in state.revisions:
        certificate = r.certificate(name_of(s.at(window)))
        assert certificate is not None
        assert certificate["ties"]
        assert not certificates.ties(certificate)
        assert certificate["commit"] == r.state().windows[name_of(s.at(window))].commit
        totals = expected.windows.get(s.at(window))
        if totals is None:
            assert certificate["in"]["rows"] == 0
            continue
        assert certificate["in"]["rows"] == totals.rows
        assert certificate["accepted"]["rows"] == totals.counted
        assert certificate["duplicates"]["rows"] == totals.duplicates + totals.suppressed
        assert certificate["rejected"]["rows"] == len(totals.rejected)
        assert certificate["keys"] == len(totals.keys)
        assert certificate["stages"]["reduce"]["conflicting"] == len(totals.conflicting)
        assert certificate["conflicts"] == {
            "within": len(totals.conflicting),
            "ids_under_two_keys": len(totals.two_keys),
            "earlier": {name_of(other): rows for other, rows in sorted(totals.earlier.items())},
            "later": {name_of(other): rows for other, rows in sorted(totals.later.items())},
        }
        check_money(certificate, totals.money)
        rejected = r.rejects(name_of(s.at(window))).to_pylist()
        assert sorted((row["file"], row["line"]) for row in rejected) == sorted((f, n) for f, n, _ in totals.rejected)


def check_money(certificate: Mapping[str, Any], money: Mapping[str, Any]) -> None:
    sides = {
        "in": ("in",),
        "accepted": ("counted",),
        "duplicates": ("duplicate", "suppressed"),
        "rejected": ("rejected",),
    }
    for side, verdicts in sides.items():
        for control, by_verdict in money.items():
            if control == "rows":
                continue
            wanted: dict[str, Decimal] = {}
            for verdict in verdicts:
                for group, amount in by_verdict.get(verdict, {}).items():
                    name = "null" if group is None else group
                    wanted[name] = wanted.get(name, Decimal(0)) + amount
            stored = Totals.from_json(certificate[side]).money.get(control, {})
            differ = {n for n in {*wanted, *stored} if wanted.get(n, Decimal(0)) != stored.get(n, Decimal(0))}
            assert not differ, f"{side} {control}: {stored} ≠ {wanted}"


def figures_of(r: Reconciliation, window: int) -> Figures:
    from recon.state import reduced

    return reduced.read(r.store(), r.state().windows[name_of(s.at(window))].folder)


@contextmanager
def fresh(text: str = s.STANDARD_YAML, name: str = "site") -> Iterator[Reconciliation]:
    # In memory where there is such a folder: a history syncs hundreds of small files. test_store.py tests durability.
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        place = Path(folder) / name
        place.mkdir()
        yield open_in(place, text)


def slow(examples: int) -> settings:
    """Settings of a test over random histories: no deadline, and so many examples, or $RECON_LAW_EXAMPLES."""
    examples = int(os.environ.get("RECON_LAW_EXAMPLES", examples))
    return settings(deadline=None, max_examples=examples, suppress_health_check=list(HealthCheck))
