"""Folders of this source tree."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TESTS = ROOT / "tests"
SUPPORT = TESTS / "support"
CASES = TESTS / "data" / "cases"
EXAMPLES = ROOT / "examples"
