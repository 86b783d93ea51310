"""Dagster on ECS Fargate: infra/aws/dagster-template.yaml, deployed on moto as a part of infra/template.yaml, and infra/aws/dagster.yaml,
whose launcher starts runs on moto's ECS.

moto makes the load balancer, the cluster, task definitions, services, roles and groups. Cognito, Cloud Map and alarms are read from the
template. No task runs.
"""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import dagster as dg
import pytest
import yaml
from aws_template import DAGSTER_IMAGE, DAGSTER_TEMPLATE, REGION, Nested, moto_dagster, read_template, template
from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.instance.ref import InstanceRef
from dagster._core.launcher.base import LaunchRunContext
from dagster._core.origin import JobPythonOrigin, RepositoryPythonOrigin
from dagster._core.test_utils import create_run_for_test
from dagster._grpc.types import ExecuteRunArgs
from dagster_aws.ecs import EcsRunLauncher
from dagster_aws.s3 import S3ComputeLogManager
from ecs_launcher import ACCOUNT, daemons_task, recorded_calls
from folders import ROOT
from iam import Call, matches, why_not

from recon.storage.roles import SERVICE, STAGES

RESOURCES = read_template(DAGSTER_TEMPLATE)["Resources"]
SETTINGS = ROOT / "infra" / "aws" / "dagster.yaml"
TASKS = ("RunTask", "CodeTask", "WebserverTask", "DaemonTask")
SERVICES = ("CodeService", "WebserverService", "DaemonService")
KEY_THROUGH = {name: {"kms:ViaService": f"{name}.{REGION}.amazonaws.com"} for name in ("s3", "secretsmanager")}
ORIGIN = JobPythonOrigin(
    job_name="orders_everything",
    repository_origin=RepositoryPythonOrigin(
        executable_path="/opt/recon/bin/python",
        code_pointer=ModuleCodePointer("recon_dagster.definitions", "defs", "/opt/recon"),
        entry_point=["dagster"],
        container_context={},
    ),
)


@pytest.fixture(scope="module")
def nested() -> Iterator[Nested]:
    with pytest.MonkeyPatch.context() as patch, moto_dagster(patch) as made:
        yield made


def properties(name: str) -> dict[str, Any]:
    found: dict[str, Any] = RESOURCES[name]["Properties"]
    return found


def containers() -> Iterator[tuple[str, dict[str, Any]]]:
    for task in TASKS:
        for container in properties(task)["ContainerDefinitions"]:
            yield task, container


