"""What requests cost: prices of a region at a date, and the same work with one object per artifact beside it.

Prices change. Those below are what AWS's pages said, by several copies of them, when they were last looked at (``as_of``); check them
before you plan by them, and put your own into ``prices`` of recon.yaml. Free tiers, savings plans and taxes are left out; so is what is
paid by the hour (ElastiCache, EMR) or by the month (bytes stored), and traffic, which is free within a region.
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
"""Sums are told to a millionth of a dollar."""

Dollars = Decimal


@dataclass(frozen=True)
class Prices:
    """US dollars in one region. ``as_of``: the month in which the pages were looked at."""

    region: str = "us-east-1"
    as_of: str = "2026-11, check"
    # https://aws.amazon.com/s3/pricing/ (S3 Standard: PUT, COPY, POST, LIST; then GET, SELECT and all other; DELETE is free)
    s3_put_1000: Dollars = Decimal("0.005")
    s3_get_1000: Dollars = Decimal("0.0004")
    # https://aws.amazon.com/dynamodb/pricing/on-demand/ (standard table class; halved in November 2024)
    dynamodb_write_million: Dollars = Decimal("0.625")
    dynamodb_read_million: Dollars = Decimal("0.125")
    # https://aws.amazon.com/lambda/pricing/ (arm64, first tier)
    lambda_request_million: Dollars = Decimal("0.20")
    lambda_gb_second: Dollars = Decimal("0.0000133334")

    def of(self, service: str, operation: str) -> Dollars | None:
        """The price of one request, None where it is not known."""
        if (service, operation) not in _OPERATIONS:
            return Decimal(0) if service in _OTHERWISE or (service, operation) in _FREE else None
        name, per = _OPERATIONS[service, operation]
        return Decimal(getattr(self, name)) / per


_S3_WRITES = ("PutObject", "CopyObject", "ListObjectsV2", "CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload")
_OPERATIONS = {
    **{("s3", name): ("s3_put_1000", 1000) for name in _S3_WRITES},
    **{("s3", name): ("s3_get_1000", 1000) for name in ("GetObject", "HeadObject")},
    # A unit is what DynamoDB says that it consumed; a read that need not be consistent consumes half a one.
    ("dynamodb", "write_unit"): ("dynamodb_write_million", 1_000_000),
    ("dynamodb", "half_read_unit"): ("dynamodb_read_million", 2_000_000),
    ("lambda", "Invoke"): ("lambda_request_million", 1_000_000),
    ("lambda", "gb_millisecond"): ("lambda_gb_second", 1000),
}
"""(service, operation) → its price's name, and for how many it is."""
_FREE = {("s3", name) for name in ("DeleteObject", "DeleteObjects", "AbortMultipartUpload")}
_OTHERWISE = {"redis", "dynamodb"}
"""Their requests cost nothing by themselves: the one is paid by the hour, the other by units."""


def price(usage: Usage, prices: Prices) -> Dollars:
    """What requests cost. Those without a known price are left out: ``unpriced`` names them."""
    return sum((number * (prices.of(*what) or Decimal(0)) for what, number in requests_of(usage).items()), Decimal(0))


def unpriced(usage: Usage, prices: Prices) -> list[str]:
    """``service.operation`` of requests whose price is not known."""
    return sorted(f"{service}.{operation}" for service, operation in requests_of(usage) if prices.of(service, operation) is None)


def one_object_each(touched: int, written: int, prices: Prices) -> Dollars:
    """What the records alone would cost with one object per artifact: a GET for each that is touched, a PUT for each that is written."""
    return touched * prices.s3_get_1000 / 1000 + written * prices.s3_put_1000 / 1000


def figures(usage: Usage, prices: Prices, of: str = "range_", touched: int = 0, written: int = 0) -> dict[str, int | str]:
    """Requests of a stage, by name, with what they cost; nothing where none was counted. ``of``: what the names begin with.

    ``requests``: see recon.metering.usage. ``touched``, ``written``: records, of which one object each would cost a GET or a PUT."""
    if not usage:
        return {}
    found: dict[str, int | str] = {
        f"{of}requests": json.dumps(to_json(usage)),
        f"{of}requests_to_s3": total(usage, "requests", "s3"),
        f"{of}bytes_sent": total(usage, "sent"),
        f"{of}bytes_received": total(usage, "received"),
        f"{of}price_usd": told(price(usage, prices)),
        "prices": f"{prices.region}, {prices.as_of}",
    }
    if touched or written:
        found[f"{of}price_usd_one_object_each"] = told(one_object_each(touched, written, prices))
    cache = {"hit": "cache_hits", "miss": "cache_misses", "wrong": "cache_wrong_entries", "error": "cache_errors"}
    lookups = {name: usage["redis", operation, "requests"] for operation, name in cache.items()}
    return found | {f"{of}{name}": number for name, number in lookups.items() if number}


RECORD_STAGES = ("prefetch", "merge", "index")
"""What stands against one object per artifact: finding, reading and writing records, and keeping the index of where they are."""


def of_run(requests: Mapping[str, Any], rows: int, keys: int, written: int, prices: Prices) -> dict[str, Any]:
    """The prices of a run's ``requests`` (stage → service → operation → counts), as text; empty where nothing was asked of a service."""
    if not requests:
        return {}
    stages = {stage: from_json(usage) for stage, usage in requests.items()}
    whole = sum(stages.values(), Counter())
    dollars = price(whole, prices)
    records = sum((price(usage, prices) for stage, usage in stages.items() if stage in RECORD_STAGES), Decimal(0))
    return {
        "currency": "USD",
        "region": prices.region,
        "as_of": prices.as_of,
        "stages": {stage: told(price(usage, prices)) for stage, usage in stages.items()},
        "total": told(dollars),
        "per_million_events": told(dollars * 1_000_000 / rows) if rows else None,
        "records": told(records),
        "records_one_object_each": told(one_object_each(keys, written, prices)),
        "unpriced": unpriced(whole, prices),
    }


def told(dollars: Dollars) -> str:
    """To a millionth of a dollar, without an exponent."""
    return f"{dollars.quantize(PLACES):f}"
