"""The service in infra/template.yaml: its API, its function, its queue, its alarms, and what its roles may do.

moto makes the function, the queue, the roles and the endpoints of the VPC; of the API the template's text is read.
tests/web/test_lambda.py runs the function.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import boto3
import pytest
from aws_template import API as API_ID
from aws_template import REGION, Stack, moto_stack, policies_of, template
from iam import Call, why_not

from recon.intake.queues.port import TRIES
from recon.operations.packaging.lambda_zip import FUNCTIONS
from recon.service.messages import VISIBLE_AFTER_S
from recon.web.lambda_handler import CONFIG_VARIABLE

RESOURCES = template()["Resources"]
OWN = {name: one for name, one in RESOURCES.items() if name.startswith("Service")}


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with pytest.MonkeyPatch.context() as patch:
        given = {"ServiceCodeKey": "recon-service.zip", "Database": "yes", "EmrCluster": "long-running", "EmrServerless": "yes"}
        with moto_stack(patch, network=True, **given) as made:
            yield made


def test_the_service_is_left_out_unless_it_is_asked_for() -> None:
    assert {one["Condition"] for one in OWN.values()} == {"HasService"}


def test_every_call_goes_to_the_function_of_the_zip(stack: Stack) -> None:
    api, integration, route, stage = (RESOURCES[f"Service{name}"]["Properties"] for name in ("Api", "Integration", "Route", "Stage"))
    assert (api["ProtocolType"], route["RouteKey"], stage["StageName"], stage["AutoDeploy"]) == ("HTTP", "$default", "$default", True)
    assert route["Target"] == {"Fn::Sub": "integrations/${ServiceIntegration}"}
    assert (integration["IntegrationType"], integration["PayloadFormatVersion"]) == ("AWS_PROXY", "2.0")
    assert integration["IntegrationUri"] == {"Fn::GetAtt": ["ServiceFunction", "Arn"]}
    assert stage["DefaultRouteSettings"]["ThrottlingRateLimit"] == {"Ref": "ServiceRequestsPerSecond"}
    assert {one["ApiId"]["Ref"] for one in (integration, route, stage)} == {"ServiceApi"}
    told = boto3.client("lambda", region_name=REGION).get_function(FunctionName=stack.ids["ServiceFunction"])["Configuration"]
    assert told["Handler"] == FUNCTIONS["service"].handler
    assert told["Environment"]["Variables"] == {CONFIG_VARIABLE: "/var/task/recon.yaml", "RECON_LOG": "json"}
    assert told["Timeout"] * 1000 < integration["TimeoutInMillis"]
    assert RESOURCES["ServiceFunction"]["Properties"]["VpcConfig"]["SecurityGroupIds"] == [{"Ref": "ClientGroup"}]
    (allowed,) = json.loads(boto3.client("lambda", region_name=REGION).get_policy(FunctionName=stack.ids["ServiceFunction"])["Policy"])[
        "Statement"
    ]
    assert allowed["Principal"] == {"Service": "apigateway.amazonaws.com"}
    assert allowed["Condition"]["ArnLike"]["AWS:SourceArn"].endswith(f":{API_ID}/*")


def test_the_queue_gives_up_after_three_tries(stack: Stack) -> None:
    sqs = boto3.client("sqs", region_name=REGION)
    queue, dead = (
        sqs.get_queue_attributes(QueueUrl=stack.ids[name], AttributeNames=["All"])["Attributes"]
        for name in ("ServiceQueue", "ServiceDeadLetters")
    )
    assert json.loads(queue["RedrivePolicy"]) == {"deadLetterTargetArn": dead["QueueArn"], "maxReceiveCount": TRIES}
    assert int(queue["VisibilityTimeout"]) == VISIBLE_AFTER_S
    assert {queue["MessageRetentionPeriod"], dead["MessageRetentionPeriod"]} == {"1209600"}
    assert stack.outputs["ServiceQueueUrl"] == stack.ids["ServiceQueue"]


def test_a_message_that_waits_and_one_that_is_dead_are_alarms() -> None:
    alarms = {name: one["Properties"] for name, one in OWN.items() if one["Type"] == "AWS::CloudWatch::Alarm"}
    watched = {(one["MetricName"], json.dumps(one["Dimensions"][0]["Value"]), json.dumps(one["Threshold"])) for one in alarms.values()}
    assert watched == {
        ("ApproximateNumberOfMessagesVisible", '{"Fn::GetAtt": ["ServiceDeadLetters", "QueueName"]}', "0"),
        ("ApproximateAgeOfOldestMessage", '{"Fn::GetAtt": ["ServiceQueue", "QueueName"]}', '{"Ref": "ServiceOldestSeconds"}'),
        ("Errors", '{"Ref": "ServiceFunction"}', "0"),
    }
    assert all(one["AlarmActions"] == [{"Ref": "Alarms"}] for one in alarms.values())


API = {"sqs:SendMessage ServiceQueue", "secretsmanager:GetSecretValue DatabaseSecret"}
WORKER = {
    *(f"sqs:{action} ServiceQueue" for action in ("SendMessage", "ReceiveMessage", "DeleteMessage", "GetQueueAttributes")),
    *(f"sqs:{action} ServiceDeadLetters" for action in ("ReceiveMessage", "DeleteMessage", "GetQueueUrl")),
    "secretsmanager:GetSecretValue DatabaseSecret",
    *(
        f"elasticmapreduce:{action} Cluster"
        for action in ("AddJobFlowSteps", "ListSteps", "DescribeStep", "DescribeCluster", "CancelSteps")
    ),
}
ASKED = {
    *(
        f"sqs:{one} {name}"
        for one in ("SendMessage", "ReceiveMessage", "DeleteMessage", "GetQueueAttributes", "GetQueueUrl", "PurgeQueue")
        for name in ("ServiceQueue", "ServiceDeadLetters", "IntakeQueue")
    ),
    *WORKER,
    "elasticmapreduce:TerminateJobFlows Cluster",
}


@pytest.mark.parametrize(("role", "may"), [("ServiceApiRole", API), ("ServiceRole", WORKER)])
def test_a_role_may_do_what_is_asked_of_it_and_nothing_else(stack: Stack, role: str, may: set[str]) -> None:
    def arn(name: str) -> str:
        match name:
            case "DatabaseSecret":
                return f"arn:aws:secretsmanager:{REGION}:123456789012:secret:DatabaseSecret-AbCdEf"
            case "Cluster":
                return f"arn:aws:elasticmapreduce:{REGION}:123456789012:cluster/{stack.ids['Cluster']}"
        return stack.arn(name)

    policies = stack.roles[role]
    assert {one for one in ASKED if why_not(Call(one.partition(" ")[0], arn(one.partition(" ")[2])), policies) is None} == may
    bucket = f"arn:aws:s3:::{stack.ids['StoreBucket']}"
    for action in ("GetObject", "PutObject", "DeleteObject"):
        assert why_not(Call(f"s3:{action}", f"{bucket}/service/results/a/b.csv"), policies) is None
        assert (why_not(Call(f"s3:{action}", f"{bucket}/recon/state/a"), policies) is None) is (action == "GetObject")
    assert why_not(Call("s3:PutObject", f"{bucket}/recon/steps/a/asked.json"), policies) is None if role == "ServiceRole" else True


@pytest.mark.parametrize("role", ["EmrNodeRole", "EngineRole"])
def test_clusters_read_uploads_and_write_results(stack: Stack, role: str) -> None:
    path = f"arn:aws:s3:::{stack.ids['StoreBucket']}/service/results/a/b.csv"
    for action in ("GetObject", "PutObject"):
        assert why_not(Call(f"s3:{action}", path), stack.roles[role]) is None


def test_policies_of_ones_own_are_given_to_both_or_to_workers_alone() -> None:
    def given(role: str) -> list[str]:
        return [name for name in policies_of(RESOURCES[role]) if name in template()["Parameters"]]

    assert (given("ServiceApiRole"), given("ServiceRole")) == (["ServiceReadPolicy"], ["ServiceReadPolicy", "ServiceWritePolicy"])


def test_only_joining_the_vpc_knows_no_resources(stack: Stack) -> None:
    for role in ("ServiceApiRole", "ServiceRole"):
        every = [one for policy in stack.roles[role] for one in policy["Statement"] if one["Resource"] == "*"]
        assert [one["Sid"] for one in every] == (["Joins"] if role == "ServiceApiRole" else [])


def test_what_an_owner_has_deleted_is_gone_within_a_day() -> None:
    rules = RESOURCES["StoreBucket"]["Properties"]["LifecycleConfiguration"]["Rules"]
    (rule,) = (one for one in rules if one.get("Prefix") == "service/")
    assert rule["NoncurrentVersionExpiration"] == {"NoncurrentDays": 1}
