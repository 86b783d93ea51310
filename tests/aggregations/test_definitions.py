"""Definitions of aggregations, from YAML files and from rows that people edit by SQL: each mistake is named and disables only its own."""

from __future__ import annotations

import json
from pathlib import Path

import aggregation_site as s
import pytest
from aggregation_site import DAILY, define, land, made, opened, run

from recon.aggregations.definitions.load import from_record
from recon.aggregations.definitions.sections import written

GOOD = DAILY.replace("target: daily", "target: good")
LINES = DAILY.strip().splitlines()

MISTAKES = [
    ("source: sales", "source: sale", "daily.yaml:1: source: there is no source 'sale'; there are items, sales"),
    ("source: sales", "source: items", "daily.yaml:1: source: 'items' is reference data; name it under needs"),
    ("keys: shop", "keys: store", "daily.yaml:2: keys: the source sales has no column 'store'; there are shop, code, amount"),
    ("keys: shop", "keys: [shop, shop]", "daily.yaml:2: keys: a column is named twice; name each once"),
    ("keys: shop", "keys: Shop", "daily.yaml:2: keys[0]: 'Shop' is no name for a column"),
    ("keys: shop", "keys: recon_shop", "daily.yaml:2: keys[0]: 'recon_shop' is no name for a column"),
    ("keys: shop", "keys: 'shop; drop table x'", "daily.yaml:2: keys[0]: 'shop; drop table x' is no name for a column"),
    ("{sum: amount}", "{sum: amounts}", "daily.yaml:3: measures: the source sales has no column 'amounts'"),
    ("{sum: amount}", "{first: amount}", "daily.yaml:3: measures.total: first and last need the time of an event"),
    ("{sum: amount}", "{sum: shop}", "daily.yaml:3: measures.total"),
    ("total:", "shop:", "daily.yaml:3: measures.shop: a key has that name already; choose another"),
    ("target: daily", "target: 'daily; drop table x'", "daily.yaml:4: target: 'daily; drop table x' is no name for a table"),
    ("target: daily", "target: recon_loads", "daily.yaml:4: target: 'recon_loads' is no name for a table"),
    ("target: daily", "target: a.b.c", "daily.yaml:4: target: 'a.b.c' is no name for a table"),
    ("target: daily", f"target: {'t' * 61}", "daily.yaml:4: target"),
]
MORE = [
    ("engine: flink", "daily.yaml:5: engine: 'flink' is not one of"),
    ("expect: 0", "daily.yaml:5: expect"),
    ("expect: []", "daily.yaml:5: expect: is empty"),
    ("expect: [{name: a.csv, from: yesterday}]", "daily.yaml:5: expect"),
    ("files: 'a-{shop'", "daily.yaml:5: files"),
    ("files: 'a-{shop}-{shop}'", "daily.yaml:5: files"),
    ("per: month", "daily.yaml:5: per: 'month' is not one of"),
    ("input: some", "daily.yaml:5: input: 'some' is not one of"),
    ("least_rows: -1", "daily.yaml:5: least_rows"),
    ("least_bytes: many", "daily.yaml:5: least_bytes"),
    ("needs: {source: item}", "daily.yaml:5: needs: there is no source 'item'; there are items, sales"),
    ("needs: {}", "daily.yaml:5: needs"),
    ("needs: {aggregation: daily}", "daily.yaml:5: needs: waits for itself; take one need out"),
    ("needs: {aggregation: nightly}", "daily.yaml:5: needs: there is no aggregation 'nightly' that is enabled and without mistakes"),
    ("needs: {aggregation: good, since: today}", "daily.yaml:5: needs"),
    ("needs: [items, items]", "daily.yaml:5: needs: an input is named twice"),
    ("needs: {source: items, since: tomorrow}", "daily.yaml:5: needs"),
    ("time_zone: America/Chikago", "daily.yaml:5: time_zone: 'America/Chikago'"),
    ("deadline: soon", "daily.yaml:5: deadline"),
    ("per: all\ndeadline: 6h", "daily.yaml:6: deadline: counts from a window's end"),
    ("per: all\nneeds: {source: items, since: window}", "daily.yaml:6: needs: since: window needs per: window"),
    ("filter: amount", "daily.yaml:5: filter: a condition is true or false"),
    ("filter: 'price > 1'", "daily.yaml:5: filter"),
    ("filter: 'amount >'", "daily.yaml:5: filter"),
    ("filter: 'pg_sleep(9) = 1'", "daily.yaml:5: filter"),
    ("criteria: drop table files", "daily.yaml:5: criteria"),
    ("criteria: select 1; select 2", "daily.yaml:5: criteria: ';', comments"),
    ("criteria: missing:function", "daily.yaml:5: criteria"),
    ("cadence: often", "daily.yaml:5: cadence"),
    ("rhythm: 1h", "daily.yaml:5: rhythm: not known here"),
    ("enabled: perhaps", "daily.yaml:5: enabled"),
    ("source: sales", "daily.yaml:5"),
    ("  : [", "daily.yaml:5: not YAML"),
]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> s.Aggregations:
    """A site with the aggregation good, beside which each test defines daily."""
    return made(tmp_path_factory.mktemp("site"), {"good": GOOD})


