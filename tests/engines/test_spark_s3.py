"""Spark over a store in S3: what its stages read and write, counted by a proxy between all of its processes and the server."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import counted_http
import duckdb
import pytest
import seaweed
from counted_http import CountingServer, Traffic
from engines import LOCAL, spark

import recon
from recon.api import Reconciliation
from recon.engines.port import MergeTask, Written
from recon.engines.prefetched import Prefetched
from recon.engines.spark import parts
from recon.engines.spark import reduce as by_size
from recon.engines.spark.engine import Spark
from recon.planning import due
from recon.stages.reduce import reduce_windows
from recon.state.reduced import Figures
from recon.state.timeline import State, Timeline
from recon.storage import layout

KEYS = 120_000
YAML = """\
name: orders
store: {store}
key: order_id
windows: {{start: 2026-11-01T00:00Z, every: 1h}}
events: {{types: {{amount: "decimal(18,2)"}}, id: event_id}}
measures: {{billed: {{sum: amount}}, lines: {{count: "*"}}}}
status: [{{OPEN: "billed > 0"}}, {{DONE: "true"}}]
control: {{rows: {{count: "*"}}, amount: {{sum: amount}}}}
"""


@pytest.fixture
def counted(seaweed_server: seaweed.Seaweed, in_s3: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[CountingServer]:
    """Between this process and Spark's workers, and the server."""
    with counted_http.counting(seaweed_server.port) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", server.endpoint)
        environment = {**seaweed_server.environment, "AWS_ENDPOINT_URL_S3": server.endpoint}
        workers = spark().sparkContext.environment  # of Python workers, which are new ones for another environment
        for name, value in environment.items():
            monkeypatch.setitem(workers, name, value)
        yield server


def landed(r: Reconciliation, folder: Path, hour: int, first: int) -> None:
    """Lands a window with one event of each of KEYS keys."""
    file = folder / f"events-{hour}.parquet"
    duckdb.execute(f"""
        COPY (SELECT 'ORD-' || ({first} + i) AS order_id, 'e{hour}-' || i AS event_id, (i % 100)::DECIMAL(18,2) AS amount
              FROM range({KEYS}) t(i)) TO '{file}' (FORMAT parquet)""")
    r.land([file], window=f"2026-11-01T{hour:02}:00Z", close=True)


@pytest.fixture
def batch(counted: CountingServer, in_s3: str, tmp_path: Path) -> tuple[Reconciliation, State, list[Figures]]:
    """A state of KEYS keys, and a reduced window with KEYS keys, half of them in the state."""
    (tmp_path / "recon.yaml").write_text(YAML.format(store=in_s3))
    r = recon.open(tmp_path / "recon.yaml")
    landed(r, tmp_path, 0, 0)
    r.run()
    landed(r, tmp_path, 1, KEYS // 2)
    state = Timeline(r.store()).head()
    return r, state, reduce_windows(r.store(), r.config, due.due(r.store(), r.config, state).ready)


def carried_out(
    r: Reconciliation, state: State, figures: list[Figures], slices: int, counted: CountingServer
) -> tuple[Prefetched, Written, Traffic, Traffic]:
    """Pre-fetch and merge in so many slices, without a commit, and what each asked of S3."""
    config = replace(r.config, engine=LOCAL.model_copy(update={"slices": slices}))
    counted.take()
    fetched = Spark().prefetch(r.store(), config, state, figures)
    ahead = counted.take()
    written = Spark().merge(r.store(), config, MergeTask(state, tuple(figures), fetched, layout.new_attempt()), lambda share: None)
    return fetched, written, ahead, counted.take()


def test_what_spark_reads_from_s3_does_not_grow_with_the_number_of_slices(
    batch: tuple[Reconciliation, State, list[Figures]], counted: CountingServer
) -> None:
    r, state, figures = batch
    read: dict[str, list[int]] = {"stateless": [], "ahead": [], "merged": [], "fetched": []}
    for slices in (1, 4, 16):
        fetched, written, ahead, merge = carried_out(r, state, figures, slices, counted)
        assert written.run is not None
        assert (fetched.found, written.run.entries) == (KEYS // 2, KEYS)
        read["stateless"].append(merge.by_kind["stateless"])
        read["ahead"].append(ahead.read)
        read["merged"].append(merge.read)
        read["fetched"].append(sum(r.store().size(path) for path in fetched.paths))
        assert ahead.requests["GET"] + ahead.requests["HEAD"] <= 20 + 20 * slices
        assert merge.requests["GET"] + merge.requests["HEAD"] <= 20 + 40 * slices
        assert ahead.requests["PUT"] == slices + 1, "a piece of each slice, and their index"
        fetched.delete(r.store())
    assert list(r.store().list(layout.PREFETCHED)) == []
    # A slice reads its own row groups, one at its border, and the footer.
    assert read["stateless"][2] < 1.5 * read["stateless"][0], read
    assert read["ahead"][2] < 1.2 * read["ahead"][0], read
    assert max(read["fetched"]) < 1.02 * min(read["fetched"]), read
    # Several slices' runs are joined: their entries are read once more.
    assert read["merged"][2] < 1.2 * read["merged"][1], read


def test_what_a_large_reduce_reads_from_s3_does_not_grow_with_the_number_of_slices(
    batch: tuple[Reconciliation, State, list[Figures]], counted: CountingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    r, state, _ = batch
    (manifest,) = due.due(r.store(), r.config, state).ready
    (file,) = manifest.files
    monkeypatch.setattr(by_size, "SMALL_BYTES", 0)
    monkeypatch.setattr(parts, "PARQUET_BYTES", file.bytes * 2 // 3)
    events: list[int] = []
    pieces: list[int] = []
    written: list[int] = []
    for slices in (1, 4, 16):
        config = replace(r.config, engine=LOCAL.model_copy(update={"slices": slices}))
        counted.take()
        (figures,) = Spark().reduce(r.store(), config, [manifest])
        traffic = counted.take()
        assert (figures.keys, figures.accepted.rows) == (KEYS, KEYS)
        events.append(traffic.by_kind["events"])
        pieces.append(traffic.by_kind["state"])
        written.append(traffic.written)
        # Of each of two pieces of events a slice reads the size, the footer and its row groups.
        assert traffic.requests["GET"] + traffic.requests["HEAD"] <= 40 + 16 * slices, traffic.requests
        assert traffic.requests["PUT"] <= 10 + 2 * slices, traffic.requests
    # A file that is read in parts is read twice: once for its digest.
    assert max(events) <= 2.1 * file.bytes, (events, file.bytes)
    # A slice reads its own row groups, one at its border, and the footer.
    assert pieces[2] < 1.2 * pieces[0], pieces
    assert written[2] < 1.1 * written[0], written


def test_a_record_whose_piece_was_deleted_is_read_from_its_part_file(
    batch: tuple[Reconciliation, State, list[Figures]], counted: CountingServer
) -> None:
    r, state, figures = batch
    config = replace(r.config, engine=LOCAL.model_copy(update={"slices": 2}))
    fetched = Spark().prefetch(r.store(), config, state, figures)
    r.store().delete(fetched.paths[-1])
    report = by_spark(r).run()
    assert (report.bad, list(report.windows)) == ({}, ["2026-11-01T01:00Z"])
    assert r.verify().problems == []


def by_spark(r: Reconciliation) -> Reconciliation:
    vars(r)["config"] = replace(r.config, engine=LOCAL.model_copy(update={"slices": 2}))
    return r
