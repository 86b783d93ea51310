"""What IAM says of a call: a small and strict reading of policies, for tests.

What it does not know it refuses to judge, by ValueError, so that nothing passes unread.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

Policy = Mapping[str, Any]

_KNOWN = {"Sid", "Effect", "Action", "Resource", "Condition", "Principal"}


@dataclass(frozen=True)
class Call:
    """One thing that is asked of AWS: ``s3:PutObject`` of an ARN, and the condition keys that the request brings along."""

    action: str
    resource: str
    context: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.action} {self.resource}" + "".join(f" {key}={value}" for key, value in sorted(self.context.items()))


def why_not(call: Call, policies: Iterable[Policy], of_resource: Iterable[Policy] = ()) -> str | None:
    """Why the call is refused; None where it is allowed. ``policies``: of the role. ``of_resource``: such as a bucket's, of which only what
    is denied counts here."""
    said = [(statement, _matches(statement, call)) for policy in policies for statement in _statements(policy, principals=False)]
    of_others = [(statement, _matches(statement, call)) for policy in of_resource for statement in _statements(policy, principals=True)]
    for statement, holds in (*said, *of_others):
        if holds and statement["Effect"] == "Deny":
            return f"{call}: denied by {statement.get('Sid', 'a statement without a name')}"
    if any(holds and statement["Effect"] == "Allow" for statement, holds in said):
        return None
    return f"{call}: nothing allows it"


def matches(statement: Mapping[str, Any], calls: Iterable[Call]) -> bool:
    """Whether the statement is about any of the calls. One that is about none is not needed, or nothing shows that it is right."""
    return any(_matches(statement, call) for call in calls)


def _statements(policy: Policy, principals: bool) -> Iterable[Mapping[str, Any]]:
    for statement in _listed(policy["Statement"]):
        if unknown := set(statement) - _KNOWN:
            raise ValueError(f"statement {statement}: {sorted(unknown)} are not known here")
        if statement["Effect"] not in ("Allow", "Deny"):
            raise ValueError(f"statement {statement}: neither Allow nor Deny")
        if ("Principal" in statement) != principals:
            raise ValueError(f"statement {statement}: a role's policy names no principal, a resource's does")
        if principals and statement["Principal"] != "*":
            raise ValueError(f"statement {statement}: only what holds for everybody is known here")
        yield statement


def _matches(statement: Mapping[str, Any], call: Call) -> bool:
    # Actions are told apart without regard to case, resources are not.
    action = any(_like(pattern.lower(), call.action.lower()) for pattern in _listed(statement["Action"]))
    resource = any(_like(pattern, call.resource) for pattern in _listed(statement["Resource"]))
    conditions = [
        _holds(operator, [str(one) for one in _listed(expected)], call.context.get(key))
        for operator, keys in statement.get("Condition", {}).items()
        for key, expected in keys.items()
    ]
    return action and resource and all(conditions)


def _holds(operator: str, expected: Sequence[str], found: str | None) -> bool:
    if operator == "Null":
        return (found is None) == (expected == ["true"])
    if found is None:
        return False
    match operator:
        case "StringEquals" | "Bool":
            return found in expected
        case "StringLike" | "ArnLike" | "ArnEquals":  # which match alike, AWS says
            return any(_like(pattern, found) for pattern in expected)
    raise ValueError(f"condition {operator} is not known here")


@lru_cache(maxsize=4096)
def _pattern(pattern: str) -> re.Pattern[str]:
    if "${" in pattern:
        raise ValueError(f"{pattern}: variables are not known here")
    return re.compile("".join({"*": ".*", "?": "."}.get(one, re.escape(one)) for one in pattern), re.DOTALL)


def _like(pattern: str, text: str) -> bool:
    return _pattern(pattern).fullmatch(text) is not None


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
