"""The section ``observability`` of ``recon.yaml``: what Recon reports to other systems. Without it, it reports nothing."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import Field, ValidationInfo, field_validator, model_validator

from recon.config.fields import Section, Text, mistake
from recon.config.settings import Secret

_ADDRESS = re.compile(r"https?://[^\s/@]+(/[^\s@]*)?\Z")


def _checked(url: str | None) -> str | None:
    if url is not None and not _ADDRESS.match(url):
        # The message does not repeat an address that may be a secret.
        raise mistake("is no address; write https://host/path, without user and password")
    return url


class Webhook(Section):
    """Where messages about incidents are sent, in the form of Slack's webhooks. ``url``: the address, if it is no secret.
    ``secret``: the address is a secret; see ``Cache``. ``ui``: address of Dagster's UI, for links. ``timeout_s``: of one message."""

    url: str | None = None
    secret: Secret | None = None
    ui: str | None = None
    timeout_s: Annotated[float, Field(ge=0.1, le=30)] = 5

    @field_validator("url", "ui")
    @classmethod
    def _address(cls, url: str | None) -> str | None:
        return _checked(url)

    @model_validator(mode="after")
    def _one_address(self) -> Webhook:
        if self.url is not None and self.secret is not None:
            raise mistake("name either url or secret; Slack's addresses are secrets")
        return self

    @property
    def on(self) -> bool:
        """Whether messages are sent."""
        return self.url is not None or self.secret is not None


class Metrics(Section):
    """Figures for Prometheus. ``file``: that a sensor writes for node_exporter's textfile collector; None is no figures. ``money``: whether
    sums of money are among them. ``serve``: whether ``recon serve`` shows the file, too, to whoever may ask it."""

    file: Text | None = None
    money: bool = True
    serve: bool = False

    @field_validator("file")
    @classmethod
    def _for_the_collector(cls, file: str | None, info: ValidationInfo) -> str | None:
        if file is not None and not file.endswith(".prom"):
            raise mistake(f"{file[:80]!r} does not end in .prom, and node_exporter reads no other file")
        return str(info.context["folder"] / file) if info.context and file else file


class Lineage(Section):
    """Where OpenLineage events are sent; None is nowhere. ``secret``: the API key; see ``Cache``. ``namespace``: of the jobs.
    ``timeout_s``: of one event."""

    url: str | None = None
    endpoint: Annotated[str, Field(pattern=r"^[A-Za-z0-9/_.-]{1,200}$")] = "api/v1/lineage"
    secret: Secret | None = None
    namespace: Annotated[str, Field(min_length=1, max_length=200)] = "recon"
    timeout_s: Annotated[float, Field(ge=0.1, le=30)] = 5

    @field_validator("url")
    @classmethod
    def _without_password(cls, url: str | None) -> str | None:
        return _checked(url)


class Observability(Section):
    """What is reported, and where to."""

    webhook: Webhook = Webhook()
    metrics: Metrics = Metrics()
    lineage: Lineage = Lineage()
