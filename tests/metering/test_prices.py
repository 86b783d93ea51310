"""Requests and bytes per stage, priced: sums are exact, nothing is counted twice, and unknown prices are named, not guessed."""

from __future__ import annotations

import json
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import faulty_store
import pytest
import strategies as s
from cli_calls import Call
from histories import open_in
from hypothesis import given
from hypothesis import strategies as st

from jobs.in_process import InProcess
from recon.config import load_config
from recon.errors import WrongUsage
from recon.metering import prices
from recon.metering.prices import Prices, of_run, one_object_each, price, unpriced
from recon.metering.usage import Tally, Usage, counted, from_counts, from_json, requests_of, to_counts, to_json
from recon.stages.report import RunReport
from recon_assets import metadata
from resources.dagster_instance import open_instance

KINDS = {
    **dict.fromkeys(("put_new", "copy_in"), "PutObject"),
    **dict.fromkeys(("get", "get_range", "copy_out"), "GetObject"),
    **dict.fromkeys(("size", "exists"), "HeadObject"),
    "list": "ListObjectsV2",
    "delete": "DeleteObject",
}
USAGE = st.lists(
    st.builds(
        counted,
        st.sampled_from(["s3", "dynamodb"]),
        st.sampled_from(["GetObject", "PutObject", "write_unit"]),
        st.integers(1, 9),
        st.integers(0, 9),
        st.integers(0, 9),
    )
).map(lambda found: sum(found, Usage()))


class Counting(faulty_store.WatchedStore):
    """A folder as if it were S3: not mapped, and counted as S3's adapter counts."""

    def __init__(self, inner: Any) -> None:
        self.meter = Tally()
        super().__init__(inner, after=self._counted, mapped=lambda path: False)

    def _counted(self, call: faulty_store.Call) -> None:
        sent = call.bytes if call.kind in ("put_new", "copy_in") else 0
        self.meter.count("s3", KINDS[call.kind], sent, call.bytes - sent)


def test_requests_cost_what_the_table_says_and_deletes_nothing() -> None:
    names = ("PutObject", "ListObjectsV2", "GetObject", "HeadObject", "DeleteObject")
    usage = sum((counted("s3", name, 1000) for name in names), Usage())
    assert price(usage, Prices()) == Decimal("0.005") * 2 + Decimal("0.0004") * 2
    assert price(counted("dynamodb", "write_unit", 1_000_000), Prices()) == Decimal("0.625")
    assert one_object_each(touched=1000, written=2000, prices=Prices()) == Decimal("0.0104")
    assert price(counted("redis", "mget", 10**9), Prices()) == 0


def test_an_operation_without_a_price_is_named_and_not_guessed() -> None:
    usage = counted("s3", "GetObject") + counted("s3", "SelectObjectContent", 5)
    assert unpriced(usage, Prices()) == ["s3.SelectObjectContent"]
    assert of_run({"merge": to_json(usage)}, 1, 1, 1, Prices())["unpriced"] == ["s3.SelectObjectContent"]


@given(first=USAGE, second=USAGE)
def test_law_what_was_counted_since_is_what_was_added(first: Any, second: Any) -> None:
    assert first + second - first == second
    assert from_json(json.loads(json.dumps(to_json(first)))) == first
    # Of several workers, whose counts are added up by name among others.
    counts = Counter(to_counts(first))
    counts.update(to_counts(second))
    assert from_counts({**counts, "items": 7}) == first + second


def test_prices_are_the_users_own_where_they_are_written(tmp_path: Path) -> None:
    file = tmp_path / "recon.yaml"
    file.write_text(s.STANDARD_YAML + "prices: {region: eu-central-1, as_of: 2027-01, s3_get_1000: 0.00043}\n")
    prices = load_config(file).prices
    assert (prices.region, prices.as_of, prices.s3_get_1000) == ("eu-central-1", "2027-01", Decimal("0.00043"))
    assert prices.s3_put_1000 == Prices().s3_put_1000
    file.write_text(s.STANDARD_YAML + "prices: {s3_get_1000: cheap}\n")
    with pytest.raises(WrongUsage, match=r"prices\.s3_get_1000: 'cheap' does not fit; write a price in US dollars"):
        load_config(file)


