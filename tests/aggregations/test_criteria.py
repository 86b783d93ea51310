"""Criteria: one SELECT, refused unless it only reads the three views, and ended after some seconds; or a function."""

from __future__ import annotations

import time
from pathlib import Path

import aggregation_site as s
import pytest
from aggregation_site import DAILY, WINDOW, answers, define, evaluated, land, made, run

from recon.aggregations.definitions.criteria import parsed
from recon.aggregations.preconditions import criteria
from recon.errors import WrongUsage

HOSTILE = [
    "select 1; drop table files",
    "select 1;",
    "select 1 -- more",
    "select 1 /* more */",
    "select '--'",
    "select pg_sleep(60) is null",
    "select (select pg_sleep(60)) is null from files",
    "delete from files",
    "update files set state = 'landed'",
    "insert into files (id) values (1)",
    "drop table files",
    "create table x as select 1",
    "attach database '/etc/passwd' as x",
    "pragma query_only = off",
    "copy files to '/tmp/x'",
    "vacuum",
    "begin",
    "select pg_read_file('/etc/passwd')",
    "select readfile('/etc/passwd')",
    "select load_extension('x')",
    "select lo_import('/etc/passwd')",
    "select current_setting('data_directory')",
    "select set_config('statement_timeout', '0', false)",
    "select query_to_xml('delete from files', true, true, '')",
    "select count(*) = 1 from sqlite_master",
    "select count(*) = 1 from main.files",
    "select count(*) = 1 from pg_catalog.pg_shadow",
    "select count(*) = 1 from aggregation_runs",
    "select count(*) = 1 from generate_series(1, 1000000000)",
    "select count(*) = 1 from json_each('[1]')",
    "select 1 into outfile '/tmp/x'",
    "select 1 into x",
    "with recursive r as (select 1 union all select 1 from r) select count(*) from r",
    "select 1 union select 2",
    "values (1)",
    "table files",
    "select count(*) = 1 from files for update",
    "select count(*) = 1 from files, lateral (select 1) x",
    "select (with x as (delete from files returning 1) select count(*) from x) = 1",
    "select count(*) over () from files",
    "select group_concat(name) = '' from files",
    "select replace(name, 'a', name) = '' from files",
    "select printf('%999999999d', 1) = ''",
    "select zeroblob(1000000000) is null",
    "select hex(randomblob(1000)) = ''",
    "select :password",
    "select ?",
    "select $1",
    "select @@version",
    "select x'41'",
    "select cast('1' as blob)",
    "select 'a'::regclass",
    "select name collate nocase = 'a' from files",
    "select name regexp '(a+)+$' from files",
    "select name glob '*a*' from files",
    "select *",
    "select * from files",
    "select files.* from files",
    "select 1, 2",
    "select count(*) = 1 from",
    "select",
    "",
    "   ",
    "not sql at all",
    "select '",
    'select "',
    "select \x00",
    "select count(*) = 1 from filles",
    "select statee = 'landed' from files",
    "select files.nothing = 1 from files",
    "select f.id = 1 from files",
    "select rows = 1 from runs",
    "select password = 'x' from files",
    "select figures = '' from runs",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_what_does_more_than_read_the_views_is_refused(text: str) -> None:
    with pytest.raises(WrongUsage, match=r"^criteria: "):
        parsed(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("select '" + "a" * 100_000 + "' = name from files", "100,0.. characters are too many; at most 4,000"),
        ("select " + "(" * 1_000 + "1" + ")" * 1_000, "brackets are nested too deeply; at most 30"),
        ("select " + " or ".join(["1 = 1"] * 400) + " from files", "too long a SELECT; at most 500 terms"),
        ("select " + "not " * 600 + "true", "criteria: "),
        ("select " + "- " * 1_500 + "1 = 1", "criteria: "),
        ("select case when " * 90 + "1" + " end" * 90, "criteria: "),
        ("select 1 = " + "+".join(["1"] * 900), "too long a SELECT"),
    ],
    ids=["100 KB", "brackets", "terms", "nots", "minuses", "cases", "sum"],
)
def test_what_is_too_long_or_too_deep_is_refused_at_once(text: str, message: str) -> None:
    begun = time.process_time()
    with pytest.raises(WrongUsage, match=message):
        parsed(text)
    assert time.process_time() - begun < 5


