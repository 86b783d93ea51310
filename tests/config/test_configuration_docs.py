"""docs/configuration.md names every field that recon.yaml may have, and none that it may not have; what it says of defaults is so."""

from __future__ import annotations

import re
import typing
from pathlib import Path

import pytest
import yaml
from folders import ROOT
from pydantic import BaseModel
from small_reconciliation import YAML

from recon.config import load_config
from recon.config.sections import Sections
from recon.config.settings import Engine

PAGE = (ROOT / "docs" / "configuration.md").read_text()
OWN_TABLES = ("measures", "derived", "control")
"""Sections whose names are the user's; what these hold has tables of its own."""
PRICES = "prices"


def sections_of(annotation: object) -> list[type[BaseModel]]:
    """The sections that a field may hold, through Optional and Annotated."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [one for inner in typing.get_args(annotation) for one in sections_of(inner)]


def fields_of(model: type[BaseModel], above: str = "") -> dict[str, object]:
    """Dotted name → default of each field that is no section; those of fleets are the same for all three. What a lane's ``engine`` may hold
    is told of ``engine``."""
    found: dict[str, object] = {}
    for name, field in model.model_fields.items():
        path = f"{above}{name}"
        inner = sections_of(field.annotation)
        if name in OWN_TABLES or not inner or (inner == [Engine] and above):
            found[path] = None if field.is_required() else field.default
            continue
        path += ".<name>" if typing.get_origin(field.annotation) is dict else ""
        for section in inner:
            found |= fields_of(section, re.sub(r"fleets\.\w+\.$", "fleets.….", f"{path}."))
    return found


def told() -> dict[str, str]:
    """Field → the rest of its row."""
    rows = re.findall(r"^\| ((?:`[a-z0-9_.…<>]+`(?:, )?)+(?:, …)?) \|(.*)$", PAGE, re.MULTILINE)
    return {name: rest for names, rest in rows for name in re.findall(r"`([^`]+)`", names)}


FIELDS = fields_of(Sections)


@pytest.mark.parametrize("field", [name for name in FIELDS if not name.startswith(PRICES)])
def test_each_field_is_told(field: str) -> None:
    assert {field, f"{field}.<name>"} & set(told())


def test_prices_are_told_together() -> None:
    row = next(rest for name, rest in told().items() if name == "prices.…")
    assert all(f"`{name.removeprefix('prices.')}`" in row for name in FIELDS if name.startswith("prices."))


def test_no_field_is_told_that_there_is_not() -> None:
    sections = {name.rpartition(".")[0] for name in FIELDS}
    rows = {name.removesuffix(".<name>") for name in told() if "." in name and not name.endswith(".…")}
    assert rows <= set(FIELDS) | sections | {"engine.transient.fleets"}


@pytest.mark.parametrize(
    "field", [name for name, default in FIELDS.items() if isinstance(default, (int, str)) and not isinstance(default, bool)]
)
def test_the_default_that_is_told_is_the_default(field: str) -> None:
    assert f"`{FIELDS[field]}`" in told()[field]


EXAMPLES = re.findall(r"((?:^    .*\n|^\n(?=    ))+)", PAGE.partition("## Engines on AWS")[2].partition("\n## ")[0], re.MULTILINE)


@pytest.mark.parametrize("example", [one for text in EXAMPLES for one in re.split(r"\n\n(?=    engine)", text)])
def test_each_example_of_an_engine_is_one(example: str, tmp_path: Path) -> None:
    engine = yaml.safe_load(example)["engine"]
    text = YAML.format(name="orders").replace("./orders_data", "s3://bucket/orders")
    (tmp_path / "recon.yaml").write_text(f"{text}\nengine: {yaml.safe_dump(engine, default_flow_style=True, width=10_000)}")
    assert load_config(tmp_path / "recon.yaml").engine.kind == engine["kind"]