def test_cfn_lint_finds_nothing_in_the_part() -> None:
    lint = Path(sys.executable).with_name("cfn-lint")
    done = subprocess.run([lint, "--format", "parseable", "--", DAGSTER_TEMPLATE], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_main_template_gives_the_part_each_parameter_and_requires_what_it_needs() -> None:
    part = template()["Resources"]["DagsterServices"]
    assert part["Condition"] == "HasDagster"
    assert set(part["Properties"]["Parameters"]) == set(read_template(DAGSTER_TEMPLATE)["Parameters"])
    asserted = json.dumps(template()["Rules"]["DagsterIsComplete"]["Assertions"])
    for name in ("Database", "DagsterImage", "DagsterDomain", "DagsterCertificateArn", "DagsterCallersCidr"):
        assert name in asserted
    separator, given = part["Properties"]["Parameters"]["StageRoles"]["Fn::Join"]
    *always, (condition, with_service, without) = [one.get("Fn::Sub") or one["Fn::If"] for one in given]
    assert (separator, condition, without) == (",", "HasService", {"Ref": "AWS::NoValue"})
    pairs = [re.fullmatch(r"(\w+)=\$\{(\w+)Role\.Arn\}", pair) for text in (*always, with_service["Fn::Sub"]) for pair in text.split(",")]
    assert [pair[1].capitalize() for pair in pairs if pair] == [pair[2] for pair in pairs if pair]
    assert [pair[1] for pair in pairs if pair] == [*STAGES, SERVICE]


def test_nothing_passes_the_load_balancer_without_a_log_in(nested: Nested) -> None:
    elb = boto3.client("elbv2", region_name=REGION)
    listeners = {one["Port"]: one for one in elb.describe_listeners(LoadBalancerArn=nested.ids["Balancer"])["Listeners"]}
    assert set(listeners) == {80, 443}
    assert [one["Type"] for one in listeners[80]["DefaultActions"]] == ["redirect"]
    assert listeners[443]["Protocol"] == "HTTPS"
    assert [one["Type"] for one in listeners[443]["DefaultActions"]] == ["authenticate-cognito", "forward"]
    assert not [name for name, one in RESOURCES.items() if one["Type"] == "AWS::ElasticLoadBalancingV2::ListenerRule"]
    with_cognito, with_oidc = properties("Listener")["DefaultActions"][0]["Fn::If"][1:]
    for action, kind in ((with_cognito, "Cognito"), (with_oidc, "Oidc")):
        assert action[f"Authenticate{kind}Config"]["OnUnauthenticatedRequest"] == "authenticate"
        assert action["Order"] == 1
    oidc = with_oidc["AuthenticateOidcConfig"]
    assert oidc["ClientSecret"] == {"Fn::Sub": "{{resolve:secretsmanager:${OidcSecretArn}:SecretString:client_secret}}"}
    named = {"Issuer", "AuthorizationEndpoint", "TokenEndpoint", "UserInfoEndpoint", "ClientId"}
    assert {next(iter(oidc[name].values())) for name in named} == {
        "OidcIssuer",
        "OidcAuthorization",
        "OidcToken",
        "OidcUserInfo",
        "OidcClient",
    }
    pool = properties("UserPool")
    assert (pool["AdminCreateUserConfig"], pool["MfaConfiguration"]) == ({"AllowAdminCreateUserOnly": True}, "ON")


def test_each_port_is_open_to_those_alone_who_need_it() -> None:
    opened = {
        (name, rule["FromPort"]): rule.get("CidrIp") or rule["SourceSecurityGroupId"]
        for name in ("BalancerGroup", "WebserverGroup", "DaemonGroup", "CodeGroup")
        for rule in properties(name).get("SecurityGroupIngress", [])
    }
    assert opened == {
        ("BalancerGroup", 443): {"Ref": "CallersCidr"},
        ("BalancerGroup", 80): {"Ref": "CallersCidr"},
        ("WebserverGroup", 3000): {"Ref": "BalancerGroup"},
    }
    added = [one["Properties"] for one in RESOURCES.values() if one["Type"] == "AWS::EC2::SecurityGroupIngress"]
    assert {(one["GroupId"]["Ref"], one["FromPort"], one["SourceSecurityGroupId"]["Ref"]) for one in added} == {
        ("CodeGroup", 4000, "WebserverGroup"),
        ("CodeGroup", 4000, "DaemonGroup"),
    }


def test_every_container_is_the_image_of_the_digest_without_privileges_and_with_a_log(nested: Nested) -> None:
    ecs = boto3.client("ecs", region_name=REGION)
    for task in TASKS:
        for one in ecs.describe_task_definition(taskDefinition=nested.ids[task])["taskDefinition"]["containerDefinitions"]:
            assert one["image"] == DAGSTER_IMAGE
            assert one["logConfiguration"]["options"]["awslogs-group"] == nested.ids["Logs"]
            assert [secret["name"] for secret in one["secrets"]] == ["DAGSTER_PG_PASSWORD"]
            assert not [pair for pair in one["environment"] if "PASSWORD" in pair["name"]]
    for _, container in containers():
        assert (container["ReadonlyRootFilesystem"], container["Privileged"], container["User"]) == (True, False, "10001:10001")
        assert container["LinuxParameters"] == {"InitProcessEnabled": True, "Capabilities": {"Drop": ["ALL"]}}
        assert [mount["ContainerPath"] for mount in container["MountPoints"]] == ["/tmp"]
    assert properties("Logs")["RetentionInDays"] == 365


def test_commands_and_health_checks_are_those_of_compose() -> None:
    compose = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    for _, container in containers():
        if container["Name"] == "run":
            continue
        service = compose[container["Name"]]
        assert container["Command"] == service["command"]
        if "HealthCheck" in container:
            assert container["HealthCheck"]["Command"] == [word for word in service["healthcheck"]["test"] if word != "recon-entrypoint"]


def test_tables_are_made_before_anything_else_starts_and_there_are_never_two_daemons(nested: Nested) -> None:
    (code,) = [one for task, one in containers() if task == "CodeTask" and one["Name"] == "code"]
    assert code["DependsOn"] == [{"ContainerName": "migrate", "Condition": "SUCCESS"}]
    for other in ("WebserverService", "DaemonService"):
        assert "CodeService" in RESOURCES[other]["DependsOn"]
    ecs = boto3.client("ecs", region_name=REGION)
    found = ecs.describe_services(cluster=nested.outputs["ClusterName"], services=[nested.ids[name] for name in SERVICES])["services"]
    assert [one["desiredCount"] for one in found] == [1, 1, 1]
    daemon = properties("DaemonService")["DeploymentConfiguration"]
    assert (daemon["MinimumHealthyPercent"], daemon["MaximumPercent"]) == (0, 100)


def test_what_the_settings_read_from_the_environment_every_container_has() -> None:
    read = set(re.findall(r"\{env: (\w+)\}", SETTINGS.read_text() + (ROOT / "infra/aws/workspace.yaml").read_text()))
    assert "RECON_RUN_TASK_DEFINITION" in read
    for _, container in containers():
        has = {one["Name"] for one in (*container["Environment"], *container["Secrets"])}
        assert read <= has, container["Name"]


def test_dagsters_settings_are_those_of_the_top_level_and_what_aws_adds() -> None:
    on_aws, plain = yaml.safe_load(SETTINGS.read_text()), yaml.safe_load((ROOT / "dagster.yaml").read_text())
    added = {name: on_aws.pop(name) for name in ("storage", "run_monitoring", "run_launcher", "compute_logs")}
    assert on_aws == plain
    assert added["storage"] == yaml.safe_load((ROOT / "infra" / "docker" / "dagster.yaml").read_text())["storage"]


@pytest.fixture
def settings(nested: Nested, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> InstanceRef:
    """Dagster's own reading of infra/aws/dagster.yaml, with the environment of the daemon's container."""
    ecs = boto3.client("ecs", region_name=REGION)
    (container,) = ecs.describe_task_definition(taskDefinition=nested.ids["DaemonTask"])["taskDefinition"]["containerDefinitions"]
    for one in container["environment"]:
        monkeypatch.setenv(one["name"], one["value"])
    monkeypatch.setenv("DAGSTER_PG_PASSWORD", "x" * 64)
    home = tmp_path / "home"
    home.mkdir()
    (home / "dagster.yaml").write_text(SETTINGS.read_text())
    return InstanceRef.from_dir(str(home))


def test_dagster_accepts_launcher_and_logs(settings: InstanceRef, nested: Nested) -> None:
    launcher, logs = settings.run_launcher, settings.compute_log_manager
    assert isinstance(launcher, EcsRunLauncher)
    assert isinstance(logs, S3ComputeLogManager)
    assert str(launcher.task_definition).startswith(
        f"arn:aws:ecs:{REGION}:{ACCOUNT}:task-definition/{os.environ['RECON_RUN_TASK_DEFINITION']}:"
    )
    assert launcher.secrets_tags == []
    assert (logs._s3_bucket, logs._s3_prefix) == (nested.main.outputs["LogBucketName"], "dagster")


def test_a_field_that_the_launcher_does_not_know_is_refused(settings: InstanceRef, tmp_path: Path) -> None:
    (tmp_path / "dagster.yaml").write_text(SETTINGS.read_text().replace("container_name: run", "container: run"))
    with pytest.raises(dg.DagsterInvalidConfigError):
        assert InstanceRef.from_dir(str(tmp_path)).run_launcher


def test_a_run_is_started_watched_and_ended_by_the_roles_of_daemon_and_webserver(
    nested: Nested, settings: InstanceRef, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """EcsRunLauncher itself, on moto's ECS: what it asks for is what the roles allow, and each of their statements is needed."""
    ecs, roles = boto3.client("ecs", region_name=REGION), nested.roles
    with daemons_task(monkeypatch, nested), dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        run = create_run_for_test(instance, job_name="orders_everything", job_code_origin=ORIGIN, tags={"recon/stage": "orders.merge"})
        with recorded_calls() as by_daemon:
            launcher = _launcher(settings, instance)
            launcher.launch_run(LaunchRunContext(dagster_run=run, workspace=None))
            assert "RUNNING" in str(launcher.check_run_worker_health(_again(instance, run.run_id)).status)
        tags = _again(instance, run.run_id).tags
        (task,) = ecs.describe_tasks(cluster=tags["ecs/cluster"], tasks=[tags["ecs/task_arn"]])["tasks"]
        assert f"/{os.environ['RECON_RUN_TASK_DEFINITION']}:" in task["taskDefinitionArn"]
        (override,) = task["overrides"]["containerOverrides"]
        assert (override["name"], override["command"][:3]) == ("run", ["dagster", "api", "execute_run"])
        with recorded_calls() as by_webserver:
            assert _launcher(settings, instance).terminate(run.run_id)
        _logs(settings, by_webserver)
    _log_of_a_dead_run(nested, by_daemon, by_webserver)
    for calls, role in ((by_daemon, "DaemonRole"), (by_webserver, "WebserverRole")):
        assert [why for call in calls if (why := why_not(call, roles[role]))] == []
        unused = [one["Sid"] for policy in roles[role] for one in policy["Statement"] if not matches(one, calls)]
        assert unused == []
    assert why_not(next(call for call in by_daemon if call.action == "ecs:RunTask"), roles["WebserverRole"]) is not None


def _log_of_a_dead_run(nested: Nested, by_daemon: list[Call], by_webserver: list[Call]) -> None:
    """What moto's ECS does not ask for: the roles that a task is given, the log of one that failed, the key of what is in S3."""
    passed = {"iam:PassedToService": "ecs-tasks.amazonaws.com"}
    for role in (nested.main.outputs["OrchestratorRoleArn"], f"arn:aws:iam::{ACCOUNT}:role/{nested.ids['ExecutionRole']}"):
        by_daemon.append(Call("iam:PassRole", role, passed))
    by_daemon.append(Call("logs:GetLogEvents", f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{nested.ids['Logs']}:log-stream:run/run/1"))
    by_daemon.append(Call("ecs:StopTask", f"arn:aws:ecs:{REGION}:{ACCOUNT}:task/{nested.outputs['ClusterName']}/1"))
    by_webserver.append(Call("kms:Decrypt", nested.main.outputs["KeyArn"], KEY_THROUGH["s3"]))


def _logs(settings: InstanceRef, calls: list[Call]) -> None:
    """The webserver asks for the logs of a run."""
    with recorded_calls() as asked:
        manager = settings.compute_log_manager
        from dagster._core.storage.compute_log_manager import ComputeIOType

        manager.cloud_storage_has_logs(["a-run", "compute_logs", "a-step"], ComputeIOType.STDERR)
        manager.get_log_keys_for_log_key_prefix(["a-run"], ComputeIOType.STDERR)
    calls.extend(asked)
    assert {call.action for call in asked} == {"s3:GetObject", "s3:ListBucket"}


def _launcher(settings: InstanceRef, instance: dg.DagsterInstance) -> Any:
    launcher = settings.run_launcher
    launcher.register_instance(instance)
    return launcher


def _again(instance: dg.DagsterInstance, run_id: str) -> dg.DagsterRun:
    found = instance.get_run_by_id(run_id)
    assert found is not None
    return found


def test_the_command_of_a_run_is_shorter_than_ecs_allows(settings: InstanceRef) -> None:
    """ECS takes 8,192 characters of overrides, of which the command has the settings of the whole instance."""
    command = ExecuteRunArgs(job_origin=ORIGIN, run_id="0" * 36, instance_ref=settings).get_command_args()
    overrides = {"containerOverrides": [{"name": "run", "command": command}]}
    assert len(json.dumps(overrides)) < 8192 - 1024


def test_the_orchestrator_may_put_the_logs_of_runs_and_nothing_else_is_new(nested: Nested) -> None:
    (policy,) = nested.roles["OrchestratorRole"]
    bucket = nested.main.outputs["LogBucketName"]
    for call, allowed in (
        (Call("s3:PutObject", f"arn:aws:s3:::{bucket}/dagster/storage/run/compute_logs/step.err"), True),
        (Call("s3:GetObject", f"arn:aws:s3:::{bucket}/dagster/storage/run/compute_logs/step.err"), True),
        (Call("ecs:DescribeTaskDefinition", "*"), True),
        (Call("s3:PutObject", f"arn:aws:s3:::{bucket}/emr/x"), False),
        (Call("s3:DeleteObject", f"arn:aws:s3:::{bucket}/dagster/x"), False),
        (Call("ecs:RunTask", f"arn:aws:ecs:{REGION}:{ACCOUNT}:task-definition/x:1"), False),
    ):
        assert (why_not(call, [policy]) is None) is allowed, call


def test_tasks_are_started_with_the_password_and_the_image_alone(nested: Nested) -> None:
    roles, database = (
        nested.roles["ExecutionRole"],
        template()["Resources"]["DagsterServices"]["Properties"]["Parameters"]["DatabaseSecretArn"],
    )
    assert database == {"Ref": "DatabaseSecret"}
    (policy,) = roles
    by_sid = {one["Sid"]: one for one in policy["Statement"]}
    assert by_sid["Password"]["Action"] == "secretsmanager:GetSecretValue"
    assert by_sid["Password"]["Resource"].endswith("secret:DatabaseSecret-AbCdEf")
    assert why_not(Call("kms:Decrypt", nested.main.outputs["KeyArn"], KEY_THROUGH["s3"]), roles) is not None
    assert why_not(Call("kms:Decrypt", nested.main.outputs["KeyArn"], KEY_THROUGH["secretsmanager"]), roles) is None
    for name in ("ExecutionRole", "WebserverRole", "DaemonRole"):
        (trusted,) = boto3.client("iam").get_role(RoleName=nested.ids[name])["Role"]["AssumeRolePolicyDocument"]["Statement"]
        assert trusted["Principal"] == {"Service": "ecs-tasks.amazonaws.com"}
        assert trusted["Condition"] == {"StringEquals": {"aws:SourceAccount": ACCOUNT}}
        for store in ("GetObject", "PutObject"):
            call = Call(f"s3:{store}", f"arn:aws:s3:::{nested.main.outputs['StoreBucketName']}/recon/timeline/000000000001.json")
            assert why_not(call, nested.roles[name]) is not None


def test_actions_on_everything_are_those_that_know_no_resources(nested: Nested) -> None:
    everywhere = {
        action
        for policies in nested.roles.values()
        for policy in policies
        for one in policy["Statement"]
        if one["Resource"] == "*"
        for action in ([one["Action"]] if isinstance(one["Action"], str) else one["Action"])
    }
    assert everywhere == {"ecs:DescribeTaskDefinition", "ec2:DescribeNetworkInterfaces", "ecr:GetAuthorizationToken"}


def test_the_entrypoint_writes_profiles_and_settings(tmp_path: Path) -> None:
    (tmp_path / "settings.yaml").write_text("telemetry: {enabled: false}\n")
    script = (ROOT / "infra" / "docker" / "entrypoint.sh").read_text().replace("/tmp/recon-aws.config", str(tmp_path / "config"))
    (tmp_path / "entrypoint.sh").write_text(script)
    environment = {
        "PATH": os.environ["PATH"],
        "DAGSTER_HOME": str(tmp_path / "home"),
        "RECON_DAGSTER_SETTINGS": str(tmp_path / "settings.yaml"),
        "RECON_STAGE_ROLES": f"land=arn:aws:iam::{ACCOUNT}:role/land,merge=arn:aws:iam::{ACCOUNT}:role/merge",
    }
    program = "import botocore.session as b, os; print(os.environ['RECON_STAGE_PROFILE'], b.Session().full_config['profiles'])"
    done = subprocess.run(
        ["sh", tmp_path / "entrypoint.sh", sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    profile, profiles = done.stdout.split(" ", 1)
    assert profile == "recon-{stage}"
    assert ast.literal_eval(profiles) == {
        f"recon-{stage}": {"role_arn": f"arn:aws:iam::{ACCOUNT}:role/{stage}", "credential_source": "EcsContainer"}
        for stage in ("land", "merge")
    }
    assert (tmp_path / "home" / "dagster.yaml").read_text() == "telemetry: {enabled: false}\n"
