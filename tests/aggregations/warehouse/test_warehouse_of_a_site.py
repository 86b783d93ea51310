"""A site whose configuration names PostgreSQL or Redshift: from a landed file to the table."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import postgres
import pytest
import seaweed
from aggregation_site import land, made, run
from load_deaths import Died, watched
from redshift_data import redshift_data
from warehouses import postgresql_site

from recon.aggregations.runs.site import Aggregations


@pytest.fixture(params=["postgresql", "redshift"])
def of_kind(
    request: pytest.FixtureRequest, tmp_path: Path, postgres_server: postgres.Server, empty_database: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[str, Aggregations, Callable[[str], list[Any]]]]:
    """The kind, the site, and SQL that is asked of its warehouse."""
    if request.param == "postgresql":
        database = postgresql_site(postgres_server, empty_database)
        monkeypatch.setenv("WAREHOUSE_PASSWORD", postgres_server.password)
        section = f"url: '{database.warehouse.shown}', user: {postgres_server.user}, secret: WAREHOUSE_PASSWORD"
        yield "postgresql", made(tmp_path / "site", more=f"warehouse: {{kind: postgresql, {section}}}\n"), database.sql
        return
    place, server = request.getfixturevalue("in_s3"), request.getfixturevalue("seaweed_server")
    with redshift_data(postgres_server, lambda path: _read(server, path), empty_database) as api:
        monkeypatch.setenv("AWS_ENDPOINT_URL_REDSHIFT_DATA", api.url)
        section = f"workgroup: finance, database: recon, staging: '{place}'"

        def sql(statement: str) -> list[Any]:
            with api.connect() as connection, connection.cursor() as cursor:
                cursor.execute(statement)
                return list(cursor.fetchall())

        yield "redshift", made(tmp_path / "site", more=f"warehouse: {{kind: redshift, {section}}}\n"), sql


def _read(server: seaweed.Seaweed, place: str) -> bytes:
    bucket, _, key = place.removeprefix("s3://").partition("/")
    body: bytes = server.client().get_object(Bucket=bucket, Key=key)["Body"].read()
    return body


OfKind = tuple[str, Aggregations, Callable[[str], list[Any]]]


def test_landed_files_become_rows_and_a_changed_one_changes_its_rows(of_kind: OfKind) -> None:
    _, site, sql = of_kind
    land(site, rows=(("A", "4", "1000.00"), ("A", "4", "0.50"), ("B", "4", "2.00")))
    _, (first,) = run(site)
    assert (first.state, first.reason) == ("completed", "")
    assert sql("SELECT shop, total, lines FROM daily ORDER BY shop") == [("A", Decimal("1000.50"), 2), ("B", Decimal("2.00"), 1)]
    land(site, rows=(("A", "4", "7.00"), ("C", "4", "2.00")))
    _, (second,) = run(site)
    assert {name: second.figures[name] for name in ("inserted", "updated", "deleted")} == {"inserted": 1, "updated": 1, "deleted": 1}
    assert sql("SELECT shop, total, lines FROM daily ORDER BY shop") == [("A", Decimal("7.00"), 1), ("C", Decimal("2.00"), 1)]
    assert sql("SELECT DISTINCT aggregation FROM recon_loads") == [("shops.daily",)]


def test_an_interrupt_before_the_commit_leaves_nothing_in_the_ledger(of_kind: OfKind) -> None:
    kind, site, _ = of_kind
    land(site)

    def die(now: str, step: str) -> None:
        if now == "before" and step.startswith("INSERT INTO recon_loads"):
            raise Died

    with watched(kind, die), pytest.raises(Died):
        run(site)
    (dead,) = site.runs.all("daily")
    assert site.warehouse.find("daily", dead.id) is None, "rolled back"
    land(site, rows=(("A", "4", "3.00"),))
    _, (completed,) = run(site)
    found = site.warehouse.find("daily", completed.id)
    assert found is not None
    assert (found.inserted, found.again) == (1, False)
