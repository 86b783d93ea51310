"""infra/template.yaml: free of mistakes that can be found without AWS, and what it makes of buckets, table, queues, workers, EMR, database.

Deployed on moto, in process. moto skips buckets', queues' and topics' policies, alarms, ElastiCache, EMR Serverless and Secrets Manager;
of what it makes it leaves out lifecycles, bucket keys, a table's encryption and recovery, a function's architecture, a cluster's scaling.
Of these the template's text is tested (``RESOURCES``), and by cfn-lint. Nothing was deployed on AWS. What roles may do: test_infra_roles.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from aws_template import REGION, TEMPLATE, Stack, moto_stack, template
from iam import Call, why_not
from recorded_requests import ACCOUNT

from recon.remote.emr.transient import ENCRYPTED

BUCKETS = ("StoreBucket", "LogBucket", "CodeBucket")
RESOURCES = template()["Resources"]


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """All that moto can make."""
    with pytest.MonkeyPatch.context() as patch:
        options = {"WorkerCodeKey": "recon-index-worker.zip", "EmrCluster": "long-running", "Database": "yes"}
        with moto_stack(patch, network=True, **options) as made:
            yield made


def test_cfn_lint_finds_nothing() -> None:
    lint = Path(sys.executable).with_name("cfn-lint")
    done = subprocess.run([lint, "--format", "parseable", "--", TEMPLATE], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_least_is_deployed_without_any_parameter() -> None:
    with pytest.MonkeyPatch.context() as patch, moto_stack(patch) as least:
        made = set(least.kinds.values())
        assert {"AWS::S3::Bucket", "AWS::DynamoDB::Table", "AWS::SQS::Queue", "AWS::IAM::Role", "AWS::KMS::Key"} <= made
        assert not {"AWS::EMR::Cluster", "AWS::RDS::DBInstance", "AWS::Lambda::Function", "AWS::EC2::SecurityGroup"} & made
        assert least.outputs["Store"] == f"s3://{least.ids['StoreBucket']}/recon"


@pytest.mark.parametrize("bucket", BUCKETS)
def test_buckets_are_encrypted_versioned_private_and_tidied(stack: Stack, bucket: str) -> None:
    s3, name = boto3.client("s3", region_name=REGION), stack.ids[bucket]
    (rule,) = s3.get_bucket_encryption(Bucket=name)["ServerSideEncryptionConfiguration"]["Rules"]
    by_default = rule["ApplyServerSideEncryptionByDefault"]
    assert (by_default["SSEAlgorithm"], by_default["KMSMasterKeyID"]) == ("aws:kms", stack.outputs["KeyArn"])
    (asked,) = RESOURCES[bucket]["Properties"]["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert asked["BucketKeyEnabled"]  # else each request is one of KMS, too
    # moto does not keep what a stack says of these, so they are read from the template.
    said = RESOURCES[bucket]["Properties"]
    assert said["VersioningConfiguration"] == {"Status": "Enabled"}
    assert list(said["PublicAccessBlockConfiguration"].values()) == [True] * 4
    assert said["OwnershipControls"] == {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]}
    rules = RESOURCES[bucket]["Properties"]["LifecycleConfiguration"]["Rules"]
    assert any(one.get("AbortIncompleteMultipartUpload") for one in rules)
    assert any(one.get("NoncurrentVersionExpiration") for one in rules)
    statements = stack.of_bucket(bucket)["Statement"]
    tls = next(one for one in statements if one["Sid"] == "OnlyByTls")
    assert (tls["Effect"], tls["Condition"]) == ("Deny", {"Bool": {"aws:SecureTransport": "false"}})
    assert tls["Resource"] == [f"arn:aws:s3:::{name}", f"arn:aws:s3:::{name}/*"]


def test_of_the_store_only_prefetched_files_and_copies_for_the_record_queue_expire_and_beside_it_staged_rows() -> None:
    rules = RESOURCES["StoreBucket"]["Properties"]["LifecycleConfiguration"]["Rules"]
    expiring = [one["Prefix"] for one in rules if {"ExpirationInDays", "ExpirationDate", "Transitions", "Transition"} & set(one)]
    assert expiring == [*({"Fn::Sub": f"${{StorePrefix}}/{folder}/"} for folder in ("prefetched", "clean")), "warehouse/"]


def test_what_holds_records_outlives_the_stack() -> None:
    kinds = {"AWS::S3::Bucket", "AWS::DynamoDB::Table", "AWS::KMS::Key", "AWS::RDS::DBInstance", "AWS::RedshiftServerless::Namespace"}
    for name, one in RESOURCES.items():
        if one["Type"] in kinds or name.endswith("DeadLetters"):
            assert one["DeletionPolicy"] == one["UpdateReplacePolicy"] in ("Retain", "Snapshot"), name


def test_the_key_turns_and_cannot_be_used_by_strangers(stack: Stack) -> None:
    kms = boto3.client("kms", region_name=REGION)
    assert kms.get_key_rotation_status(KeyId=stack.ids["Key"])["KeyRotationEnabled"]
    for statement in RESOURCES["Key"]["Properties"]["KeyPolicy"]["Statement"]:
        assert statement["Principal"] != "*"
        assert "AWS" in statement["Principal"] or "${AWS::AccountId}" in str(statement["Condition"]).replace(
            "'AWS::AccountId'", "${AWS::AccountId}"
        )


def test_the_table_is_billed_by_request_recoverable_encrypted_and_protected(stack: Stack) -> None:
    client, name = boto3.client("dynamodb", region_name=REGION), stack.outputs["Table"]
    table = client.describe_table(TableName=name)["Table"]
    assert table["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
    assert table["KeySchema"] == [{"AttributeName": "key", "KeyType": "HASH"}]
    assert table["AttributeDefinitions"] == [{"AttributeName": "key", "AttributeType": "S"}]
    assert RESOURCES["IndexTable"]["Properties"]["SSESpecification"] == {"SSEEnabled": True}
    assert table["DeletionProtectionEnabled"]
    assert RESOURCES["IndexTable"]["Properties"]["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}


def test_queues_give_up_to_queues_of_dead_letters(stack: Stack) -> None:
    sqs = boto3.client("sqs", region_name=REGION)
    found = {
        name: sqs.get_queue_attributes(QueueUrl=stack.ids[name], AttributeNames=["All"])["Attributes"]
        for name in ("IntakeQueue", "IntakeDeadLetters", "WorkerDeadLetters")
    }
    redrive = json.loads(found["IntakeQueue"]["RedrivePolicy"])
    assert redrive == {"deadLetterTargetArn": found["IntakeDeadLetters"]["QueueArn"], "maxReceiveCount": 5}
    assert {one["SqsManagedSseEnabled"] for one in found.values()} == {"true"}
    assert {one["MessageRetentionPeriod"] for one in found.values()} == {"1209600"}


def test_the_worker_is_the_deployable_handler_with_a_dead_letter_queue(stack: Stack) -> None:
    told = boto3.client("lambda", region_name=REGION).get_function(FunctionName=stack.outputs["WorkerFunction"])
    worker = told["Configuration"]
    assert (worker["Handler"], worker["Timeout"]) == ("recon.serving.workers.lambda_handler.handler", 900)
    assert RESOURCES["IndexWorker"]["Properties"]["Architectures"] == ["arm64"]
    assert worker["Environment"]["Variables"] == {
        "RECON_STORE": stack.outputs["Store"],
        "RECON_TABLE": stack.outputs["Table"],
        "RECON_LOG": "json",
    }
    assert worker["Role"] == stack.outputs["IndexWorkerRoleArn"]
    reserved = RESOURCES["IndexWorker"]["Properties"]["ReservedConcurrentExecutions"]
    assert reserved == {"Fn::If": ["ReservesWorkers", {"Ref": "WorkerConcurrency"}, {"Ref": "AWS::NoValue"}]}
    once = RESOURCES["IndexWorkerOnce"]["Properties"]
    assert once["MaximumRetryAttempts"] == 0, "the coordinator invokes again; Lambda is not to do so beside it"
    assert once["DestinationConfig"] == {"OnFailure": {"Destination": {"Fn::GetAtt": ["WorkerDeadLetters", "Arn"]}}}


def test_the_cluster_has_fleets_of_graviton_and_grows_on_the_spot_market(stack: Stack) -> None:
    emr, name = boto3.client("emr", region_name=REGION), stack.outputs["ClusterId"]
    cluster = emr.describe_cluster(ClusterId=name)["Cluster"]
    assert RESOURCES["Cluster"]["Properties"]["StepConcurrencyLevel"] == 10
    assert cluster["LogUri"] == f"s3://{stack.outputs['LogBucketName']}/emr/"
    instances = RESOURCES["Cluster"]["Properties"]["Instances"]
    fleets = [instances["MasterInstanceFleet"], instances["CoreInstanceFleet"], *instances["TaskInstanceFleets"]]
    for fleet in fleets:
        types = [one["InstanceType"] for one in fleet["InstanceTypeConfigs"]]
        assert len(types) >= 3
        assert all(re.match(r"[a-z]\d+g[a-z]*\.", one) for one in types), types
    assert ["TargetSpotCapacity" in fleet for fleet in fleets] == [False, False, True]
    scaling = RESOURCES["Cluster"]["Properties"]["ManagedScalingPolicy"]["ComputeLimits"]
    assert (scaling["UnitType"], scaling["MaximumCapacityUnits"]) == ("InstanceFleetUnits", {"Ref": "EmrUnitsMax"})
    # recon.yaml names the cluster, so that it ends by itself only where that is asked for; else an alarm says that it is idle.
    ends = RESOURCES["Cluster"]["Properties"]["AutoTerminationPolicy"]
    assert ends == {"Fn::If": ["EndsIdleCluster", {"IdleTimeout": {"Ref": "EmrIdleSeconds"}}, {"Ref": "AWS::NoValue"}]}
    assert template()["Parameters"]["EmrIdleSeconds"]["Default"] == 0
    assert RESOURCES["Serverless"]["Properties"]["Architecture"] == "ARM64"


def test_the_database_is_encrypted_backed_up_protected_and_private(stack: Stack) -> None:
    (database,) = boto3.client("rds", region_name=REGION).describe_db_instances()["DBInstances"]
    assert database["StorageEncrypted"]
    assert database["BackupRetentionPeriod"] == 7
    asked = RESOURCES["DatabaseInstance"]["Properties"]
    assert (asked["DeletionProtection"], asked["PubliclyAccessible"]) == (True, False)
    assert asked["VPCSecurityGroups"] == [{"Ref": "DatabaseGroup"}]


def test_the_databases_disk_may_grow_whatever_it_begins_with() -> None:
    """RDS wants the bound at least a tenth above what there is."""
    begins = template()["Parameters"]["DatabaseGiB"]
    assert RESOURCES["DatabaseInstance"]["Properties"]["MaxAllocatedStorage"] >= 1.1 * begins["MaxValue"]


def test_the_databases_password_does_not_change_by_itself_since_dagster_reads_it_once() -> None:
    asked = RESOURCES["DatabaseInstance"]["Properties"]
    assert "ManageMasterUserPassword" not in asked, "RDS changes a password that it manages every week"
    assert asked["MasterUserPassword"] == {"Fn::Sub": "{{resolve:secretsmanager:${DatabaseSecret}:SecretString:password}}"}
    assert not [one for one in RESOURCES.values() if one["Type"] == "AWS::SecretsManager::RotationSchedule"]


def test_no_concurrency_is_reserved_unless_asked_for() -> None:
    """Of the 10 that a new account has AWS lets none be reserved."""
    assert template()["Parameters"]["WorkerConcurrency"]["Default"] == 0


def test_emr_may_use_the_vpc_and_the_groups_without_tags_of_the_users(stack: Stack) -> None:
    """AmazonEMRServicePolicy_v2 allows what is tagged; VPC and subnets are the user's, so that the role names them by itself."""
    (tag,) = RESOURCES["ClientGroup"]["Properties"]["Tags"]
    assert tag == {"Key": "for-use-with-amazon-emr-managed-policies", "Value": "true"}
    ec2 = f"arn:aws:ec2:{REGION}:{ACCOUNT}"
    vpc = boto3.client("ec2", region_name=REGION).describe_security_groups(GroupIds=[stack.outputs["ClientGroupId"]])
    this = f"{ec2}:vpc/{vpc['SecurityGroups'][0]['VpcId']}"
    for action in ("ec2:RunInstances", "ec2:CreateFleet", "ec2:CreateNetworkInterface"):
        for network, allowed in ((this, True), (f"{ec2}:vpc/vpc-0another", False)):
            call = Call(action, f"{ec2}:subnet/subnet-1", {"ec2:Vpc": network})
            assert (why_not(call, stack.roles["EmrServiceRole"]) is None) is allowed, call
    assert why_not(Call("ec2:CreateSecurityGroup", this), stack.roles["EmrServiceRole"]) is None


