"""Sends OpenLineage events to the backend of a configuration, in bounded time; never raises."""

from __future__ import annotations

import logging
import threading
import time
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from recon.config.observability import Lineage
from recon.config.secrets import credentials
from recon.errors import ReconError

if TYPE_CHECKING:
    from openlineage.client import OpenLineageClient

AWAY_S = 60.0
"""After a failure no event is sent for this time."""
_LOG = logging.getLogger("recon.telemetry.lineage")
_SECTION = "observability.lineage"


class Backend:
    """The backend of one configuration, for all runs of this process."""

    def __init__(self, settings: Lineage) -> None:
        self._settings = settings
        self._client: OpenLineageClient | None = None
        self._away_until = 0.0

    @property
    def answers(self) -> bool:
        """False for a while after a failure."""
        return time.monotonic() >= self._away_until

    def send(self, make: Any) -> None:
        """Sends what ``make`` returns, in bounded time."""
        problems: list[str] = []
        thread = threading.Thread(target=self._send, args=(make, problems), daemon=True)
        thread.start()
        thread.join(2 * self._settings.timeout_s)  # an answer that comes byte by byte exceeds no timeout of the connection
        if thread.is_alive():
            problems.append("it does not answer in time")
        if problems:
            self._away_until = time.monotonic() + AWAY_S
            _LOG.warning("lineage at %s: %s; no events for %.0f s, and the run goes on", self._settings.url, problems[0], AWAY_S)

    def _send(self, make: Any, problems: list[str]) -> None:
        try:
            self._client = self._client or self._opened()
            self._client.emit(make())
        except ModuleNotFoundError as error:
            problems.append(f"{error.name} is not installed; pip install 'dagster-recon[observability]'")
        except ReconError as error:
            problems.append(str(error))
        except Exception as error:
            status = getattr(getattr(error, "response", None), "status_code", None)
            problems.append(f"it answered {status}" if status else f"it could not be reached ({type(error).__name__})")

    def _opened(self) -> OpenLineageClient:
        from openlineage.client import OpenLineageClient
        from openlineage.client.transport.http import ApiKeyTokenProvider, HttpConfig, HttpTransport, TokenProvider

        settings, key = self._settings, credentials(_SECTION, None, self._settings.secret).password
        config = HttpConfig(
            url=str(settings.url),
            endpoint=settings.endpoint,
            timeout=settings.timeout_s,
            auth=ApiKeyTokenProvider({"api_key": key}) if key else TokenProvider({}),
            retry={"total": 0},
        )
        return OpenLineageClient(transport=HttpTransport(config))


@lru_cache(maxsize=32)
def backend_of(settings: Lineage) -> Backend:
    """The backend of these settings, one in a process."""
    return Backend(settings)
