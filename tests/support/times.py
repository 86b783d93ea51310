"""A map of where the time of a test run went, printed at its end: a line for each file with its tests, seconds and share."""

from __future__ import annotations

from collections import Counter

from _pytest.terminal import TerminalReporter

SHORT_RUN = 2
"""Runs of fewer files have no map."""


def print_map(reporter: TerminalReporter) -> None:
    """Files by their seconds, the longest first. Seconds are those of all processes, with what fixtures took."""
    seconds: Counter[str] = Counter()
    tests: Counter[str] = Counter()
    for reports in reporter.stats.values():
        for report in reports:
            if hasattr(report, "duration") and hasattr(report, "when"):
                file = report.nodeid.partition("::")[0]
                seconds[file] += report.duration
                tests[file] += report.when == "call"
    whole = sum(seconds.values())
    if len(seconds) < SHORT_RUN or not whole:
        return
    reporter.section("where the time went")
    reporter.write_line(f"{'seconds':>8} {'share':>6} {'tests':>6}  file")
    for file, taken in seconds.most_common():
        reporter.write_line(f"{taken:8.1f} {taken / whole:6.1%} {tests[file]:6}  {file}")
    reporter.write_line(f"{whole:8.1f} {'':6} {tests.total():6}  in all")