def test_what_workers_of_spark_send_each_other_is_encrypted() -> None:
    by_kind = {one["Classification"]: one["ConfigurationProperties"] for one in RESOURCES["Cluster"]["Properties"]["Configurations"]}
    for one in ENCRYPTED:
        assert by_kind[one["Classification"]].items() >= one["Properties"].items()
    (serverless,) = RESOURCES["Serverless"]["Properties"]["RuntimeConfiguration"]
    assert serverless == {"Classification": "spark-defaults", "Properties": {"spark.ssl.internode.enabled": "true"}}


def test_the_alarm_of_the_watermark_is_loud_when_the_daemon_is_dead() -> None:
    asked = RESOURCES["WatermarkAlarm"]["Properties"]
    assert asked["TreatMissingData"] == {"Fn::If": ["HasDaemon", "breaching", "notBreaching"]}
    assert template()["Parameters"]["Daemon"]["Default"] == "yes"


def test_the_cache_speaks_tls_asks_for_a_password_and_is_private() -> None:
    asked = RESOURCES["CacheNodes"]["Properties"]
    assert (asked["TransitEncryptionEnabled"], asked["TransitEncryptionMode"], asked["AtRestEncryptionEnabled"]) == (True, "required", True)
    assert asked["AuthToken"] == {"Fn::Sub": "{{resolve:secretsmanager:${CacheSecret}:SecretString:password}}"}
    assert asked["SecurityGroupIds"] == [{"Ref": "CacheGroup"}]


