"""Options of the benchmarks, and the file of figures that each writes."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

FORMATS = ("parquet", "jsonl")


def options(text: str | None, **defaults: int | tuple[str, ...]) -> argparse.Namespace:
    """The options of a benchmark, and ``--out``. ``defaults``: option → its number, or its choices with the default first."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in defaults.items():
        option = f"--{name.replace('_', '-')}"
        if isinstance(default, int):
            parser.add_argument(option, type=int, default=default)
        else:
            parser.add_argument(option, choices=default, default=default[0])
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


def write_figures(file: Path | None, figures: dict[str, Any]) -> None:
    """Writes figures as JSON, if a file is named."""
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(figures, indent=1) + "\n")
