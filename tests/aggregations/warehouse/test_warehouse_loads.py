"""One meaning of a load in DuckDB, PostgreSQL and Redshift: what it changes, what it refuses, and what the ledger says of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from warehouses import DEFAULT, KEYS, MEASURES, Shape, Site, load_of, row

from recon.aggregations.warehouse import duckdb, postgresql
from recon.aggregations.warehouse.port import Audit, Load, Loaded
from recon.errors import ReconError, WrongInput
from recon.vocabulary.types import INTEGER, TEXT, decimal

ODD_TEXTS = (
    *("", " ", "null", "NULL", "\\N", "\\.", "\\", "a\tb", "a\nb", "a\r\nb", "\n\\.\n", "'", "''; DROP TABLE daily; --", '"', '"",""'),
    *("NaN", "é", "\U0001f4b6" * 3, "x" * 5000, "%s", "{}", "$1", ":name", "\x01\x7f", "\u2028"),
)


def refused(site: Site, load: Load, message: str) -> None:
    """The load fails with the message, and changes nothing."""
    before = _everything(site)
    with pytest.raises(WrongInput, match=message) as caught:
        site.warehouse.load(load)
    assert "\n" not in str(caught.value)
    assert _everything(site) == before


def _everything(site: Site) -> list[Any]:
    tables = site.sql(
        "SELECT table_schema, table_name, column_name, data_type, numeric_precision, numeric_scale "
        "FROM information_schema.columns WHERE table_schema NOT IN ('pg_catalog', 'information_schema') "
        "AND table_name NOT IN ('recon_load_lock', 'recon_loads') "
        "ORDER BY 1, 2, ordinal_position"
    )
    names = sorted({(schema, table) for schema, table, *_ in tables})
    ledger = site.sql("SELECT COUNT(*) FROM information_schema.tables WHERE table_name = 'recon_loads'")[0][0]
    entries = sorted(map(repr, site.sql("SELECT * FROM recon_loads"))) if ledger else []
    return [tables, [sorted(map(repr, site.sql(f'SELECT * FROM "{schema}"."{table}"'))) for schema, table in names], entries]


# ---- rows ----


def test_a_load_has_exactly_one_row_per_key_with_its_values(site: Site, tmp_path: Path) -> None:
    rows = {("a", 1): row("10.50"), ("a", 2): row(None, None, None, day=None, at=None, paid=None), ("b", 1): row("-0.01", paid=False)}
    assert site.warehouse.load(load_of(tmp_path, rows, 1)) == Loaded(3, 3, 0, 0)
    assert site.table() == rows
    assert site.warehouse.audit("daily", list(KEYS)) == Audit(3, 0, 0, {})
    (first,) = site.warehouse.sample("daily", "monday", 1)
    assert list(first) == [*KEYS, *MEASURES]
    assert (first["store"], first["code"], Decimal(first["sale"])) == ("a", 1, Decimal("10.50"))


def test_the_rows_of_a_scope_are_read_some_at_a_time_in_order(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (duckdb, postgresql):
        monkeypatch.setattr(module, "ROWS_AT_ONCE", 7)
    site.warehouse.load(load_of(tmp_path, {("a", code): row(str(code)) for code in range(20)}, 1))
    batches = list(site.warehouse.rows("daily", "monday", ["store", "code", "sale"]))
    assert [(store, int(code), Decimal(sale)) for batch in batches for store, code, sale in batch] == [("a", at, at) for at in range(20)]
    assert site.kind == "redshift" or [len(batch) for batch in batches] == [7, 7, 6]
    assert not any(site.warehouse.rows("daily", "tuesday", ["store"]))
    assert list(site.warehouse.rows("weekly", "monday", ["store"])) == []


def test_a_second_load_changes_exactly_what_differs(site: Site, tmp_path: Path) -> None:
    rows = {("a", code): row(str(code)) for code in range(10)}
    site.warehouse.load(load_of(tmp_path, rows, 1))
    changed = {**rows, ("a", 3): row("99.00"), ("b", 1): row("7.00")}
    del changed["a", 9]
    assert site.warehouse.load(load_of(tmp_path, changed, 2)) == Loaded(10, inserted=1, updated=1, deleted=1)
    assert site.table() == changed
    assert site.counts() == {key: 2 if key in (("a", 3), ("b", 1)) else 1 for key in changed}, "only these rows were written"


def test_where_most_of_a_scope_changes_all_of_it_is_written(site: Site, tmp_path: Path) -> None:
    rows = {("a", code): row(str(code)) for code in range(10)}
    site.warehouse.load(load_of(tmp_path, rows, 1))
    changed = {**rows, **{("a", code): row("99.00") for code in range(6)}}
    assert site.warehouse.load(load_of(tmp_path, changed, 2)) == Loaded(10, 0, 6, 0)
    assert site.table() == changed
    assert set(site.counts().values()) == {2}


def test_the_same_rows_by_new_versions_write_no_row(site: Site, tmp_path: Path) -> None:
    load = load_of(tmp_path, {("a", 1): row()}, 1)
    site.warehouse.load(load)
    assert site.warehouse.load(replace(load, id="of other files", run=2)) == Loaded(1, 0, 0, 0)
    assert set(site.counts().values()) == {1}


def test_a_value_that_becomes_null_or_is_null_no_more_is_a_change(site: Site, tmp_path: Path) -> None:
    rows: dict[Any, Any] = {("a", code): row() for code in range(9)}
    site.warehouse.load(load_of(tmp_path, rows, 1))
    for run, changed in ((2, row(None)), (3, row(note=None)), (4, row(paid=None)), (5, row(day=None)), (6, row(at=None)), (7, row())):
        rows["a", 1] = changed
        assert site.warehouse.load(load_of(tmp_path, rows, run)) == Loaded(9, 0, 1, 0)
        assert site.table() == rows


def test_scopes_have_rows_of_their_own(site: Site, tmp_path: Path) -> None:
    monday, tuesday = {("a", 1): row(), ("a", 2): row()}, {("b", 1): row(), ("b", 2): row()}
    site.warehouse.load(load_of(tmp_path, monday, 1, "monday"))
    site.warehouse.load(load_of(tmp_path, tuesday, 2, "tuesday"))
    assert site.warehouse.load(load_of(tmp_path, {("a", 2): row()}, 3, "monday")) == Loaded(1, 0, 0, 1)
    assert site.table(scope="tuesday") == tuesday
    assert site.table(scope="monday") == {("a", 2): row()}
    assert site.warehouse.totals("daily", "tuesday", {"sale": MEASURES["sale"]}) == (2, {"sale": Decimal("2.00")})


def test_a_scope_may_become_empty_and_be_filled_again(site: Site, tmp_path: Path) -> None:
    rows = {("a", 1): row()}
    site.warehouse.load(load_of(tmp_path, rows, 1))
    assert site.warehouse.load(load_of(tmp_path, {}, 2)) == Loaded(0, 0, 0, 1)
    assert site.table() == {}
    assert site.warehouse.load(load_of(tmp_path, rows, 3)) == Loaded(1, 1, 0, 0)
    assert site.table() == rows


def test_an_empty_scope_can_be_the_first(site: Site, tmp_path: Path) -> None:
    assert site.warehouse.load(load_of(tmp_path, {}, 1)) == Loaded(0, 0, 0, 0)
    assert site.warehouse.load(load_of(tmp_path, {}, 1)) == Loaded(0, 0, 0, 0, again=True)


def test_odd_texts_arrive_as_they_are(site: Site, tmp_path: Path) -> None:
    rows = {(text, at): row(note=text) for at, text in enumerate(ODD_TEXTS)}
    site.warehouse.load(load_of(tmp_path, rows, 1))
    assert site.table() == rows
    assert site.warehouse.load(load_of(tmp_path, rows, 2, id="other")) == Loaded(len(rows), 0, 0, 0)


def test_wide_amounts_and_far_dates_arrive_as_they_are(site: Site, tmp_path: Path) -> None:
    nines = "9" * 35 + ".99"
    rows = {
        ("a", 2**63 - 1): row(nines, 2**63 - 1, day=date(1, 1, 1), at=datetime(1, 1, 1, tzinfo=UTC)),
        ("b", -(2**63)): row("-" + nines, -(2**63), day=date(9999, 12, 31), at=datetime(9999, 12, 31, 23, 59, 59, 999999, UTC)),
        ("c", 0): row("0.01", 0),
    }
    site.warehouse.load(load_of(tmp_path, rows, 1))
    assert site.table() == rows


@pytest.mark.parametrize("target", ["s", "t", "sales.daily", "select", "recon"])
def test_any_name_of_a_table_does(site: Site, tmp_path: Path, target: str) -> None:
    shape, quoted = Shape(target=target), ".".join(f'"{part}"' for part in target.split("."))
    site.warehouse.load(load_of(tmp_path, {("a", 1): row(), ("a", 2): row(), ("a", 3): row()}, 1, shape=shape))
    rows = {("a", 1): row("2.00"), ("a", 2): row(), ("b", 1): row()}
    assert site.warehouse.load(load_of(tmp_path, rows, 2, shape=replace(shape))).deleted == 1
    assert site.table(quoted) == rows
    assert site.warehouse.find(target, 2) is not None


# ---- the ledger ----


def test_a_load_that_is_asked_for_twice_happens_once(site: Site, tmp_path: Path) -> None:
    load = load_of(tmp_path, {("a", 1): row(), ("a", 2): row()}, 1)
    first = site.warehouse.load(load)
    assert site.warehouse.load(load) == replace(first, again=True)
    assert site.warehouse.load(replace(load, run=2)) == replace(first, again=True), "another attempt at the same load"
    assert site.sql("SELECT run, inserted FROM recon_loads") == [(1, 2)]
    assert site.warehouse.find("daily", 1) == first
    assert site.warehouse.find("daily", 2) is None
    assert site.warehouse.find("another", 1) is None


def test_a_table_that_was_dropped_is_loaded_again(site: Site, tmp_path: Path) -> None:
    """The ledger alone does not make a load done."""
    load = load_of(tmp_path, {("a", 1): row()}, 1)
    site.warehouse.load(load)
    site.sql("DROP TABLE daily")
    assert site.warehouse.load(replace(load, run=2)) == Loaded(1, 1, 0, 0)
    site.sql("DELETE FROM daily")
    assert site.warehouse.load(replace(load, run=3)) == Loaded(1, 1, 0, 0)
    assert site.table() == {("a", 1): row()}


def test_a_late_run_changes_nothing(site: Site, tmp_path: Path) -> None:
    site.warehouse.load(load_of(tmp_path, {("a", 1): row("2.00")}, 5))
    refused(site, load_of(tmp_path, {("a", 1): row("1.00")}, 4), "run 5 has loaded it since; run 4 comes too late")
    assert site.warehouse.load(load_of(tmp_path, {("b", 1): row("1.00")}, 4, "tuesday")).inserted == 1, "another scope"


def test_an_earlier_input_can_be_loaded_again_by_a_later_run(site: Site, tmp_path: Path) -> None:
    before, after = {("a", 1): row("1.00"), ("a", 2): row()}, {("a", 1): row("2.00")}
    for run, rows in ((1, before), (2, after), (3, before)):
        site.warehouse.load(load_of(tmp_path, rows, run))
        assert site.table() == rows


def test_nothing_is_found_in_a_warehouse_that_is_new(site: Site) -> None:
    assert site.warehouse.find("daily", 1) is None
    assert site.warehouse.audit("daily", list(KEYS)) == Audit(None, 0, 0, {})
    assert site.warehouse.sample("daily", "monday", 5) == []
    with pytest.raises(WrongInput, match="daily: there is no"):
        site.warehouse.totals("daily", "monday", {"sale": MEASURES["sale"]})


# ---- the schema ----


def amounts(*digits: int) -> Shape:
    return Shape(measures={"sale": decimal(*digits)}, additive=("sale",))


def test_a_column_is_widened_where_amounts_grow(site: Site, tmp_path: Path) -> None:
    """1,000.00 does not fit numeric(5,2)."""
    old = {("a", code): (Decimal("999.99"),) for code in range(4)}
    site.warehouse.load(load_of(tmp_path, old, 1, "monday", amounts(5, 2)))
    new = {("b", 1): (Decimal("1000.00"),)}
    site.warehouse.load(load_of(tmp_path, new, 2, "tuesday", amounts(7, 3)))
    assert site.table(columns=("store", "code", "sale")) == {**old, **new}
    digits = "SELECT numeric_precision, numeric_scale FROM information_schema.columns WHERE table_name = 'daily' AND column_name = 'sale'"
    assert [tuple(map(int, one)) for one in site.sql(digits)] == [(7, 3)]
    assert site.warehouse.load(load_of(tmp_path, old, 3, "monday", amounts(5, 2), id="again")) == Loaded(4, 0, 0, 0), "narrower fits"


def test_digits_that_no_column_holds_are_refused_before_anything_is_sent(site: Site, tmp_path: Path) -> None:
    site.warehouse.load(load_of(tmp_path, {("a", 1): (Decimal("1.5"),)}, 1, "monday", amounts(38, 10)))
    fits = {("b", 1): (Decimal("9" * 28),)}
    site.warehouse.load(load_of(tmp_path, fits, 2, "tuesday", amounts(38, 2)))
    wide = {("c", 1): (Decimal("9" * 29),)}
    refused(site, load_of(tmp_path, wide, 3, "sunday", amounts(38, 2)), r"1 values of sale do not fit decimal\(38,10\)")


def test_a_new_measure_is_added_and_old_rows_have_none(site: Site, tmp_path: Path) -> None:
    site.warehouse.load(load_of(tmp_path, {("a", 1): (Decimal("1.00"),)}, 1, "monday", amounts(38, 2)))
    more = Shape(measures={"sale": decimal(38, 2), "tax": decimal(38, 2)}, additive=("sale", "tax"))
    site.warehouse.load(load_of(tmp_path, {("b", 1): (Decimal(2), Decimal(3))}, 2, "tuesday", more))
    columns = ("store", "code", "sale", "tax")
    assert site.table(columns=columns) == {("a", 1): (Decimal(1), None), ("b", 1): (Decimal(2), Decimal(3))}


def test_a_measure_that_was_dropped_leaves_no_old_values_in_the_rows_of_a_load(site: Site, tmp_path: Path) -> None:
    """Else a row would show a sale of today beside a tax of last week."""
    both = Shape(measures={"sale": decimal(38, 2), "tax": decimal(38, 2)}, additive=("sale", "tax"))
    rows = {("a", code): (Decimal(1), Decimal(9)) for code in range(4)}
    site.warehouse.load(load_of(tmp_path, rows, 1, "monday", both))
    site.warehouse.load(load_of(tmp_path, {("b", 1): (Decimal(1), Decimal(9))}, 2, "tuesday", both))
    site.sql("ALTER TABLE daily ADD COLUMN checked_by VARCHAR")
    site.sql("UPDATE daily SET checked_by = 'Ann'")
    same = {key: (sale,) for key, (sale, _) in rows.items()}
    assert site.warehouse.load(load_of(tmp_path, same, 3, "monday", amounts(38, 2))) == Loaded(4, 0, 4, 0)
    assert site.sql("SELECT DISTINCT tax FROM daily WHERE recon_scope = 'monday'") == [(None,)]
    assert site.sql("SELECT tax, checked_by FROM daily WHERE recon_scope = 'tuesday'") == [(Decimal(9), "Ann")], "not loaded since"
    assert site.warehouse.load(load_of(tmp_path, same, 4, "monday", amounts(38, 2), id="again")) == Loaded(4, 0, 0, 0)
    assert site.warehouse.load(load_of(tmp_path, rows, 5, "monday", both)) == Loaded(4, 0, 4, 0), "it comes back"
    assert site.table(columns=("store", "code", "sale", "tax"), scope="monday") == rows


def test_a_column_of_others_is_left_alone(site: Site, tmp_path: Path) -> None:
    rows: dict[Any, Any] = {("a", code): row() for code in range(4)}
    site.warehouse.load(load_of(tmp_path, rows, 1))
    site.sql("ALTER TABLE daily ADD COLUMN checked_by VARCHAR")
    site.sql("UPDATE daily SET checked_by = 'Ann'")
    rows["a", 1] = row("5.00")
    site.warehouse.load(load_of(tmp_path, rows, 2))
    assert site.sql("SELECT DISTINCT checked_by FROM daily") == [("Ann",)]


# ---- what is refused ----


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"measures": {**MEASURES, "sale": TEXT}}, "its column sale is decimal.38,2., the aggregation has text"),
        ({"measures": {**MEASURES, "note": INTEGER}}, "its column note is text, the aggregation has integer"),
        ({"keys": {"store": TEXT, "code": TEXT}}, "its column code is integer, the aggregation has text"),
    ],
)
def test_a_column_that_changed_its_type(site: Site, tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    site.warehouse.load(load_of(tmp_path, {("a", 1): row()}, 1))
    refused(site, load_of(tmp_path, {}, 2, shape=Shape(**changed, additive=())), message)


def test_other_keys_than_the_table_has(site: Site, tmp_path: Path) -> None:
    site.warehouse.load(load_of(tmp_path, {("a", 1): row()}, 1))
    fewer = Shape(keys={"store": TEXT}, measures={"sale": decimal(38, 2)}, additive=("sale",))
    refused(site, load_of(tmp_path, {("a",): (Decimal(1),)}, 2, shape=fewer), "its keys are store, code, those of the definition store")


def test_a_table_that_was_not_made_by_recon(site: Site, tmp_path: Path) -> None:
    site.sql("CREATE TABLE daily (store VARCHAR, code BIGINT, sale DECIMAL(5,2))")
    site.sql("INSERT INTO daily VALUES ('a', 1, 2)")
    refused(site, load_of(tmp_path, {("a", 1): row()}, 1), "was not made by Recon")


def test_rows_of_others_in_a_scope_that_no_load_wrote(site: Site, tmp_path: Path) -> None:
    site.warehouse.load(load_of(tmp_path, {("a", 1): row()}, 1, "monday"))
    site.sql("INSERT INTO daily (store, code, recon_scope, recon_run) VALUES ('z', 1, 'tuesday', 0)")
    refused(site, load_of(tmp_path, {("b", 1): row()}, 2, "tuesday"), "the table has 1 rows of it that no load wrote")


def test_a_table_that_another_aggregation_loads(site: Site, tmp_path: Path) -> None:
    site.warehouse.load(load_of(tmp_path, {("a", 1): row()}, 1))
    other = load_of(tmp_path, {("b", 1): row()}, 2, "tuesday", Shape(aggregation="orders.other"))
    refused(site, other, "aggregation orders.daily loads this table")
    with pytest.raises(WrongInput) as caught:
        site.warehouse.load(other)
    site.sql(str(caught.value).partition("new name: ")[2])
    assert site.warehouse.load(other).inserted == 1, "the way out that the message shows"


def test_a_key_in_two_scopes(site: Site, tmp_path: Path) -> None:
    site.warehouse.load(load_of(tmp_path, {("a", 1): row()}, 1, "monday"))
    refused(site, load_of(tmp_path, {("a", 1): row()}, 2, "tuesday"), "key store a, code 1 is in scope monday already")


@pytest.mark.parametrize("key", [(None, 1), ("a", None)])
def test_a_key_without_one_of_its_columns(site: Site, tmp_path: Path, key: Any) -> None:
    missing = "store" if key[0] is None else "code"
    refused(site, load_of(tmp_path, {key: row()}, 1), f"a row has no {missing}; a key needs all its columns")


def test_a_key_that_is_twice_in_the_rows(site: Site, tmp_path: Path) -> None:
    by_store = Shape(keys={"store": TEXT}, measures={"code": INTEGER}, additive=())
    load = load_of(tmp_path, {("a",): (1,)}, 1, shape=by_store)
    twice = load_of(tmp_path, {("a", 1): (), ("a", 2): ()}, 2, shape=Shape(keys=KEYS, measures={}, additive=()))
    refused(site, replace(load, rows=twice.rows, count=2), "key store a is there twice")


def test_a_key_that_others_doubled_in_the_table(site: Site, tmp_path: Path) -> None:
    """No key of the database keeps it out; the query finds it."""
    rows: dict[Any, Any] = {("a", code): row() for code in range(9)}
    site.warehouse.load(load_of(tmp_path, rows, 1))
    site.sql("INSERT INTO daily SELECT * FROM daily WHERE code = 1")
    assert site.warehouse.audit("daily", list(KEYS)) == Audit(10, 1, 0, {"monday": "10 rows, its last load had 9"})
    rows["a", 2] = row("3.00")
    refused(site, load_of(tmp_path, rows, 2), "key store a, code 1 is in the table more than once")
    site.sql("UPDATE daily SET store = NULL WHERE code = 1")
    assert site.warehouse.audit("daily", list(KEYS)).nulls == 2


def test_an_audit_says_which_scope_does_not_tie_to_its_last_load(site: Site, tmp_path: Path) -> None:
    site.warehouse.load(load_of(tmp_path, {("a", 1): row("5.00")}, 1, "monday"))
    site.warehouse.load(load_of(tmp_path, {("a", 1): row("2.00")}, 2, "monday"))
    site.warehouse.load(load_of(tmp_path, {("b", 1): row("3.00")}, 3, "tuesday"))
    assert site.warehouse.audit("daily", list(KEYS)) == Audit(2, 0, 0, {})
    site.sql("UPDATE daily SET sale = 4 WHERE store = 'b'")
    site.sql("INSERT INTO daily (store, code, recon_scope, recon_run) VALUES ('z', 1, 'sunday', 0)")
    untied = site.warehouse.audit("daily", list(KEYS)).untied
    assert untied == {"sunday": "1 rows that no load has put there", "tuesday": "sale 4.00, its last load had 3.00"}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"count": 3}, "the rows to load do not tie: 2 rows, not 3"),
        ({"totals": {"sale": "2.01", "lines": "2"}}, "the rows to load do not tie: sale 2.00, not 2.01"),
    ],
)
def test_rows_and_money_tie_to_the_aggregation(site: Site, tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    refused(site, replace(load_of(tmp_path, {("a", 1): row(), ("a", 2): row()}, 1), **changed), message)


def test_texts_longer_than_a_column_and_with_the_character_0(site: Site, tmp_path: Path) -> None:
    """Bytes count, not characters: 22,000 signs of three bytes each are 66,000."""
    euros, zero = load_of(tmp_path, {("a", 1): row(note="€" * 22_000)}, 1), load_of(tmp_path, {("b", 1): row(note="a\0b")}, 2, "tuesday")
    if site.kind == "redshift":
        refused(site, euros, "1 values of note have more than 65,535 bytes")
    else:
        assert site.warehouse.load(euros).inserted == 1
    if site.kind == "duckdb":
        assert site.warehouse.load(zero).inserted == 1
        assert site.table(scope="tuesday") == {("b", 1): row(note="a\0b")}
    else:
        refused(site, zero, "1 values of note have the character 0")


def test_a_column_that_others_made_obligatory_is_named(site: Site, tmp_path: Path) -> None:
    site.warehouse.load(load_of(tmp_path, {}, 1))
    site.sql("ALTER TABLE daily ADD COLUMN owner VARCHAR")
    site.sql("ALTER TABLE daily ALTER COLUMN owner SET NOT NULL")
    with pytest.raises(ReconError, match=r"(?i)owner"):
        site.warehouse.load(load_of(tmp_path, {("a", 1): row()}, 2))
    assert site.table() == {}


def test_the_default_shape_has_every_type() -> None:
    assert {kind.kind for kind in DEFAULT.measures.values()} == {"decimal", "integer", "text", "date", "timestamp", "boolean"}
