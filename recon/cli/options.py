"""The arguments that several commands share, and finding the configuration."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from recon.errors import WrongUsage

if TYPE_CHECKING:
    from recon.api import Reconciliation

DEFAULT_CONFIG = "recon.yaml"


def _debug(wanted: bool) -> bool:
    if wanted:
        os.environ["RECON_DEBUG"] = "1"
    return wanted


ConfigFile = Annotated[
    str | None,
    typer.Option("--config", "-c", metavar="FILE", help="The configuration; recon.yaml if not given, else $RECON_CONFIG."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document, for programs.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an unexpected failure.", callback=_debug, is_eager=True)]
Window = Annotated[str, typer.Option("--window", "-w", metavar="W", help="The window, named by its start in UTC: 2026-11-01T00:00Z.")]

AsOf = Annotated[
    str | None,
    typer.Option("--as-of", metavar="TIME", help="With every window that ended by then (with zone): 2026-12-01T00:00-05:00."),
]
Through = Annotated[
    str | None,
    typer.Option("--through", metavar="W", help="With every window up to and including W."),
]
KnownAt = Annotated[
    str | None,
    typer.Option("--known-at", metavar="TIME", help="As it was known then (with zone): 2026-12-01T00:00-05:00."),
]


def config_path(given: str | None) -> Path:
    """--config, else recon.yaml where it exists, else $RECON_CONFIG. Raises WrongUsage where there is none of them."""
    if given is not None:
        return Path(given)
    here, named = Path(DEFAULT_CONFIG), os.environ.get("RECON_CONFIG")
    if here.exists():
        return here
    if named:
        return Path(named)
    raise WrongUsage(f"{DEFAULT_CONFIG}: no such file in {Path.cwd()}; name one with --config, or make one with 'recon init DIR'")


def opened(given: str | None) -> Reconciliation:
    """The reconciliation that the command works on."""
    import recon

    return recon.open(config_path(given))


def located(given: str | None) -> Reconciliation:
    """The reconciliation for a look-up: its rules are read only if something asks for them, since that takes longer than looking."""
    from recon.api import Reconciliation

    return Reconciliation(config_path(given))


def with_config(given: str | None) -> str:
    """What a command to copy needs at its end to mean the same reconciliation."""
    import shlex

    return "" if given is None else f" --config {shlex.quote(given)}"
