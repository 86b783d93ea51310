"""Mutants of loads into a warehouse."""

from __future__ import annotations

from mutant import Mutant

_LOAD, _STATEMENTS = "recon/aggregations/warehouse/load.py", "recon/aggregations/warehouse/statements.py"
_REDSHIFT, _API = "recon/aggregations/warehouse/redshift.py", "recon/aggregations/warehouse/redshift_api.py"


def _loads(*names: str) -> tuple[str, ...]:
    return tuple(f"aggregations/warehouse/test_warehouse_loads.py::test_{name}" for name in names)


def _deaths(*names: str) -> tuple[str, ...]:
    return tuple(f"aggregations/warehouse/test_warehouse_deaths.py::test_{name}" for name in names)


def _redshift(*names: str) -> tuple[str, ...]:
    return tuple(f"aggregations/warehouse/test_redshift.py::test_{name}" for name in names)


_ONCE = ("each_statement_happens_once_whatever_becomes_of_its_requests", "any_faults_in_any_order")
WAREHOUSE = (
    Mutant(_LOAD, "a late run is not fenced", "if last and int(last[0][0]) > load.run:", "if False:", _loads("a_late_run_changes_nothing")),
    Mutant(
        _LOAD,
        "the ledger alone makes a load done",
        " and _still_ties(session, load, there):",
        ":",
        _loads("a_table_that_was_dropped_is_loaded_again"),
    ),
    Mutant(
        _LOAD,
        "a load happens as often as it is asked for",
        "if last and str(last[0][1]) == load.id",
        "if last and str(last[0][1]) == ''",
        _loads("a_load_that_is_asked_for_twice_happens_once"),
    ),
    Mutant(
        _LOAD,
        "rows of others are taken over",
        "        _refuse_rows_of_others(session, load, there)\n",
        "        pass\n",
        _loads("rows_of_others_in_a_scope_that_no_load_wrote"),
    ),
    Mutant(
        _LOAD,
        "a measure that was dropped keeps old values beside new ones",
        "return tuple(name for name in measures if name not in load.measures and name in there)",
        "return ()",
        _loads("a_measure_that_was_dropped_leaves_no_old_values_in_the_rows_of_a_load"),
    ),
    Mutant(
        _LOAD,
        "a key that is twice in the table is not seen",
        "if doubled := session.query(statements.doubled(load)):",
        "if doubled := None:",
        _loads("a_key_that_others_doubled_in_the_table"),
    ),
    Mutant(
        _LOAD,
        "staged rows are not tied",
        '    _tie(session, load, None, "the rows to load")\n',
        "",
        _loads("rows_and_money_tie_to_the_aggregation"),
    ),
    Mutant(_LOAD, "keys that are gone stay", "    if deleted:\n", "    if False:\n", _loads("a_second_load_changes_exactly_what_differs")),
    Mutant(
        _LOAD,
        "columns are not widened",
        "                session.widen(load.target, name, types[name])\n",
        "                pass\n",
        _loads("a_column_is_widened_where_amounts_grow"),
    ),
    Mutant(
        "recon/aggregations/warehouse/rows.py",
        "digits are not checked before they are sent",
        "AND TRY_CAST({column} AS {kind.duckdb}) IS NULL",
        "AND false",
        _loads("digits_that_no_column_holds_are_refused_before_anything_is_sent"),
    ),
    Mutant(
        "recon/aggregations/warehouse/rows.py",
        "characters are counted, not bytes",
        "strlen({column})",
        "length({column})",
        _loads("texts_longer_than_a_column_and_with_the_character_0"),
    ),
    Mutant(
        "recon/aggregations/warehouse/rows.py",
        "a backslash is not escaped for COPY",
        "(\"'\\\\'\", \"'\\\\\\\\'\"), ",
        "",
        _loads("odd_texts_arrive_as_they_are"),
    ),
    Mutant(
        _STATEMENTS,
        "a change to or from null is no change",
        '_UNLIKE = "{0} IS DISTINCT FROM {1}"',
        '_UNLIKE = "{0} <> {1}"',
        _loads("a_value_that_becomes_null_or_is_null_no_more_is_a_change"),
    ),
    Mutant(
        _STATEMENTS,
        "keys of other scopes are deleted",
        "WHERE {SCOPE} = {text(load.scope)}{gone}",
        "WHERE {SCOPE} <> ''{gone}",
        _loads("scopes_have_rows_of_their_own"),
    ),
    Mutant(
        "recon/aggregations/warehouse/postgresql.py",
        "loads of one table do not take turns in PostgreSQL",
        "        self._lock(target)\n",
        "",
        _deaths("processes_that_race_with_one_load_do_it_once", "threads_of_one_process_take_turns"),
    ),
    Mutant(
        "recon/aggregations/warehouse/duckdb.py",
        "threads do not take turns at a DuckDB file",
        "with _turns[self.path.resolve()]:",
        "if True:",
        _deaths("threads_of_one_process_take_turns"),
    ),
    Mutant(
        _REDSHIFT,
        "loads do not take turns in Redshift",
        '        self._statements.execute(f"LOCK {LOCK}", self._lock_s)\n',
        "",
        (*_deaths("processes_that_race_with_one_load_do_it_once"), *_redshift("a_load_waits_for_another_and_no_longer_than_it_should")),
    ),
    Mutant(
        _REDSHIFT,
        "a ROLLBACK follows a statement of unknown fate",
        "            if session.settled:\n",
        "            if True:\n",
        _redshift("a_statement_of_unknown_fate_is_never_followed_by_a_rollback"),
    ),
    Mutant(
        _REDSHIFT,
        "staged files stay",
        "                store.delete(name)\n",
        "                pass\n",
        _redshift("staged_files_are_removed_whatever_happens"),
    ),
    Mutant(_API, "a repeated submission is another one", '"ClientToken": str(uuid.uuid4()), ', "", _redshift(*_ONCE)),
    Mutant(
        _API,
        "the first page of rows is taken for all",
        '            if not page.get("NextToken"):\n',
        "            if True:\n",
        _redshift("every_statement_is_one_that_sqlglot_reads_as_redshifts"),
    ),
)
