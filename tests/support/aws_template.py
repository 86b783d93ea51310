"""infra/template.yaml for tests: as it stands, and deployed on moto.

moto skips what it does not know, such as buckets' policies, alarms, ElastiCache, EMR Serverless; it says so in a warning. These are read
from the
template, with its parameters and the names of what was deployed filled in.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, cast

import pytest
from folders import ROOT

TEMPLATE = ROOT / "infra" / "template.yaml"
DAGSTER_TEMPLATE = ROOT / "infra" / "aws" / "dagster-template.yaml"
"""A part of TEMPLATE: the stack DagsterServices."""
REGION = "us-east-1"
NAME = "recon"
APPLICATION = "00fabcdefghijk01"
"""Id of the application of EMR Serverless."""
API = "a1b2c3d4e5"
"""Id of the service's API."""
_CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": REGION, "AWS_REGION": REGION}


def template() -> dict[str, Any]:
    """The template with its short forms (!Ref) as the long ones, as CloudFormation reads them."""
    return read_template(TEMPLATE)


@cache
def read_template(path: Path) -> dict[str, Any]:
    """A template with the long forms."""
    from cfnlint.decode import decode

    read, problems = decode(str(path))
    assert not problems, problems
    return cast(dict[str, Any], json.loads(json.dumps(read)))


@dataclass(frozen=True)
class Stack:
    """A stack that was deployed. ``roles``: logical name of a role → the policies it has, resolved."""

    outputs: Mapping[str, str]
    ids: Mapping[str, str]
    kinds: Mapping[str, str]
    roles: Mapping[str, list[dict[str, Any]]]
    vpc: str = ""

    def arn(self, name: str) -> str:
        """Of what is not an S3 bucket, by its logical name."""
        identity = self.ids[name]
        match self.kinds[name]:
            case "AWS::IAM::Role":
                return f"arn:aws:iam::123456789012:role/{identity}"
            case "AWS::SQS::Queue":
                return f"arn:aws:sqs:{REGION}:123456789012:{identity.rpartition('/')[2]}"
            case "AWS::Logs::LogGroup":
                return f"arn:aws:logs:{REGION}:123456789012:log-group:{identity}"  # as moto has it; on AWS its streams' names follow
        raise ValueError(self.kinds[name])

    def sids(self, policy: str) -> set[str]:
        """Names of a policy's statements."""
        return {one["Sid"] for one in template()["Resources"][policy]["Properties"]["PolicyDocument"]["Statement"]}

    def of_bucket(self, bucket: str, prefix: str = "recon") -> dict[str, Any]:
        """The policy of a bucket by its logical name, from the template."""
        return cast(dict[str, Any], self._filled(template()["Resources"][f"{bucket}Policy"]["Properties"]["PolicyDocument"], prefix))

    def _filled(self, value: Any, prefix: str) -> Any:
        """``Fn::Sub`` and ``Fn::GetAtt`` of buckets, and the store's prefix; anything else is not needed and refused."""
        if isinstance(value, list):
            return [self._filled(one, prefix) for one in value]
        if not isinstance(value, dict):
            return value
        match value:
            case {"Fn::GetAtt": [name, "Arn"]}:
                return f"arn:aws:s3:::{self.ids[name]}"
            case {"Fn::Sub": str(text)}:
                filled = re.sub(r"\$\{(\w+)\.Arn\}", lambda found: f"arn:aws:s3:::{self.ids[found[1]]}", text)
                filled = filled.replace("${StorePrefix}", prefix)
                assert "${" not in filled, filled
                return filled
        assert not any(key == "Ref" or key.startswith("Fn::") for key in value), value
        return {key: self._filled(one, prefix) for key, one in value.items()}


