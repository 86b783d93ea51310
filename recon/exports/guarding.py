"""Texts of CSV files that a spreadsheet might take for a formula get an apostrophe in front."""

from __future__ import annotations

from recon.vocabulary.duckdb import literal

FORMULA = r"^'*([\x00-\x20]*[=+@\-\x{FF1D}\x{FF0B}\x{FF0D}\x{FF20}]|[\t\r\n])"
"""RE2: texts that a spreadsheet might take for a formula in a CSV file (OWASP, "CSV Injection"): = + - @ and their full-width forms, also
after blanks, and a leading tab, CR or LF. Leading apostrophes are skipped, so that the added apostrophe can be removed again: a text that
begins with an apostrophe and still matches without it got it here."""


def takes_for_formula(text: str) -> str:
    """SQL (DuckDB) of whether a spreadsheet might take the text, given as SQL, for a formula."""
    return f"regexp_matches({text}, {literal(FORMULA)})"


def guarded(text: str) -> str:
    """SQL (DuckDB) of the text, given as SQL, with an apostrophe before what a spreadsheet might take for a formula."""
    return f"CASE WHEN {takes_for_formula(text)} THEN '''' || {text} ELSE {text} END"
