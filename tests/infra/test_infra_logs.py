"""The logs of what the templates run: every function and every container is told by one parameter whether to write JSON."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from aws_template import DAGSTER_TEMPLATE, REGION, TEMPLATE, moto_stack, read_template

from recon.telemetry import logs

TEMPLATES = {path.name: read_template(path) for path in (TEMPLATE, DAGSTER_TEMPLATE)}
PARAMETER = {"Ref": "LogFormat"}
FUNCTIONS = ("AWS::Lambda::Function", "AWS::Serverless::Function")


def programs() -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Name, properties and environment of every function and container."""
    for template in TEMPLATES.values():
        for name, resource in template["Resources"].items():
            properties = resource.get("Properties", {})
            if resource["Type"] in FUNCTIONS:
                yield name, properties, properties.get("Environment", {}).get("Variables", {})
            for container in properties.get("ContainerDefinitions", []):
                yield f"{name} {container['Name']}", container, {one["Name"]: one["Value"] for one in container["Environment"]}


def test_every_function_and_every_container_has_the_format_of_logs() -> None:
    found = {name: environment.get(logs.LOG) for name, _, environment in programs()}
    assert len(found) >= 14, "nine functions and five containers"
    assert {name for name, value in found.items() if value != PARAMETER} == set()


def test_what_lambda_itself_writes_of_a_function_has_the_same_format() -> None:
    for name, properties, _ in programs():
        if "Handler" in properties:
            assert properties["LoggingConfig"]["LogFormat"] == {"Fn::If": ["LogsJson", "JSON", "Text"]}, name


def test_the_formats_are_those_that_recon_knows_and_json_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    parameter = TEMPLATES[TEMPLATE.name]["Parameters"]["LogFormat"]
    assert parameter["Default"] == "json"
    assert TEMPLATES[TEMPLATE.name]["Conditions"]["LogsJson"] == {"Fn::Equals": [PARAMETER, "json"]}
    for value in parameter["AllowedValues"]:
        monkeypatch.setenv(logs.LOG, value)
        assert logs.on() is (value == "json")


def test_a_deployed_function_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with moto_stack(monkeypatch, WorkerCodeKey="worker.zip", LogFormat="text") as stack:
        found = boto3.client("lambda", region_name=REGION).get_function(FunctionName=stack.outputs["WorkerFunction"])["Configuration"]
        assert found["Environment"]["Variables"][logs.LOG] == "text"
