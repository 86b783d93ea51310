"""The section ``warehouse`` of ``recon.yaml``: where aggregations are loaded."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from recon.config.fields import S3Place, Section, Text, mistake
from recon.config.settings import Secret

_WAREHOUSE_NEEDS = {"postgresql": ("url",), "redshift": ("database", "staging")}
_WAREHOUSE_ONLY = {
    "url": "postgresql",
    "user": "postgresql",
    **dict.fromkeys(("workgroup", "cluster", "database", "staging", "role"), "redshift"),
}


class WarehouseSettings(Section):
    """Where aggregations are loaded. ``file``: of DuckDB. ``url``: ``postgresql://host:port/name`` without credentials. ``secret``: see
    ``Cache``; of Redshift only the ARN of one, None for the caller's own identity.

    Of Redshift: ``workgroup`` or ``cluster``, and ``database``; ``staging``: the place in S3 for rows on their way; ``role``: what COPY
    reads them with, None for the namespace's default."""

    kind: Literal["duckdb", "postgresql", "redshift"] = "duckdb"
    file: Text = "./warehouse.duckdb"
    url: Text | None = None
    user: Text | None = None
    secret: Secret | None = None
    workgroup: Annotated[str, Field(pattern=r"^[a-z0-9-]{3,64}$")] | None = None
    cluster: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,62}$")] | None = None
    database: Annotated[str, Field(pattern=r"^[a-zA-Z_][a-zA-Z0-9_$-]{0,126}$")] | None = None
    staging: S3Place | None = None
    role: Annotated[str, Field(pattern=r"^arn:aws[a-z-]*:iam::[0-9]{12}:role/[A-Za-z0-9+=,.@_/-]+$")] | None = None

    @field_validator("url")
    @classmethod
    def _of_postgresql(cls, url: str | None) -> str | None:
        if url is not None and ("@" in url or not url.startswith("postgresql://")):
            # The message does not repeat an url that may hold a password.
            raise mistake("write postgresql://host:5432/name; user and password belong under warehouse.user and warehouse.secret")
        return url

    @field_validator("staging")
    @classmethod
    def _quotable(cls, staging: str | None) -> str | None:
        if staging is not None and re.search(r"[^A-Za-z0-9:/._=-]", staging):
            raise mistake(f"{staging[:80]!r} has characters beside letters, digits and / . _ = -; choose another prefix")
        return staging

    @model_validator(mode="after")
    def _fields_of_its_kind(self) -> WarehouseSettings:
        for name in _WAREHOUSE_NEEDS.get(self.kind, ()):
            if getattr(self, name) is None:
                raise mistake(f"is missing; kind: {self.kind} needs it, see docs/configuration.md", name)
        for name, kind in _WAREHOUSE_ONLY.items():
            if self.kind != kind and getattr(self, name) is not None:
                raise mistake(f"is for kind: {kind}, not for {self.kind}; take it out, or name that kind", name)
        if self.kind == "redshift" and (self.workgroup is None) == (self.cluster is None):
            raise mistake("kind: redshift takes either workgroup, of Redshift Serverless, or cluster", "workgroup")
        if self.kind == "redshift" and self.secret is not None and not self.secret.startswith("arn:"):
            raise mistake("the Data API takes the ARN of a secret in Secrets Manager, or none for the caller's own identity", "secret")
        return self
