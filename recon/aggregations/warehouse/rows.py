"""The file of a load: checked before anything is sent, and written in the form that a warehouse takes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from recon.aggregations.warehouse.port import Load
from recon.aggregations.warehouse.statements import Dialect, quoted
from recon.errors import WrongInput
from recon.storage import parquet
from recon.vocabulary.duckdb import literal
from recon.vocabulary.types import Type

NULL = "\\N"
"""A null in the text format of PostgreSQL's COPY."""


def check(load: Load, types: Mapping[str, Type], dialect: Dialect) -> None:
    """Raises WrongInput for a value with more digits than ``types``, those of the target's columns, or a text that no column holds."""
    problems: dict[str, str] = {}
    for name, kind in types.items():
        column = quoted(name)
        if kind.kind != "text":
            problems[f"{name} do not fit {kind}"] = f"{column} IS NOT NULL AND TRY_CAST({column} AS {kind.duckdb}) IS NULL"
            continue
        if dialect.text_bytes is not None:
            problems[f"{name} have more than {dialect.text_bytes:,} bytes"] = f"strlen({column}) > {dialect.text_bytes}"
        if not dialect.nul:
            problems[f"{name} have the character 0, which {dialect.name} does not store"] = f"contains({column}, chr(0))"
    if not problems:
        return
    counts = ", ".join(f"count(*) FILTER ({condition})" for condition in problems.values())
    for problem, count in zip(problems, _one(f"SELECT {counts} FROM {parquet.scan(load.rows)}"), strict=True):
        if count:
            raise WrongInput(f"{load.target}, {load.scope}: {count:,} values of {problem}; clean or filter them; nothing was changed")


def as_text(load: Load, file: Path) -> None:
    """Writes the rows in the text format of PostgreSQL's COPY: a tab between values, and backslashes before what would end one."""
    values = ", ".join(_escaped(name) for name in load.columns)
    options = f"(FORMAT csv, HEADER false, DELIMITER '\t', QUOTE '', ESCAPE '', NULLSTR {literal(NULL)})"
    _execute(f"COPY (SELECT {values} FROM {parquet.scan(load.rows)}) TO {literal(str(file))} {options}")


def as_parquet(load: Load, file: Path) -> None:
    """Writes the rows as Parquet in which all values but integers are text: Redshift reads decimals, times and booleans of Parquet in some
    encodings only."""
    values = ", ".join(quoted(name) if kind.kind == "integer" else _text(name) for name, kind in load.columns.items())
    _execute(f"COPY (SELECT {values} FROM {parquet.scan(load.rows)}) TO {literal(str(file))} (FORMAT parquet)")


def _text(name: str) -> str:
    return f"CAST({quoted(name)} AS VARCHAR) AS {quoted(name)}"


def _escaped(name: str) -> str:
    value = f"CAST({quoted(name)} AS VARCHAR)"
    for character, escape in (("'\\'", "'\\\\'"), ("chr(9)", "'\\t'"), ("chr(10)", "'\\n'"), ("chr(13)", "'\\r'")):
        value = f"replace({value}, {character}, {escape})"
    return f"{value} AS {quoted(name)}"


def _execute(statement: str) -> None:
    _one(statement)


def _one(statement: str) -> tuple[int, ...]:
    import duckdb

    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        row = connection.execute(statement).fetchone()
        return tuple(row or ())
