"""Dagster's own log of a run as JSON lines, in the form of recon.telemetry.logs."""

from __future__ import annotations

import logging

import dagster as dg
from dagster import _loggers
from dagster._core.definitions import instigation_logger

from recon.telemetry import logs

_OF_DAGSTER = ("dagster", "dagit", "dagster-webserver")
"""The loggers that Dagster's commands set up."""
_SCHEMA = {
    "log_level": dg.Field(str, is_required=False, default_value="INFO"),
    "name": dg.Field(str, is_required=False, default_value="dagster"),
}


@dg.logger(config_schema=_SCHEMA, description="JSON lines on standard error.")
def json_console(context: dg.InitLoggerContext) -> logging.Logger:
    """Takes the place of Dagster's console where RECON_LOG is json."""
    level = str(context.logger_config["log_level"]).upper()
    return _console(str(context.logger_config["name"]), getattr(logging, level))


def set_up_logs() -> None:
    """Makes this process, and the runs that Dagster executes in it, log JSON where RECON_LOG says so.

    Dagster takes a logger of the definitions only if the configuration of a run selects it, which backfills do not, so the logger that it
    takes otherwise is replaced; and so is that of sensors. What a code server has set up for its own lines, before it loads this module,
    gives way, too."""
    if not logs.set_up():
        return
    _loggers.colored_console_logger = json_console
    setattr(instigation_logger, "create_console_logger", _console)  # noqa: B010 - Dagster exports it from another module
    for name in _OF_DAGSTER:
        own = logging.getLogger(name)
        for handler in [one for one in own.handlers if not isinstance(one.formatter, logs.JsonLines)]:
            own.removeHandler(handler)


def _console(name: str, level: str | int) -> logging.Logger:
    """As Dagster's function of this place: a logger of its own, whose lines no other handler gets."""
    found = logging.Logger(name, level)
    found.addHandler(logs.json_handler())
    return found
