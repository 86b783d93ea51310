"""Dagster's own log of a run as JSON lines, in the form of recon.telemetry.logs."""

from __future__ import annotations

import logging

import dagster as dg
from dagster import _loggers

from recon.telemetry import logs

_SCHEMA = {
    "log_level": dg.Field(str, is_required=False, default_value="INFO"),
    "name": dg.Field(str, is_required=False, default_value="dagster"),
}


@dg.logger(config_schema=_SCHEMA, description="JSON lines on standard error.")
def json_console(context: dg.InitLoggerContext) -> logging.Logger:
    """Takes the place of Dagster's console where RECON_LOG is json."""
    level = str(context.logger_config["log_level"]).upper()
    found = logging.Logger(str(context.logger_config["name"]), getattr(logging, level))
    found.addHandler(logs.json_handler())
    return found


def set_up_logs() -> None:
    """Makes this process, and the runs that Dagster executes in it, log JSON where RECON_LOG says so.

    Dagster takes a logger of the definitions only if the configuration of a run selects it, which backfills do not, so the logger that it
    takes otherwise is replaced."""
    if logs.set_up():
        _loggers.colored_console_logger = json_console
