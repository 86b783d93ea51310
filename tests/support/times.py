"""A map of where the time of a test run went, printed at its end: a line for each file with its tests, seconds, CPU seconds, share."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Generator
from typing import Any

import pytest
from _pytest.terminal import TerminalReporter

SHORT_RUN = 2
"""Runs of fewer files have no map."""


CPU = "cpu_s"
"""The property of a report with the CPU seconds of its phase: of this process, and of processes that it started and that have ended."""
_since = 0.0


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    """Adds the CPU seconds since the last report, which is that of the phase before."""
    global _since
    report, now = (yield), _cpu_s()
    if _since:
        report.user_properties.append((CPU, now - _since))
    _since = now
    return report


def _cpu_s() -> float:
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


def print_map(reporter: TerminalReporter) -> None:
    """Files by their seconds, the longest first. Seconds are those of all processes, with what fixtures took."""
    seconds: Counter[str] = Counter()
    cpu: Counter[str] = Counter()
    tests: Counter[str] = Counter()
    for reports in reporter.stats.values():
        for report in reports:
            if hasattr(report, "duration") and hasattr(report, "when"):
                file = report.nodeid.partition("::")[0]
                seconds[file] += report.duration
                cpu[file] += dict(report.user_properties).get(CPU, 0.0)
                tests[file] += report.when == "call"
    whole = sum(seconds.values())
    if len(seconds) < SHORT_RUN or not whole:
        return
    reporter.section("where the time went")
    reporter.write_line(f"{'seconds':>8} {'share':>6} {'CPU s':>8} {'tests':>6}  file")
    for file, taken in seconds.most_common():
        reporter.write_line(f"{taken:8.1f} {taken / whole:6.1%} {cpu[file]:8.1f} {tests[file]:6}  {file}")
    reporter.write_line(f"{whole:8.1f} {'':6} {sum(cpu.values()):8.1f} {tests.total():6}  in all")
