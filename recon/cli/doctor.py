"""The command that looks at the machine: doctor."""

from __future__ import annotations

from dataclasses import asdict

from recon.cli.options import AsJson, ConfigFile, Debug, config_path
from recon.cli.screen import as_json, say, table
from recon.errors import WrongUsage


def doctor(config: ConfigFile = None, json: AsJson = False, debug: Debug = False) -> int:
    """Check this machine for what the configuration needs.

    Exit status 1 where something is missing that the configuration asks for. Without a configuration nothing but the embedded engine is
    asked for.

    \b
    recon doctor
    """
    from recon.config import load_config
    from recon.operations.doctor.examine import examine

    try:
        named = config_path(config)
    except WrongUsage:
        named = None
    found = examine(None if named is None else load_config(named))
    missing = [one for one in found if one.needed and not one.there]
    if json:
        as_json({"config": None if named is None else str(named), "findings": [asdict(one) for one in found]})
    else:
        states = {(True, True): "there", (True, False): "there", (False, True): "MISSING", (False, False): "not there"}
        table(("what", "state", "found"), [(one.name, states[one.there, one.needed], one.told) for one in found])
        for one in (one for one in found if not one.there):
            say(f"{one.name}{'' if one.needed else ', if you want it'}: {one.mend}")
        if not missing:
            say("everything that the configuration needs is there")
    return 1 if missing else 0