def broken(site: s.Aggregations, text: str) -> str:
    """The mistake in a definition, which disables nothing else."""
    define(site.config.path.parent, "daily", text)
    found = site.definitions()
    assert list(found.good) == ["good"]
    assert list(found.broken) == ["daily"]
    return found.broken["daily"]


def test_a_mistake_keeps_no_other_aggregation_from_running(tmp_path: Path) -> None:
    site = made(tmp_path, {"daily": DAILY + "expect: 0\n", "good": GOOD})
    land(site)
    found, done = run(site)
    assert [(one.aggregation, one.state) for one in done] == [("good", "completed")]
    assert list(found.definitions.broken) == ["daily"]


@pytest.mark.parametrize(("right", "wrong", "message"), MISTAKES, ids=[wrong[:30] for _, wrong, _ in MISTAKES])
def test_a_mistake_is_named_with_its_line_and_field(shared: s.Aggregations, right: str, wrong: str, message: str) -> None:
    assert message in broken(shared, DAILY.replace(right, wrong))


@pytest.mark.parametrize(("line", "message"), MORE, ids=[line.replace("\n", " ")[:40] for line, _ in MORE])
def test_a_wrong_line_is_named(shared: s.Aggregations, line: str, message: str) -> None:
    assert message in broken(shared, DAILY + line + "\n")


@pytest.mark.parametrize("missing", ["source", "keys", "measures", "target"])
def test_a_missing_field_is_named(shared: s.Aggregations, missing: str) -> None:
    text = "\n".join(line for line in LINES if not line.startswith(missing)) + "\n"
    assert f"{missing}: is missing" in broken(shared, text)


def test_a_file_is_named_like_a_column(tmp_path: Path) -> None:
    site = made(tmp_path, {"Daily-Sales": DAILY})
    assert "an aggregation is named in up to 60 lower-case letters" in site.definitions().broken["Daily-Sales"]


def test_of_two_that_write_one_table_the_second_is_refused(tmp_path: Path) -> None:
    site = made(tmp_path, {"a": DAILY, "b": DAILY, "c": DAILY.replace("target: daily", "target: main.daily")})
    found = site.definitions()
    assert list(found.good) == ["a"]
    assert "b.yaml:4: target: the aggregation a writes daily; choose another table" in found.broken["b"]
    assert "c.yaml:4: target" in found.broken["c"], "the same table, with its schema"


def test_a_disabled_definition_writes_no_table_and_is_listed(tmp_path: Path) -> None:
    site = made(tmp_path, {"a": DAILY + "enabled: false\n", "b": DAILY})
    found = site.definitions()
    assert (list(found.good), found.disabled, dict(found.broken)) == (["b"], ("a",), {})


def test_those_that_wait_for_each_other_are_refused_and_those_that_wait_for_them_too(tmp_path: Path) -> None:
    def needing(name: str, *needed: str) -> str:
        needs = ", ".join(f"{{aggregation: {one}}}" for one in needed)
        return DAILY.replace("target: daily", f"target: {name}") + f"needs: [{needs}]\n"

    names = {"a": ["b"], "b": ["c"], "c": ["a"], "d": ["a"], "e": ["f"], "f": []}
    site = made(tmp_path, {name: needing(name, *needed) for name, needed in names.items()})
    found = site.definitions()
    assert list(found.good) == ["e", "f"]
    for name in ("a", "b", "c"):
        assert f"{name}.yaml:5: needs: a and b and c wait for each other; take one need out" in found.broken[name]
    assert "d.yaml:5: needs" in found.broken["d"]


# ---- rows that people edit by SQL ------------------------------------------------------------------------------------


