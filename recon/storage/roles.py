"""The AWS role of each stage: which profile a process uses while it is at a stage."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from recon.errors import WrongUsage

STAGES = ("land", "reduce", "prefetch", "merge", "index", "certify", "upkeep", "pipeline")
"""What has a role of its own. ``pipeline``: all stages in one process, and what repairs stateless files."""
STAGE_PROFILE = "RECON_STAGE_PROFILE"
"""Environment: the profile of a stage, ``{stage}`` in place of its name, such as ``recon-{stage}``. Unset: one role for all."""
_PROFILE = "AWS_PROFILE"
_BEFORE_ANY_PROFILE = "AWS_ACCESS_KEY_ID"


@contextmanager
def role_of(stage: str) -> Iterator[None]:
    """Whoever opens a client in the block has the stage's profile. It is set for the whole process: one that is at one stage at a time, as
    runs are. Raises WrongUsage where it would have no effect."""
    named = os.environ.get(STAGE_PROFILE, "")
    if not named:
        yield
        return
    if "{stage}" not in named:
        raise WrongUsage(f"{STAGE_PROFILE}: {named!r} is the same for all stages; write {{stage}} for the stage's name: recon-{{stage}}")
    if os.environ.get(_BEFORE_ANY_PROFILE):
        raise WrongUsage(f"{STAGE_PROFILE}: {_BEFORE_ANY_PROFILE} goes before any profile; unset it, and the stage's role is taken")
    before = os.environ.get(_PROFILE)
    _take(named.replace("{stage}", stage))
    try:
        yield
    finally:
        _take(before)


def _take(profile: str | None) -> None:
    if profile is None:
        os.environ.pop(_PROFILE, None)
    else:
        os.environ[_PROFILE] = profile
    # boto3 keeps a session, with the credentials of the profile that it began with, for all clients that name none.
    if (boto3 := sys.modules.get("boto3")) is not None:
        boto3.DEFAULT_SESSION = None  # type: ignore[attr-defined]
