"""Transformations on the cluster that a configuration names: submit, look, wait, cancel.

Request and certificate travel through the store, inputs and outputs through S3. What was submitted needs nobody who waits for it, and its
result stays for a week, so that any process may ask for it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from recon.config import Config, yaml_file
from recon.errors import ReconError, TryAgain, WrongUsage
from recon.remote import exchange
from recon.remote.clusters import Cluster, cluster_of, end_started, start_if_transient
from recon.remote.emr.steps import Tell
from recon.remote.transform_step import STAGE, Order
from recon.stages.request import StageRequest
from recon.storage import layout
from recon.storage.port import ObjectStore
from recon.storage.scratch import file_digest
from recon.transformations.engines.choice import chosen
from recon.transformations.inputs.files import Scratch
from recon.transformations.inputs.opening import Places, find_inputs
from recon.transformations.outputs.places import refuse_places
from recon.transformations.request.files import S3, Objects
from recon.transformations.request.inputs import Input
from recon.transformations.request.model import Request
from recon.transformations.run import read_request, request_in
from recon.transformations.site import Site

HEAD_MAX = 64 << 20
"""Bytes of an input's first file up to which the submitter fetches it, so that mistakes in columns are reported at once."""
_NAME_MAX = 60


@dataclass(frozen=True)
class Submitted:
    """A transformation on a cluster. ``place``: the id of the cluster or application; ``step``: of the step or job; ``attempt``: of the
    request in the store. ``started``: whether the cluster was started for it, and ends with it."""

    place: str
    step: str
    attempt: str
    started: bool = False


