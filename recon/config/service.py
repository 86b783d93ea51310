"""The section ``service``: who may submit transformations, how much of what, and how requests are carried out."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import PurePosixPath
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from recon.config.fields import Duration, S3Place, Section, Size, Text, as_list, mistake, written
from recon.config.settings import Engine, MemoryLimit, Secret

OWNER = r"^[a-z][a-z0-9_-]{0,62}$"
TokenLife = timedelta(days=3650)


def _owned_place(place: str) -> str:
    """A folder, absolute, or a prefix in S3; both end with a slash, so that ``/data/a`` is not a prefix of ``/data/ab``."""
    if place.startswith("s3://"):
        bucket, _, prefix = place.removeprefix("s3://").partition("/")
        if not bucket or ".." in prefix.split("/"):
            raise mistake(f"{place!r} is no prefix; write s3://bucket/prefix/")
    elif not place.startswith("/") or place.startswith("//") or ".." in PurePosixPath(place).parts or "://" in place:
        raise mistake(f"{place!r} is no place; write an absolute folder, or s3://bucket/prefix/")
    return place.rstrip("/") + "/"


OwnedPlace = Annotated[Text, AfterValidator(_owned_place)]
Places = Annotated[tuple[OwnedPlace, ...], BeforeValidator(as_list)]


class Rights(Section):
    """What an owner may do. ``read``, ``write``: folders and prefixes in S3 that requests may name. ``bytes``: of a request's inputs.
    ``a_minute``: requests submitted; ``at_once``: running. ``waiting``: not yet ended. ``weight``: turns beside others'
    one. ``uploads``: bytes that may lie on the server."""

    read: Places = ()
    write: Places = ()
    bytes: Size = written("10GB")
    a_minute: Annotated[int, Field(ge=1, le=100_000)] = 600
    at_once: Annotated[int, Field(ge=1, le=1_000)] = 10
    waiting: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000
    weight: Annotated[int, Field(ge=1, le=100)] = 1
    uploads: Size = written("10GB")


def _engine(value: object) -> object:
    """``engine: duckdb`` is a section with the kind alone."""
    return {"kind": value} if isinstance(value, str) else value


class Lane(Section):
    """How requests of a size are carried out. ``engine``: in the request's process, or as a step of a cluster. ``memory``: of a request's
    processes together; ``engine_memory``: of DuckDB in them. ``time``: after which it is ended. ``latency``: from its arrival to its end,
    as the service level promises."""

    engine: Annotated[Engine, BeforeValidator(_engine)] = Field(default="duckdb", validate_default=True)
    memory: Size
    engine_memory: MemoryLimit
    time: Duration
    latency: Duration


_SMALL: dict[str, object] = {"memory": "2GB", "engine_memory": "1GB", "time": "10m", "latency": "1m"}
_LARGE: dict[str, object] = {"memory": "16GB", "engine_memory": "8GB", "time": "6h", "latency": "1h"}


def _with(defaults: Mapping[str, object], value: object) -> object:
    return {**defaults, **value} if isinstance(value, Mapping) else value


class ServiceSettings(Section):
    """``owners``: who may use the service; all others have no rights. ``results``: where results lie. ``keep``: how long, from the end of a
    request. ``queue``: URL of a queue in SQS; None is the database's. ``links``: how long a signed link is valid. ``small_up_to``: bytes of
    the inputs of a small request. ``at_once``: requests that run side by side; ``kept_for_small``: of these, places that only small ones
    take. ``secret``: signs links to results in folders. ``oidc_header``: a header in which a proxy names the owner; only for servers that
    nothing but this proxy can reach."""

    owners: dict[Annotated[str, Field(pattern=OWNER)], Rights] = Field(default={})
    results: S3Place | Text = ".recon/results"
    keep: Duration = written("7d")
    queue: Annotated[str, Field(pattern=r"^https?://")] | None = None
    links: Duration = written("1h")
    small_up_to: Size = written("64MB")
    at_once: Annotated[int, Field(ge=1, le=1_000)] = 10
    kept_for_small: Annotated[int, Field(ge=0, le=1_000)] = 1
    small: Annotated[Lane, BeforeValidator(lambda value: _with(_SMALL, value))] = Field(default={}, validate_default=True)
    large: Annotated[Lane, BeforeValidator(lambda value: _with(_LARGE, value))] = Field(default={}, validate_default=True)
    upload_max: Size = written("200MB")
    secret: Secret | None = None
    oidc_header: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9-]{0,63}$")] | None = None
    audit: Text = ".recon/audit.jsonl"

    @model_validator(mode="after")
    def _a_place_for_each(self) -> ServiceSettings:
        if self.kept_for_small >= self.at_once:
            raise mistake(f"leaves no place for large requests; write fewer than at_once, {self.at_once}", "kept_for_small")
        return self

    @model_validator(mode="after")
    def _results_where_clusters_write(self) -> ServiceSettings:
        for name in ("small", "large"):
            kind = self.lane(name).engine.kind
            if kind in ("emr", "emr_serverless") and not self.results.startswith("s3://"):
                raise mistake(
                    f"{name}.engine: kind: {kind} writes results into S3; name a place there, such as s3://bucket/results", "results"
                )
        return self

    def lane(self, name: str) -> Lane:
        """``small`` or ``large``."""
        return self.small if name == "small" else self.large
