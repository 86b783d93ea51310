"""The whole pipeline on S3, DynamoDB, Redis and Lambda gives what the embedded default gives: SeaweedFS, DynamoDB Local, Valkey, and the
deployed zip of index workers under Lambda's runtime client.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import seaweed
import strategies as s
from cli_calls import Call
from dynamodb_local import dynamodb_local, environment
from histories import carry_out, check_store, open_in, records
from lambda_runtime import Lambda, running_lambda, unzipped
from valkey_server import Valkey, valkey

from recon.api import Reconciliation
from recon.model.windows import name_of
from recon.operations.packaging.lambda_zip import HANDLER
from recon.reading.served import find_served
from recon.serving.dynamodb import client_of
from recon.serving.workers.dispatch import timing_of
from recon.serving.workers.worker import STORE, TABLE
from recon.state.compaction import compact
from recon.state.lookup import find_record
from recon.state.timeline import Timeline
from recon.storage.cache import CachedStore

COMPACTED = "compaction: {disk: 1.1}\nretention: {grace: 1m}\n"


@dataclass(frozen=True)
class Services:
    """Where they listen; the environment leads there."""

    s3: seaweed.Seaweed
    redis: Valkey
    account: Lambda
    code: Path


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory, worker_zip: Path) -> Iterator[Services]:
    folder = tmp_path_factory.mktemp("services")
    with (
        dynamodb_local(folder) as endpoint,
        environment(endpoint),
        seaweed.server() as s3,
        valkey(folder) as redis,
        running_lambda(folder) as account,
        pytest.MonkeyPatch.context() as patch,
    ):
        for name, value in {**s3.environment, "AWS_ENDPOINT_URL_LAMBDA": account.endpoint}.items():
            patch.setenv(name, value)
        patch.setattr("recon.serving.workers.dispatch.timing_of", lambda workers: replace(timing_of(workers), look_s=0.1))
        yield Services(s3, redis, account, unzipped(worker_zip, folder))


def on_aws(services: Services) -> str:
    """recon.yaml of a store in a new bucket, with a cache and an index table that a function of its own brings up to date."""
    bucket = services.s3.bucket()
    aws = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    function = services.account.deploy(services.code, HANDLER, {**aws, STORE: f"s3://{bucket}/some/prefix", TABLE: bucket}, at_once=2)
    text = s.STANDARD_YAML.replace("store: ./data", f"store: s3://{bucket}/some/prefix")
    cache = f"cache: {{kind: redis, url: '{services.redis.url}', namespace: {bucket}, timeout_ms: 5000}}\n"
    index = (
        f"index: {{kind: dynamodb, table: {bucket}, requests_at_once: 4}}\nworkers: {{kind: lambda, function: {function.name}, count: 2}}\n"
    )
    return text + COMPACTED + cache + index


@pytest.fixture
def both(services: Services, tmp_path: Path) -> tuple[Reconciliation, Reconciliation]:
    """The embedded default, and the same on AWS's services."""
    places = {"folder": s.STANDARD_YAML + COMPACTED, "aws": on_aws(services)}
    opened = []
    for name, text in places.items():
        (tmp_path / name).mkdir()
        opened.append(open_in(tmp_path / name, text))
    assert isinstance(opened[1].store(), CachedStore)
    return opened[0], opened[1]


def rows(window: int, count: int, first: int = 0, **given: Any) -> tuple[s.Row, ...]:
    """Events of ``count`` orders, every third of them a payment of an order of the window before, twice its event id."""
    made = []
    for number in range(first, first + count):
        of_before = number % 3 == 0
        row = s.Row(
            order_id=f"O{(window + number - of_before) % 40:02}",
            event_id=f"{window - of_before}-{number}",
            event_type="PAYMENT" if number % 2 else "INVOICE",
            amount=f"{number}.25",
            currency="EUR" if number % 5 else "USD",
            booked_at=f"2026-11-01T{window:02}:{number % 60:02}:00Z",
        )
        made.append(s.replace(row, **given))
    return tuple(made)


HISTORY: tuple[s.Operation, ...] = (
    *(s.Land(window, s.File(f"w{window}", rows(window, 25), "jsonl" if window % 2 else "csv")) for window in (0, 1, 2, 5)),
    s.Land(0, s.File("broken", rows(0, 3, 90, amount="12,50"))),
    *(s.Close(window) for window in (0, 1, 2)),
    s.Run((0,)),
    s.Run((1, 2)),
    s.Close(5),
    s.Run((5,)),
    s.Land(3, s.File("late", rows(3, 30))),  # after window 5
    s.Close(3),
    s.Run((3,)),
    s.Land(1, s.File("more", rows(1, 9, 60))),  # into a window that is done
    s.Replace(2, "w2.csv", s.File("corrected", rows(2, 25, amount="7.00"))),
    s.Run((1, 2)),
    s.Unland(0, "broken.csv"),
    s.Replay(5),
    s.Run((0, 5)),
    s.Replay(3),
    s.Run((3,)),
)


def in_full(r: Reconciliation) -> dict[str, Any]:
    """Everything that is told of a store but where it lies, when it was, and how often something was written."""
    state = r.state()
    certificates = {window: dict(r.certificate(window) or {}) for window in state.windows}
    for certificate in certificates.values():
        for name in ("time", "commit", "changed_by", "entry", "previous"):
            certificate.pop(name, None)
    return {
        "records": records(r),
        "certificates": certificates,
        "artifacts": r.artifacts().to_pylist(),
        "as of": r.artifacts(through=name_of(s.at(1))).to_pylist(),
        "breaks": r.breaks().to_pylist(),
        "rejects": [{**row, "file": None} for row in r.rejects().to_pylist()],
        "status": r.status()["artifacts"],
    }


