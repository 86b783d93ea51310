"""Verifies that the live records add up to the timeline's totals: statuses, and per window rows and measures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from recon.config import Config
from recon.config.model import Measure
from recon.model.totals import Money, Totals, exact_sum
from recon.model.windows import name_of
from recon.state.timeline import State
from recon.verification.carried_forward import windows_in_blocks
from recon.verification.findings import Findings
from recon.verification.sums import exact, exact_sum_of, parts_type, sum_of_parts
from recon.verification.timeline import History
from recon.vocabulary.duckdb import literal, quoted

if TYPE_CHECKING:
    import duckdb

_CARRIED = "carried"
_NEXT = "run 'recon verify --full' to learn which keys, then 'recon replay' the window"


def additive(config: Config, state: State) -> list[Measure]:
    """The measures that add up from window to window; none if the state was made by other rules."""
    if config.rules_version != state.rules:
        return []
    return [item for item in config.measures if item.kind in ("sum", "count")]


def start_sums(connection: duckdb.DuckDBPyConnection, measures: Sequence[Measure]) -> None:
    """Creates the tables that ``add_sums`` fills: window_sums (w, n, d, m_<name>), where w is 'carried' for all blocks together; carried
    (w: number of a window in any block); statuses (status, artifacts)."""
    columns = "".join(f", {quoted('m_' + item.name)} {parts_type(item.type)}" for item in measures)
    connection.execute(f"CREATE TABLE window_sums (w VARCHAR, n HUGEINT, d HUGEINT{columns})")
    connection.execute("CREATE TABLE carried (w BIGINT)")
    connection.execute("CREATE TABLE statuses (status VARCHAR, artifacts BIGINT)")


def add_sums(connection: duckdb.DuckDBPyConnection, config: Config, measures: Sequence[Measure]) -> None:
    """Adds the records of the views ``artifacts``, ``contributions`` and ``blocks``: see ``recon.verification.words.Decoded``."""
    sums = "".join(f", {exact_sum_of(quoted('m_' + item.name), item.type)}" for item in measures)
    connection.execute(f"INSERT INTO window_sums SELECT w, sum(n), sum(d){sums} FROM contributions GROUP BY w")
    connection.execute(f"INSERT INTO window_sums SELECT {literal(_CARRIED)}, sum(n), sum(d){sums} FROM blocks HAVING count(*) > 0")
    blocks = "(SELECT key, first, TRY_CAST(runs AS BIGINT[]) AS runs FROM blocks)"
    connection.execute(f"INSERT INTO carried SELECT DISTINCT w FROM ({windows_in_blocks(config, blocks)}) ANTI JOIN carried USING (w)")
    connection.execute("INSERT INTO statuses SELECT coalesce(status, ''), count(*) FROM artifacts WHERE windows > 0 GROUP BY 1")


def check_sums(
    connection: duckdb.DuckDBPyConnection, config: Config, history: History, measures: Sequence[Measure], findings: Findings
) -> None:
    """Compares the sums over all live records with the state's totals and with each window's figures."""
    state = history.state
    found = dict(connection.execute("SELECT status, sum(artifacts)::BIGINT FROM statuses GROUP BY status").fetchall())
    stated = state.totals.get("statuses", {})
    for status in sorted({*found, *stated}):
        if found.get(status, 0) != stated.get(status, 0):
            findings.add(
                f"commit {state.commit}: {found.get(status, 0)} records have the status {status or 'null'}, the "
                f"timeline says {stated.get(status, 0)}; run 'recon verify --full' to learn which are wrong"
            )
    sums = "".join(f", {sum_of_parts(quoted('m_' + item.name))}" for item in measures)
    rows = connection.execute(f"SELECT w, sum(n), sum(d){sums} FROM window_sums GROUP BY w").fetchall()
    by_window = {row[0]: (*row[1:3], *(exact(parts, item.type) for parts, item in zip(row[3:], measures, strict=True))) for row in rows}
    carried = {name_of(config.grid.at(number)) for (number,) in connection.execute("FROM carried").fetchall()}
    for name in sorted({*by_window, *carried} - {_CARRIED, *state.windows}, key=str):
        rows_found = f"{by_window[name][0]} rows of it" if name in by_window else "it carried forward"
        findings.add(f"window {name}: records hold {rows_found}, but no commit names it; {_NEXT}")
    # Blocks add up only together: all windows that are in any block are one group.
    folded = [name for name in history.windows if name in carried]
    groups = [([name], [name]) for name in history.windows if name not in carried]
    for windows, summed in [*groups, *([(folded, [*folded, _CARRIED])] if folded else [])]:
        committed = [history.windows[name] for name in windows]
        if wrong := _untied(config, committed, [by_window[name] for name in summed if name in by_window], measures):
            named = f"window {windows[0]}" if len(windows) == 1 else f"windows {windows[0]} to {windows[-1]}, added up"
            commit = max(figures["commit"] for figures in committed)
            findings.add(f"{named}: its records do not tie with commit {commit} ({'; '.join(wrong)}); {_NEXT}")


def _untied(
    config: Config, committed: Sequence[Mapping[str, Any]], parts: Sequence[Sequence[Any]], measures: Sequence[Measure]
) -> list[str]:
    """The differences between the sums over ``parts`` of the records (n, d, measures) and the windows' figures in the timeline."""
    counted, suppressed, *values = (exact_sum(part[place] or 0 for part in parts) for place in range(2 + len(measures)))
    compared: list[tuple[str, Decimal, Decimal]] = [
        ("rows counted", counted, exact_sum(figures["counted"]["rows"] for figures in committed)),
        ("rows suppressed", suppressed, exact_sum(figures["suppressed"]["rows"] for figures in committed)),
    ]
    if not any(is_beyond_sums(config, figures) for figures in committed):
        for item, value in zip(measures, values, strict=True):
            compared.append((item.name, value, exact_sum(figures["measures"].get(item.name, 0) for figures in committed)))
    return [f"{what} {found} ≠ {stated}" for what, found, stated in compared if found != stated]