@dataclass(frozen=True)
class Transforming:
    """The transformations of one reconciliation whose engine is EMR or EMR Serverless. ``tell``: receives progress lines. ``waits``: for
    room, where a cluster has as many steps as it takes; else ``submit`` raises recon.remote.emr.steps.Full."""

    config: Config
    store: ObjectStore
    tell: Tell = lambda line: None
    waits: bool = True

    def submit(self, file: Path, site: Site, certificate: str | None = None) -> Submitted:
        """Submits a request, or finds the step that is at the same one already. ``certificate``: where the step writes it in S3, instead of
        where the request says.

        Raises WrongUsage for what can be known before rows are read, and where an input or output is not in S3."""
        with self._checked(file, site, certificate) as (request, inputs):
            today, attempt = request.as_of or datetime.now(UTC).date(), layout.new_attempt()
            numbered = {shown: layout.step_input(attempt, number) for number, shown in enumerate(inputs)}
            content, there = yaml_file.read(file).content, _in_s3(certificate or request.certificate)
            order = Order(request=content, as_of=today, certificate=there, inputs=numbered, pieces=layout.step_pieces(attempt))
            about = json.dumps([content, today.isoformat(), there, [file_digest(inputs[shown]) for shown in sorted(inputs)]])
            name, digest = file.stem[:_NAME_MAX], hashlib.sha256(about.encode()).hexdigest()
            asked = StageRequest(STAGE, name, name, {digest: 1}, order.model_dump_json())
            return self._submitted(asked, attempt, {numbered[shown]: local for shown, local in inputs.items()})

    def outcome(self, submitted: Submitted) -> dict[str, Any] | None:
        """The certificate; None while the step waits or runs. Raises the step's error: what the request's operations raise, and Cancelled,
        OutOfCapacity and others for a step that left no result."""
        return self._ended(submitted, self._cluster(submitted)) if self.has_ended(submitted) else None

    def has_ended(self, submitted: Submitted) -> bool:
        """Whether its step has ended, or left its result."""
        return exchange.read_result(self.store, submitted.attempt) is not None or self._cluster(submitted).has_ended(submitted.step)

    def wait(self, submitted: Submitted) -> dict[str, Any]:
        """The certificate, once the step has ended. Raises as ``outcome``. Cancels the step if this process is interrupted."""
        cluster = self._cluster(submitted)
        with self._ending(submitted):
            cluster.wait(submitted.step)
        return self._ended(submitted, cluster)

    def cancel(self, submitted: Submitted) -> None:
        """Requests the end of the step; ``outcome`` then raises Cancelled a little later. Nothing is half done."""
        self._cluster(submitted).cancel(submitted.step)

    def _cluster(self, submitted: Submitted) -> Cluster:
        return cluster_of(self.config, submitted.place, self.tell)

    @contextmanager
    def _checked(self, file: Path, site: Site, certificate: str | None) -> Iterator[tuple[Request, dict[str, Path]]]:
        """The request, and what it reads of the reconciliation: as shown → file. Raises WrongUsage."""
        request = site.fill(request_in(yaml_file.read(file, "see docs/transformations.md for an example", "name the file of a request")))
        _refuse_local(request, self.config)
        scratch, objects, fetched = Scratch(), Objects(site.s3), dict[str, Path]()

        def fetch(given: Input, folder: Path) -> Path:
            if site.fetch is None:
                raise WrongUsage(f"{given.shown} needs a reconciliation; name its recon.yaml with --config")
            if given.shown not in fetched:
                fetched[given.shown] = Path(site.fetch(given, scratch.new()))
            return fetched[given.shown]

        found = find_inputs(request.inputs, Places(file.parent, scratch, objects, fetch))
        if all(files[0].size <= HEAD_MAX for files in found.values()):
            read_request(file, _in_s3(certificate), Site(fetch, site.s3, engine="spark"))
        else:
            refuse_places([output.path for output in request.outputs], file.parent, objects)
        yield request, fetched

    def _submitted(self, asked: StageRequest, attempt: str, inputs: Mapping[str, Path]) -> Submitted:
        """``inputs``: path in the store → file."""
        digest = asked.digest(self.config)
        if self.config.engine.transient is None and (found := self._at_it_already(digest)) is not None:
            return found
        started = start_if_transient(self.config, attempt)
        try:
            exchange.put_request(self.store, self.config, asked, attempt)
            for path, local in inputs.items():
                self.store.copy_in(path, local)
            cluster = cluster_of(self.config, started, self.tell, self.waits)
            step = cluster.submit(f"recon {self.config.name} {STAGE} {asked.first} {digest}-{attempt}", attempt)
        except BaseException:
            self._remove(attempt, "")
            if started:
                end_started(started)
            raise
        self.tell(f"step {step} on {cluster.place}: submitted for {STAGE} {asked.first}")
        return Submitted(cluster.place, step, attempt, bool(started))

    def _at_it_already(self, digest: str) -> Submitted | None:
        cluster = cluster_of(self.config, "", self.tell)
        found = cluster.find(digest)
        if found is None:
            return None
        self.tell(f"step {found.id} on {cluster.place} is at the same request already")
        return Submitted(cluster.place, found.id, found.token[1])

    def _ended(self, submitted: Submitted, cluster: Cluster) -> dict[str, Any]:
        """What a step that has ended has left."""
        with self._ending(submitted, always=True):
            result = exchange.read_result(self.store, submitted.attempt)
            where = f"step {submitted.step} on {submitted.place}"
            if result is None:
                gone = TryAgain(
                    f"{where} has left no certificate, or that was more than a week ago; look at its outputs, or submit it again"
                )
                raise cluster.why_failed(submitted.step) or gone
            if result.error is not None:
                result.error.add_note(where)
                raise result.error
            certificate: dict[str, Any] = json.loads(str(result.numbers[STAGE]["certificate"]))
            return certificate

    @contextmanager
    def _ending(self, submitted: Submitted, always: bool = False) -> Iterator[None]:
        """Removes, after an error, or always, what only the running step needs, and ends the cluster that was started for it."""
        try:
            yield
        except BaseException:
            always = True
            raise
        finally:
            if always:
                with suppress(ReconError):  # what stays is swept, and an idle cluster ends by itself
                    self._remove(submitted.attempt, "inputs")
                    self._remove(submitted.attempt, "pieces")
                    if submitted.started:
                        end_started(submitted.place)

    def _remove(self, attempt: str, folder: str) -> None:
        """A folder of a request in the store; "" for all of it."""
        for path in list(self.store.list(f"{layout.STEPS}{attempt}/{folder}".rstrip("/"))):
            self.store.delete(path)


def is_for_cluster(config: Config, file: Path, site: Site) -> bool:
    """Whether a request is for Spark, and Spark is on a cluster that this process only submits to. Raises WrongUsage."""
    if not config.engine.elsewhere:
        return False
    request = site.fill(request_in(yaml_file.read(file, "see docs/transformations.md for an example", "name the file of a request")))
    if request.engine != "auto":
        return request.engine == "spark"
    named = {name: given for name, given in request.inputs.items() if given.from_ is None}
    found = find_inputs(named, Places(file.parent, Scratch(), Objects(site.s3)))
    return chosen(request, sum(file.size for files in found.values() for file in files)).name == "spark"


def _in_s3(certificate: str | None) -> str | None:
    return certificate if certificate is not None and certificate.startswith(S3) else None


def _refuse_local(request: Request, config: Config) -> None:
    """Raises WrongUsage for files that a cluster does not see."""
    places = [(f"input {name}", path) for name, given in request.inputs.items() for path in given.path]
    places += [(f"output {number}", output.path) for number, output in enumerate(request.outputs, 1)]
    for what, path in places:
        if not path.startswith(S3):
            raise WrongUsage(
                f"{what}: {path} is on this machine, and {config.engine.kind} reads and writes S3; copy it there, or write engine: duckdb"
            )
