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
from typing import Any, cast

import pytest
from folders import ROOT

TEMPLATE = ROOT / "infra" / "template.yaml"
REGION = "us-east-1"
NAME = "recon"
APPLICATION = "00fabcdefghijk01"
"""Id of the application of EMR Serverless."""
API = "a1b2c3d4e5"
"""Id of the service's API."""
_CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": REGION, "AWS_REGION": REGION}


@cache
def template() -> dict[str, Any]:
    """The template with its short forms (!Ref) as the long ones, as CloudFormation reads them."""
    from cfnlint.decode import decode

    read, problems = decode(str(TEMPLATE))
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
            version = iam.get_policy(PolicyArn=ids[name])["Policy"]["DefaultVersionId"]
            found.append(iam.get_policy_version(PolicyArn=ids[name], VersionId=version)["PolicyVersion"]["Document"])
    assert not iam.list_role_policies(RoleName=ids[role])["PolicyNames"], role
    return found
