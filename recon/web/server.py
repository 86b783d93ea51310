"""Runs the service: uvicorn with the application, until it is asked to end."""

from __future__ import annotations

import logging
import re
import signal
import socket
from pathlib import Path
from types import FrameType

import uvicorn

from recon.api import Reconciliation
from recon.errors import WrongUsage
from recon.telemetry import logs
from recon.web.app import application
from recon.web.audit import Audit
from recon.web.guard import HEADERS_MAX
from recon.web.metrics import Metrics
from recon.web.protocol import Protocol
from recon.web.site import Site

BACKLOG = 1024
SHUTDOWN_S = 20
"""How long answers may take that have begun when the server is asked to end."""
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029]")


class _OneRecord(logging.Formatter):
    """Lines after the first are indented, and control characters escaped, so that no text looks like a record."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text).replace("\n", "\n    ")


def site_at(config: Path) -> Site:
    """The site of a configuration. Raises WrongUsage."""
    service = Reconciliation(config).service()
    audit = config.parent / service.settings.audit
    try:
        return Site(config, service, Audit(audit), Metrics())
    except OSError as error:
        raise WrongUsage(f"service.audit: {audit} cannot be written ({error.strerror})") from None


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens. Raises WrongUsage."""
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=BACKLOG)
    except OSError as error:
        raise WrongUsage(f"--host {host} --port {port}: {str(error.strerror).partition(' (')[0]}") from None


def server_of(site: Site) -> uvicorn.Server:
    """The server of a site. Its ``run`` takes listening sockets; it ends by SIGTERM or SIGINT in the main thread, or ``should_exit``."""
    options = uvicorn.Config(
        application(site),
        http=Protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=10,
        timeout_graceful_shutdown=SHUTDOWN_S,
        h11_max_incomplete_event_size=HEADERS_MAX,
    )
    return uvicorn.Server(options)


def serve(site: Site, listener: socket.socket) -> None:
    """Serves until SIGTERM or SIGINT; answers that have begun are finished."""
    if not logs.set_up():
        handler = logging.StreamHandler()
        handler.setFormatter(_OneRecord("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    server = server_of(site)

    def stop(number: int, frame: FrameType | None) -> None:
        server.should_exit = True

    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, stop)  # uvicorn sends itself the signal again at its end; what lies beside the server still has to be ended
    server.run(sockets=[listener])
