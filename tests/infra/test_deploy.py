"""docs/deploy.md says what is true: of the template, of recon.yaml, of the Makefile."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pytest
from aws_template import DAGSTER_TEMPLATE, read_template, template
from folders import ROOT

from recon.config import load_config

PAGE = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
OUTPUTS, PARAMETERS = template()["Outputs"], template()["Parameters"]
YAML = """\
name: orders
store: ./data
key: order_id
windows: {start: 2026-11-01T00:00Z, every: 1h}
events: {types: {amount: "decimal(18,2)"}}
measures: {billed: {sum: amount}}
status: [{KNOWN: "true"}]
"""
FILLED = {
    "StoreBucketName": "ledger",
    "CodeBucketName": "code",
    "LogBucketName": "logs",
    "EngineRoleArn": "arn:aws:iam::123456789012:role/engine",
    "CacheUrl": "rediss://cache.example:6379",
    "CacheSecretArn": "arn:aws:secretsmanager:eu-central-1:123456789012:secret:cache-AbCdEf",
    "ClusterId": "j-ABCDEFGHIJKL1",
    "ServerlessApplicationId": "00fabcdefghijk01",
    "ServiceResults": "s3://ledger/service",
    "ServiceQueueUrl": "https://sqs.eu-central-1.amazonaws.com/123456789012/requests",
    "KeyArn": "arn:aws:kms:eu-central-1:123456789012:key/0",
}


def test_outputs_and_parameters_that_are_named_are_those_of_the_template() -> None:
    named = set(re.findall(r"\$\(out (\w+)\)", PAGE)) | set(re.findall(r"<([A-Z][A-Za-z]+)>", PAGE))
    assert named
    assert named <= {*OUTPUTS, *PARAMETERS}
    stages = re.search(r"for stage in ([A-Za-z ]+);", PAGE)
    assert stages is not None
    assert {f"{stage}RoleArn" for stage in stages[1].split()} <= set(OUTPUTS)
    overrides = set(re.findall(r"\b([A-Z][A-Za-z]+)=[^=\s]", "\n".join(re.findall(r"--parameter-overrides(.*)", PAGE))))
    table = PAGE.split("| parameter | default | |")[1].split("\n\n")[0]
    told = set(re.findall(r"`([A-Z][A-Za-z]+)`", table))
    assert overrides | told <= set(PARAMETERS), (overrides | told) - set(PARAMETERS)
    assert "EmrCluster" in overrides


def test_defaults_that_are_told_are_those_of_the_template() -> None:
    table = PAGE.split("| parameter | default | |")[1].split("\n\n")[0]
    for line in table.splitlines()[2:]:
        names, defaults = (re.findall(r"[^`, ]+", cell) for cell in line.split("|")[1:3])
        if len(names) == len(defaults):
            for name, default in zip(names, defaults, strict=True):
                assert (
                    str(PARAMETERS[name]["Default"]).lower() == default.lower().replace("none", "")
                    or default == PARAMETERS[name]["Default"]
                ), name


def test_each_alarm_has_a_line_that_says_what_to_do() -> None:
    table = PAGE.split("## 8. Alarms")[1].split("\n\n")[2]
    rows = [line.strip("|").split("|") for line in table.splitlines()[2:]]
    assert all(len(row) == 3 and all(cell.strip() for cell in row) for row in rows), rows
    named = {name for row in rows for name in re.findall(r"`(\w+Alarm)`", row[0])}
    resources = {**template()["Resources"], **read_template(DAGSTER_TEMPLATE)["Resources"]}
    assert named == {name for name, one in resources.items() if one["Type"] == "AWS::CloudWatch::Alarm"}


def blocks() -> list[str]:
    """Indented or inline pieces of recon.yaml."""
    indented = [textwrap.dedent(found) for found in re.findall(r"(?:^ {4,}\S.*\n)+", PAGE, re.MULTILINE)]
    inline = re.findall(r"`((?:engine|workers|cache): \{.*?\})`", PAGE)
    return [block for block in (*indented, *inline) if re.match(r"(engine|workers|cache|service):", block)]


@pytest.mark.parametrize("block", blocks())
def test_each_piece_of_a_configuration_is_one(block: str, tmp_path: Path) -> None:
    text = re.sub(r"<([A-Z][A-Za-z]+)>", lambda name: FILLED.get(name[1], name[1].lower()), block).replace("subnet-…", "subnet-0a1b2c3d")
    path = tmp_path / "recon.yaml"
    path.write_text(YAML + ("index: {kind: dynamodb}\n" if "workers" in text else "") + text + "\n")
    load_config(path)


def test_all_ways_that_the_page_knows_were_found() -> None:
    assert len(blocks()) == 6


def test_make_targets_that_are_named_exist() -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z-]+)", PAGE)) <= targets