ALLOWED = [
    ("select count(*) = 2 from files where window = :scope", True),
    ("select count(*) > 2 from files where window = :scope", False),
    ("SELECT COUNT(*) = 2 FROM Files F WHERE F.Window = :scope AND f.STATE = 'landed'", True),
    ('select count(*) = 2 from files where "window" = :scope', True),
    ("select count(*) = 2 from files where name like '%.csv'", True),
    ("select count(*) % 2 = 0 from files", True),
    ("select not exists (select 1 from runs r where r.scope = :scope and r.aggregation = :aggregation)", True),
    ("select max(rows) >= 2 from windows where source = 'sales' and window = :scope", True),
    ("select count(*) = count(distinct name) from files", True),
    ("select case when sum(kept) = 3 then 1 else 0 end from files", True),
    ("select coalesce(sum(kept), 0) between 1 and 5 from files f where f.name in ('a.csv', 'b.csv')", True),
    ("select n = 2 from (select count(*) as n from files) counted", True),
    ("select count(*) = 2 from files f join windows w on f.window = w.window and f.source = w.source", True),
    ("select max(received_at) >= '2026-11-01' from files", True),
    ("select name = 'b.csv' from files order by id desc limit 1", True),
    ("select lower(name) = 'a.csv' and upper(name) = 'A.CSV' and length(trim(name)) = 5 from files order by id limit 1", True),
    ("select cast(sum(kept) as decimal) / 2 = 1.5 from files", True),
    ("select name is null from files where id = 0 - 1", None),
    ("select null", None),
    ("select true", True),
]


def test_a_select_on_the_views_is_answered_alike_by_both_databases(tmp_path: Path, database: str) -> None:
    site = made(tmp_path, more=database)
    land(site, "a.csv")
    land(site, "b.csv", [("B", "4", "1.00"), ("C", "4", "1.00")])
    s.edit(site, "INSERT INTO files (reconciliation, source, name, series, digest, size, state, received_at) "
           "VALUES ('other', 'sales', 'x', 'x', 'x', 1, 'landed', '2026-11-01T00:00:00+00:00')")  # fmt: skip
    for text, expected in ALLOWED:
        define(tmp_path, "daily", DAILY + f"criteria: {_quoted(text)}\n")
        holds, why = answers(evaluated(site))["criteria"]
        assert holds is bool(expected), (text, why)
        if text == "select null":
            assert why == "the SELECT gives nothing"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("select count(*) from files", "the SELECT gives '3', which is neither true nor false; compare it with something"),
        ("select name from files where name = 'a.csv'", "the SELECT gives 'a.csv', which is neither true nor false"),
        ("select name = 'a.csv' from files", "the SELECT gives several rows; one is expected"),
        ("select name = 'a.csv' from files where id < 0", "the SELECT gives no row; one is expected"),
        ("select count(*) = 4 from files", "the SELECT gives false"),
        ("select sum(kept) > 5 from files where id < 0", "the SELECT gives nothing"),
    ],
)
def test_what_gives_no_answer_does_not_hold_and_says_why(text: str, why: str, tmp_path: Path, database: str) -> None:
    site = made(tmp_path, {"daily": DAILY + f"criteria: {_quoted(text)}\n"}, database)
    for name in "abc":
        land(site, f"{name}.csv")
    found = answers(evaluated(site))["criteria"]
    assert found[0] is False
    assert why in found[1]
    assert not run(site)[1]


