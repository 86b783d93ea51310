"""What all routes share: the service, the reconciliation for look-ups, the audit log and the figures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, TypeVar

import anyio
from fastapi import Depends, Request

from recon.api import Reconciliation
from recon.web.audit import Log
from recon.web.metrics import Metrics
from recon.web.port import Service

LOOK_UPS = 4
"""Look-ups that run at the same time; others wait for them, without a thread."""
T = TypeVar("T")


@dataclass
class Site:
    """One server's things. ``config``: the file ``recon.yaml``."""

    config: Path
    service: Service
    audit: Log
    metrics: Metrics
    _free: list[Reconciliation] = field(default_factory=list)

    @cached_property
    def _look_ups(self) -> anyio.CapacityLimiter:
        return anyio.CapacityLimiter(LOOK_UPS)

    async def look_up(self, question: Callable[[Reconciliation], T]) -> T:
        """Asks a reconciliation that no other thread uses meanwhile, since what it remembers is not made for several."""

        def asked() -> T:
            reconciliation = self._free.pop() if self._free else Reconciliation(self.config)
            try:
                return question(reconciliation)
            finally:
                self._free.append(reconciliation)

        return await anyio.to_thread.run_sync(asked, limiter=self._look_ups)


def site_of(request: Request) -> Site:
    """The site of the application."""
    site: Site = request.app.state.site
    return site


SiteOf = Annotated[Site, Depends(site_of)]
