"""What docs/service.md says is so: its clients run, and its tables have every code."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest
import web_site as w
from folders import ROOT

from recon.web import guard, protocol
from recon.web.port import CODES
from recon.web.problems import STATUS, TITLES, meaning

PAGE = (ROOT / "docs" / "service.md").read_text()
SALES = "region,amount\nnorth,1.10\nsouth,2.00\nnorth,0.05\n"
TOTALS = "region,total\nnorth,1.15\nsouth,2.00\n"


def block(language: str) -> str:
    """The first block of a language."""
    found = re.search(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


def table(heading: str) -> dict[str, list[str]]:
    """Code → the other cells of its row, in the table with this heading."""
    rows = PAGE.partition(f"\n{heading}\n")[2].partition("\n\n")[0]
    return {code: [cell.strip() for cell in rest.split("|")] for code, rest in re.findall(r"^\| `([a-z-]+)` \|(.*)\|$", rows, re.MULTILINE)}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[w.Served]:
    with w.served(tmp_path_factory.mktemp("site")) as found:
        (found.folder / "sales.csv").write_text(SALES)
        yield found


def test_the_client_in_python(served: w.Served) -> None:
    code = f"URL, TOKEN = {served.url!r}, {served.token()!r}\n{block('python')}"
    found = subprocess.run([sys.executable, "-c", code], cwd=served.folder, capture_output=True, text=True, check=False)
    assert (found.stdout, found.stderr) == (f"{TOTALS}\n", "")
    assert len(block("python").strip().splitlines()) <= 14


def test_the_client_in_the_shell(served: w.Served) -> None:
    environment = {**os.environ, "URL": served.url, "TOKEN": served.token()}
    found = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block("sh")], cwd=served.folder, env=environment, capture_output=True, text=True, check=False
    )
    assert (found.stdout, found.stderr) == (TOTALS, "")
    assert len(block("sh").strip().splitlines()) <= 10


def test_each_code_of_an_answer_is_told_with_its_status() -> None:
    assert {code: int(cells[0]) for code, cells in table("| code | status | when |").items()} == STATUS
    assert set(TITLES) == set(STATUS)


def test_each_code_of_a_request_that_failed_is_told() -> None:
    told = set(table("| code | when |"))
    assert told | {"wrong-request", "not-permitted", "no-such-input", "too-large", "not-offered"} == set(CODES)
    assert all(meaning(code) for code in {*STATUS, *CODES})


def test_the_limits_are_those_of_the_server() -> None:
    slow = table("| code | status | when |")["too-slow"][1]
    told = [float(number) for number in re.findall(r"(\d+) (?:s|minutes)", slow)]
    assert told == [protocol.HEADERS_S, guard.BODY_S, guard.UPLOAD_S / 60, guard.PAUSE_S]
    assert str(guard.AT_ONCE) in table("| code | status | when |")["busy"][1]
    assert f"{guard.HEADERS_MAX // 1024} KiB" in table("| code | status | when |")["malformed"][1]
