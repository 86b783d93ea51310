"""LibreOffice Calc, which computes the formulas of a workbook: one start in a profile of its own, with a time limit."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

SOFFICE = shutil.which("soffice") or shutil.which("libreoffice")
PATIENCE_S = 120
RECALCULATE = """<?xml version="1.0" encoding="UTF-8"?>
<oor:items xmlns:oor="http://openoffice.org/2001/registry">
<item oor:path="/org.openoffice.Office.Calc/Formula/Load"><prop oor:name="OOXMLRecalcMode" oor:op="fuse"><value>0</value></prop></item>
<item oor:path="/org.openoffice.Setup/L10N"><prop oor:name="ooSetupSystemLocale" oor:op="fuse"><value>en-US</value></prop></item>
</oor:items>
"""
"""Without it Calc keeps the results that the file has, which are zeros."""


def recalculated(workbook: Path, folder: Path) -> Path:
    """The workbook with the results that Calc has, in a new folder below ``folder``. Ends Calc whatever comes of it."""
    assert SOFFICE, "no LibreOffice; as root 'make services' installs it"
    profile, out = folder / "profile", folder / "calculated"
    (profile / "user").mkdir(parents=True)
    (profile / "user" / "registrymodifications.xcu").write_text(RECALCULATE)
    options = ["--headless", "--norestore", "--nolockcheck", f"-env:UserInstallation={profile.as_uri()}"]
    command = [SOFFICE, *options, "--convert-to", "xlsx", "--outdir", str(out), str(workbook)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True)
    try:
        said, _ = process.communicate(timeout=PATIENCE_S)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    found = out / workbook.name
    assert found.is_file(), f"Calc wrote nothing: {said}"
    return found
