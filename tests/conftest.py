"""Fixtures of the tests that call the command line: the call itself, and the sample in the states that they begin with."""

from __future__ import annotations

import gc
import os
import secrets
import shutil
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import few_examples
import needs
import pytest
import seaweed
import sharing
import times
from _pytest.terminal import TerminalReporter
from alembic.script import ScriptDirectory
from botocore.loaders import Loader
from cli_calls import FIRST, HEADER, SECOND, Answer, Call
from folders import ROOT

from recon.cli import main
from recon.intake.sources import quiet
from recon.operations.packaging import lambda_zip
from recon.samples.scenario import write_sample
from recon.storage import open

MEMORY, MEMORY_MIN_BYTES = Path("/dev/shm"), 4 << 30
if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free >= MEMORY_MIN_BYTES:
    # A test waits for the disk about a hundred times, 3 ms each, which is as long as it works. Durability is tested in test_store.
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))
# Processes that tests start import this tree, whichever tree the virtual environment has installed.
os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    needs.mark(items)
    few_examples.cap(config, items)
    sharing.long_ones_first(items)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> sharing.ByFile | None:
    return sharing.ByFile(config, log) if config.getoption("dist") == "loadfile" else None


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Takes back what an earlier test left in this process: boto3's default session, which keeps the credentials of the test that began it,
    and the scratch folder that a task of Spark chooses for its process."""
    os.environ.pop("RECON_SCRATCH", None)
    if (boto3 := sys.modules.get("boto3")) is not None:
        boto3.DEFAULT_SESSION = None  # type: ignore[attr-defined]


def pytest_collection_finish() -> None:
    """The collector of garbage need not look at all modules again and again."""
    gc.collect()
    gc.freeze()


pytest_runtest_makereport = times.pytest_runtest_makereport


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    times.print_map(terminalreporter)


@pytest.fixture(scope="session", autouse=True)
def no_quiet_time() -> Iterator[None]:
    """Deliveries in this process take files at once, though a test has only just written them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quiet, "DEFAULT", timedelta(0))
        yield


@pytest.fixture(scope="session", autouse=True)
def one_salt() -> Iterator[str]:
    """Stores that a test makes in this process have one salt: their records can be compared by their bytes."""
    salt = "one-salt-for-all-tests"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(open, "new_salt", lambda: salt)
        yield salt


@pytest.fixture(scope="session", autouse=True)
def _read_once() -> Iterator[None]:
    """What libraries read anew for each object of theirs is read once in a process: Dagster's scripts that change its tables, read ten
    times for a new instance, and Amazon's descriptions of its services, a megabyte of JSON for a new client."""
    read_scripts: Any = ScriptDirectory.from_config
    scripts: dict[str | None, ScriptDirectory] = {}

    def scripts_of(config: Any) -> ScriptDirectory:
        folder = config.get_main_option("script_location")
        if folder not in scripts:
            scripts[folder] = read_scripts(config)
        return scripts[folder]

    make_loader, descriptions = Loader.__init__, dict[Any, Any]()

    def loader_with_all_that_was_read(self: Any, *arguments: Any, **named: Any) -> None:
        make_loader(self, *arguments, **named)
        self._cache = descriptions

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ScriptDirectory, "from_config", scripts_of)
        patch.setattr(Loader, "__init__", loader_with_all_that_was_read)
        yield


@pytest.fixture(scope="session")
def seaweed_server() -> Iterator[seaweed.Seaweed]:
    """An S3 server for all tests of this process; each takes a bucket of its own."""
    with seaweed.server() as running:
        yield running


@pytest.fixture(scope="session")
def seaweed_bucket(seaweed_server: seaweed.Seaweed) -> str:
    return seaweed_server.bucket()


@pytest.fixture
def in_s3(seaweed_server: seaweed.Seaweed, seaweed_bucket: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """``s3://…`` of an empty prefix; the environment leads to its server."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    for name, value in seaweed_server.environment.items():
        monkeypatch.setenv(name, value)
    return f"s3://{seaweed_bucket}/{secrets.token_hex(8)}/some/prefix"


@pytest.fixture(scope="session")
def worker_zip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The index worker's package, as `make lambda-package` makes it for a Lambda like this machine."""
    folder = tmp_path_factory.mktemp("package")
    assert lambda_zip.main(["--out", str(folder)]) == 0
    return folder / lambda_zip.ZIP


@pytest.fixture
def recon(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Call:
    """Calls a command in this process."""
    monkeypatch.delenv("RECON_CONFIG", raising=False)
    monkeypatch.delenv("RECON_DEBUG", raising=False)

    def call(*arguments: str) -> Answer:
        capsys.readouterr()
        status = main(arguments)
        return Answer(status, *capsys.readouterr())

    return call


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample, landed and run: A112 and B243 MATCHED, A113 UNPAID, B242 a BREAK; and one rejected row."""
    folder = tmp_path_factory.mktemp("made") / "orders"
    write_sample(folder)
    config = ("--config", str(folder / "recon.yaml"))
    odd = folder / "events" / "odd.csv"
    odd.write_text(HEADER + "X1,A114,INVOICE,TBC,USD,2026-11-01T00:05:00Z\n")
    files = [str(folder / "events" / "orders-0000.csv"), str(odd)]
    assert main(["land", *files, "--window", FIRST, "--close", *config]) == 0
    payments = str(folder / "events" / "payments-0100.jsonl")
    assert main(["land", payments, "--window", SECOND, "--close", *config]) == 0
    assert main(["run", *config]) == 0
    return folder


@pytest.fixture
def here(made: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The shared store, to look at."""
    monkeypatch.chdir(made)
    return made


@pytest.fixture
def own(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, to change."""
    folder = tmp_path / "own"
    shutil.copytree(made, folder)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The sample's files without a store."""
    folder = tmp_path / "fresh"
    write_sample(folder)
    monkeypatch.chdir(folder)
    return folder
