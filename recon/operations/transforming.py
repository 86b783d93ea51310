"""A reconciliation's transformations: with its inputs, by its settings of S3 and Spark, here or on its cluster."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Protocol

from recon.aggregations.warehouse.names import table_dataset
from recon.config import Config, yaml_file
from recon.exports.placing import put_in_place
from recon.model.progress import Progress, silent
from recon.operations.request_inputs import Readers, fetching
from recon.operations.request_lineage import Names, beside, reported, used_by
from recon.storage.port import ObjectStore
from recon.telemetry.datasets import Dataset
from recon.transformations.request.files import S3
from recon.transformations.request.model import Request
from recon.transformations.run import carry_out, read_request, request_in
from recon.transformations.site import Site


class Opened(Readers, Protocol):
    """See recon.api.Reconciliation."""

    @property
    def config(self) -> Config: ...

    def store(self) -> ObjectStore: ...


def site_of(opened: Opened) -> Site:
    """What requests take from a reconciliation."""
    engine = opened.config.engine
    return Site(fetching(opened), opened.config.s3, engine if engine.kind == "spark" else None)


def transformed(opened: Opened, file: Path, certificate: str | None = None, progress: Progress = silent) -> dict[str, Any]:
    """Carries out a request and returns its certificate: on the reconciliation's cluster where the request is for Spark and the cluster is
    EMR's, else in this process. ``certificate``: its file, in place of that of the request. Raises as
    ``recon.transformations.run.read_request`` and ``carry_out``, and the errors of a step."""
    from recon.remote.transforming import Transforming, is_for_cluster

    site, config = site_of(opened), opened.config
    names = Names(lambda table: table_of(opened, table), beside(file.parent), beside(file.parent))

    def request() -> Request:
        return request_in(yaml_file.read(file))

    with reported(config, f"transformations.{file.stem}", request, names) as sent:
        if not is_for_cluster(config, file, site):
            found = carry_out(read_request(file, certificate, site), progress)
        else:
            there = Transforming(config, opened.store(), lambda line: progress("transform", line, 0.0))
            found = there.wait(there.submit(file, site, certificate))
            write_certificate(file, certificate, found)
        sent.complete(lambda: used_by(config, request(), names, found))
    return found


def table_of(opened: Readers, name: str) -> Dataset:
    """The table that an aggregation loads."""
    from recon.aggregations.runs.site import Aggregations  # loads the database's library, which few requests need

    site = Aggregations(opened.intake())
    return table_dataset(site.config, site.preview().named(name).section.target)


def write_certificate(file: Path, certificate: str | None, found: dict[str, Any]) -> None:
    """Writes the certificate of a request that a cluster has carried out, where its place is on this machine. Raises WrongUsage."""
    place = certificate or request_in(yaml_file.read(file)).certificate
    if place is not None and not place.startswith(S3):
        (file.parent / place).parent.mkdir(parents=True, exist_ok=True)
        with put_in_place([file.parent / place]) as (new,):
            new.write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
