"""cfn-guard with the rules of AWS Control Tower finds in the templates what infra/guard-exceptions.yaml lists, and nothing else.

Program and rules are those of the npm package that `make services` fetches; without them the test is skipped by name."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from aws_template import DAGSTER_TEMPLATE, TEMPLATE, read_template
from folders import ROOT

FOLDER = Path(sys.prefix) / "share" / "cfn-guard"
ARCHITECTURE = {"x86_64": "x86_64", "aarch64": "aarch64", "arm64": "aarch64"}
EXCEPTIONS: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "infra" / "guard-exceptions.yaml").read_text())


def guard() -> Path:
    program = FOLDER / "bin" / "ubuntu" / ARCHITECTURE.get(platform.machine(), "none") / "cfn-guard"
    if not program.is_file() or sys.platform != "linux":
        if os.environ.get("CI", "").lower() in ("true", "1"):
            pytest.fail(f"cfn-guard: {program} is not there: make services")
        pytest.skip(f"cfn-guard: {program} is not there: make services")
    return program


def findings(template: Path, folder: Path) -> dict[str, set[str]]:
    """Rule → resources that do not comply. The template is given in its long forms, of which the rules know more."""
    data = folder / "template.json"
    data.write_text(json.dumps(read_template(template)))
    options = ["--show-summary", "none", "--output-format", "json", "--structured"]
    rules = FOLDER / "rules" / "control-tower" / "cfn-guard"
    done = subprocess.run([guard(), "validate", "--data", data, "--rules", rules, *options], capture_output=True, text=True, check=False)
    assert done.returncode in (0, 19), done.stderr  # 19: a rule is not complied with
    found: dict[str, set[str]] = {}
    for report in json.loads(done.stdout):
        for rule in report["not_compliant"]:
            found.setdefault(rule["Rule"]["name"], set()).update(_resources(rule))
    return found


def _resources(value: Any) -> Iterator[str]:
    """Names of the resources that a report is about."""
    if isinstance(value, dict):
        if str(value.get("path", "")).startswith("/Resources/"):
            yield value["path"].split("/")[2]
        value = list(value.values())
    if isinstance(value, list):
        for one in value:
            yield from _resources(one)


def test_the_templates_comply_but_for_the_exceptions(tmp_path: Path) -> None:
    found: dict[str, set[str]] = {}
    for template in (TEMPLATE, DAGSTER_TEMPLATE):
        for rule, resources in findings(template, tmp_path).items():
            found.setdefault(rule, set()).update(resources)
    assert found == {rule: set(one["resources"]) for rule, one in EXCEPTIONS.items()}


def test_each_exception_has_a_reason() -> None:
    assert all(set(one) == {"resources", "because"} and str(one["because"]).endswith(".") for one in EXCEPTIONS.values())


def test_an_open_bucket_is_found(tmp_path: Path) -> None:
    """Else finding nothing would say nothing."""
    bad = {"AWSTemplateFormatVersion": "2010-09-09", "Resources": {"Open": {"Type": "AWS::S3::Bucket", "Properties": {"BucketName": "x"}}}}
    path = tmp_path / "bad.yaml"
    path.write_text(yaml.safe_dump(bad))
    assert any("public" in rule for rule, resources in findings(path, tmp_path).items() if "Open" in resources)
