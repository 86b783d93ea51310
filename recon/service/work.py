"""What the process of one request does: reads, computes, puts the results, and ends the request.

It is forked from a process that has these modules loaded. It leads a process group of its own, and ends with its worker.
"""

from __future__ import annotations

import logging
import os
import re
import resource
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path, PurePosixPath
from types import FrameType
from typing import Any

from recon.config.load import load_place
from recon.errors import ReconError, TryAgain, WrongInput, WrongUsage, transient_kind
from recon.model.progress import Progress
from recon.operations.request_inputs import fetching
from recon.service.admission import parsed, request_of
from recon.service.claims import BEAT_S, LEASE
from recon.service.elsewhere import PAUSE, OnCluster, end_step
from recon.service.lineage import reported
from recon.service.paths import Places
from recon.service.results import RESULTS, Made
from recon.service.site import OpenReaders, Service
from recon.service.submissions import CERTIFICATE, UPLOAD, Lost, NoPlace, Problem, Refused, Submission, ToldToEnd, problem_in
from recon.storage.port import NotFound
from recon.telemetry import logs
from recon.transformations.inputs.files import Found, Scratch, found_files
from recon.transformations.inputs.opening import Fetch
from recon.transformations.request.files import S3
from recon.transformations.request.inputs import Input
from recon.transformations.request.model import Request
from recon.transformations.run import asked_of, carry_out, digest_of, tables_of
from recon.transformations.site import Site

_LOG = logging.getLogger("recon.requests")
PROGRESS_S = 1.0
"""Between two notes of progress."""
SILENT_S = LEASE.total_seconds() - BEAT_S
"""After which a process ends that has no sign of life of its worker: before the lease is over that came with the last one."""
OUT, IN = "out", "in"
_told = threading.Event()
"""Whether the worker told this process to end."""
_PLACE = re.compile(rf"{RESULTS}/[0-9a-f]{{64}}/")


@dataclass(frozen=True)
class Job:
    """A claimed request, and what its process needs. ``folder``: empty, the worker removes it. ``open_readers``: see Service.
    ``environment``: of the worker, since that of the process which requests are forked from may be older."""

    config: Path
    one: Submission
    folder: Path
    open_readers: OpenReaders
    environment: Mapping[str, str]


def run(job: Job, alive: Connection) -> None:
    """The process. ``alive``: closes when the worker ends. Whatever happens, the request is ended, queued again, or left to the worker."""
    os.setsid()
    os.environ.clear()
    os.environ.update(job.environment)
    threading.Thread(target=_end_with_worker, args=(alive,), daemon=True).start()
    signal.signal(signal.SIGTERM, _cancel)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the worker's to judge
    tempfile.tempdir = str(job.folder)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard if soft != hard else soft, hard))
    service = Service(load_place(job.config), job.open_readers)
    logs.set_up()
    with logs.logged_with(reconciliation=service.place.name, request=job.one.name, attempt=job.one.tries):
        try:
            _logged("begun")
            _work(service, job)
            _logged("done")
        except Lost:
            return
        except BaseException as error:
            _logged(f"ended by {type(error).__name__}")
            _end(service, job, error)


def _logged(what: str) -> None:
    """Where logs are text, the worker's lines are enough."""
    if logs.on():
        _LOG.info("%s", what)


def _work(service: Service, job: Job) -> None:
    one, began = job.one, time.monotonic()
    content = parsed(one.body.encode())
    request, places = request_of(content), Places(service.rights(one.owner))
    (job.folder / OUT).mkdir()
    place = ""
    if service.settings.lane(one.lane).engine.elsewhere:
        on_cluster = OnCluster(service, one, service.open_readers(job.config), job.folder, _noting(service, one))
        certificate, results = on_cluster.carried_out(content, request, places)
    else:
        with reported(service, one, request) as done:
            certificate, made = _carried_out_here(service, job, content, request)
            done(certificate)
        place = service.results.new_place()
        service.claims.put_in(one, place=place)
        results = service.results.put(place, made, places)
    try:
        service.claims.done(one, results, _figures(one, certificate, results, time.monotonic() - began))
    except Lost:
        if place:  # what a step wrote may be another worker's by now, which took the step up
            service.results.remove(place)
        raise


