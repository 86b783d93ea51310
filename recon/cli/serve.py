"""recon serve: the service's HTTP interface, with a worker beside it."""

from __future__ import annotations

import logging
import sys
from contextlib import nullcontext
from typing import Annotated

import typer

from recon.cli.options import Common, config_path, flat
from recon.cli.screen import as_json, say
from recon.errors import WrongUsage

PORT = 8321


@flat
def serve(
    host: Annotated[str, typer.Option("--host", metavar="ADDRESS", help="Listen on this address of the machine.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", metavar="N", help="Listen on this port; 0: any that is free.", min=0, max=65_535)] = PORT,
    no_work: Annotated[bool, typer.Option("--no-work", help="Start no worker: 'recon requests work' runs elsewhere.")] = False,
    *,
    common: Common,
) -> None:
    """Serve transformations over HTTP.

    Clients submit requests and files, ask for status and results, and look artifacts up. They send a token, which 'recon tokens add'
    makes. On SIGTERM or Ctrl-C it finishes the answers that have begun. It has no TLS of its own: put a proxy in front; docs/service.md
    has one.

    \b
    recon serve
    recon serve --port 8000 --no-work
    """
    try:
        from recon.telemetry import logs
        from recon.web import server
        from recon.web.beside import worker_beside
    except ModuleNotFoundError as error:
        raise WrongUsage(f"{error.name} is not installed; next: pip install 'dagster-recon[service]'") from None

    config = config_path(common.config)
    site = server.site_at(config)
    listener = server.listening(host, port)
    address = f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"
    if common.json:
        as_json({"address": address})
    elif logs.on():
        logging.getLogger("recon.web").info("listening on %s", address)
    else:
        say(f"listening on {address}")
    sys.stdout.flush()
    work = [sys.executable, "-m", "recon.cli", "requests", "work", "--config", str(config)]
    with nullcontext() if no_work else worker_beside(work):
        server.serve(site, listener)
