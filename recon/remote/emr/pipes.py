"""The cluster's end of Dagster Pipes: the parameters of a job of EMR Serverless, and log lines for the run that started it.

No metadata are reported: Dagster would attach them to every partition of the range. Figures per window are in the result.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from recon.errors import WrongUsage

CONTEXT_VARIABLE = "DAGSTER_PIPES_CONTEXT"
"""Environment variable that is set where Pipes started this process."""
UPLOAD_S_VARIABLE = "RECON_PIPES_S"
"""Environment variable: seconds between two uploads of log lines; 10 by default."""


@dataclass(frozen=True)
class Pipes:
    """``extras``: parameters that the starter of the job passed. ``tell`` sends it a line."""

    extras: Mapping[str, Any] = field(default_factory=dict)
    tell: Callable[[str], None] = lambda line: None

    def request(self, location: str | None, attempt: str | None) -> tuple[str, str]:
        """The store's location and the request's attempt id: from the extras, else the arguments. Raises WrongUsage if neither has them."""
        store, found = self.extras.get("store") or location, self.extras.get("attempt") or attempt
        if not store or not found:
            raise WrongUsage("step: it needs --store LOCATION and --attempt ID, or to be started through Dagster Pipes")
        return str(store), str(found)


@contextmanager
def open_pipes() -> Iterator[Pipes]:
    """The Pipes of the environment; a ``Pipes`` without extras if this process was not started by Pipes."""
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