def _carried_out_here(service: Service, job: Job, content: dict[str, Any], request: Request) -> tuple[dict[str, Any], list[Made]]:
    """The certificate, and the files of results."""
    one, lane, out = job.one, service.settings.lane(job.one.lane), job.folder / OUT
    _remove_results(service, one)  # of an earlier try, whose process died
    site = Site(_fetch(service, job), service.place.s3, lane.engine if lane.engine.kind == "spark" else None, lane.engine.kind)
    asked_for = request.model_copy(
        update={
            "memory_limit": lane.engine_memory,
            "outputs": tuple(each.model_copy(update={"path": PurePosixPath(each.path).name}) for each in request.outputs),
        }
    )
    finder = _Finder(service, one, Places(service.rights(one.owner)), job.folder)
    asked = asked_of(site.fill(asked_for), out, digest_of(content), CERTIFICATE, site, finder.find)
    tables_of(asked)
    certificate = carry_out(asked, _noting(service, one))
    return certificate, _made(request, certificate, out)


def _fetch(service: Service, job: Job) -> Fetch:
    def fetch(given: Input, folder: Path) -> Path | str:
        return fetching(service.open_readers(job.config))(given, folder)

    return fetch


class _Finder:
    """Finds the files of a request's inputs: uploads, objects, and files that stay open, so that a link put there later changes nothing."""

    def __init__(self, service: Service, one: Submission, places: Places, folder: Path) -> None:
        self._service, self._one, self._places, self._folder = service, one, places, folder / IN
        self._folder.mkdir()
        self._count = self._bytes = 0

    def find(self, paths: tuple[str, ...], folder: Path, scratch: Scratch) -> list[Found]:
        """See recon.transformations.inputs.files.found_files. Raises Refused, also for files that have grown beyond the owner's limit."""
        files = [found for path in paths for found in self._found(path, scratch)]
        seen = set[str]()
        for file in files:
            if file.shown in seen:
                raise Refused(Problem("wrong-request"), f"{file.shown} is there twice; name each file once")
            seen.add(file.shown)
        self._bytes += sum(file.path.stat().st_size for file in files)
        if self._bytes > self._places.rights.bytes:
            reason = f"the inputs have {self._bytes:,} bytes now; {self._one.owner} may read {self._places.rights.bytes:,}"
            raise Refused(Problem("too-large", field="inputs"), reason)
        return files

    def _found(self, path: str, scratch: Scratch) -> list[Found]:
        if path.startswith(UPLOAD):
            return [self._upload(path)]
        if path.startswith(S3):
            self._places.refuse_unreadable(path)
            return found_files((path,), self._folder, scratch)
        return [Found(shown, self._kept_open(shown, descriptor)) for shown, descriptor in self._places.files(path)]

    def _upload(self, path: str) -> Found:
        found = self._service.uploads.find(self._one.owner, path.removeprefix(UPLOAD))
        try:
            if found is None:
                raise NotFound(path)
            return Found(path, self._service.results.upload(found.name, self._new(), found.file))
        except NotFound:
            raise Refused(Problem("no-such-input"), f"{path} is not there any more; upload the file again") from None

    def _kept_open(self, shown: str, descriptor: int) -> Path:
        """A path by which an open file is read under its own name."""
        link = self._new() / PurePosixPath(shown).name
        link.symlink_to(f"/proc/{os.getpid()}/fd/{descriptor}")
        return link

    def _new(self) -> Path:
        self._count += 1
        made = self._folder / str(self._count)
        made.mkdir()
        return made


def _noting(service: Service, one: Submission) -> Progress:
    """Progress as events: once a second at most, and only what is new."""
    noted, before = -PROGRESS_S, ""

    def progress(stage: str, windows: str, share: float) -> None:
        nonlocal noted, before
        now = time.monotonic()
        if windows != before and now - noted >= PROGRESS_S:
            noted, before = now, windows
            service.claims.progress(one, windows, round(100 * share))

    return progress


