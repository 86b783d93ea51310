"""A delivery needs as many processes, threads, open files and as much memory, however many files there are and however long they are."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

RECON = """
name: payments
store: ./store
key: number
windows: {start: 2026-11-01T00:00Z, every: 1d}
measures: {lines: {count: "*"}}
memory_limit: 256MiB
threads: 2
"""
SOURCE = """
files: "payments_{day}_{part}.csv"
window: {part: day, format: "%Y%m%d"}
format: {kind: delimited, header: true}
columns: {number: {required: true}, text: {clean: [trim, collapse]}}
"""
FUNCTION = """
def look_up(records):
    return records
"""
CHILD = """
import json, logging, sys, threading, time
import psutil
import recon
me, peak = psutil.Process(), {"threads": 0, "files": 0, "children": 0}
def look(*_):
    now = {"threads": me.num_threads(), "files": me.num_fds(), "children": len(me.children())}
    for name, value in now.items():
        peak[name] = max(peak[name], value)
lines = []
class Kept(logging.Handler):
    def emit(self, record):
        lines.append(record.getMessage())
queue_log = logging.getLogger("recon.queues")
queue_log.setLevel(logging.INFO)
queue_log.addHandler(Kept())
watching = threading.Event()
def watch():
    while not watching.wait(0.02):
        look()
threading.Thread(target=watch, daemon=True).start()
found = recon.open(sys.argv[1]).deliver(sys.argv[2])
watching.set()
look()
import re
from pathlib import Path
peak["mb"] = int(re.search(r"VmHWM:\\s*(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1000
print(json.dumps({**peak, "landed": sum(f.state == "landed" for f in found.files), "rows": sum(f.kept or 0 for f in found.files),
                  "log": lines, "failed": found.failed}))
"""


def delivered(folder: Path, files: dict[str, int], archived: dict[str, int], process: bool = False) -> dict[str, Any]:
    """What a process needed at most that delivers files of so many rows, some of them in an archive."""
    (folder / "sources").mkdir(parents=True)
    (folder / "inbox").mkdir()
    (folder / "recon.yaml").write_text(RECON)
    (folder / "sources" / "payments.yaml").write_text(SOURCE + ("process: accounts:look_up\n" if process else ""))
    (folder / "accounts.py").write_text(FUNCTION)
    for name, rows in files.items():
        (folder / "inbox" / name).write_text(text_of(name, rows))
    if archived:
        with zipfile.ZipFile(folder / "inbox" / "all.zip", "w") as made:
            for name, rows in archived.items():
                made.writestr(name, text_of(name, rows))
    command = [sys.executable, "-c", CHILD, str(folder / "recon.yaml"), str(folder / "inbox")]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    found: dict[str, Any] = json.loads(run.stdout)
    every = files | archived
    assert (found["failed"], found["landed"], found["rows"]) == ([], len(every), sum(every.values()))
    return found


def text_of(name: str, rows: int) -> str:
    return "number,text\n" + "".join(f"{n},  payload {n} of {name}  \n" for n in range(rows))


def small(count: int, part: str) -> dict[str, int]:
    return {f"payments_202611{n % 4 + 2:02}_{part}{n}.csv": 20 for n in range(count)}


def test_many_files_need_what_a_few_do(tmp_path: Path) -> None:
    few, many = (delivered(tmp_path / str(count), small(count, "a"), small(count, "b")) for count in (2, 20))
    assert (few["children"], many["children"]) == (0, 0)
    assert many["threads"] <= few["threads"] + 2
    assert many["files"] <= few["files"] + 8
    assert many["mb"] <= few["mb"] + 60


def test_a_long_file_needs_what_a_short_one_does_and_logs_a_line_a_message_without_payload(tmp_path: Path) -> None:
    short, long = (delivered(tmp_path / str(rows), {"payments_20261102_1.csv": rows}, {}, process=True) for rows in (2_000, 40_000))
    assert (short["children"], long["children"]) == (0, 0)
    assert long["threads"] <= short["threads"] + 2
    assert long["files"] <= short["files"] + 8
    assert long["mb"] <= short["mb"] + 120
    messages = 3 * 40_000 // 500  # to store, to process, to finish
    assert len(long["log"]) == messages
    assert max(map(len, long["log"])) < 1_024
    assert not any("payload" in line for line in long["log"])