def test_a_select_that_would_take_minutes_is_ended_and_the_others_are_evaluated(
    tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(criteria, "SECONDS", 1)
    cross = ", ".join(f"files f{number}" for number in range(12))
    slow = {
        "count": f"select count(*) = 0 from {cross}",
        "rows": f"select f0.name = 'x' from {cross}",
        "sorted": f"select f0.name = 'x' from {cross} order by f1.name, f2.name limit 1",
    }
    texts = {name: DAILY.replace("target: daily", f"target: t_{name}") + f"criteria: {_quoted(text)}\n" for name, text in slow.items()}
    site = made(tmp_path, {**texts, "z": DAILY}, database)
    for number in range(12):
        land(site, f"{number}.csv")
    begun = time.monotonic()
    found, done = run(site)
    assert time.monotonic() - begun < 60
    assert [one.aggregation for one in done] == ["z"]
    told = {one.definition.name: answers(one)["criteria"] for one in found.waiting}
    assert told["count"] == told["sorted"] == (False, "the SELECT took longer than 1 s")
    assert told["rows"] == (False, "the SELECT gives several rows; one is expected")


def test_a_select_changes_nothing_even_if_the_list_of_what_it_may_do_had_a_hole(
    tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = made(tmp_path, {"daily": DAILY + "criteria: select true\n"}, database)
    land(site)
    for hole in ("DELETE FROM files RETURNING 1", "UPDATE files SET state = 'x' RETURNING 1", "CREATE TABLE hole (x int)"):
        monkeypatch.setattr(criteria, "statement", lambda *_, hole=hole: hole)
        holds, why = answers(evaluated(site))["criteria"]
        assert holds is False, hole
        assert "readonly" in why or "read-only" in why
    monkeypatch.undo()
    assert evaluated(site).versions == "1"
    s.edit(site, "UPDATE files SET reason = 'writing works again'")


# ---- functions -------------------------------------------------------------------------------------------------------

FUNCTIONS = """
def enough(tables, scope):
    names = [row["name"] for row in tables["files"].to_pylist() if row["window"] == scope and row["state"] == "landed"]
    return True if len(names) >= 2 else f"only {len(names)} files"

def windows(tables, scope):
    (window,) = tables["windows"].to_pylist()
    return (window["files"], window["rows"], window["last_received_at"].isoformat()) == (1, 1, "2026-11-01T12:00:00+00:00")

def runs(tables, scope):
    return tables["runs"].num_rows == 0

def fails(tables, scope):
    raise RuntimeError("no luck")

def number(tables, scope):
    return 1

def exits(tables, scope):
    import sys
    return None
"""


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        ("enough", (False, "rules:enough: only 1 files")),
        ("windows", (True, "rules:windows returned True")),
        ("runs", (True, "rules:runs returned True")),
        ("fails", (False, "rules:fails failed (RuntimeError: no luck)")),
        ("number", (False, "rules:number returned '1'; True, False or a text is expected")),
        ("exits", (False, "rules:exits returned 'None'; True, False or a text is expected")),
    ],
)
def test_a_function_answers_on_the_same_tables(function: str, expected: tuple[bool, str], tmp_path: Path, database: str) -> None:
    (tmp_path / "rules.py").write_text(FUNCTIONS)
    site = made(tmp_path, {"daily": DAILY + f"criteria: rules:{function}\n"}, database)
    land(site)
    assert answers(evaluated(site))["criteria"] == expected


def test_a_function_is_named_where_it_is_missing(tmp_path: Path) -> None:
    (tmp_path / "rules.py").write_text(FUNCTIONS)
    site = made(tmp_path, {"daily": DAILY + "criteria: rules:nothing\n"})
    assert "daily.yaml:5: criteria" in site.definitions().broken["daily"]


def test_a_function_is_not_given_a_part_of_the_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "rules.py").write_text(FUNCTIONS)
    monkeypatch.setattr(criteria, "ROWS_MAX", 1)
    site = made(tmp_path, {"daily": DAILY + "criteria: rules:runs\n"})
    land(site, "a.csv")
    assert evaluated(site).due
    land(site, "b.csv")
    assert answers(evaluated(site))["criteria"][1] == "rules:runs is not called: files has more than 1 rows; write a SELECT instead"


def test_the_scope_is_a_value_whatever_is_in_it() -> None:
    tree = parsed("select count(*) = 1 from files where window = :scope")
    views = criteria._parsed_views("a'b; drop table files", "sqlite")
    text = criteria.statement(tree, views, {"scope": "x' or '1' = '1", "aggregation": "y"}, "sqlite")
    assert "'x'' or ''1'' = ''1'" in text
    assert "'a''b; drop table files'" in text
    assert WINDOW not in text
