"""A service in a folder, for tests."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import yaml

import recon
from recon.service.site import Service
from recon.service.submissions import Holder, Submission

CONFIG: dict[str, Any] = {
    "name": "orders",
    "store": "./data",
    "key": "order_id",
    "windows": {"start": "2026-11-01T00:00Z", "every": "1h"},
    "measures": {"lines": {"count": "*"}},
}

SETTINGS: dict[str, Any] = {}
"""Of the section ``service``, beside what a test gives."""


def service_in(folder: Path, database: dict[str, Any] | None = None, **settings: Any) -> Service:
    """A service whose owners finance and sales read ``in/`` and write ``out/``. ``settings``: of the section ``service``."""
    for name in ("in", "out"):
        (folder / name).mkdir(exist_ok=True)
    rights = {"read": str(folder / "in"), "write": str(folder / "out")}
    section = {"owners": {"finance": rights, "sales": dict(rights)}, **SETTINGS, **settings}
    (folder / "recon.yaml").write_text(yaml.safe_dump({**CONFIG, **({"database": database} if database else {}), "service": section}))
    return recon.open(folder / "recon.yaml").service()


def holder(service: Service, owner: str = "finance", *roles: str) -> Holder:
    """The holder of a new token."""
    found = service.tokens.holder(service.tokens.add(owner, roles or ("submit", "read-own"), timedelta(days=1)))
    assert found is not None
    return found


def sums(path: str, output: str = "sums.csv") -> bytes:
    """A request that adds up ``b`` by ``a``."""
    group = {"group": {"table": "t", "by": ["a"], "values": {"total": {"sum": "b"}}}}
    inputs = {"t": {"path": path, "types": {"b": "decimal(18,2)"}}}
    return json.dumps({"inputs": inputs, "operations": [group], "outputs": [{"table": "t", "path": output}]}).encode()


def now(service: Service, one: Submission) -> Submission:
    """A request as it is now."""
    found = service.requests.find(Holder("", frozenset({"admin"})), one.name)
    assert found is not None
    return found