def landed(tmp_path: Path, windows: int = 2) -> Any:
    r = open_in(tmp_path)
    r._store = Counting(r.store())
    for number in range(windows):
        file = tmp_path / f"{number}.csv"
        rows = [s.Row(f"O{order}", f"{number}-{order}", booked_at=f"2026-11-01T{number:02}:10:00Z") for order in range(5)]
        file.write_bytes(s.to_csv(rows).encode())
        r.land([file], f"2026-11-01T{number:02}:00Z", close=True, again=True)
    return r


def test_a_run_tells_every_request_once_by_its_stage(tmp_path: Path) -> None:
    r = landed(tmp_path)
    before = r.store().meter.so_far()
    report = r.run()
    told = sum(map(from_json, report.requests.values()), Usage())
    assert told == r.store().meter.so_far() - before
    assert set(report.requests) == {"reduce", "prefetch", "merge", "certify", "other"}  # no tier was due
    assert Decimal(report.prices["total"]) == pytest.approx(price(told, Prices()), abs=Decimal("0.000001"))
    assert report.prices["records_one_object_each"] == f"{one_object_each(report.keys, report.written, Prices()):f}"
    assert report.prices["unpriced"] == []


def test_in_a_folder_nothing_is_counted_and_nothing_is_told(recon: Call, fresh: Path) -> None:
    recon("land", "events/orders-0000.csv", "--window", "2026-11-01T00:00Z", "--close")
    answer = recon("run", "--json")
    assert (answer.json["requests"], answer.json["prices"]) == ({}, {})
    assert "price" not in recon("run").out


def test_under_dagster_each_stage_has_its_requests_and_what_they_cost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    r = landed(tmp_path)
    with open_instance(tmp_path / "recon.yaml") as instance:
        report = r.run(way=InProcess(r.config, instance))
        shown = {
            key.path[-1]: event.asset_materialization.metadata
            for key in instance.all_asset_keys()
            if (event := instance.get_latest_materialization_event(key)) and event.asset_materialization
        }
    assert {"reduce", "prefetch", "merge", "certify"} <= set(report.requests)
    merged = shown["stateful_artifacts"]
    assert merged["range_requests_to_s3"].value > 0
    assert merged["range_price_usd_one_object_each"].value == f"{one_object_each(0, 5, Prices()).quantize(Decimal('0.000001')):f}"
    assert merged["prices"].value == f"{Prices().region}, {Prices().as_of}"
    operations = {record.data["operation"]: record.data["requests"] for record in merged["range_requests"].value.records}
    assert operations["PutObject"] == from_json(report.requests["merge"])["s3", "PutObject", "requests"]
    assert shown["stateless_artifacts"]["requests_to_s3"].value > 0
    for asset in ("prefetched_artifacts", "window_certificates"):
        assert Decimal(shown[asset]["range_price_usd"].value) >= 0


def test_hits_misses_and_errors_of_a_cache_stand_in_the_metadata(tmp_path: Path) -> None:
    config = load_config(landed(tmp_path).config.path)
    usage = sum((counted("redis", name, number) for number, name in enumerate(("mget", "hit", "miss", "error"), start=1)), Usage())
    shown = metadata.of_numbers(prices.figures(usage, config.prices))
    (row, *_) = shown["range_requests"].value.records
    assert (row.data["operation"], row.data["requests"]) == ("error", 4)
    assert (shown["range_cache_hits"], shown["range_cache_misses"], shown["range_cache_errors"]) == (2, 3, 4)
    assert shown["range_price_usd"] == "0.000000"
    assert metadata.of_numbers(prices.figures(Usage(), config.prices)) == {}


def test_what_another_process_has_asked_is_added_and_is_not_taken_for_this_ones(tmp_path: Path) -> None:
    r = landed(tmp_path)
    report, theirs = (
        RunReport(),
        {"merge": to_json(counted("s3", "PutObject", 7, 70)), "other": to_json(counted("s3", "GetObject"))},
    )
    with report.whole(r.store()):
        with report.timed("merge", r.store()):
            r.store().get("store.json")
        r.store().exists("store.json")
        report.take_in({"requests": theirs, "prices": {"total": "1"}})
    told = {stage: from_json(requests) for stage, requests in report.requests.items()}
    assert [told["merge"]["s3", "PutObject", what] for what in ("requests", "sent", "received")] == [7, 70, 0]
    assert told["merge"]["s3", "GetObject", "requests"] == 1
    assert requests_of(told["other"]) == {("s3", "GetObject"): 1, ("s3", "HeadObject"): 1}
