"""The record queue in infra/template.yaml: its queues, its functions, what leads from one to the next, and what each function may do."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator

import boto3
import pytest
from aws_template import REGION, Stack, moto_stack, template
from iam import Call, why_not
from recorded_requests import ACCOUNT

from recon.intake.queues import aws_handlers
from recon.intake.queues.aws_store import DEAD
from recon.intake.queues.port import TRIES

RESOURCES = template()["Resources"]
STEPS = {"Clean": "clean", "Store": "store", "Pass": "pass_on", "Process": "process", "Finish": "finish", "Bury": "bury"}
STEPS |= {"BuryUnstored": "bury_unstored"}
QUEUES = ("Clean", "Store", "Process", "Finish")
MAPPINGS = {name: one["Properties"] for name, one in RESOURCES.items() if one["Type"] == "AWS::Lambda::EventSourceMapping"}


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with pytest.MonkeyPatch.context() as patch:
        given = {"RecordsCodeKey": "recon-records.zip", "RecordsProcessFunctions": '{"bank": "my_process:work"}'}
        with moto_stack(patch, **given) as made:
            yield made


def test_each_handler_is_a_function_and_each_function_has_a_handler() -> None:
    handlers = {RESOURCES[f"Records{name}"]["Properties"]["Handler"].rpartition(".")[2] for name in STEPS}
    assert handlers == set(STEPS.values())
    for name in handlers:
        assert list(inspect.signature(getattr(aws_handlers, name)).parameters) == ["event", "context"]


@pytest.mark.parametrize("name", QUEUES)
def test_queues_give_up_after_three_tries_and_outlast_their_function_six_times(stack: Stack, name: str) -> None:
    sqs = boto3.client("sqs", region_name=REGION)
    queue, dead = (
        sqs.get_queue_attributes(QueueUrl=stack.ids[f"Records{name}{kind}"], AttributeNames=["All"])["Attributes"]
        for kind in ("Queue", "DeadLetters")
    )
    assert json.loads(queue["RedrivePolicy"]) == {"deadLetterTargetArn": dead["QueueArn"], "maxReceiveCount": TRIES}
    assert int(queue["VisibilityTimeout"]) >= 6 * RESOURCES[f"Records{name}"]["Properties"]["Timeout"]
    assert int(dead["VisibilityTimeout"]) >= 6 * RESOURCES["RecordsBury"]["Properties"]["Timeout"]
    assert {queue["MessageRetentionPeriod"], dead["MessageRetentionPeriod"]} == {"1209600"}


def test_messages_that_fail_are_the_only_ones_that_come_back() -> None:
    fed = {one["FunctionName"]["Ref"]: one for one in MAPPINGS.values() if "Queue" in str(one) or "DeadLetters" in str(one)}
    assert set(fed) == {f"Records{name}" for name in STEPS if name != "Pass"}
    for one in fed.values():
        assert one["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
        assert one["ScalingConfig"] == {"MaximumConcurrency": {"Ref": "RecordsConcurrency"}}
        assert one["BatchSize"] * 240 * 1024 < 6e6, "what Lambda hands over at once"
    every = {one["EventSourceArn"]["Fn::GetAtt"][0] for one in MAPPINGS.values()}
    queues = {name for name, one in RESOURCES.items() if one["Type"] == "AWS::SQS::Queue" and name.startswith("Records")}
    assert every == {"RecordsTable"} | queues - {"RecordsCleanDeadLetters"}, "a file that cannot be cleaned is for people"


def test_the_stream_passes_on_nothing_but_parcels_that_are_new(stack: Stack) -> None:
    asked = MAPPINGS["RecordsPassFromTable"]
    (only,) = asked["FilterCriteria"]["Filters"]
    assert json.loads(only["Pattern"]) == {"eventName": ["INSERT"], "dynamodb": {"Keys": {"at": {"S": [{"prefix": "in#"}]}}}}
    assert (asked["StartingPosition"], asked["BisectBatchOnFunctionError"]) == ("TRIM_HORIZON", True)
    assert not {"MaximumRetryAttempts", "MaximumRecordAgeInSeconds"} & set(asked), "a batch is tried until it is sent"
    table = boto3.client("dynamodb", region_name=REGION).describe_table(TableName=stack.outputs["RecordsTableName"])["Table"]
    assert table["StreamSpecification"] == {"StreamEnabled": True, "StreamViewType": "NEW_IMAGE"}
    assert table["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
    assert [(one["IndexName"], one["KeySchema"][0]["AttributeName"]) for one in table["GlobalSecondaryIndexes"]] == [(DEAD, "dead")]
    assert table["KeySchema"] == [{"AttributeName": "file", "KeyType": "HASH"}, {"AttributeName": "at", "KeyType": "RANGE"}]
    assert RESOURCES["RecordsTable"]["Properties"]["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}


def test_functions_know_their_queues_and_no_others(stack: Stack) -> None:
    client = boto3.client("lambda", region_name=REGION)
    needs = {"Clean": {"CLEAN", "STORE"}, "Pass": {"PROCESS"}, "Process": {"FINISH"}}
    for name in STEPS:
        told = client.get_function(FunctionName=stack.ids[f"Records{name}"])["Configuration"]["Environment"]["Variables"]
        assert told[aws_handlers.TABLE] == stack.outputs["RecordsTableName"]
        queues = {variable: value for variable, value in told.items() if variable.endswith("_QUEUE")}
        assert set(queues) == {f"RECON_{one}_QUEUE" for one in needs.get(name, set())}
        assert all(value == stack.ids[f"Records{variable.split('_')[1].capitalize()}Queue"] for variable, value in queues.items())
        assert (aws_handlers.PROCESS in told) is (name == "Process")


SENDS = {"Clean": {"Clean", "Store"}, "Pass": {"Process"}, "Process": {"Finish"}}
RECEIVES = {"Clean": {"Clean"}, "Store": {"Store"}, "Process": {"Process"}, "Finish": {"Finish"}}
WRITES = {
    "Clean": {"GetItem", "PutItem", "UpdateItem"},
    "Store": {"BatchWriteItem", "PutItem"},
    "Process": {"BatchGetItem", "PutItem"},
    "Finish": {"PutItem"},
    "Bury": {"GetItem", "PutItem"},
    "BuryUnstored": {"BatchWriteItem", "GetItem", "PutItem"},
}
ACTIONS = {"GetItem", "PutItem", "UpdateItem", "BatchWriteItem", "BatchGetItem", "DeleteItem", "Query", "Scan", "DeleteTable"}


@pytest.mark.parametrize("name", STEPS)
def test_a_function_may_do_what_its_step_does_and_nothing_else(stack: Stack, name: str) -> None:
    role = stack.roles[f"Records{name}Role"]

    def may(action: str, resource: str) -> bool:
        return why_not(Call(action, resource), role) is None

    for queue in QUEUES:
        arn, dead = (stack.arn(f"Records{queue}{kind}") for kind in ("Queue", "DeadLetters"))
        assert may("sqs:SendMessage", arn) is (queue in SENDS.get(name, set())), queue
        assert may("sqs:ReceiveMessage", arn) is may("sqs:DeleteMessage", arn) is (queue in RECEIVES.get(name, set())), queue
        buried = {"Bury": {"Process", "Finish"}, "BuryUnstored": {"Store"}}.get(name, set())
        assert may("sqs:ReceiveMessage", dead) is (queue in buried), queue
        assert not may("sqs:SendMessage", dead)
    table = f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/{stack.outputs['RecordsTableName']}"
    assert {one for one in ACTIONS if may(f"dynamodb:{one}", table)} == WRITES.get(name, set())
    files = f"arn:aws:s3:::{stack.ids['StoreBucket']}/recon/clean/a.parquet"
    assert may("s3:GetObject", files) is (name == "Clean")
    assert not may("s3:GetObject", files.replace("/clean/", "/events/"))


def test_each_transaction_of_the_store_is_made_of_writes_that_its_role_allows() -> None:
    """DynamoDB asks for PutItem for each put of TransactWriteItems."""
    source = inspect.getsource(aws_handlers) + inspect.getsource(__import__("recon.intake.queues.aws_store", fromlist=["x"]))
    assert '"Put": {' in source
    assert not any(f'"{other}": {{"TableName"' in source for other in ("Update", "Delete", "ConditionCheck"))


def test_deliveries_and_their_sensor_may_do_what_they_ask_of_the_table_and_the_queue(stack: Stack) -> None:
    """As recon.intake.queues.aws_store and opening ask: a transaction is made of puts."""
    table = f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/{stack.outputs['RecordsTableName']}"
    asks = {"Land": {"GetItem", "PutItem", "BatchWriteItem", "Query"}, "Orchestrator": {"GetItem", "Query"}}
    for name, actions in asks.items():
        role = stack.roles[f"{name}Role"]
        assert {one for one in ACTIONS if why_not(Call(f"dynamodb:{one}", table), role) is None} == actions
        assert (why_not(Call("sqs:SendMessage", stack.arn("RecordsCleanQueue")), role) is None) is (name == "Land")
