"""Requests over tables that are written out in a test."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recon.transformations.run import carry_out, read_request


def request(folder: Path, tables: Mapping[str, str], types: Mapping[str, Mapping[str, str]], *operations: dict[str, Any], out: str) -> Path:
    """The file of a request. ``tables``: name → CSV; ``types``: of those of their columns that are
    there; ``out``: the table that is written to ``out.csv``."""
    inputs = {}
    for name, text in tables.items():
        (folder / f"{name}.csv").write_text(text)
        header = text.splitlines()[0].split(",")
        inputs[name] = {"path": f"{name}.csv", "types": {column: kind for column, kind in types.get(name, {}).items() if column in header}}
    body = {"as_of": "2026-11-30", "inputs": inputs, "operations": operations, "outputs": [{"table": out, "path": "out.csv"}]}
    (folder / "request.json").write_text(json.dumps(body))
    return folder / "request.json"


def carried(
    folder: Path, tables: Mapping[str, str], types: Mapping[str, Mapping[str, str]], *operations: dict[str, Any], out: str
) -> tuple[list[dict[str, str]], dict[str, Any]]:
    """The rows of the output, as they are written, and the certificate."""
    certificate = carry_out(read_request(request(folder, tables, types, *operations, out=out)))
    with (folder / "out.csv").open(newline="") as file:
        return list(csv.DictReader(file)), certificate