def insert(site: s.Aggregations, name: str, **columns: object) -> None:
    values = {"source": "sales", "keys": '["shop"]', "measures": '{"total": {"sum": "amount"}}', "target": name, **columns}
    names = ", ".join(f'"{column}"' for column in ("reconciliation", "name", *values))
    places = ", ".join(f":{column}" for column in ("reconciliation", "name", *values))
    s.edit(site, f"INSERT INTO aggregations ({names}) VALUES ({places})", reconciliation=s.NAME, name=name, **values)


def test_a_row_without_a_file_is_a_definition(tmp_path: Path) -> None:
    site = made(tmp_path, {})
    insert(site, "by_row", expect='["a.csv"]', needs='[{"source": "items"}]', least_rows=1, per="all", enabled=True)
    section = s.definition(site, "by_row").section
    assert (section.per, section.least_rows, section.keys) == ("all", 1, ("shop",))
    land(site)
    land(site, "items1.csv", source="items")
    (done,) = run(site)[1]
    assert (done.aggregation, done.state) == ("by_row", "completed")
    assert not site.definitions().changes, "no file takes it away"


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("keys", '["shop"', "keys: '[\"shop\"' is no JSON"),
        ("keys", '["shop", 3]', "keys"),
        ("measures", "null", "measures"),
        ("measures", '{"total": {"sum": "nothing"}}', "measures: the source sales has no column 'nothing'"),
        ("expect", "many", "expect: 'many' is no JSON"),
        ("expect", '[{"name": "a.csv", "until": "soon"}]', "expect"),
        ("needs", '[{"source": "x"}]', "needs: there is no source 'x'"),
        ("target", "daily'; DROP TABLE files", "target"),
        ("source", "sales'--", 'source: there is no source "sales\'--"'),
        ("time_zone", "Mars/Olympus", "time_zone"),
        ("criteria", "select 1 from files; drop table files", "criteria: ';', comments"),
        ("deadline", "1 fortnight", "deadline"),
        ("filter", "code in (", "filter"),
        ("least_rows", -4, "least_rows"),
        ("per", "", "per"),
    ],
)
def test_a_mistake_in_a_row_is_named_with_row_and_column(shared: s.Aggregations, column: str, value: object, message: str) -> None:
    (shared.config.path.parent / "aggregations" / "daily.yaml").unlink(missing_ok=True)
    s.edit(shared, "DELETE FROM aggregations")
    insert(shared, "by_row", **{column: value})
    found = shared.definitions()
    assert list(found.good) == ["good"]
    assert found.broken["by_row"].startswith(f"table aggregations, row by_row: {message}")


def test_a_name_that_is_none_is_refused_in_a_row_too(tmp_path: Path) -> None:
    site = made(tmp_path, {"good": GOOD})
    insert(site, "../../etc", target="elsewhere")
    found = site.definitions()
    assert list(found.good) == ["good"]
    assert "an aggregation is named in up to 60 lower-case letters" in found.broken["../../etc"]


# ---- files and rows --------------------------------------------------------------------------------------------------


def actions(site: s.Aggregations) -> dict[str, str]:
    return {change.name: change.action for change in site.preview().changes}


def row(site: s.Aggregations, column: str) -> object:
    with site.intake.database.read() as connection:
        return connection.execute(s.sa.text(f"SELECT \"{column}\" FROM aggregations WHERE name = 'daily'")).scalar()


def test_a_file_is_written_to_its_row_and_a_changed_one_again(tmp_path: Path) -> None:
    site = made(tmp_path)
    assert actions(site) == {"daily": "insert"}
    assert row(site, "target") is None, "a preview writes nothing"
    site.definitions()
    assert (actions(site), row(site, "target"), json.loads(str(row(site, "keys")))) == ({}, "daily", "shop")
    define(tmp_path, "daily", DAILY + "least_rows: 5\nenabled: true\n")
    (change,) = site.preview().changes
    assert (change.action, dict(change.fields)) == ("update", {"least_rows": (None, "5")})
    assert s.definition(site).section.least_rows == 5
    assert (actions(site), row(site, "least_rows")) == ({}, 5)


def test_a_row_that_was_edited_by_sql_counts_while_its_file_is_unchanged(tmp_path: Path) -> None:
    site = made(tmp_path)
    site.definitions()
    s.edit(site, "UPDATE aggregations SET least_rows = 7 WHERE name = 'daily'")
    assert actions(site) == {"daily": "keep"}
    assert s.definition(site).section.least_rows == 7
    define(tmp_path, "daily", DAILY + "least_rows: 8\n")
    found = site.definitions()
    assert not found.good
    assert "both changed" in found.broken["daily"]
    assert "--take file or --take table decides" in found.broken["daily"]
    taken = site.definitions("file")
    assert taken.good["daily"].section.least_rows == 8
    assert actions(site) == {}