def test_only_recons_own_machines_reach_cache_and_database(stack: Stack) -> None:
    for name, port in (("CacheGroup", 6379), ("DatabaseGroup", 5432)):
        (rule,) = RESOURCES[name]["Properties"]["SecurityGroupIngress"]
        assert (rule["FromPort"], rule["ToPort"], rule["SourceSecurityGroupId"]) == (port, port, {"Ref": "ClientGroup"})
    groups = boto3.client("ec2", region_name=REGION).describe_security_groups(GroupIds=[stack.outputs["ClientGroupId"]])["SecurityGroups"]
    assert [group["IpPermissions"] for group in groups] == [[]]


def test_everything_that_can_go_wrong_has_an_alarm_that_somebody_is_told_of() -> None:
    alarms = {one["Properties"]["MetricName"]: one for one in RESOURCES.values() if one["Type"] == "AWS::CloudWatch::Alarm"}
    assert set(alarms) == {
        *("ApproximateNumberOfMessagesVisible", "Errors", "Throttles", "WriteThrottleEvents", "ReadThrottleEvents"),
        *("FreeStorageSpace", "CPUUtilization", "IsIdle", "Invocations", "IteratorAge", "ComputeSeconds", "ApproximateAgeOfOldestMessage"),
        *(
            "SecondsBehind",
            "TableSecondsBehind",
            "DaemonTicks",
            "TicksFailed",
            "WindowsQuarantined",
            "CertificatesNotTying",
            "FilesMissing",
        ),
    }
    for one in alarms.values():
        assert one["Properties"]["AlarmActions"] == [{"Ref": "Alarms"}]
    depth = "ApproximateNumberOfMessagesVisible"
    watched = [one["Properties"]["Dimensions"] for one in RESOURCES.values() if one["Properties"].get("MetricName") == depth]
    queues = {name for name, one in RESOURCES.items() if one["Type"] == "AWS::SQS::Queue" and name.endswith("DeadLetters")}
    assert {one[0]["Value"]["Fn::GetAtt"][0] for one in watched} == queues
    rules = [one["Properties"] for one in RESOURCES.values() if one["Type"] == "AWS::Events::Rule"]
    assert {one["EventPattern"]["detail-type"][0] for one in rules} == {
        "EMR Step Status Change",
        "EMR Serverless Job Run State Change",
        "Redshift Data Statement Status Change",
    }
    assert {one["Targets"][0]["Arn"]["Ref"] for one in rules} == {"Alarms"}


