"""The options that several commands share, and finding the configuration."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import wraps
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

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
    typer.Option("--config", "-c", metavar="FILE", help="The configuration; default: recon.yaml here, else $RECON_CONFIG."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document, for programs.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an unexpected failure.", callback=_debug, is_eager=True)]
Window = Annotated[str, typer.Option("--window", "-w", metavar="W", help="The window, named by its start in UTC: 2026-11-01T00:00Z.")]
Reason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; the certificate names it.")]
Key = Annotated[list[str], typer.Argument(metavar="KEY", help="The key; one value for each of its columns.")]
OnlyWindow = Annotated[str | None, typer.Argument(metavar="W", help="Only this window.")]


@dataclass(frozen=True)
class Output:
    """The options of a command that needs no configuration."""

    json: AsJson = False
    debug: Debug = False


@dataclass(frozen=True)
class Common:
    """The options of every command that works on a reconciliation."""

    config: ConfigFile = None
    json: AsJson = False
    debug: Debug = False

    def opened(self) -> Reconciliation:
        """The reconciliation, its rules read."""
        import recon

        return recon.open(config_path(self.config))

    def located(self) -> Reconciliation:
        """The reconciliation for a look-up. Its rules are read only when they are needed, since that takes longer than a look-up."""
        from recon.api import Reconciliation

        return Reconciliation(config_path(self.config))

    @property
    def suffix(self) -> str:
        """What a suggested command needs at its end to mean the same reconciliation."""
        import shlex

        return "" if self.config is None else f" --config {shlex.quote(self.config)}"


@dataclass(frozen=True)
class Moment:
    """The options that name the moment a question is about."""

    as_of: Annotated[
        str | None,
        typer.Option("--as-of", metavar="TIME", help="Count the windows that ended by this time (with zone): 2026-12-01T00:00-05:00."),
    ] = None
    through: Annotated[str | None, typer.Option("--through", metavar="W", help="Count the windows up to and including W.")] = None
    known_at: Annotated[
        str | None,
        typer.Option("--known-at", metavar="TIME", help="Show what was known at this time (with zone): 2026-12-01T00:00-05:00."),
    ] = None


def flat(command: Callable[..., int | None]) -> Callable[..., int | None]:
    """The command as typer takes it: a parameter whose type is a dataclass, such as ``Common``, becomes that dataclass's fields, each an
    option of its own."""
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, type[Any]] = {name: hint for name, hint in hints.items() if isinstance(hint, type) and is_dataclass(hint)}
    parameters: list[Parameter] = []
    for name, parameter in signature(command).parameters.items():
        if name not in groups:
            parameters.append(parameter.replace(kind=Parameter.KEYWORD_ONLY, annotation=hints[name]))
            continue
        types = get_type_hints(groups[name], include_extras=True)
        for field in fields(groups[name]):
            default = Parameter.empty if field.default is MISSING else field.default
            parameters.append(Parameter(field.name, Parameter.KEYWORD_ONLY, default=default, annotation=types[field.name]))

    @wraps(command)
    def flattened(**given: Any) -> int | None:
        for name, group in groups.items():
            given[name] = group(**{field.name: given.pop(field.name) for field in fields(group)})
        return command(**given)

    flattened.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    flattened.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return flattened


def config_path(given: str | None) -> Path:
    """The path in --config, else recon.yaml if it exists, else $RECON_CONFIG. Raises WrongUsage if there is none."""
    if given is not None:
        return Path(given)
    here, named = Path(DEFAULT_CONFIG), os.environ.get("RECON_CONFIG")
    if here.exists():
        return here
    if named:
        return Path(named)
    raise WrongUsage(f"{DEFAULT_CONFIG}: no such file in {Path.cwd()}; name one with --config, or make one with 'recon init DIR'")
