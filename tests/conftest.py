"""Fixtures of the tests that call the command line: the call itself, and the sample in the states that they begin with.

Belongs here: fixtures of several modules. Does not belong here: what a single module needs.
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import seaweed
from commands import FIRST, HEADER, SECOND, Answer, Call

from recon import opening
from recon.cli import main
from recon.demo import write_sample
from recon.serving import package


@pytest.fixture(scope="session", autouse=True)
def one_salt() -> Iterator[str]:
    """Stores that a test makes in this process have one salt: their records can be compared by their bytes."""
    salt = "one-salt-for-all-tests"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(opening, "new_salt", lambda: salt)
        yield salt


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
    assert package.main(["--out", str(folder)]) == 0
    return folder / package.ZIP


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
