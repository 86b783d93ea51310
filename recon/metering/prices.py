"""The cost of requests by a region's prices, and for comparison the cost with one object per artifact.

Prices change. Those below are from AWS's pages as of ``as_of``; check them before you plan by them, and put your own into ``prices`` of
recon.yaml. Not included: free tiers, savings plans, taxes, hourly costs (ElastiCache, EMR), storage, and traffic, which is free within
a region.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from recon.metering.usage import Usage, from_json, requests_of, to_json, total

PLACES = Decimal("0.000001")
"""Sums are shown to a millionth of a dollar."""

Dollars = Decimal


@dataclass(frozen=True)
class Prices:
    """US dollars in one region. ``as_of``: the month of the price pages."""

    region: str = "us-east-1"
    as_of: str = "2026-11, check"
    # https://aws.amazon.com/s3/pricing/ (S3 Standard: PUT, COPY, POST, LIST; then GET, SELECT and all other; DELETE is free)
    s3_put_1000: Dollars = Decimal("0.005")
    s3_get_1000: Dollars = Decimal("0.0004")
    # https://aws.amazon.com/dynamodb/pricing/on-demand/ (standard table class; halved in November 2024)
    dynamodb_write_million: Dollars = Decimal("0.625")
    dynamodb_read_million: Dollars = Decimal("0.125")
    # The same page: import from Amazon S3, by bytes before compression
    dynamodb_import_gb: Dollars = Decimal("0.15")
    # https://aws.amazon.com/lambda/pricing/ (arm64, first tier)
    lambda_request_million: Dollars = Decimal("0.20")
    lambda_gb_second: Dollars = Decimal("0.0000133334")
    # https://aws.amazon.com/fargate/pricing/ (Linux, ARM)
    vcpu_hour: Dollars = Decimal("0.03238")
    memory_gb_hour: Dollars = Decimal("0.00356")

    def of(self, service: str, operation: str) -> Dollars | None:
        """The price of one request; None if it is not known."""
        if (service, operation) not in _OPERATIONS:
            return Decimal(0) if service in _OTHERWISE or (service, operation) in _FREE else None
        name, per = _OPERATIONS[service, operation]
        return Decimal(getattr(self, name)) / per


_S3_WRITES = ("PutObject", "CopyObject", "ListObjectsV2", "CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload")
_OPERATIONS = {
    **{("s3", name): ("s3_put_1000", 1000) for name in _S3_WRITES},
    **{("s3", name): ("s3_get_1000", 1000) for name in ("GetObject", "HeadObject")},
    # Units as DynamoDB reports them; an eventually consistent read consumes half a unit.
    ("dynamodb", "write_unit"): ("dynamodb_write_million", 1_000_000),
    ("dynamodb", "half_read_unit"): ("dynamodb_read_million", 2_000_000),
    ("dynamodb", "import_megabyte"): ("dynamodb_import_gb", 1000),
    ("lambda", "Invoke"): ("lambda_request_million", 1_000_000),
    ("lambda", "gb_millisecond"): ("lambda_gb_second", 1000),
}
"""(service, operation) → field of Prices, and the number of requests that it is for."""
_FREE = {("s3", name) for name in ("DeleteObject", "DeleteObjects", "AbortMultipartUpload")}
_OTHERWISE = {"redis", "dynamodb"}
"""Services whose requests are free by themselves: Redis is paid by the hour, DynamoDB by units."""


def price(usage: Usage, prices: Prices) -> Dollars:
    """The cost of requests. Requests without a known price are left out: ``unpriced`` names them."""
    return sum((number * (prices.of(*what) or Decimal(0)) for what, number in requests_of(usage).items()), Decimal(0))


def unpriced(usage: Usage, prices: Prices) -> list[str]:
    """``service.operation`` of requests without a known price."""
    return sorted(f"{service}.{operation}" for service, operation in requests_of(usage) if prices.of(service, operation) is None)


def one_object_each(touched: int, written: int, prices: Prices) -> Dollars:
    """The cost of the records alone with one object per artifact: a GET for each touched record, a PUT for each written one."""
    return touched * prices.s3_get_1000 / 1000 + written * prices.s3_put_1000 / 1000


def figures(usage: Usage, prices: Prices, of: str = "range_", touched: int = 0, written: int = 0) -> dict[str, int | str]:
    """Requests of a stage and their cost, by name; empty if no request was counted. ``of``: prefix of the names.

    ``requests``: see recon.metering.usage. ``touched``, ``written``: records, of which one object each would cost a GET or a PUT."""
    if not usage:
        return {}
    found: dict[str, int | str] = {
        f"{of}requests": json.dumps(to_json(usage)),
        f"{of}requests_to_s3": total(usage, "requests", "s3"),
        f"{of}bytes_sent": total(usage, "sent"),
        f"{of}bytes_received": total(usage, "received"),
        f"{of}price_usd": as_text(price(usage, prices)),
        "prices": f"{prices.region}, {prices.as_of}",
    }
    if touched or written:
        found[f"{of}price_usd_one_object_each"] = as_text(one_object_each(touched, written, prices))
    cache = {"hit": "cache_hits", "miss": "cache_misses", "wrong": "cache_wrong_entries", "error": "cache_errors"}
    lookups = {name: usage["redis", operation, "requests"] for operation, name in cache.items()}
    return found | {f"{of}{name}": number for name, number in lookups.items() if number}


RECORD_STAGES = ("prefetch", "merge", "index")
"""Compared with one object per artifact: finding, reading and writing records, and indexing their places."""


def of_run(requests: Mapping[str, Any], rows: int, keys: int, written: int, prices: Prices) -> dict[str, Any]:
    """The cost of a run's ``requests`` (stage → service → operation → counts), as text; empty if there were no requests."""
    if not requests:
        return {}
    stages = {stage: from_json(usage) for stage, usage in requests.items()}
    all_stages = sum(stages.values(), Counter())
    dollars = price(all_stages, prices)
    records = sum((price(usage, prices) for stage, usage in stages.items() if stage in RECORD_STAGES), Decimal(0))
    return {
        "currency": "USD",
        "region": prices.region,
        "as_of": prices.as_of,
        "stages": {stage: as_text(price(usage, prices)) for stage, usage in stages.items()},
        "total": as_text(dollars),
        "per_million_events": as_text(dollars * 1_000_000 / rows) if rows else None,
        "records": as_text(records),
        "records_one_object_each": as_text(one_object_each(keys, written, prices)),
        "unpriced": unpriced(all_stages, prices),
    }


def as_text(dollars: Dollars) -> str:
    """To a millionth of a dollar, without an exponent."""
    return f"{dollars.quantize(PLACES):f}"