def test_the_dashboard_is_json_and_names_what_was_made(stack: Stack) -> None:
    client = boto3.client("cloudwatch", region_name=REGION)
    shown = json.loads(client.get_dashboard(DashboardName="recon")["DashboardBody"])
    text = json.dumps(shown)
    assert len(shown["widgets"]) == 5
    for name in ("StoreBucketName", "Table", "WorkerFunction"):
        assert stack.outputs[name] in text


def test_no_secret_stands_in_the_template() -> None:
    text = TEMPLATE.read_text()
    assert not re.search(r"AKIA[0-9A-Z]{16}|BEGIN [A-Z ]*PRIVATE KEY", text)
    for name, value in re.findall(r"(?im)^\s*(\w*(?:password|secret|token)\w*): +([^\s{!#][^\s]*)", text):
        # Its name; what it is made from; its length; that Redshift keeps it.
        assert value in ("password", '"{}"', '\'{"username":', "64", "true"), (name, value)
    for name, one in template()["Parameters"].items():
        of_none = name in ("OidcToken", "OidcSecretArn")  # the address that gives tokens, and where the secret is
        assert of_none or not re.search("(?i)password|secret|token", name), "a parameter's value is shown to whoever may look at the stack"
        assert "NoEcho" not in one


def test_quotas_of_iam_are_kept() -> None:
    """At most 10 managed policies a role and 6,144 characters a policy, blanks aside."""
    for name, one in RESOURCES.items():
        if one["Type"] == "AWS::IAM::Role":
            by_itself = one["Properties"].get("ManagedPolicyArns", [])
            attached = {other for other, has in RESOURCES.items() if {"Ref": name} in has["Properties"].get("Roles", [])}
            if {"StartStepsPolicy", "StartClustersPolicy"} <= attached:  # of a long-running cluster or of transient ones
                attached.remove("StartStepsPolicy")
            assert len(by_itself) + len(attached) <= 10, name


