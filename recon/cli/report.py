"""The command that writes a day's report: report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from recon.cli.options import Common, flat
from recon.cli.progress import Bar
from recon.cli.screen import as_json, count, say, warn

if TYPE_CHECKING:
    from recon.reading.day import DayReport


@flat
def report(
    day: Annotated[str, typer.Argument(metavar="DAY", help="A date, in the zone of the windows; UTC without one.")],
    common: Common,
    file: Annotated[str | None, typer.Argument(metavar="FILE", help="Where the page goes; default: NAME-DAY.html here.")] = None,
) -> int:
    """Write the report of a day as a page for a browser.

    Windows that start on this day, their certificates and control totals, and the breaks at the end of the last processed one, by status,
    age and money, with charts. The page needs no other file and no network. Exit status 1 if a person has to act on a window, or if not
    every window of the day is done and certified.

    \b
    recon report 2026-11-01
    recon report 2026-11-01 /srv/reports/orders.html
    """
    from recon.exports.placing import put_in_place, refuse_place
    from recon.reading.day import html_of

    reconciliation = common.opened()
    target = Path(file or f"{reconciliation.config.name}-{day}.html")
    if not common.json:
        refuse_place(target)
    with Bar("report"):
        made = reconciliation.report(day)
    if common.json:
        as_json(made.to_json())
    else:
        with put_in_place([target]) as (new,):
            new.write_text(html_of(made), encoding="utf-8")
        _say(made, target)
    for window in made.windows:
        for what in window.wrong:
            warn(f"window {window.window}: {what}")
    return 0 if made.verdict == "right" else 1


def _say(made: DayReport, target: Path) -> None:
    say(f"wrote {target}")
    done, landed = sum(window.ties is True for window in made.windows), sum(window.files > 0 for window in made.windows)
    say(f"{made.verdict}: {count(landed, 'window')} with files, {done} with a certificate that ties")
    if made.to_come:
        say(f"{count(made.to_come, 'window')} of this day {'is' if made.to_come == 1 else 'are'} not over yet")
    if made.breaks is not None:
        say(f"{count(sum(line['artifacts'] for line in made.breaks), 'break')} at the end of {made.through}")
