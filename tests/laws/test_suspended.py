"""A writer that is suspended at any object that it creates, while others work and sweep days ahead, changes nothing when it goes on.

Law 5 (fenced); the protocol: docs/decisions/002-timeline.md, 007-compaction-and-sweeping.md.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import crash_child as c
import pytest

SHORT = 2
"""Moments of each kind of work in `make test`, spread over all; `make soak` takes every one."""
KINDS = ("run", "correct", "compact", "rebuild")


def settled(server: c.Server, folder: Path, what: str, verify: bool) -> dict[str, Any]:
    """What the store comes to, as far as it is the same however often a correction's id and the list of withdrawn windows are made."""
    found = server("settle", config=str(folder / "recon.yaml"), verify=verify, full=verify)
    assert found["faults"] == [], f"{what}: {found['faults']}"
    outcome: dict[str, Any] = found["outcome"]
    for record in outcome["records"].values():
        record["withdrawn"] = []
        for part in record["contributions"]:
            part["ids"] = len(part["ids"])
    return outcome


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.soak)])
def test_a_writer_suspended_at_any_object_while_others_work_and_sweep_changes_nothing(
    server: c.Server, base: Path, tmp_path: Path, kind: str, every: bool
) -> None:
    undisturbed = c.copy_of(base, tmp_path / "undisturbed")
    objects = server("work", config=str(undisturbed / "recon.yaml"), what=kind)["objects"]
    server("work", config=str(undisturbed / "recon.yaml"), what="others")
    expected = settled(server, undisturbed, f"{kind}, undisturbed", verify=True)
    moments = [(number, linked) for number in range(1, objects + 1) for linked in (False, True)]
    assert len(moments) > SHORT
    # An odd step: moments before and after an object take turns.
    chosen = moments if every else moments[len(moments) // (2 * SHORT) :: len(moments) // SHORT | 1]
    errors = []
    for at, (number, linked) in enumerate(chosen):
        folder = c.copy_of(base, tmp_path / str(at))
        config, what = str(folder / "recon.yaml"), f"{kind} suspended {'after' if linked else 'before'} object {number} of {objects}"
        done = server("suspend", config=config, what=kind, number=number, linked=linked)
        assert done["stopped"], what
        if done["told"]:
            # A writer may say that it has to be run again; whatever else it says is a fault. Then following the advice must be enough.
            assert done["told"].startswith("TryAgain"), f"{what}: {done['told']}"
            errors.append(f"{what}: {done['told']}")
            server("work", config=config, what=kind)
        found = settled(server, folder, what, verify=every or at == 0)
        assert json.dumps(found, sort_keys=True) == json.dumps(expected, sort_keys=True), what
    print(f"\n{kind}: {len(chosen)} of {len(moments)} moments, {len(errors)} told to try again", *errors, sep="\n")
