"""Starts the UI and the daemon: ``python -m jobs.ui [CONFIG]``, which ``make ui`` does."""

from __future__ import annotations

import logging
import os
import socket
import sys
from pathlib import Path
from typing import NoReturn

from jobs.origin import ROOT
from recon.errors import ReconError, WrongUsage
from recon.operations.packaging.own_packages import refuse_foreign_modules
from recon.telemetry import logs
from resources.dagster_instance import WORKSPACE_YAML, configuration_path, prepared_home, top_level_file

PORT, PORTS_TRIED = 3000, 50
CODE_SERVER_FORMAT = "DAGSTER_CLI_API_GRPC_LOG_FORMAT"
"""Environment of the code servers that Dagster starts by itself: the format of their own lines."""
_LOG = logging.getLogger("recon.ui")


def main(arguments: list[str]) -> NoReturn:
    """Replaces this process with ``dagster dev``. If that is impossible, prints the reason in one line and exits."""
    try:
        refuse_foreign_modules()
        configuration = configuration_path(arguments[0] if arguments else None)
        if not configuration.exists():
            raise WrongUsage(f"{configuration}: no such file; name a configuration, or make one with 'recon init DIR'")
        home, port = prepared_home(configuration), free_port(PORT)
        workspace = workspace_file(home)
        json = logs.set_up()
    except ReconError as error:
        logs.complain(_LOG, str(error), shown_as="")
        sys.exit(error.exit_status)
    os.environ |= {"DAGSTER_HOME": str(home), "RECON_CONFIG": str(configuration)}
    dagster = Path(sys.executable).with_name("dagster")
    said = f"http://127.0.0.1:{port} shows {configuration}; Dagster's home is {home}"
    if json:
        _LOG.info("%s", said)
        os.environ[CODE_SERVER_FORMAT] = "json"
    else:
        print(said, flush=True)
    format_ = ["--log-format", "json"] if json else []
    os.execv(dagster, [str(dagster), "dev", "--workspace", str(workspace), "--port", str(port), *format_])  # noqa: S606 - without a shell


def workspace_file(home: Path) -> Path:
    """The source tree's workspace.yaml. An installed package has it apart from the code, so this writes a copy into Dagster's home that
    names the code by its full path."""
    given, code = top_level_file(WORKSPACE_YAML), Path(__file__).resolve().parent
    if (given.parent / "jobs" / "definitions.py").is_file():
        return given
    text = given.read_text(encoding="utf-8")
    text = text.replace("relative_path: jobs/", f"relative_path: {code}/").replace("working_directory: .", f"working_directory: {ROOT}")
    copy = home / WORKSPACE_YAML
    copy.write_text(text, encoding="utf-8")
    return copy


def free_port(first: int) -> int:
    """The first free port from ``first`` on. Raises WrongUsage if none of the next 50 is free."""
    for port in range(first, first + PORTS_TRIED):
        if is_free(port):
            return port
    raise WrongUsage(f"no free port from {first} to {first + PORTS_TRIED - 1}; stop another server first")


def is_free(port: int) -> bool:
    """Whether a server could listen on this port of 127.0.0.1."""
    with socket.socket() as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


if __name__ == "__main__":
    main(sys.argv[1:])