@contextmanager
def moto_stack(patch: pytest.MonkeyPatch, network: bool = False, **parameters: str) -> Iterator[Stack]:
    """The template, deployed; boto3 finds its resources within the block. ``network``: the optional parts are given moto's default VPC."""
    import boto3
    from moto import mock_aws

    for name, value in {**_CREDENTIALS, "VALIDATE_LAMBDA_S3": "false"}.items():
        patch.setenv(name, value)
    for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL_DYNAMODB"):
        patch.delenv(name, raising=False)
    with mock_aws():
        s3, cloudformation = boto3.client("s3", region_name=REGION), boto3.client("cloudformation", region_name=REGION)
        # Larger than what may be sent along with a request, on AWS too.
        s3.create_bucket(Bucket="templates")
        s3.put_object(Bucket="templates", Key="template.json", Body=_with_secrets(json.dumps(template())))
        if network:
            parameters |= _default_network()
        asked = [{"ParameterKey": name, "ParameterValue": value} for name, value in parameters.items()]
        cloudformation.create_stack(
            StackName=NAME,
            TemplateURL="https://templates.s3.amazonaws.com/template.json",
            Capabilities=["CAPABILITY_IAM"],
            Parameters=asked,
        )
        (told,) = cloudformation.describe_stacks(StackName=NAME)["Stacks"]
        assert told["StackStatus"] == "CREATE_COMPLETE", told
        pages = cloudformation.get_paginator("list_stack_resources").paginate(StackName=NAME)
        made = [one for page in pages for one in page["StackResourceSummaries"]]
        outputs = {one["OutputKey"]: one["OutputValue"] for one in told["Outputs"]}
        ids = {one["LogicalResourceId"]: one["PhysicalResourceId"] for one in made}
        kinds = {one["LogicalResourceId"]: one["ResourceType"] for one in made}
        yield Stack(
            outputs,
            ids,
            kinds,
            {name: _policies(name, ids) for name, kind in kinds.items() if kind == "AWS::IAM::Role"},
            parameters.get("VpcId", ""),
        )


DAGSTER_IMAGE = f"123456789012.dkr.ecr.{REGION}.amazonaws.com/recon@sha256:{'0' * 64}"


@dataclass(frozen=True)
class Nested:
    """The stack DagsterServices. ``roles``: logical name → its policies, resolved; of the orchestrator, which is the main stack's, as
    ``OrchestratorRole``, the one that this stack adds."""

    main: Stack
    ids: Mapping[str, str]
    outputs: Mapping[str, str]
    roles: Mapping[str, list[dict[str, Any]]]


@contextmanager
def moto_dagster(patch: pytest.MonkeyPatch, **parameters: str) -> Iterator[Nested]:
    """The template deployed, the part of Dagster put into its code bucket, and the template deployed again, as docs/deploy.md has it."""
    import boto3

    with moto_stack(patch, network=True, Database="yes") as main:
        s3, cloudformation = boto3.client("s3", region_name=REGION), boto3.client("cloudformation", region_name=REGION)
        part = _for_moto(read_template(DAGSTER_TEMPLATE))
        s3.put_object(Bucket=main.outputs["CodeBucketName"], Key="dagster.yaml", Body=part)
        certificate = boto3.client("acm", region_name=REGION).request_certificate(DomainName="recon.example.com")["CertificateArn"]
        network = _default_network()
        given = {
            **network,
            "Database": "yes",
            "DagsterTemplateKey": "dagster.yaml",
            "DagsterImage": DAGSTER_IMAGE,
            "DagsterDomain": "recon.example.com",
            "DagsterCertificateArn": certificate,
            "DagsterCallersCidr": "198.51.100.0/24",
            "DagsterPublicSubnetIds": network["SubnetIds"],
            **parameters,
        }
        cloudformation.update_stack(
            StackName=NAME,
            TemplateURL="https://templates.s3.amazonaws.com/template.json",
            Capabilities=["CAPABILITY_IAM"],
            Parameters=[{"ParameterKey": name, "ParameterValue": value} for name, value in given.items()],
        )
        (made,) = [one for one in cloudformation.describe_stacks()["Stacks"] if one["StackName"] != NAME]
        assert made["StackStatus"] == "CREATE_COMPLETE", made
        listed = cloudformation.list_stack_resources(StackName=made["StackName"])["StackResourceSummaries"]
        ids = {one["LogicalResourceId"]: one["PhysicalResourceId"] for one in listed if one.get("LogicalResourceId")}
        roles = {
            role: [_document(ids[f"{name}Policy"])]
            for name, role in (("Execution", "ExecutionRole"), ("Webserver", "WebserverRole"), ("Daemon", "DaemonRole"))
        }
        roles["OrchestratorRole"] = [_document(ids["CodePolicy"])]
        yield Nested(main, ids, {one["OutputKey"]: one["OutputValue"] for one in made["Outputs"]}, roles)


