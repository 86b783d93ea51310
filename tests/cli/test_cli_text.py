"""The command line: hostile texts, and what reaches a shell, a pipe and a terminal."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

import pytest
from cli_calls import FIRST, Call, shell
from folders import CASES
from hypothesis import given
from hypothesis import strategies as st

from recon import api
from recon.cli import main
from recon.cli.files import declared_totals
from recon.cli.progress import Bar
from recon.cli.screen import amount, plain, seen
from recon.errors import WrongUsage
from recon.samples.scenario import write_sample

# Hostile text


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A store whose keys are what should not be a key."""
    folder = tmp_path_factory.mktemp("hostile")
    write_sample(folder)
    keys = ["😀", "it's", 'say "x"', "two\nlines", "[bold]red[/bold]", "-7", "--json", "a\x1b[31mb", "../../etc", " "]
    keys += ["100%", "{x}", "naïve", "👩‍👩‍👧"]
    events = [
        {"event_id": f"E{n}", "order_id": key, "event_type": "INVOICE", "amount": "1.00", "currency": "EUR"} for n, key in enumerate(keys)
    ]
    lines = [json.dumps({**event, "booked_at": "2026-11-01T00:01:00Z"}) for event in events]
    (folder / "keys.jsonl").write_text("\n".join(lines) + "\n")
    config = ["--config", str(folder / "recon.yaml")]
    assert main(["land", str(folder / "keys.jsonl"), "-w", FIRST, "--close", *config]) == 0
    assert main(["run", *config]) == 0
    return folder, keys


def test_any_text_can_be_a_key_and_comes_back_as_it_is(
    recon: Call, hostile: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, keys = hostile
    monkeypatch.chdir(folder)
    found = recon("breaks", "--json").json["breaks"]
    stored = {row["key"] for row in found}
    for key in keys:
        if key in stored:
            assert recon("show", "--json", "--", key).json["key"] == key
            shown = recon("show", "--", key)
            assert shown.status == 0
            assert "\x1b" not in shown.out
            assert shown.out.splitlines()[0] == f"{seen(key)}  UNPAID"
        else:  # a key that intake does not take is rejected with a reason, not lost
            assert any(json.loads(row["raw"])["order_id"] == key for row in recon("rejects", "--json").json)
    assert len(stored) >= len(keys) - 2


def test_a_key_of_several_columns_is_given_as_several_values(recon: Call, fresh: Path) -> None:
    text = (fresh / "recon.yaml").read_text().replace("key: order_id", "key: [order_id, currency]")
    (fresh / "recon.yaml").write_text(text)
    recon("land", "events/orders-0000.csv", "-w", FIRST, "--close")
    recon("run")
    found = recon("show", "A112", "USD", "--json").json
    assert found["measures"]["billed"] == "25.00"
    assert recon("show", found["key"], "--json").json == found


@pytest.mark.parametrize("name", ["a b'c\".csv", "-x.csv", "😀.csv", "new\nline.csv", "%s{0}.csv", "[red].csv", "a\x1bb.csv"])
def test_any_name_of_a_file_can_be_landed_told_and_taken_back(recon: Call, fresh: Path, name: str) -> None:
    (fresh / name).write_bytes((fresh / "events" / "orders-0000.csv").read_bytes())
    landed = recon("land", "-w", FIRST, "--", name)
    assert landed.status == 0, landed.err
    assert f"landed {plain(name)} (" in landed.out
    assert "\x1b" not in recon("status", FIRST).out
    assert recon("unland", "-w", FIRST, "--reason", "x", "--json", "--", name).json["files"] == []


def test_a_name_that_is_no_text_is_refused_by_its_name(fresh: Path) -> None:
    name = b"\xff.csv"
    (fresh / "x").write_bytes((fresh / "events" / "orders-0000.csv").read_bytes())
    os.rename(fresh / "x", os.fsencode(fresh) + b"/" + name)
    landed = shell("land", name, "-w", FIRST, "--json", cwd=fresh)
    assert (landed.returncode, landed.stdout) == (2, "")
    assert landed.stderr == "recon: \\udcff.csv: the name is not UTF-8 text; rename the file\n"


@given(st.text())
def test_text_on_a_screen_never_moves_the_cursor_or_breaks_the_line(text: str) -> None:
    shown = plain(text)
    assert all(c.isprintable() or c == "\u200d" for c in shown)
    assert len(shown.splitlines()) <= 1
    assert not text.isprintable() or shown == text


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**30), max_value=10**30))
def test_an_amount_is_shown_exactly(value: Decimal) -> None:
    shown = amount(str(value))
    assert Decimal(shown.replace(",", "")) == value
    assert "E" not in shown.upper()


