"""The record queue's functions, as they are deployed: a clean file through all steps."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ministack_server import Ministack
from record_functions import Site, deployed, sqs_record

from recon.intake.queues.parcels import file_of, records_of
from recon.intake.queues.port import Delivery
from recon.operations.packaging import lambda_zip


@pytest.fixture
def site(code: Path, aws: Ministack, dynamodb_endpoint: str, tmp_path: Path) -> Iterator[Site]:
    with deployed(code, aws, dynamodb_endpoint, tmp_path) as made:
        yield made


def landed(site: Site, count: int, poison: set[int]) -> str:
    """A clean file in S3, announced on the clean queue; its name in the store."""
    lines = range(2, count + 2)
    kinds = ["poison" if line in poison else "Köln" for line in lines]
    table = pa.table({"recon.line": pa.array(lines, pa.int64()), "id": [str(line) for line in lines], "kind": kinds})
    bucket, path = "clean-files", "orders/a.parquet"
    site.s3.create_bucket(Bucket=bucket)
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, row_group_size=700)
    site.s3.put_object(Bucket=bucket, Key=path, Body=sink.getvalue().to_pybytes())
    file = file_of("orders", "bank", "ab" * 32)
    site.queues["clean"].send([json.dumps({"file": file, "name": "a.csv", "clean": f"s3://{bucket}/{path}"})])
    return file


def test_the_real_zip_takes_a_file_through_all_steps(site: Site) -> None:
    poison = {2, 1_000, 1_601}
    file = landed(site, 1_600, poison)
    site.functions["clean"].told_s = [59.0, 59.0]  # less than it takes to go on: each of the first two hands over to the next
    site.work()
    counts = site.store.counts(file)
    assert (counts.rows, counts.finished, counts.dead, counts.in_progress) == (1_600, 1_597, 3, 0)
    assert len(site.functions["clean"].invocations) == 3
    lines = [line for parcel in site.store.results(file) for line in records_of(parcel).lines]
    assert lines == [line for line in range(2, 1_602) if line not in poison]
    letters = list(site.store.dead_letters("orders/bank/"))
    assert [(one.parcel.first, one.reason, one.name) for one in letters] == [
        (line, f"ValueError: poison: {line}", "a.csv") for line in sorted(poison)
    ]
    logs = site.logs()
    assert "lines 2 to 501: split, ValueError" in logs
    assert "poison" not in logs
    assert "K\\u00f6ln" not in logs
    for function in (one for one in site.functions.values() if one.invocations):
        messages = sum(len(json.loads(invocation.event)["Records"]) for invocation in function.invocations)
        assert len(site.account.log_of(function)) <= 1_024 * messages, function.name


def test_a_function_that_is_not_configured_fails_and_nothing_is_lost(site: Site) -> None:
    file = file_of("orders", "stranger", "cd" * 32)
    site.store.begin(file, "b.csv")
    assert site.invoke("pass_on", {"Records": []}) == {"batchItemFailures": []}
    with pytest.raises(AssertionError, match="RECON_PROCESS: source stranger has no function"):
        site.invoke("process", {"Records": [sqs_record(Delivery("1", "r", 1, json.dumps(HEAD | {"file": file}) + "\n" + RECORDS))]})


HEAD = {"first": 2, "last": 2, "count": 1, "round": 0}
RECORDS = json.dumps({"names": ["id"], "lines": [2], "columns": [["1"]]})


def test_the_zip_is_small_enough_and_holds_only_what_the_functions_import(code: Path) -> None:
    tops = {one.name.split("-")[0] for one in code.iterdir()}
    assert tops - {"pyarrow.libs"} == {"recon", "pyarrow", "tenacity", "my_process.py"}
    assert sum(one.stat().st_size for one in code.rglob("*") if one.is_file()) < 150e6


def test_a_module_that_is_not_there_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert lambda_zip.main(["--of", "records", "--with", str(tmp_path / "gone.py"), "--out", str(tmp_path)]) == 2
    assert "gone.py: no such file or folder" in capsys.readouterr().err