def _for_moto(part: Mapping[str, Any]) -> str:
    """The part of Dagster with names in place of what moto does not make of it, Cognito and Cloud Map, and with the memory of each
    container, which Fargate does not ask for."""
    part = json.loads(json.dumps(part))
    for one in part["Resources"].values():
        for container in one["Properties"].get("ContainerDefinitions", []):
            container["Memory"] = 512
    text = json.dumps(part)
    for name, service in (("UserPool", "cognito-idp"), ("CodeName", "servicediscovery")):
        arn = f"arn:aws:{service}:{REGION}:123456789012:of/{name}"
        text = text.replace(json.dumps({"Fn::GetAtt": [name, "Arn"]}), json.dumps(arn))
    for name in ("UserPool", "UserPoolClient", "UserPoolDomain", "Names"):
        text = text.replace(json.dumps({"Ref": name}), json.dumps(name.lower()))
    return text


@contextmanager
def moto_server() -> Iterator[str]:
    """The address of services as moto has them: STS, which says who a caller is, Lambda, CloudWatch."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
    finally:
        server.stop()


def _default_network() -> dict[str, str]:
    import boto3

    ec2 = boto3.client("ec2", region_name=REGION)
    subnets = [one["SubnetId"] for one in ec2.describe_subnets()["Subnets"][:2]]
    tables = [one["RouteTableId"] for one in ec2.describe_route_tables()["RouteTables"]]
    return {"VpcId": ec2.describe_vpcs()["Vpcs"][0]["VpcId"], "SubnetIds": ",".join(subnets), "RouteTableIds": ",".join(tables)}


def _with_secrets(text: str) -> str:
    """The template with an ARN in place of each secret and of the serverless application, and the id of the service's API, none of which
    moto makes."""
    for name, one in template()["Resources"].items():
        if one["Type"] == "AWS::SecretsManager::Secret":
            arn = f"arn:aws:secretsmanager:{REGION}:123456789012:secret:{name}-AbCdEf"
            text = text.replace(json.dumps({"Ref": name}), json.dumps(arn)).replace(f"${{{name}}}", arn)
    application = f"arn:aws:emr-serverless:{REGION}:123456789012:/applications/{APPLICATION}"
    text = text.replace(json.dumps({"Fn::GetAtt": ["Serverless", "Arn"]}), json.dumps(application))
    workgroup = f"arn:aws:redshift-serverless:{REGION}:123456789012:workgroup/{NAME}-warehouse"
    text = text.replace(json.dumps({"Fn::GetAtt": ["WarehouseWorkgroup", "Workgroup.WorkgroupArn"]}), json.dumps(workgroup))
    text = text.replace(json.dumps({"Ref": "WarehouseWorkgroup"}), json.dumps(f"{NAME}-warehouse"))
    text = text.replace("${ServiceApi}", API).replace(json.dumps({"Ref": "ServiceApi"}), json.dumps(API))
    return text.replace("${Serverless.Arn}", application).replace(json.dumps({"Ref": "Serverless"}), json.dumps(APPLICATION))


def policies_of(role: Mapping[str, Any]) -> list[str]:
    """The logical names of the policies and parameters that a role names, also under a condition."""

    def named(one: Mapping[str, Any]) -> list[str]:
        return [name for inner in one["Fn::If"][1:] for name in named(inner)] if "Fn::If" in one else [one["Ref"]] if "Ref" in one else []

    return [name for one in role["Properties"].get("ManagedPolicyArns", []) for name in named(one) if name != "AWS::NoValue"]


def _policies(role: str, ids: Mapping[str, str]) -> list[dict[str, Any]]:
    """What a role may do, as IAM tells it, but for policies of AWS itself. Which policies a role has is taken from the template: moto
    attaches those only that name the role themselves."""
    import boto3

    iam, resources = boto3.client("iam", region_name=REGION), template()["Resources"]
    named = [name for name in policies_of(resources[role]) if name in ids]
    named += [name for name, one in resources.items() if {"Ref": role} in one["Properties"].get("Roles", []) and name in ids]
    found = []
    for name in named:
        if resources[name]["Type"] == "AWS::IAM::ManagedPolicy":
            found.append(_document(ids[name]))
    assert not iam.list_role_policies(RoleName=ids[role])["PolicyNames"], role
    return found


def _document(arn: str) -> dict[str, Any]:
    """The text of a managed policy."""
    import boto3

    iam = boto3.client("iam", region_name=REGION)
    version = iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"]
    return cast(dict[str, Any], iam.get_policy_version(PolicyArn=arn, VersionId=version)["PolicyVersion"]["Document"])
