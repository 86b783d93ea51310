"""The picture of the rooms in CONTRIBUTING.md has the layers that import-linter checks, top to bottom."""

from __future__ import annotations

import re
import tomllib
from itertools import pairwise, product

from folders import ROOT


def arrows(picture: str) -> set[tuple[str, str]]:
    """Pairs of rooms, by their names in Python, from lines such as ``a["recon/a"] --> b & c``."""
    labels = dict(re.findall(r'(\w+)\["([^"]+)"\]', picture))
    chains = [[part.split("&") for part in re.sub(r'\["[^"]+"\]', "", line).split("-->")] for line in picture.splitlines() if "-->" in line]
    named = [[[labels.get(room.strip(), room.strip()) for room in group] for group in chain] for chain in chains]
    pairs = {pair for chain in named for upper, lower in pairwise(chain) for pair in product(upper, lower)}
    return {(upper.removesuffix(".py").replace("/", "."), lower.removesuffix(".py").replace("/", ".")) for upper, lower in pairs}


def test_the_picture_shows_the_layers_of_the_contract() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]
    layers = [layer.split(" | ") for layer in next(contract["layers"] for contract in contracts if contract["type"] == "layers")]
    picture = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("```mermaid")[2].partition("```")[0]
    assert arrows(picture) == {pair for upper, lower in pairwise(layers) for pair in product(upper, lower)}
