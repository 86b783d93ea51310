"""Dagster's home and instance, shared by the command line and the UI."""

from __future__ import annotations

import os
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import Any, TextIO

import dagster as dg
import sqlalchemy
import yaml
from dagster._core.instance.ref import InstanceRef
from dagster._serdes import ConfigurableClassData

from recon.database.locks import only_one
from recon.errors import Damaged, TryAgain, WrongUsage
from resources.migrations import migrations_read_once

_BATCH, _BATCH_EVENTS = "DAGSTER_EVENT_BATCH_SIZE", 500
"""Environment variable: events that Dagster writes to its storage in one batch. Unset: it writes each event by itself."""
_MADE_MAX, _MADE_AGAIN_S = 20, 0.25
_NO_CAPTURE = {"module": "dagster._core.storage.noop_compute_log_manager", "class": "NoOpComputeLogManager"}
DAGSTER_YAML = "dagster.yaml"
WORKSPACE_YAML = "workspace.yaml"


def configuration_path(named: str | Path | None = None) -> Path:
    """The path of the configuration, a file or a folder: ``named``, else $RECON_CONFIG, else recon.yaml in the working directory."""
    return Path(named or os.environ.get("RECON_CONFIG") or "recon.yaml").absolute()


def home_of(configuration: Path) -> Path:
    """$DAGSTER_HOME, else ``.dagster`` beside the configuration file, or in the configuration folder."""
    if named := os.environ.get("DAGSTER_HOME"):
        home = Path(named)
        if not home.is_absolute():
            raise WrongUsage(f"DAGSTER_HOME: {named!r} is not an absolute path; write it from the root, or unset it")
        return home
    configuration = configuration.absolute()
    return (configuration if configuration.is_dir() else configuration.parent) / ".dagster"


def prepared_home(configuration: Path) -> Path:
    """Creates the home with a dagster.yaml, if they do not exist; leaves an existing dagster.yaml unchanged."""
    home = home_of(configuration)
    if "?" in str(home):  # the rest of the path would be the query of SQLite's URL
        raise WrongUsage(f"{home}: Dagster cannot keep its files in a folder with '?' in its path; name another in DAGSTER_HOME")
    try:
        home.mkdir(parents=True, exist_ok=True)
        try:
            with (home / DAGSTER_YAML).open("x", encoding="utf-8") as file:
                file.write(top_level_file(DAGSTER_YAML).read_text(encoding="utf-8"))
        except FileExistsError:
            pass
    except OSError as error:
        raise WrongUsage(f"{home}: Dagster's home cannot be made ({error.strerror}); name another in DAGSTER_HOME") from None
    return home


def open_instance(configuration: Path) -> dg.DagsterInstance:
    """The instance that ``make ui`` shows for this configuration. Use it in a ``with`` statement, or dispose of it."""
    return dg.DagsterInstance.from_config(str(prepared_home(configuration)))


@contextmanager
def quick_instance(configuration: Path) -> Iterator[dg.DagsterInstance]:
    """The same instance, made fast for runs in this process. Raises like ``storage_errors_in_one_line``.

    It writes SQLite through ``fast_sqlite_storage``, and does not capture what the process prints, which would start four more
    processes per run."""
    with storage_errors_in_one_line(configuration), migrations_read_once():
        instance = _made(prepared_home(configuration))
    batches = os.environ.setdefault(_BATCH, str(_BATCH_EVENTS))
    try:
        with instance, migrations_read_once():
            yield instance
    finally:
        if batches == str(_BATCH_EVENTS):
            os.environ.pop(_BATCH, None)


def _made(home: Path) -> dg.DagsterInstance:
    """The instance of a home. Creates the tables of its storage if they do not exist."""
    ref = InstanceRef.from_dir(str(home), overrides={"compute_logs": _NO_CAPTURE})
    if ref.storage_data and ref.storage_data.class_name == "DagsterSqliteStorage":
        ref = ref._replace(
            storage_data=ConfigurableClassData(f"{__package__}.fast_sqlite_storage", "QuickStorage", ref.storage_data.config_yaml)
        )
    # One process at a time: two that create the tables at once leave a version table that later starts refuse.
    with only_one(home / "made.lock"):
        for _ in range(_MADE_MAX):
            try:
                return dg.DagsterInstance.from_ref(ref)
            except sqlalchemy.exc.OperationalError as error:  # created by a process without this lock, such as a daemon
                if "already exists" not in str(error):
                    raise
                time.sleep(_MADE_AGAIN_S)
    raise TryAgain(f"{home}: Dagster's storage is being made by others; run it again")


class _OneLine:
    """Standard error without Dagster's lines about a failing storage, since the error itself is raised and reported once."""

    _DUPLICATES = ("Exception while storing event batch", "Falling back to storing multiple", "Exception while writing logger call")

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        return len(text) if text.startswith(self._DUPLICATES) else self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def storage_errors_in_one_line(configuration: Path) -> Iterator[None]:
    """Turns errors of Dagster's storage into one line: TryAgain for transient ones (a lock, a full disk), else Damaged or WrongUsage."""
    try:
        with redirect_stderr(_OneLine(sys.stderr)):
            yield
    except (dg.DagsterInvalidConfigError, yaml.YAMLError) as error:
        file = home_of(configuration) / DAGSTER_YAML
        raise WrongUsage(f"{file}: cannot be read as the settings of Dagster ({_line(error)}); correct it, or move it away") from None
    except (sqlalchemy.exc.SQLAlchemyError, sqlite3.Error) as error:
        message = f"{home_of(configuration)}: Dagster's storage cannot be used ({_line(error)})"
        if any(word in str(error) for word in ("locked", "full", "I/O", "connect")):
            raise TryAgain(f"{message}; finished work is kept, run it again") from None
        raise Damaged(
            f"{message}; move this folder away: the store knows what is done, and 'recon repair' shows it in the UI again"
        ) from None


def _line(error: Exception) -> str:
    return (str(getattr(error, "orig", None) or error).strip() or type(error).__name__).splitlines()[0]


def top_level_file(name: str) -> Path:
    """The path of ``dagster.yaml`` or ``workspace.yaml``: in the source tree, or in share/recon of an installed package."""
    places = (Path(__file__).resolve().parents[1] / name, Path(sys.prefix) / "share" / "recon" / name)
    for place in places:
        if place.is_file():
            return place
    raise WrongUsage(f"{name} is neither {places[0]} nor {places[1]}; install Recon again")
