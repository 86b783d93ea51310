"""The warehouse in infra/template.yaml: a load asks for nothing that its role does not allow, COPY may read staged rows and no more."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import boto3
import postgres
import pytest
import seaweed
from aws_template import REGION, moto_stack, template
from iam import Call, matches, why_not
from recorded_requests import ACCOUNT, WORKGROUP, Recorded, proxy
from redshift_data import redshift_data
from roles_at_work import KEY, TLS, Rules
from warehouses import QUICK, load_of, row

from recon.aggregations.warehouse.port import Audit
from recon.aggregations.warehouse.redshift import RedshiftWarehouse
from recon.config.warehouse import WarehouseSettings
from recon.errors import WrongUsage
from recon.storage.open import open_store

RESOURCES = template()["Resources"]
ROWS = {("a", code): row(str(code)) for code in range(9)}


@pytest.fixture(scope="module")
def rules() -> Iterator[Rules]:
    with pytest.MonkeyPatch.context() as patch, moto_stack(patch, network=True, Warehouse="yes") as stack:
        yield Rules(stack, stack.of_bucket("StoreBucket"))


@pytest.fixture(scope="module")
def recorded(rules: Rules, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recorded]:
    """Loads, one of them with every kind of change, and what readers ask, under the role of stage aggregate."""
    folder, found, bucket = tmp_path_factory.mktemp("warehouse"), Recorded(), rules.stack.ids["StoreBucket"]
    with pytest.MonkeyPatch.context() as patch, seaweed.server() as s3, postgres.server() as database:
        client = s3.client()
        client.create_bucket(Bucket=bucket)

        def read(place: str) -> bytes:
            body: bytes = client.get_object(Bucket=bucket, Key=place.removeprefix(f"s3://{bucket}/"))["Body"].read()
            return body

        with (
            redshift_data(database, read) as api,
            proxy(s3.endpoint, "s3", rules.judge, KEY, (seaweed.KEY, seaweed.SECRET), found) as s3_proxy,
            proxy(api.url, "redshift-data", rules.judge, KEY, (seaweed.KEY, seaweed.SECRET), found) as redshift_proxy,
        ):
            for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL"):
                patch.delenv(name, raising=False)
            given = {
                "AWS_ACCESS_KEY_ID": "aggregate",
                "AWS_SECRET_ACCESS_KEY": "secret",
                "AWS_DEFAULT_REGION": REGION,
                "AWS_REGION": REGION,
            }
            for name, value in {**given, "AWS_ENDPOINT_URL_S3": s3_proxy, "AWS_ENDPOINT_URL_REDSHIFT_DATA": redshift_proxy}.items():
                patch.setenv(name, value)
            patch.setattr(boto3, "DEFAULT_SESSION", None)
            warehouse = made(rules, WORKGROUP, folder)
            warehouse.load(load_of(folder, ROWS, 1))
            changed = {**ROWS, ("a", 1): row("5.00"), ("b", 1): row()}
            del changed["a", 8]
            assert warehouse.load(load_of(folder, changed, 2)).updated == 1
            assert warehouse.audit("daily", ["store", "code"]) == Audit(9, 0, 0, {})
            with pytest.raises(WrongUsage, match="ExecuteStatement"):
                made(rules, "of-others", folder).find("daily", 1)
            yield found


def made(rules: Rules, workgroup: str, folder: Path) -> RedshiftWarehouse:
    staging = rules.stack.outputs["WarehouseStaging"]
    settings = WarehouseSettings(kind="redshift", workgroup=workgroup, database="recon", staging=staging)
    return RedshiftWarehouse(settings, lambda: open_store(staging, folder), QUICK)


def test_a_load_asks_for_nothing_that_its_role_does_not_allow(recorded: Recorded) -> None:
    assert [one for one in set(recorded.refused) if "workgroup/of-others" not in one] == []
    assert any("workgroup/of-others" in one for one in recorded.refused)


def test_every_statement_of_the_loads_policy_is_needed(rules: Rules, recorded: Recorded) -> None:
    calls = recorded.of("aggregate")
    (policy,) = [one for one in rules.stack.roles["AggregateRole"] if "Staging" in {statement["Sid"] for statement in one["Statement"]}]
    assert [statement["Sid"] for statement in policy["Statement"] if not matches(statement, calls)] == []


def test_copy_may_read_what_was_staged_and_no_more(rules: Rules, recorded: Recorded) -> None:
    role, bucket = rules.stack.roles["WarehouseCopyRole"], f"arn:aws:s3:::{rules.stack.ids['StoreBucket']}"
    staged = [call.resource for call in recorded.of("aggregate") if call.action == "s3:PutObject"]
    assert len(staged) == 2
    for path in staged:
        assert why_not(Call("s3:GetObject", path, TLS), role) is None
        assert why_not(Call("s3:ListBucket", bucket, {**TLS, "s3:prefix": path.partition("/")[2]}), role) is None
    for refused in (
        Call("s3:GetObject", f"{bucket}/recon/events/2026-11-01T0000Z/files/a-b/a.csv", TLS),
        Call("s3:ListBucket", bucket, {**TLS, "s3:prefix": "recon/"}),
        Call("s3:PutObject", staged[0], TLS),
        Call("s3:DeleteObject", staged[0], TLS),
    ):
        assert why_not(refused, role) is not None, refused


def test_the_role_sees_no_statements_of_others_and_stages_nowhere_else(rules: Rules) -> None:
    role, bucket = rules.stack.roles["AggregateRole"], f"arn:aws:s3:::{rules.stack.ids['StoreBucket']}"
    for action in ("DescribeStatement", "GetStatementResult", "CancelStatement"):
        assert why_not(Call(f"redshift-data:{action}", "*", {"redshift-data:statement-owner-iam-userid": "AIDANOTHER"}), role) is not None
    for action in ("BatchExecuteStatement", "ListStatements", "ListTables"):
        workgroup = f"arn:aws:redshift-serverless:{REGION}:{ACCOUNT}:workgroup/{WORKGROUP}"
        assert why_not(Call(f"redshift-data:{action}", workgroup), role) is not None
    assert why_not(Call("s3:GetObject", f"{bucket}/warehouse/recon-1-a.parquet", TLS), role) is not None, "it writes them; COPY reads"


def test_only_the_service_takes_the_role_of_copy(rules: Rules) -> None:
    iam = boto3.client("iam", region_name=REGION)
    (trust,) = iam.get_role(RoleName=rules.stack.ids["WarehouseCopyRole"])["Role"]["AssumeRolePolicyDocument"]["Statement"]
    assert set(trust["Principal"]["Service"]) == {"redshift-serverless.amazonaws.com", "redshift.amazonaws.com"}
    assert trust["Condition"] == {"StringEquals": {"aws:SourceAccount": ACCOUNT}}


def test_the_warehouse_is_encrypted_private_and_has_no_password_of_recons() -> None:
    namespace, workgroup = (RESOURCES[name]["Properties"] for name in ("WarehouseNamespace", "WarehouseWorkgroup"))
    assert namespace["KmsKeyId"] == {"Fn::GetAtt": ["Key", "Arn"]}
    assert namespace["ManageAdminPassword"] is True
    assert not {"AdminUserPassword", "AdminUsername"} & set(namespace)
    assert namespace["DefaultIamRoleArn"] == {"Fn::GetAtt": ["WarehouseCopyRole", "Arn"]}
    assert (workgroup["PubliclyAccessible"], workgroup["SecurityGroupIds"]) == (False, [{"Ref": "WarehouseGroup"}])
    assert "SecurityGroupIngress" not in RESOURCES["WarehouseGroup"]["Properties"]
    assert workgroup["MaxCapacity"] == {"Ref": "WarehouseRpuMax"}


def test_what_fails_or_costs_too_much_is_told() -> None:
    rule = RESOURCES["FailedStatementsRule"]["Properties"]
    assert rule["EventPattern"]["detail"] == {"state": ["FAILED", "ABORTED"], "statementName": [{"prefix": "recon "}]}
    alarm = RESOURCES["WarehouseCostAlarm"]["Properties"]
    assert (alarm["MetricName"], alarm["Threshold"]) == ("ComputeSeconds", {"Ref": "WarehouseRpuSecondsPerDay"})