@pytest.mark.parametrize(
    "text", ["rows=1.5", "rows=-1", "rows:EUR=1", "net=abc", "net=NaN", "net=", "amount=1", "net:EUR=1", "=3", "tax=3"]
)
def test_a_control_total_that_cannot_be_meant_is_refused(text: str) -> None:
    with pytest.raises(WrongUsage, match="--expect"):
        declared_totals([text], {"rows": None, "amount": "currency", "net": None})


@pytest.mark.parametrize("texts", [["rows=1", "rows=2"], ["net=1", "net=2"], ["amount:EUR=1", "amount:EUR=1"]])
def test_a_control_total_is_declared_once(texts: list[str]) -> None:
    with pytest.raises(WrongUsage, match="declared before"):
        declared_totals(texts, {"rows": None, "amount": "currency", "net": None})


# From the shell


def test_exit_statuses_and_single_lines_reach_the_shell(here: Path) -> None:
    good = shell("status", "--json", cwd=here)
    assert (good.returncode, good.stderr) == (0, "")
    assert json.loads(good.stdout)["commit"] == 1
    unknown = shell("show", "NOPE", cwd=here)
    assert (unknown.returncode, unknown.stdout, unknown.stderr.count("\n")) == (1, "", 1)
    wrong = shell("show", cwd=here)
    assert (wrong.returncode, wrong.stdout, wrong.stderr.count("\n")) == (2, "", 1)


def test_off_a_terminal_there_are_no_colours_no_bars_and_no_folded_tables(here: Path) -> None:
    done = shell("show", "A112", "--events", cwd=here, env={**os.environ, "COLUMNS": "40"})
    assert "\x1b" not in done.stdout + done.stderr
    assert any("orders-0000.csv" in line and "2026-11-01T00:04:10" in line for line in done.stdout.splitlines())


