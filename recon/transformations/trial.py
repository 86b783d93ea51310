"""Tries a request without its operations: checks it, proposes types of columns that have none, and writes it with them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from recon.config import yaml_file
from recon.errors import WrongUsage
from recon.transformations.inputs.proposing import Proposals, propose
from recon.transformations.operations.table import Table
from recon.transformations.run import ALONE, Asked, tables_of, unchecked_request
from recon.transformations.site import Site
from recon.vocabulary.types import TEXT


@dataclass(frozen=True)
class Trial:
    """``tables``: at the end, None where the request is wrong. ``error``: its first mistake. ``mended``: whether the proposed types mend
    it. ``proposals``: of each input."""

    asked: Asked
    tables: Mapping[str, Table] | None
    error: str
    mended: bool
    proposals: Mapping[str, Proposals]


def tried(path: Path, site: Site = ALONE) -> Trial:
    """Tries a request.

    Raises WrongUsage for a mistake that is none of columns and types, and for inputs that are not there; WrongInput for rows that cannot
    be read."""
    asked = unchecked_request(path, site=site)
    proposals = {name: propose(opened) for name, opened in asked.inputs.items()}
    try:
        return Trial(asked, tables_of(asked), "", False, proposals)
    except WrongUsage as error:
        try:
            tables_of(_typed(asked, proposals))
        except WrongUsage:
            return Trial(asked, None, str(error), False, proposals)
        return Trial(asked, None, str(error), True, proposals)


def _typed(asked: Asked, proposals: Mapping[str, Proposals]) -> Asked:
    """The request with the proposed types."""
    inputs = {}
    for name, opened in asked.inputs.items():
        kinds = {each.column: each.type for each in proposals[name].columns}
        inputs[name] = replace(opened, kinds={column: kinds.get(column, kind) for column, kind in opened.kinds.items()})
    return replace(asked, inputs=inputs)


def write_with_types(path: Path, proposals: Mapping[str, Proposals], to: Path) -> None:
    """Writes a request with the proposed types to a new file beside it; comments are not kept. Raises WrongUsage."""
    if to.absolute().parent != path.absolute().parent:
        raise WrongUsage(f"{to}: write it beside {path}, since its paths start there")
    content = yaml_file.read(path).content
    inputs: dict[str, Any] = {}
    for name, given in content["inputs"].items():
        more = {each.column: str(each.type) for each in proposals[name].columns if each.type != TEXT}
        inputs[name] = {**given, "types": {**given.get("types", {}), **more}} if more else given
    whole = {**content, "inputs": inputs}
    if to.suffix == ".json":
        text = json.dumps(whole, indent=2, ensure_ascii=False) + "\n"
    else:
        text = yaml.safe_dump(whole, sort_keys=False, allow_unicode=True, default_flow_style=None, width=140)
    try:
        with to.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise WrongUsage(f"{to}: exists already; name a new file") from None
    except OSError as error:
        raise WrongUsage(f"{to}: cannot be written ({error.strerror})") from None