def is_beyond_sums(config: Config, figures: Mapping[str, Any]) -> bool:
    """Whether a window's measures need not add up: user logic may change every contribution of a recounted window."""
    return config.logic is not None and figures["cause"] == "recount"


def totals_by(connection: duckdb.DuckDBPyConnection, config: Config, source: str, by: str) -> dict[Any, Totals]:
    """Rows and control totals of the events in ``source`` (an SQL relation with c_<name>), per value of ``by``."""
    rows = connection.execute(f"SELECT {by}, count(*) FROM {source} GROUP BY 1").fetchall()
    money: dict[Any, Money] = {group: {} for group, _ in rows}
    for control in config.control:
        if control.name == "rows":
            continue
        value = "*" if control.column is None else quoted(f"c_{control.column}")
        part = "''" if control.by is None else _group_name(f"CAST({quoted('c_' + control.by)} AS VARCHAR)")
        kind = None if control.kind == "count" or control.column is None else config.columns[control.column]
        amount = f"count({value})" if kind is None else exact_sum_of(value, kind)
        for group, named, found in connection.execute(f"SELECT {by}, {part}, {amount} FROM {source} GROUP BY 1, 2").fetchall():
            money[group].setdefault(control.name, {})[named] = Decimal(found) if kind is None else exact(found, kind)
    return {group: Totals(count, money[group]) for group, count in rows}


def _group_name(by: str) -> str:
    """SQL of a control group's name: ``null`` for none. A value that reads like that, or begins with a quote, is put in quotes."""
    return f"coalesce(CASE WHEN {by} = 'null' OR starts_with({by}, '\"') THEN '\"' || {by} || '\"' ELSE {by} END, 'null')"
