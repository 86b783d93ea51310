"""vlookup and xlookup: which row is found, what is refused, and keys that are all alike or all blank."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from small_requests import carried, request

from recon.errors import WrongInput, WrongUsage
from recon.transformations.run import read_request

RATES = "currency,from,rate\nEUR,2026-01-01,1.10\nEUR,2026-06-01,1.20\nUSD,2026-01-01,1.00\neur,2026-06-01,1.25\n"
PAYMENTS = "currency,from,name\nEUR,2026-03-05,ACME*\nEUR,2026-06-01,Sm?th\nUSD,2025-12-31,\nGBP,2026-03-05,what~?\n"
TYPES = {"rates": {"from": "date", "rate": "decimal(9,2)"}, "payments": {"from": "date"}}


def looked_up(folder: Path, tables: dict[str, str] | None = None, **body: Any) -> tuple[list[str], dict[str, Any]]:
    rows, certificate = carried(
        folder, tables or {"payments": PAYMENTS, "rates": RATES}, TYPES, {"xlookup": {"table": "payments", **body}}, out="payments"
    )
    return [row["rate"] for row in rows], certificate


def test_the_rate_of_a_day_is_that_of_the_last_day_before_it_for_each_currency(tmp_path: Path) -> None:
    body = {"in": "rates", "key": ["currency", "from"], "take": "rate", "find": "smaller"}
    rates, certificate = looked_up(tmp_path, **body)
    assert rates == ["1.10", "1.20", "#N/A", "#N/A"]
    assert certificate["operations"][0]["keys_with_several_rows"] == 1
    assert looked_up(tmp_path, **body, many="last", if_missing="0")[0] == ["1.10", "1.25", "0.00", "0.00"]
    with pytest.raises(WrongInput, match=r"operation 1 \(xlookup\): 1 keys have several rows in 'rates', first eur, 2026-06-01;"):
        looked_up(tmp_path, **body, many="error")


def test_a_key_with_wildcards_finds_the_first_text_of_that_form(tmp_path: Path) -> None:
    rates = "name,rate\n,9\nacme ltd,1\nACME Inc,2\nSmyth,3\nwhatx,4\nwhat?,5\n"
    tables = {"payments": PAYMENTS, "rates": rates}
    body = {"in": "rates", "key": "name", "take": "rate", "find": "wildcard"}
    assert looked_up(tmp_path, tables=tables, **body)[0] == ["1.00", "3.00", "#N/A", "5.00"]
    assert looked_up(tmp_path, tables=tables, **body, many="last")[0] == ["2.00", "3.00", "#N/A", "5.00"]


@pytest.mark.parametrize("find", ["exact", "smaller", "wildcard"])
@pytest.mark.parametrize(("key", "found"), [("A", "0"), ("", "#N/A")])
def test_a_key_that_nearly_every_row_has_or_only_blanks_adds_no_row(tmp_path: Path, find: str, key: str, found: str) -> None:
    many = 3000
    rates = "currency,n\n" + "".join(f"{key if at % 10 else 'B' if key else ''},{at - 1}\n" for at in range(1, many + 1))
    payments = "currency,n0\n" + f"{key},1\n" * many
    body = {"table": "payments", "in": "rates", "key": "currency", "take": "n", "find": find}
    rows, certificate = carried(tmp_path, {"payments": payments, "rates": rates}, {}, {"xlookup": body}, out="payments")
    assert [row["n"] for row in rows] == [found] * many
    assert certificate["operations"][0]["keys_with_several_rows"] == (2 if key else 0)


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"key": ["currency", "from"], "match": "currency"}, "key has 2 columns and match 1; name as many"),
        ({"key": "from", "find": "wildcard"}, "wildcards are for texts, and 'from' is date"),
        ({"key": "currency", "match": "rate"}, "'currency' is text and 'rate' is decimal.9,2., which are never equal"),
        ({"key": "currency", "if_missing": "none"}, "if_missing: 'none' is no decimal.9,2."),
        ({"key": "currency", "many": "most"}, "many"),
    ],
)
def test_a_lookup_that_cannot_be_is_refused_before_anything_is_read(tmp_path: Path, body: dict[str, Any], told: str) -> None:
    operation = {"xlookup": {"table": "payments", "in": "rates", "take": "rate", **body}}
    with pytest.raises(WrongUsage, match=told):
        read_request(request(tmp_path, {"payments": PAYMENTS, "rates": RATES}, TYPES, operation, out="payments"))
