"""A request that a cluster carries out: submitted as a step, noted in its row, awaited, taken up by a later try, ended.

The step reads the inputs and writes the results where they lie in S3. What it wrote is a result once the row says so.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from itertools import count
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from recon.config import Config
from recon.config.service import Lane
from recon.errors import Cancelled, Damaged, ReconError, TryAgain
from recon.model.progress import Progress
from recon.operations.request_inputs import fetching
from recon.operations.transforming import Opened
from recon.remote import clusters
from recon.remote.emr.steps import Full
from recon.remote.transforming import Submitted, Transforming
from recon.service.lineage import reported
from recon.service.paths import Places
from recon.service.results import RESULTS, UPLOADS
from recon.service.submissions import CERTIFICATE, UPLOAD, Lost, NoPlace, Problem, Refused, Submission, ToldToEnd
from recon.storage.port import NotFound
from recon.storage.scratch import file_digest
from recon.transformations.request.model import Request
from recon.transformations.run import digest_of
from recon.transformations.site import Site

if TYPE_CHECKING:
    from recon.service.site import Service

PAUSE = timedelta(seconds=30)
"""Before a request is claimed again that a cluster had no place for."""
_REQUEST = "request.json"


@dataclass(frozen=True)
class OnCluster:
    """A claimed request on its way to a cluster. ``opened``: its reconciliation. ``folder``: scratch."""

    service: Service
    one: Submission
    opened: Opened
    folder: Path
    progress: Progress

    def carried_out(self, content: Mapping[str, Any], request: Request, places: Places) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """The certificate, and the results as ``Results.put`` returns them.

        Raises NoPlace where the cluster is full, the errors of the step, and ToldToEnd: then the step has ended too, unless it is to be
        taken up by a later try."""
        place, submitted = self._noted() or self._submitted(content, request, places)
        try:
            with reported(self.service, self.one, request) as done:
                self._await(submitted)
                certificate = _as_asked(_there(self).outcome(submitted), content, request)
                done(certificate)
            results = self._results(place, certificate, request, places)
        except (ToldToEnd, Lost):
            raise
        except ReconError as error:
            if self._has_ended(submitted):
                self._forget(place)
            # A step that somebody else ended has done nothing wrong.
            raise (TryAgain(str(error)) if isinstance(error, (Cancelled, NotFound, Damaged)) else error) from error
        return certificate, results

    def _noted(self) -> tuple[str, Submitted] | None:
        """The step of an earlier try, whose process died, and the place of its results."""
        if self.one.step is None or self.one.place is None:
            return None
        found = Submitted(**json.loads(self.one.step))
        self.progress("transform", f"step {found.step} on {found.place} was submitted by an earlier try", 0.0)
        return self.one.place, found

    def _submitted(self, content: Mapping[str, Any], request: Request, places: Places) -> tuple[str, Submitted]:
        place = self.service.results.new_place()
        self.service.claims.put_in(self.one, place=place, step=None)
        file = self.folder / _REQUEST
        file.write_text(json.dumps(self._as_step(content, request, place, places)), encoding="utf-8")
        there = _there(self)
        try:
            submitted = there.submit(file, Site(fetching(self.opened), self.service.place.s3))
        except Full as error:
            raise NoPlace(str(error)) from None
        try:
            self.service.claims.put_in(self.one, step=json.dumps(asdict(submitted)))
        except BaseException:
            with suppress(ReconError):
                there.cancel(submitted)
            raise
        return place, submitted

    def _as_step(self, content: Mapping[str, Any], request: Request, place: str, places: Places) -> dict[str, Any]:
        """The request with places in S3 of what it uploaded and of its results, and with a day of its own, which a later try keeps."""
        inputs = {}
        for name, given in content["inputs"].items():
            found = {path: self._found(path, places) for path in request.inputs[name].path}
            inputs[name] = given if not found else {**given, "path": list(found.values())}
        outputs = [{**one, "path": self.service.results.url(RESULTS, place, PurePosixPath(one["path"]).name)} for one in content["outputs"]]
        day = {} if "as_of" in content else {"as_of": self.one.received_at.date().isoformat()}
        return {**content, **day, "inputs": inputs, "outputs": outputs, "engine": "spark"}

    def _found(self, path: str, places: Places) -> str:
        if not path.startswith(UPLOAD):
            places.refuse_unreadable(path)
            return path
        upload = self.service.uploads.find(self.one.owner, path.removeprefix(UPLOAD))
        if upload is None:
            raise Refused(Problem("no-such-input"), f"{path} is not there any more; upload the file again")
        return self.service.results.url(UPLOADS, upload.name, upload.file)

    def _await(self, submitted: Submitted) -> None:
        """Returns when the step has ended. Where this process is asked to end, and the request with it, the step ends first."""
        there = _there(self)
        try:
            _until_ended(there, submitted)
        except ToldToEnd:
            if self._is_over():
                there.cancel(submitted)
                _until_ended(there, submitted)
                with suppress(ReconError):
                    there.outcome(submitted)  # removes what the step left, and ends the cluster that was started for it
            raise

    def _is_over(self) -> bool:
        """Whether the request ends with this process: its end was asked for, or its time is up. Else a later try takes the step up."""
        claims = self.service.claims
        return claims.is_mine(self.one) and (bool(claims.asked_to_end([self.one])) or claims.age(self.one) >= self._lane.time)

    @property
    def _lane(self) -> Lane:
        return self.service.settings.lane(self.one.lane)

    def _results(self, place: str, certificate: Mapping[str, Any], request: Request, places: Places) -> list[dict[str, Any]]:
        """What the step put there, and the certificate; copies for the owner's places pass through this machine. Raises NotFound."""
        results, found = self.service.results, []
        to = {PurePosixPath(one.path).name: one.path for one in request.outputs if "/" in one.path}
        for written in (file for output in certificate["outputs"] for file in (output, output.get("rejects")) if file is not None):
            name = written["path"]
            figures = {**results.there(place, name), "digest": written["digest"], "rows": written["rows"]}
            found.append({**figures, **({"to": to[name]} if name in to else {})})
            if name in to:
                results.copy_out(place, name, self.folder / name)
                places.copy_once(to[name], self.folder / name, written["digest"])
                (self.folder / name).unlink()
        file = self.folder / CERTIFICATE
        file.write_text(json.dumps(certificate, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        results.store.delete(f"{RESULTS}/{place}/{CERTIFICATE}")  # of an earlier try that took up the same step
        size = results.store.copy_in(f"{RESULTS}/{place}/{CERTIFICATE}", file)
        return [*found, {"name": CERTIFICATE, "bytes": size, "digest": file_digest(file), "rows": None}]

    def _has_ended(self, submitted: Submitted) -> bool:
        try:
            return _there(self).has_ended(submitted)
        except ReconError:
            return False

    def _forget(self, place: str) -> None:
        """The next try submits a step of its own."""
        self.service.claims.put_in(self.one, step=None)
        with suppress(ReconError):  # recon.service.site.Service.sweep removes them later
            self.service.results.remove(place)


def end_step(service: Service, one: Submission) -> None:
    """Requests the end of the step of a request that has ended, where it has one; as far as the cluster can be asked."""
    if not service.settings.lane(one.lane).engine.elsewhere or (noted := service.claims.step_of(one)) is None:
        return
    with suppress(ReconError):
        opened = service.open_readers(service.place.path)
        Transforming(_config_of(opened.config, one.lane), opened.store()).cancel(Submitted(**json.loads(noted)))


def _there(on_cluster: OnCluster) -> Transforming:
    opened = on_cluster.opened
    tell = lambda line: on_cluster.progress("transform", line, 0.0)  # noqa: E731
    return Transforming(_config_of(opened.config, on_cluster.one.lane), opened.store(), tell, waits=False)


def _config_of(config: Config, lane: str) -> Config:
    """The reconciliation with the lane's engine, as it is sent to the cluster, without the settings of the service."""
    engine = config.service.lane(lane).engine
    raw = {name: value for name, value in config.raw.items() if name != "service"}
    return replace(config, engine=engine, raw={**raw, "engine": config.raw["service"][lane]["engine"]})


def _until_ended(there: Transforming, submitted: Submitted) -> None:
    for tries in count(1):
        if there.has_ended(submitted):
            return
        clusters.PACE.wait(tries)


def _as_asked(certificate: dict[str, Any] | None, content: Mapping[str, Any], request: Request) -> dict[str, Any]:
    """The certificate with the places that the request names, in place of those in S3 that the step was given."""
    if certificate is None:
        raise TryAgain("the step has not ended")
    inputs = []
    for one in certificate["inputs"]:
        given = request.inputs[one["input"]]
        files = {} if "files" not in one else {"files": [{**file, "file": _shown(file["file"], given.path)} for file in one["files"]]}
        inputs.append({**one, "path": given.shown, **files})
    outputs = []
    for one in certificate["outputs"]:
        rejects = {} if "rejects" not in one else {"rejects": {**one["rejects"], "path": PurePosixPath(one["rejects"]["path"]).name}}
        outputs.append({**one, "path": PurePosixPath(one["path"]).name, **rejects})
    return {**certificate, "request": digest_of(dict(content)), "inputs": inputs, "outputs": outputs}


def _shown(url: str, paths: tuple[str, ...]) -> str:
    """A file as the request names it: an upload by its name."""
    return next((path for path in paths if path.startswith(UPLOAD) and f"/{UPLOADS}/{path.removeprefix(UPLOAD)}/" in url), url)