def _made(request: Request, certificate: dict[str, Any], out: Path) -> list[Made]:
    """The files in the folder of outputs, with the owner's places of those that go there."""
    rows: dict[str, int] = {}
    for written in certificate["outputs"]:
        rows[written["path"]] = written["rows"]
        if "rejects" in written:
            rows[written["rejects"]["path"]] = written["rejects"]["rows"]
    to = {PurePosixPath(each.path).name: each.path for each in request.outputs if "/" in each.path}
    files = sorted(out.iterdir())
    if gone := rows.keys() - {file.name for file in files}:
        raise TryAgain(f"{min(gone)} is gone from the scratch folder; something else removes files there")
    return [Made(file.name, file, rows.get(file.name), to.get(file.name)) for file in files]


def _figures(one: Submission, certificate: dict[str, Any], results: list[dict[str, Any]], run_s: float) -> dict[str, Any]:
    used = resource.getrusage(resource.RUSAGE_SELF)
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    begun = one.started_at or one.received_at
    return {
        "queue_s": round((begun - one.received_at).total_seconds(), 3),
        "run_s": round(run_s, 3),
        "whole_s": round((datetime.now(UTC) - one.received_at).total_seconds(), 3),
        "cpu_s": round(used.ru_utime + used.ru_stime + children.ru_utime + children.ru_stime, 3),
        "peak_bytes": max(used.ru_maxrss, children.ru_maxrss) * 1024,
        "rows_in": sum(each["rows"] for each in certificate["inputs"]),
        "rows_out": sum(each["rows"] for each in certificate["outputs"]),
        "bytes_in": one.size,
        "bytes_out": sum(int(each["bytes"]) for each in results),
        "engine": certificate["engine"],
    }


def _end(service: Service, job: Job, error: BaseException) -> None:
    """Ends the request that failed, or queues it again. A cancellation is the worker's to judge: this process only ends."""
    one, claims = job.one, service.claims
    if _told.is_set() or isinstance(error, ToldToEnd | KeyboardInterrupt | SystemExit):  # an interrupted engine raises errors of its own
        sys.exit(3)
    _remove_results(service, one)
    reason = str(error).replace(f"{job.folder}/{OUT}/", "").replace(f"{job.folder}/", "")
    reason = _PLACE.sub("", reason)  # the place of results is a secret
    try:
        if isinstance(error, NoPlace):
            claims.give_back(one, reason, PAUSE)
        elif transient_kind(error) is not None or isinstance(error, TryAgain):
            if claims.passed(one, Problem("may-pass"), reason).ended:
                end_step(service, one)
        elif isinstance(error, Refused):
            claims.failed(one, error.problem, reason)
        elif isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryException":
            claims.failed(one, Problem("memory-limit"), "it needs more memory than its lane allows; read fewer columns or rows")
        elif isinstance(error, ReconError):
            code = "wrong-request" if isinstance(error, WrongUsage) else "wrong-input" if isinstance(error, WrongInput) else "internal"
            claims.failed(one, problem_in(reason, code), reason)
        else:
            logs.unexpected(_LOG, "the request failed", error)
            claims.failed(one, Problem("internal"), f"a fault of the service; its log names request {one.name}")
    except Lost:
        return


def _remove_results(service: Service, one: Submission) -> None:
    """Removes what the failed try has put; of a step that has not ended nothing."""
    with suppress(ReconError):  # recon.service.site.Service.sweep removes it later
        if service.claims.step_of(one) is None and (place := service.claims.place_of(one)) is not None:
            service.results.remove(place)


def _cancel(_signal: int, _frame: FrameType | None) -> None:
    _told.set()
    raise ToldToEnd("the worker ends this request")


def _end_with_worker(alive: Connection) -> None:
    """Waits until the worker is gone, or gives no sign of life, so that another may have the request soon; then ends this process's group.
    Its folder stays for the next worker: the request must not go on, nor fail, for want of its files."""
    with suppress(EOFError, OSError):
        while alive.poll(SILENT_S):
            alive.recv_bytes()
    os.killpg(0, signal.SIGKILL)