def test_the_table_is_taken_where_a_person_says_so(tmp_path: Path) -> None:
    site = made(tmp_path)
    site.definitions()
    s.edit(site, "UPDATE aggregations SET least_rows = 7 WHERE name = 'daily'")
    define(tmp_path, "daily", DAILY + "least_rows: 8\n")
    assert site.definitions("table").good["daily"].section.least_rows == 7
    assert actions(site) == {"daily": "keep"}
    assert s.definition(site).section.least_rows == 7
    define(tmp_path, "daily", DAILY + "least_rows: 9\n")
    assert actions(site) == {"daily": "conflict"}, "a later change of the file is seen"


def test_both_changed_to_the_same(tmp_path: Path) -> None:
    site = made(tmp_path)
    site.definitions()
    s.edit(site, "UPDATE aggregations SET least_rows = 7 WHERE name = 'daily'")
    define(tmp_path, "daily", DAILY + "least_rows: 7\n")
    assert actions(site) == {}
    assert s.definition(site).section.least_rows == 7
    define(tmp_path, "daily", DAILY)
    assert s.definition(site).section.least_rows == 0


def test_a_file_that_is_removed_takes_its_row_along_unless_it_was_edited(tmp_path: Path) -> None:
    site = made(tmp_path)
    site.definitions()
    (tmp_path / "aggregations" / "daily.yaml").unlink()
    assert actions(site) == {"daily": "delete"}
    assert not site.definitions().good
    assert row(site, "target") is None
    define(tmp_path, "daily", DAILY)
    site.definitions()
    s.edit(site, "UPDATE aggregations SET least_rows = 7 WHERE name = 'daily'")
    (tmp_path / "aggregations" / "daily.yaml").unlink()
    assert actions(site) == {"daily": "conflict"}
    assert "both changed" in site.definitions().broken["daily"]
    assert list(site.definitions("table").good) == ["daily"]
    assert actions(site) == {}, "the row is the definition from now on"


def test_a_file_with_a_mistake_leaves_its_row_and_is_not_run_by_it(tmp_path: Path) -> None:
    site = made(tmp_path)
    site.definitions()
    define(tmp_path, "daily", DAILY.replace("shop", "store"))
    found = site.definitions()
    assert (list(found.good), list(found.broken), row(site, "target")) == ([], ["daily"], "daily")


def test_a_row_that_was_removed_by_sql_comes_back_from_its_file(tmp_path: Path) -> None:
    site = made(tmp_path)
    site.definitions()
    s.edit(site, "DELETE FROM aggregations")
    assert list(site.definitions().good) == ["daily"]


def test_rows_of_another_reconciliation_are_not_seen(tmp_path: Path) -> None:
    site = made(tmp_path)
    site.definitions()
    s.edit(site, "UPDATE aggregations SET reconciliation = 'other', name = 'theirs'")
    assert list(site.definitions().good) == ["daily"]


def test_a_definition_is_built_once_while_nothing_changes(tmp_path: Path) -> None:
    site = made(tmp_path)
    first = site.definitions().good["daily"]
    assert site.definitions().good["daily"] is first
    define(tmp_path, "daily", DAILY + "least_rows: 1\n")
    assert site.definitions().good["daily"] is not first


def test_the_record_of_a_run_gives_the_same_definition_again(tmp_path: Path) -> None:
    more = "deadline: 90m\nleast_bytes: 1.5KB\nleast_rows: 7\ntime_zone: America/New_York\nneeds: {source: items, since: window}\n"
    expect = "expect: [a.csv, {name: b.csv, from: 2026-01-01, until: 2026-12-31}]\n"
    site = made(tmp_path, {"daily": f"{DAILY.rstrip()}\n{more}{expect}filter: code = 4\ninput: all\n"})
    made_of_it = s.definition(site)
    again = from_record("daily", json.loads(json.dumps(written(made_of_it.section))), site.config, site.intake.sources)
    assert again.section == made_of_it.section
    assert again.rules == made_of_it.rules


def test_a_source_with_a_mistake_is_named_where_an_aggregation_wants_it(tmp_path: Path) -> None:
    made(tmp_path)
    (tmp_path / "sources" / "sales.yaml").write_text("files: []\n")
    broken = opened(tmp_path).definitions().broken["daily"]
    assert "sources/sales.yaml has a mistake, or feeds another reconciliation; 'recon source list' says which" in str(broken)
