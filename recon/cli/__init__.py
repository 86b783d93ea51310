"""The command line, ``recon COMMAND``: arguments, help, and how answers look on a screen or as JSON.

The work itself is one call of recon.api. Nothing heavy is imported before a command needs it, so that help and look-ups answer at once.

Exit status: 0 done; 1 something is wrong; 2 wrong usage or configuration; 3 try again; 130 interrupted. A closed standard output, or a
reader that goes away, changes neither the work nor the exit status.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from typer import Abort, TyperException

from recon.cli.quick_imports import collect_less
from recon.cli.streams import lasting_streams
from recon.errors import ReconError

INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command, by default the one in ``sys.argv``, and returns its exit status. An error is one line on stderr."""
    # Searching every installed package for plugins would take longer than a look-up; no model here uses any.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    collect_less()
    with lasting_streams():
        if os.environ.get("RECON_LOG"):
            from recon.telemetry import logs

            try:
                logs.set_up()
            except ReconError as error:
                return _failed(str(error), error.exit_status)
        return _run(list(sys.argv[1:] if arguments is None else arguments))


def _run(arguments: list[str]) -> int:
    try:
        from typer.main import get_command

        from recon.cli.app import app

        status = get_command(app).main(arguments, prog_name="recon", standalone_mode=False)
        sys.stdout.flush()
    except ReconError as error:
        return _failed(str(error), error.exit_status)
    except TyperException as error:
        if (help_text := _help_of(error)) is not None:
            print(help_text, file=sys.stderr)
            return 2
        return _failed(_wrong_usage(error), int(getattr(error, "exit_code", 2)))
    except (KeyboardInterrupt, Abort):
        status = INTERRUPTED
    except OSError as error:
        if os.environ.get("RECON_DEBUG"):
            raise
        return _failed(f"{error.filename or 'system'}: {error.strerror or error}; fix that and run it again", 1)
    except Exception as error:
        if os.environ.get("RECON_DEBUG"):
            raise
        kind = type(error).__name__
        return _failed(f"{kind}: {error}: this is a bug; run again with --debug for the traceback", 1)
    if status == INTERRUPTED:
        return _failed("interrupted; nothing half-done is visible, run it again to go on", INTERRUPTED)
    return int(status or 0)


def _failed(message: str, status: int) -> int:
    from recon.cli.screen import plain

    if os.environ.get("RECON_LOG") == "json":
        import logging

        logging.getLogger("recon.cli").error("%s", plain(message))
        return status
    print(f"recon: {plain(message)}", file=sys.stderr)
    return status


def _help_of(error: TyperException) -> str | None:
    """The help of a group that was called without a command, which typer raises as a message; None for other errors."""
    context = getattr(error, "ctx", None)
    text: str | None = None if context is None else context.get_help()
    return text if text is not None and str(error) == text else None


def _wrong_usage(error: Exception) -> str:
    """The argument parser's message, with the command that shows help."""
    message = getattr(error, "format_message", lambda: str(error))()
    context = getattr(error, "ctx", None)
    return f"{message.rstrip('.')}; see '{context.command_path if context else 'recon'} --help'"
