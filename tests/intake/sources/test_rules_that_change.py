"""The rules of a source change between two tries of a file: its rows are in one window, and its figures are those of its rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from sources_site import BY_NAME, deliver_one, inbox, site

import recon
from recon.api import Reconciliation
from recon.intake.manifests import read_manifest
from recon.intake.sources.tracking import Tracked, Tracking

ROWS = "Konto;Betrag;Tag\na;1;2026-11-02\nb;2;2026-11-02\n"
DAY = "day: {column: Tag}"


class Killed(BaseException):
    """The process ends."""


def landed_and_killed(r: Reconciliation) -> None:
    """Delivers a file with a process that dies after the landing, before it is noted."""
    real = Tracking.move

    def move(self: Tracking, file: Tracked, state: Any, run: str, **fields: Any) -> Tracked:
        if state == "landed":
            raise Killed
        return real(self, file, state, run, **fields)

    with patch.object(Tracking, "move", move), pytest.raises(Killed):
        deliver_one(r, ROWS)


def changed(r: Reconciliation, old: str, new: str) -> Tracked:
    """The file after the next delivery, by other rules."""
    rules = r.config.path.parent / "sources" / "bank.yaml"
    assert old in rules.read_text()
    rules.write_text(rules.read_text().replace(old, new))
    again = recon.open(r.config.path)
    again.deliver(inbox(r))
    (file,) = again.intake().tracking.files()
    return file


def rows_in(r: Reconciliation, day: int) -> list[int]:
    """The declared rows of each file in a window."""
    manifest = read_manifest(r.store(), r.config.grid.parse(f"2026-11-0{day}T00:00Z"))
    return [] if manifest is None else [file.declared_rows or 0 for file in manifest.files]


def test_rows_that_the_new_rules_reject_leave_the_window(tmp_path: Path) -> None:
    r = site(tmp_path, columns=DAY)
    landed_and_killed(r)
    assert rows_in(r, 1) == [2]
    file = changed(r, "required: true", "required: true, values: [a]")
    assert (file.state, file.kept, file.rejected_rows) == ("landed", 1, 1)
    assert rows_in(r, 1) == [1]
    r.close(str(file.window))
    r.run()
    assert [row["key"] for row in r.artifacts().to_pylist()] == ["a"]


def test_a_file_that_the_new_rules_put_in_another_window_leaves_the_first(tmp_path: Path) -> None:
    r = site(tmp_path, columns=DAY)
    landed_and_killed(r)
    file = changed(r, BY_NAME, "window: {column: day, format: '%Y-%m-%d'}")
    assert (file.state, file.window) == ("landed", "2026-11-02T00:00Z")
    assert (rows_in(r, 1), rows_in(r, 2)) == ([], [2])


def test_a_file_that_the_new_rules_reject_leaves_its_window(tmp_path: Path) -> None:
    r = site(tmp_path, columns=DAY)
    landed_and_killed(r)
    file = changed(r, "required: true", "required: true, values: [c]")
    assert (file.state, rows_in(r, 1)) == ("rejected", [])


def test_a_file_whose_rules_stayed_does_not_land_again(tmp_path: Path) -> None:
    r = site(tmp_path, columns=DAY)
    landed_and_killed(r)
    assert changed(r, "required: true", "required: true").state == "landed"
    manifest = read_manifest(r.store(), r.config.grid.parse("2026-11-01T00:00Z"))
    assert manifest is not None
    assert (manifest.revision, rows_in(r, 1)) == (1, [2])
