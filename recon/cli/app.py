"""The ``recon`` application: its commands in the order in which its help lists them."""

from __future__ import annotations

import re
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from recon.cli import (
    aggregations,
    breaks,
    copy,
    dead_letters,
    doctor,
    files,
    index_table,
    maintenance,
    queries,
    report,
    requests,
    run,
    serve,
    set_aside,
    sources,
    start,
    transform,
)


class Command(TyperCommand):
    """A command whose help omits the Python types that typer adds to arguments."""

    def get_help(self, ctx: Any) -> str:
        """``Usage: recon show [OPTIONS] KEY...``, ``KEY  The key; …``."""
        usage, line_end, rest = super().get_help(ctx).partition("\n")
        return re.sub(r"\{(\S+)\}", r"\1", usage) + line_end + re.sub(r"(?m)^(  \S+) <\S+>", r"\1", rest)


app = typer.Typer(
    name="recon",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=False,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Windows are named by their start in UTC: 2026-11-01T00:00Z. Every command has --help with an example.",
)


def _version(wanted: bool) -> None:
    if wanted:
        from recon import __version__

        typer.echo(f"recon {__version__}")
        raise typer.Exit


@app.callback()
def recon(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """Reconcile financial events: land files, run, see what does not match. New here? Start with 'recon demo'."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


for _command in (
    start.demo,
    start.init,
    start.generate,
    files.land,
    files.unland,
    files.close,
    files.correct,
    run.run,
    run.replay,
    run.repair,
    run.verify,
    run.head,
    maintenance.rebuild,
    maintenance.compact,
    copy.copy,
    queries.status,
    queries.certificate,
    report.report,
    queries.show,
    breaks.breaks,
    set_aside.rejects,
    set_aside.duplicates,
    queries.export,
    transform.transform,
    serve.serve,
    doctor.doctor,
):
    app.command(cls=Command)(_command)

for _command in (index_table.update, index_table.rebuild, index_table.status, index_table.size):
    index_table.app.command(cls=Command)(_command)
app.add_typer(index_table.app, name="index", rich_help_panel=None)
for _group, _app, _commands in (
    ("source", sources.source_app, sources.SOURCE_COMMANDS),
    ("files", sources.files_app, sources.FILES_COMMANDS),
    ("dlq", dead_letters.app, dead_letters.COMMANDS),
    ("aggregation", aggregations.app, aggregations.COMMANDS),
    ("requests", requests.requests_app, requests.REQUESTS_COMMANDS),
    ("tokens", requests.tokens_app, requests.TOKENS_COMMANDS),
):
    for _name, _command in _commands.items():
        _app.command(name=_name, cls=Command)(_command)
    app.add_typer(_app, name=_group, rich_help_panel=None)
