"""The command that looks at the machine: doctor."""

from __future__ import annotations

from dataclasses import asdict

from recon.cli.options import Common, config_path, flat
from recon.cli.screen import as_json, say, table
from recon.errors import WrongUsage


@flat
def doctor(common: Common) -> int:
    """Check this machine for what the configuration needs.

    Exit status 1 if something that the configuration needs is missing. Without a configuration, only the embedded engine is needed.

    \b
    recon doctor
    """
    from recon.config import load_config
    from recon.operations.doctor.examine import examine

    try:
        path = config_path(common.config)
    except WrongUsage:
        path = None
    findings = examine(None if path is None else load_config(path))
    missing = [finding for finding in findings if finding.needed and not finding.there]
    if common.json:
        as_json({"config": None if path is None else str(path), "findings": [asdict(finding) for finding in findings]})
    else:
        states = {(True, True): "there", (True, False): "there", (False, True): "MISSING", (False, False): "not there"}
        table(("what", "state", "found"), [(finding.name, states[finding.there, finding.needed], finding.told) for finding in findings])
        for finding in (finding for finding in findings if not finding.there):
            say(f"{finding.name}{'' if finding.needed else ', if you want it'}: {finding.mend}")
        if not missing:
            say("everything that the configuration needs is there")
    return 1 if missing else 0
