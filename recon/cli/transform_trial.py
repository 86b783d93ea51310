"""recon transform --dry-run: whether a request is good, its tables, and types for columns that have none."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recon.cli.screen import as_json, count, say
from recon.errors import WrongUsage

if TYPE_CHECKING:
    from recon.transformations.inputs.proposing import Proposals
    from recon.transformations.site import Site
    from recon.transformations.trial import Trial


def try_request(file: Path, out: Path | None, in_json: bool, site: Site) -> None:
    """Prints what is known of a request without its operations. ``out``: where the request is written with the proposed types.

    Raises WrongUsage for a mistake that these types do not mend, after they were shown."""
    from recon.transformations.trial import tried, write_with_types

    trial = tried(file, site)
    if out is not None:
        write_with_types(file, trial.proposals, out)
    if in_json:
        as_json(_figures(trial, out))
    else:
        _say(trial)
        if out is not None:
            say(f"written: {out}")
    if trial.tables is None and not (trial.mended and out is not None):
        mended = "; with the proposed types the request is good: --dry-run --out FILE writes it with them" if trial.mended else ""
        raise WrongUsage(f"{trial.error}{mended}")


def _columns(trial: Trial) -> dict[str, dict[str, str] | None]:
    """Table → column → type; None where the columns depend on the data."""
    tables = trial.tables or {}
    return {
        name: None if table.columns is None else {column.name: str(column.type) for column in table.columns}
        for name, table in tables.items()
    }


def _figures(trial: Trial, out: Path | None) -> dict[str, Any]:
    proposed = {}
    for name, found in trial.proposals.items():
        columns = {each.column: {"type": str(each.type), **({"why": each.why} if each.why else {})} for each in found.columns}
        proposed[name] = {"rows": found.rows, "all_rows": found.all, "columns": columns}
    figures = {"as_of": trial.asked.settings.today.isoformat(), "good": trial.tables is not None, "tables": _columns(trial)}
    outputs = [{"table": output.table, "path": output.path, "format": output.kind} for output in trial.asked.request.outputs]
    return {**figures, "outputs": outputs, "proposed": proposed, "written": None if out is None else str(out)}


def _say(trial: Trial) -> None:
    if trial.tables is not None:
        say(f"the request is good; TODAY is {trial.asked.settings.today.isoformat()}")
    for name, columns in _columns(trial).items():
        listed = "its columns depend on the data" if columns is None else ", ".join(f"{c} {kind}" for c, kind in columns.items())
        say(f"{name}: {listed}")
    if trial.tables is not None:
        for output in trial.asked.request.outputs:
            say(f"writes {output.path}: {output.table} as {output.kind}")
    _say_proposals(trial.proposals)


def _say_proposals(proposals: Mapping[str, Proposals]) -> None:
    for name, found in proposals.items():
        types = {each.column: str(each.type) for each in found.columns if str(each.type) != "text"}
        seen = f"all {count(found.rows, 'row')}" if found.all else f"the first {count(found.rows, 'row')}"
        if types:
            listed = ", ".join(f"{_in_yaml(column)}: {_in_yaml(kind)}" for column, kind in types.items())
            say(f"proposed for {name}, by {seen}: types: {{{listed}}}")
        for each in found.columns:
            if each.why:
                say(f"{name}: {each.column}{' stays text' if str(each.type) == 'text' else ''}: {each.why}")


def _in_yaml(text: str) -> str:
    """As YAML writes it within braces."""
    return text if text.isidentifier() else json.dumps(text, ensure_ascii=False)
