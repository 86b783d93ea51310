"""The AWS role of each stage: which profile a process uses while it is at a stage."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from recon.errors import WrongUsage

STAGES = ("land", "reduce", "prefetch", "merge", "index", "certify", "upkeep", "aggregate", "pipeline")
"""The stages that have a role of their own. ``pipeline``: all stages in one process, and repairs of reduced files."""
SERVICE = "service"
"""In the place of a stage: what runs of the transformation service have, where one is configured."""
STAGE_PROFILE = "RECON_STAGE_PROFILE"
"""Environment: the profile of a stage, ``{stage}`` in place of its name, such as ``recon-{stage}``. Unset: one role for all."""
_PROFILE = "AWS_PROFILE"
_BEFORE_ANY_PROFILE = "AWS_ACCESS_KEY_ID"


@contextmanager
def role_of(stage: str) -> Iterator[None]:
    """AWS clients that are opened in the block use the stage's profile. It applies to the whole process, which must be at one stage at a
    time, as runs are. Raises WrongUsage where it would have no effect."""
    named = os.environ.get(STAGE_PROFILE, "")
    if not named:
        yield
        return
    if "{stage}" not in named:
        raise WrongUsage(f"{STAGE_PROFILE}: {named!r} is the same for all stages; write {{stage}} for the stage's name: recon-{{stage}}")
    if os.environ.get(_BEFORE_ANY_PROFILE):
        raise WrongUsage(f"{STAGE_PROFILE}: {_BEFORE_ANY_PROFILE} overrides any profile; unset it to use the stage's role")
    before = os.environ.get(_PROFILE)
    _take(named.replace("{stage}", stage))
    try:
        yield
    finally:
        _take(before)


def refuse_no_profile(stage: str) -> None:
    """Raises WrongUsage where stages have roles, and AWS's files have no profile for this one."""
    named = os.environ.get(STAGE_PROFILE, "").replace("{stage}", stage)
    if not named:
        return
    from botocore.session import Session

    if named not in Session().available_profiles:
        raise WrongUsage(
            f"{STAGE_PROFILE}: there is no profile {named!r} in AWS's configuration; write one with its role, see docs/deploy.md"
        )


def _take(profile: str | None) -> None:
    if profile is None:
        os.environ.pop(_PROFILE, None)
    else:
        os.environ[_PROFILE] = profile
    # boto3 keeps one session for all clients that name none, with the credentials of the profile that it started with.
    if (boto3 := sys.modules.get("boto3")) is not None:
        boto3.DEFAULT_SESSION = None  # type: ignore[attr-defined]