def told_alike(folder: Reconciliation, aws: Reconciliation) -> None:
    first, second = in_full(folder), in_full(aws)
    assert first.keys() == second.keys()
    for what in first:
        assert first[what] == second[what], what
    client = client_of(aws.store(), aws.config)
    for key in [*first["records"], "nobody"]:
        served = find_served(aws.store(), Timeline(aws.store()), key, lambda: client)
        assert served.record == find_record(folder.store(), folder.state(), key)
        assert served.by == ("dynamodb" if first["records"].get(key, {}).get("contributions") else "runs"), served.why


def verified(r: Reconciliation) -> None:
    found = r.verify(full=True)
    assert found.ok, found.problems
    assert found.records > 0


@pytest.mark.soak
def test_a_history_with_late_windows_corrections_and_replays_ends_alike_and_is_proved(
    services: Services, both: tuple[Reconciliation, Reconciliation], tmp_path: Path
) -> None:
    folder, aws = both
    state = s.State()
    for operation in HISTORY:
        state = s.apply(state, operation)
        for r in both:
            carry_out(r, operation)
    check_store(aws, state)
    told_alike(folder, aws)
    (function,) = [one for one in services.account.functions.values() if one.name == aws.config.workers.function]
    assert set(function.all_over()) == {"done"}
    assert len(function.invocations) >= 5, "most runs changed something"
    for r in both:
        verified(r)
        compact(r.store(), r.config, Timeline(r.store()), always=True)
    told_alike(folder, aws)
    for r in both:
        (r.place.path).write_text(r.place.path.read_text().replace("coalesce(billed, 0) - coalesce", "coalesce(billed, 0) - 2 * coalesce"))
    again = [Reconciliation(r.place.path) for r in both]
    for r in again:
        r.rebuild()
        r.run()  # fills the table of the new generation
    told_alike(again[0], again[1])
    for r in again:
        verified(r)
    # A store copied from one to the other is the same store.
    again[1].copy(tmp_path / "brought")
    (tmp_path / "home").mkdir()
    text = again[0].place.path.read_text().replace("store: ./data", "store: ../brought")
    (tmp_path / "home" / "recon.yaml").write_text(text)
    home = Reconciliation(tmp_path / "home" / "recon.yaml")
    assert in_full(home) == in_full(again[1])
    verified(home)
    # One that has a table of its own, in the same account and under the same name, does not touch the other's.
    own = f"s3://{services.s3.bucket()}/copy"
    again[0].copy(own)
    text = again[1].place.path.read_text()
    text = re.sub("(?m)^workers: .*$", "", text)  # the function works for the store that it was made for
    (tmp_path / "home" / "other.yaml").write_text(re.sub("(?m)^store: .*$", f"store: {own}", text))
    other = Reconciliation(tmp_path / "home" / "other.yaml")
    verified(other)
    table = again[1].index_status()["table"]
    assert other.index_status()["table"] is None
    other.update_index()
    assert other.index_status()["table"] not in (None, table)
    told_alike(again[0], other)
    told_alike(again[0], again[1])
    verified(other)


def test_recon_run_under_dagster_tells_the_same_and_what_it_asked(
    services: Services, recon: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    reports: list[dict[str, Any]] = []
    for name, text in (("folder", s.STANDARD_YAML), ("aws", on_aws(services).replace(COMPACTED, ""))):
        (tmp_path / name).mkdir()
        config = tmp_path / name / "recon.yaml"
        config.write_text(text)
        for window in (0, 1, 2):
            file = tmp_path / f"{window}.csv"
            file.write_text(s.to_csv(rows(window, 20)))
            assert recon("land", str(file), "--window", name_of(s.at(window)), "--close", "--config", str(config)).status == 0
        answer = recon("run", "--json", "--config", str(config))
        assert answer.status == 0, answer.err
        reports.append(answer.json)
        assert recon("verify", "--full", "--config", str(config)).status == 0
        reports[-1]["shown"] = [recon("show", f"O{order:02}", "--json", "--config", str(config)).out for order in range(8)]
    folder, aws = reports
    asked, prices = aws.pop("requests"), aws.pop("prices")
    assert (folder.pop("requests"), folder.pop("prices")) == ({}, {})
    for report in reports:
        del report["seconds"]
    assert folder == aws
    assert {"reduce", "prefetch", "merge", "index", "certify", "other"} == set(asked)
    assert asked["index"]["dynamodb"]["write_unit"]["requests"] > 0
    assert asked["index"]["lambda"]["Invoke"]["requests"] > 0
    assert asked["index"]["lambda"]["gb_millisecond"]["requests"] > 0
    assert asked["merge"]["s3"]["PutObject"]["sent"] > 0
    assert prices["unpriced"] == []
    assert float(prices["total"]) > 0
    config = str(tmp_path / "aws" / "recon.yaml")
    answer = json.loads(recon("show", "O03", "--json", "--index", "dynamodb", "--config", config).out)
    assert answer["key"] == "O03"
    recon("replay", name_of(s.at(0)), "--config", config)
    assert "requests: " in (said := recon("run", "--config", config).out)
    assert "price: USD 0." in said
