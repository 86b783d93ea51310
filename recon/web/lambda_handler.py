"""The interface as a function of Lambda, behind an HTTP API of API Gateway: the same application as ``recon serve``, docs/deploy.md.

$RECON_CONFIG names ``recon.yaml`` in the function's zip. Its audit log goes to the function's log. No DuckDB is there, for which Lambda has
no room, so the lists of breaks and duplicates answer that they are not here.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from recon.api import Reconciliation
from recon.errors import WrongUsage
from recon.telemetry import logs
from recon.web.app import application
from recon.web.guard import App, Receive, Scope, Send
from recon.web.metrics import Metrics
from recon.web.site import Site

logs.set_up()
CONFIG_VARIABLE = "RECON_CONFIG"


class Printed:
    """An audit log that is a part of the log of this process."""

    def add(self, line: Mapping[str, Any]) -> None:
        """Prints a line with the time."""
        print(json.dumps({"audit": {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), **line}}), flush=True)


@cache
def _adapter() -> Any:
    """One for all invocations of an execution environment. Raises WrongUsage."""
    from mangum import Mangum

    config = Path(os.environ[CONFIG_VARIABLE])
    service = Reconciliation(config).service()
    if not service.settings.results.startswith("s3://"):
        raise WrongUsage(
            f"{config}: service.results: {service.settings.results} is no place that a function keeps; write s3://bucket/prefix"
        )
    if not (service.place.database.url or "").startswith("postgresql://"):
        raise WrongUsage(f"{config}: database: a function keeps no file; name a database in PostgreSQL")
    return Mangum(_with_raw_path(application(Site(config, service, Printed(), Metrics()))), lifespan="off")


def _with_raw_path(app: App) -> Any:
    """API Gateway tells the path decoded alone."""

    async def filled(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, "raw_path": quote(scope["path"]).encode()}, receive, send)

    return filled


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Answers an event of API Gateway, of the format 2.0."""
    answer: dict[str, Any] = _adapter()(event, context)
    return answer