def test_policies_are_short_enough(stack: Stack) -> None:
    for role, policies in stack.roles.items():
        for one in policies:
            assert len(json.dumps(one, separators=(",", ":"))) <= 6144 - 1500, role  # names of buckets may be longer than moto's


def test_no_policy_of_the_stack_allows_everything(stack: Stack) -> None:
    for role, policies in stack.roles.items():
        for statement in (one for policy in policies for one in policy["Statement"] if one["Effect"] == "Allow"):
            actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
            assert not any(re.fullmatch(r"\*|\w+:\*", action) for action in actions), (role, statement)
            if statement["Resource"] == "*":  # CloudWatch knows no narrower one
                assert statement["Condition"] == {"StringEquals": {"cloudwatch:namespace": "Recon"}}, (role, statement)


@pytest.mark.parametrize(("name", "who"), [("OrchestratorRole", {"Service"}), ("ReduceRole", {"AWS"}), ("IndexWorkerRole", {"Service"})])
def test_who_may_take_a_role(stack: Stack, name: str, who: set[str]) -> None:
    trusted: Any = boto3.client("iam", region_name=REGION).get_role(RoleName=stack.ids[name])["Role"]["AssumeRolePolicyDocument"]
    assert {kind for one in trusted["Statement"] for kind in one["Principal"]} == who
    assert "*" not in json.dumps([one["Principal"] for one in trusted["Statement"]])
