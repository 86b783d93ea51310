"""A stage's own profile, which its process has while it is at work."""

from __future__ import annotations

import os

import pytest

from recon.errors import WrongUsage
from recon.storage.roles import STAGE_PROFILE, role_of


def test_a_stage_has_its_profile_only_while_it_is_at_work(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", STAGE_PROFILE):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_PROFILE", "whoever")
    with role_of("reduce"):
        assert os.environ["AWS_PROFILE"] == "whoever"  # nothing is asked for
    monkeypatch.setenv(STAGE_PROFILE, "recon-{stage}")
    asked = []

    def fails() -> None:
        with role_of("reduce"):
            asked.append(os.environ["AWS_PROFILE"])
            raise KeyError

    with pytest.raises(KeyError):
        fails()
    assert asked == ["recon-reduce"]
    assert os.environ["AWS_PROFILE"] == "whoever"


def test_a_profile_that_would_have_no_effect_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(STAGE_PROFILE, "recon")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
    with pytest.raises(WrongUsage, match="the same for all stages"), role_of("reduce"):
        pass
    monkeypatch.setenv(STAGE_PROFILE, "recon-{stage}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIA")
    with pytest.raises(WrongUsage, match="overrides any profile"), role_of("reduce"):
        pass