def without_a_reader(arguments: Sequence[str], cwd: Path) -> tuple[int, bytes]:
    """Runs a command whose reader goes away at once. Returns its exit status and what it said on stderr."""
    command = [sys.executable, "-m", "recon.cli", *arguments]
    with subprocess.Popen(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        return process.wait(), process.stderr.read()


def with_closed(streams: str, arguments: Sequence[str], cwd: Path) -> tuple[int, bytes]:
    """Runs a command from a shell that closes some of its streams. Returns its exit status and what it said on stderr."""
    command = shlex.join([sys.executable, "-m", "recon.cli", *arguments])
    done = subprocess.run(["sh", "-c", f"exec {command} {streams}"], cwd=cwd, capture_output=True, check=False)
    return done.returncode, done.stderr


STEPS = (
    "land p.csv -w 2026-11-01T00:00Z --close",
    "run",
    "status",
    "status 2026-11-01T00:00Z",
    "certificate 2026-11-01T00:00Z",
    "show A",
    "show A --events --json",
    "breaks breaks.csv",
    "breaks",
    "export all.jsonl",
    "rejects",
    "correct A --event amount=-10.00 --reason test",
    "verify",
    "replay 2026-11-01T00:00Z",
    "compact",
    "copy copied",
    "init new",
    "--help",
    "land --help",
)


EACH = """
import os, sys
from recon.cli import main
import recon.api, recon.stages.pipeline, duckdb, jobs.in_process, numpy.ma, pandas, pyarrow.compute, rich.table, sqlglot
for step in sys.argv[3:]:
    if (child := os.fork()) == 0:
        if sys.argv[2] == "head":
            ends = os.pipe()
            os.close(ends[0])
            os.dup2(ends[1], 1)
        for number in map(int, sys.argv[2] if sys.argv[2] != "head" else ""):
            os.close(number)
        os._exit(main(step.split()))
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with open(sys.argv[1], "a") as file:
        file.write(f"{status} {step}\\n")
"""


# In `make test` the next test closes one stream only.
@pytest.mark.parametrize("closed", [*(pytest.param(one, marks=pytest.mark.soak) for one in "12"), "012", "head"])
def test_without_standard_streams_or_a_reader_every_command_does_its_work(tmp_path: Path, closed: str) -> None:
    """Case stdout-closed."""
    site, statuses = tmp_path / "site", tmp_path / "statuses"
    shutil.copytree(CASES / "stdout-closed", site)
    command = [sys.executable, "-c", EACH, str(statuses), closed, *STEPS]
    done = subprocess.run(command, cwd=site, capture_output=True, text=True, check=True)
    assert statuses.read_text().splitlines() == [f"0 {step}" for step in STEPS]
    assert done.stderr == ""
    opened = api.open(site / "recon.yaml")
    assert opened.show("A")["status"] == "PAID"
    assert (site / "all.jsonl").read_text().count("\n") == 1
    assert opened.verify(full=True).problems == []


@pytest.mark.parametrize("streams", [">&-", "2>&-", "<&- >&- 2>&-", "| head -0"])
def test_a_shell_that_closes_streams_gets_the_work_done(tmp_path: Path, streams: str) -> None:
    site = tmp_path / "site"
    shutil.copytree(CASES / "stdout-closed", site)
    said = with_closed(streams, ["land", "p.csv", "-w", FIRST, "--close"], site)
    assert said == (0, b"")
    assert api.open(site / "recon.yaml").status()["backlog"] == [FIRST]


def test_a_demo_whose_reader_goes_away_ends_its_story(tmp_path: Path) -> None:
    assert without_a_reader(["demo", "told"], tmp_path) == (0, b"")
    assert api.open(tmp_path / "told" / "recon.yaml").state().commit > 1


def test_an_answer_that_a_full_disk_lost_is_a_failure(here: Path) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-m", "recon.cli", "status"], cwd=here, stdout=full, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 1
    assert done.stderr == b"recon: standard output: No space left on device; fix that and run it again\n"


def test_help_and_look_ups_load_no_engine(here: Path) -> None:
    heavy = ("duckdb", "pyarrow", "pandas", "dagster", "sqlglot", "recon.vocabulary.parse", "numpy", "pydantic", "yaml", "rich")
    code = (
        "import sys; from recon.cli import main; main(sys.argv[1:]); "
        f"print(*[name for name in {heavy} if name in sys.modules], file=sys.stderr)"
    )
    loaded = {"--help": "\n", "show A112": "numpy pydantic yaml rich\n", "show A112 --json": "numpy pydantic yaml\n"}
    for arguments, names in loaded.items():
        done = subprocess.run([sys.executable, "-c", code, *arguments.split()], cwd=here, capture_output=True, text=True, check=True)
        assert done.stderr == names


def test_breaks_load_no_pandas_and_pyarrow_knows_of_a_pandas_that_is_loaded_later(here: Path) -> None:
    code = (
        "import sys; from recon.cli import main; main(['breaks']); loaded = 'pandas' in sys.modules\n"
        "import pandas, pyarrow; missing = pyarrow.array(pandas.Series([1.5, float('nan')])).null_count\n"
        "print(loaded, missing, len(pyarrow.array(['a']).to_pandas()), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=here, capture_output=True, text=True, check=True)
    assert done.stderr == "False 1 1\n"


def test_pandas_may_be_loaded_before_pyarrow() -> None:
    loaded = (
        "from recon.cli.quick_imports import load_no_pandas; load_no_pandas()\n"
        "import pandas, pyarrow; print(pyarrow.array(pandas.Series([1.5, float('nan')])).null_count)"
    )
    done = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("1\n", "")


def test_ctrl_c_ends_a_command_with_one_line(here: Path) -> None:
    code = (
        "import os, signal, sys, recon.api; from recon.cli import main\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell's background jobs inherit that it is ignored
        "recon.api.Reconciliation.status = lambda *a: os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.exit(main(['status']))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=here, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (128 + signal.SIGINT, 1)


def test_a_bar_is_drawn_on_a_terminal_after_its_delay_and_never_off_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recon.cli.progress.SHOWN_AFTER_S", 0.05)

    def work() -> str:
        with Bar("run") as bar:
            bar("reduce", FIRST, 0.5)
            time.sleep(0.3)
            bar("merge", FIRST, 1.0)
        return capsys.readouterr().err

    assert work() == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert "reduce 2026-11-01T00:00Z" in work()


def test_an_artifact_that_no_condition_takes_is_not_said_to_be_without_contributions(recon: Call, tmp_path: Path) -> None:
    folder = tmp_path / "orders"
    assert recon("init", str(folder)).status == 0
    config = folder / "recon.yaml"
    config.write_text(re.sub(r"status:\n(?:  .*\n)+", 'status: [{MATCHED: "lines < 0"}]\n', config.read_text()))
    given = ("--config", str(config))
    assert recon("land", str(folder / "events" / "orders-0000.csv"), "--window", FIRST, "--close", *given).status == 0
    assert recon("run", *given).status == 0
    assert recon("show", "A112", *given).out.startswith("A112  no status: none of the conditions holds\n")
