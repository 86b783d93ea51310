"""The cluster's end of Dagster Pipes: what a job of EMR Serverless is told by whoever started it, and log lines on their way back.

No metadata are reported: Dagster would stamp them on every partition of the range. Figures per window are in the answer.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from recon.errors import WrongUsage

CONTEXT_VARIABLE = "DAGSTER_PIPES_CONTEXT"
"""Environment: there, where Pipes started this process."""
UPLOAD_S_VARIABLE = "RECON_PIPES_S"
"""Environment: seconds between two uploads of log lines, 10 unless told otherwise."""


@dataclass(frozen=True)
class Pipes:
    """``extras``: what whoever started the job sent along. ``tell`` sends a line back."""

    extras: Mapping[str, Any] = field(default_factory=dict)
    tell: Callable[[str], None] = lambda line: None

    def told(self, location: str | None, attempt: str | None) -> tuple[str, str]:
        """Where the store is and what was asked there: by the extras, else by the arguments. Raises WrongUsage where neither says."""
        store, asked = self.extras.get("store") or location, self.extras.get("attempt") or attempt
        if not store or not asked:
            raise WrongUsage("step: it needs --store LOCATION and --attempt ID, or to be started through Dagster Pipes")
        return str(store), str(asked)


@contextmanager
def open_pipes() -> Iterator[Pipes]:
    """Pipes, as the environment tells; nothing where it does not."""
    if CONTEXT_VARIABLE not in os.environ:
        yield Pipes()
        return
    try:
        import boto3
        from dagster_pipes import PipesS3MessageWriter, open_dagster_pipes
    except ImportError as error:
        raise WrongUsage(f"{error.name} is missing: EMR Serverless needs dagster-pipes and boto3 in its image") from None
    writer = PipesS3MessageWriter(client=boto3.client("s3"), interval=float(os.environ.get(UPLOAD_S_VARIABLE) or 10))
    with open_dagster_pipes(message_writer=writer) as context:
        yield Pipes(dict(context.extras), context.log.info)
