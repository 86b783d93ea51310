"""recon transform --explain: what a request will take."""

from __future__ import annotations

from recon.cli.screen import as_json, number, say, table
from recon.transformations.engines.choice import shown
from recon.transformations.explain import Explained


def say_explained(found: Explained, json: bool) -> None:
    """Engine and reason, the plan, and the bytes that are wanted and there."""
    body = found.as_json()
    if json:
        as_json(body)
        return
    say(f"engine: {found.choice.name}; {found.choice.why}")
    for name, count in found.rows.items():
        say(f"{name}: some {number(count)} rows")
    heads = ("no.", "operation", "table", "how", *(("tasks",) if found.choice.name == "spark" else ()))
    rows = [tuple(one[key] for key in ("number", *heads[1:])) for one in body["operations"]]
    if rows:
        table(heads, rows, ["no."])
    for output in found.outputs:
        say(f"writes {output['path']}: {output['table']} as {output['format']}")
    say(f"memory: at most {shown(found.memory)}; disk: at most {shown(found.disk)} for temporary files, {shown(found.free)} are free")
