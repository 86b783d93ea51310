"""The index worker's zip, as it is deployed: what is in it, that it runs alone under Lambda's true runtime client, and what it answers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lambda_runtime import Function, Lambda, brought, running_lambda, unzipped

from recon.errors import ConnectionLost, Throttled, WrongUsage
from recon.operations.packaging import lambda_zip
from recon.serving.workers.launchers import LambdaFunction
from recon.serving.workers.plans import plan_for
from recon.serving.workers.worker import STORE, TABLE, Event
from recon.storage.local import LocalStore

ABSENT = ("duckdb", "pyarrow", "pandas", "dagster", "typer", "sqlglot", "redis", "recon_assets", "resources")
KEY = "order 4711 of Ms. Miller"


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lambda]:
    with running_lambda(tmp_path_factory.mktemp("lambda")) as account, pytest.MonkeyPatch.context() as patch:
        known = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
        for name, value in {**known, "AWS_ENDPOINT_URL_LAMBDA": account.endpoint}.items():
            patch.setenv(name, value)
        for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN"):
            patch.delenv(name, raising=False)
        yield account


@pytest.fixture(scope="module")
def code(account: Lambda, worker_zip: Path) -> Path:
    return unzipped(worker_zip, account.logs)


@pytest.fixture
def function(account: Lambda, code: Path, tmp_path: Path) -> Iterator[Function]:
    """Serves a store in a folder, and the table ``orders``, which is nowhere."""
    aws = {"AWS_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    made = account.deploy(code, lambda_zip.HANDLER, {**aws, STORE: str(tmp_path), TABLE: "orders"})
    yield made
    account.remove(made)


def asked(account: Lambda, function: Function, event: object) -> Any:
    invocation = account.invoke(function, json.dumps(event).encode())
    assert invocation.wait() == "answered", (invocation.answer, account.log_of(function))
    return invocation.answer


def event(store: Path, **more: Any) -> dict[str, Any]:
    return {**json.loads(Event(str(store), "orders", 0, "s0", "a" * 16).to_json()), **more}


def test_the_zip_is_as_small_as_lambda_asks_and_holds_nothing_that_the_worker_does_not_need(worker_zip: Path) -> None:
    with zipfile.ZipFile(worker_zip) as archive:
        files = archive.infolist()
    assert sum(file.file_size for file in files) < lambda_zip.UNZIPPED_MAX_BYTES
    tops = {file.filename.split("/")[0].split("-")[0].removesuffix(".py") for file in files}
    assert not tops & {*ABSENT, "boto3", "botocore"}
    assert tops >= {"recon", "numpy", "obstore", "pydantic", "pydantic_core", "yaml", "typing_extensions"}
    assert not [file.filename for file in files if "/tests/" in file.filename or file.filename.endswith(".pyc")]


def test_the_same_versions_give_the_same_bytes(worker_zip: Path, tmp_path: Path) -> None:
    made, _ = lambda_zip.package(
        tmp_path, next(iter(name for name, of in lambda_zip.ARCHITECTURES.items() if of == os.uname().machine)), HERE
    )
    assert made.read_bytes() == worker_zip.read_bytes()


HERE = f"3.{sys.version_info.minor}"


def test_what_cannot_be_fetched_for_another_machine_is_told_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    other = "3.12" if HERE != "3.12" else "3.13"
    assert lambda_zip.main(["--out", str(tmp_path), "--arch", "arm64", "--python", other]) == 3
    told = capsys.readouterr().err
    assert told.startswith(f"recon: pip could not fetch what is needed for python{other} on arm64: ERROR")
    assert told.count("\n") == 1
    assert not (tmp_path / lambda_zip.ZIP).exists()


def test_nothing_is_at_hand_but_the_zip_and_what_lambdas_runtime_brings(account: Lambda, code: Path) -> None:
    command = f"from importlib.util import find_spec; print([name for name in {ABSENT} if find_spec(name)])"
    command += "; import recon, boto3; print(recon.__file__, boto3.__file__)"
    environment = {"PYTHONPATH": str(brought(account.logs)), "PYTHONPYCACHEPREFIX": str(account.logs / "compiled")}
    done = subprocess.run([sys.executable, "-S", "-c", command], cwd=code, env=environment, capture_output=True, text=True, check=True)
    absent, places = done.stdout.splitlines()
    assert absent == "[]"
    assert [str(Path(place).parents[1]) for place in places.split()] == [str(code), str(account.logs / "runtime")]


def test_an_event_that_is_refused_is_answered_so_that_lambda_does_not_try_it_again_and_none_of_it_is_logged(
    account: Lambda, function: Function, tmp_path: Path
) -> None:
    function.retries = 2
    for wrong in (event(Path("s3://another/store")), event(tmp_path, table=KEY), {"key": KEY}, [KEY], KEY, None):
        answer = asked(account, function, wrong)
        assert answer["outcome"] == "refused"
        assert KEY not in json.dumps(answer)
    assert len(function.invocations) == 6
    assert KEY not in account.log_of(function)
    assert list(tmp_path.iterdir()) == []


def test_what_was_not_planned_is_not_done_and_work_that_fails_is_told_in_the_store(
    account: Lambda, function: Function, tmp_path: Path
) -> None:
    store = LocalStore(tmp_path)
    assert asked(account, function, event(tmp_path))["outcome"] == "too_late"
    share = {"share": "s0", "run": "state/0123456789abcdef/merge.run", "first": 0, "end": 10, "sequence": 1, "table": "orders", "commit": 1}
    plan_for(store, "orders", 0, 1, lambda: [{**share, "newer": []}])
    assert asked(account, function, event(tmp_path, share="s1"))["outcome"] == "too_late"
    answer = asked(account, function, event(tmp_path))
    assert (answer["outcome"], answer["reason"]) == ("failed", "RunsGone")
    assert asked(account, function, event(tmp_path))["outcome"] == "given_away", "the same event a second time"
    assert "share s0, attempt aaaaaaaaaaaaaaaa: failed after 0 rows" in account.log_of(function)
    assert len({one.pid for one in function.invocations}) == 1, "one execution environment, kept warm"


def test_a_function_that_is_not_there_or_refuses_is_told_by_what_is_to_be_done(account: Lambda, function: Function, tmp_path: Path) -> None:
    one = Event(str(tmp_path), "orders", 0, "s0", "a" * 16)
    with pytest.raises(WrongUsage, match=r"function nobody: it does not exist in this account and region; name the deployed function"):
        LambdaFunction("nobody").start(one)
    function.throttled = 1
    with pytest.raises(Throttled, match=r"invokes no more of it for now; raise its concurrency, or lower workers\.count"):
        LambdaFunction(function.name).start(one)
    function.unanswered = 1
    with pytest.raises(ConnectionLost, match="could not be reached; run the same again"):
        LambdaFunction(function.name).start(one)
    assert LambdaFunction(f"arn:aws:lambda:us-east-1:123456789012:function:{function.name}").start(one)
    assert [invocation.wait() for invocation in function.invocations] == ["answered", "answered"]


def test_a_zip_that_lacks_something_fails_at_the_import_and_names_it(account: Lambda, code: Path) -> None:
    function = account.deploy(code, "recon.cli.app.app", {})
    invocation = account.invoke(function, b"{}")
    assert invocation.wait() == "error"
    assert invocation.answer["errorType"] == "Runtime.ImportModuleError"
    assert "No module named" in invocation.answer["errorMessage"]
    account.remove(function)
