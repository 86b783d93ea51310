"""A small stand-in of EMR for tests: the step API and the job API of EMR Serverless on the loopback, whose steps and jobs really run.

boto3 reaches it by AWS_ENDPOINT_URL_EMR and AWS_ENDPOINT_URL_EMR_SERVERLESS. What it is not: instances, roles, VPCs, prices.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import shlex
import signal
import subprocess
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from daemons import end_with_parent
from http_requests import JsonHandler

ACTIVE = ("PENDING", "RUNNING", "CANCEL_PENDING")
GONE = ("TERMINATING", "TERMINATED", "TERMINATED_WITH_ERRORS")
PAGE = 50
PutLog = Callable[[str, str, bytes], None]
"""bucket, key, bytes"""


class Refused(Exception):
    """An error as AWS tells it."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code, self.message, self.status = code, message, status


THROTTLED = Refused("ThrottlingException", "Rate exceeded")
FAILED = Refused("InternalServerException", "Internal server error", 500)


@dataclass
class Running:
    """A step or a job: its command, its state, its process."""

    id: str
    name: str
    command: list[str]
    environment: dict[str, str] = field(default_factory=dict)
    state: str = "PENDING"
    reason: str = ""
    exit_status: int | None = None
    process: subprocess.Popen[bytes] | None = None
    cancelled_by: str = ""
    """The option that it was cancelled by."""
    asked: dict[str, Any] = field(default_factory=dict)


@dataclass
class EmrCluster:
    id: str
    asked: dict[str, Any]
    concurrency: int
    log_uri: str | None
    state: str = "WAITING"
    code: str = ""
    message: str = ""
    steps: list[Running] = field(default_factory=list)
    most_running: int = 0
    most_active: int = 0


class EmrServer:
    """``refusals``: operation → what its next calls are refused with. ``lost``: operations whose next call is carried out, and its
    connection cut before the reply; ``cut``: those whose next call is cut before it is carried out. ``calls``: how often each was called.
    ``unstartable``: what the next clusters end with, code and message."""

    def __init__(self, folder: Path, environment: Mapping[str, str], put_log: PutLog | None) -> None:
        self.clusters: dict[str, EmrCluster] = {}
        self.jobs: dict[str, Running] = {}
        self.refusals: defaultdict[str, list[Refused]] = defaultdict(list)
        self.lost: set[str] = set()
        self.cut: set[str] = set()
        self.calls: Counter[str] = Counter()
        self.unstartable: list[tuple[str, str]] = []
        self.url = ""
        self._folder, self._environment, self._put_log = folder, dict(environment), put_log
        self._turn = threading.RLock()
        self._count = 0
        # A process ends with the thread that has started it (daemons.end_with_parent), and that of a request ends with its connection.
        self._starter = ThreadPoolExecutor(1)

    def refuse(self, error: Refused, times: int, *operations: str) -> None:
        """So many next calls of each operation are answered by this error."""
        for operation in operations:
            self.refusals[operation] += [error] * times

    def cluster(self, concurrency: int = 10, log_uri: str | None = None) -> EmrCluster:
        """A long-running one."""
        with self._turn:
            self._count += 1
            made = EmrCluster(f"j-TEST{self._count:06d}", {}, concurrency, log_uri)
            self.clusters[made.id] = made
            return made

    def lose(self, cluster: EmrCluster, code: str, message: str) -> None:
        """The cluster ends for a reason of its own."""
        self._terminate(cluster, "TERMINATED_WITH_ERRORS", code, message)

    def cancel(self, one: Running) -> None:
        """Somebody cancels a step or a job."""
        with self._turn:
            self._cancel(one, "CANCELLING" if one.id in self.jobs else "CANCEL_PENDING", "SEND_INTERRUPT")

    def close(self) -> None:
        with self._turn:
            for cluster in self.clusters.values():
                cluster.state = "TERMINATED"  # so that nothing that waits is begun
            running = [*(step for cluster in self.clusters.values() for step in cluster.steps), *self.jobs.values()]
        for one in running:
            self._signal(one, signal.SIGKILL)
        self._starter.shutdown()

    # ---- the step API

    def answer(self, operation: str, asked: dict[str, Any]) -> dict[str, Any]:
        with self._turn:
            found: dict[str, Any] = getattr(self, f"_{re.sub('(?<!^)(?=[A-Z])', '_', operation).lower()}")(asked)
            return found

    def _run_job_flow(self, asked: dict[str, Any]) -> dict[str, Any]:
        instances = asked["Instances"]
        if {fleet["InstanceFleetType"] for fleet in instances["InstanceFleets"]} < {"MASTER", "CORE"}:
            raise Refused("ValidationException", "a cluster needs a MASTER and a CORE fleet")
        made = self.cluster(asked.get("StepConcurrencyLevel", 1), asked.get("LogUri"))
        made.asked = asked
        if self.unstartable:
            self.lose(made, *self.unstartable.pop(0))
        return {"JobFlowId": made.id}

    def _add_job_flow_steps(self, asked: dict[str, Any]) -> dict[str, Any]:
        cluster = self._found(asked["JobFlowId"])
        if cluster.state in GONE:
            raise Refused("ValidationException", "A job flow that is shutting down, terminated, or finished may not be modified.")
        if sum(step.state in ACTIVE for step in cluster.steps) + len(asked["Steps"]) > 256:
            active = "Maximum number of active steps(State = 'Running', 'Pending' or 'Cancel_Pending') for cluster exceeded."
            raise Refused("ValidationException", active)
        made = []
        for one in asked["Steps"]:
            jar = one["HadoopJarStep"]
            if cluster.concurrency > 1 and one.get("ActionOnFailure") != "CONTINUE":
                raise Refused("ValidationException", "ActionOnFailure must be CONTINUE when steps run concurrently")
            assert jar["Jar"] == "command-runner.jar"
            self._count += 1
            made.append(Running(f"s-TEST{self._count:06d}", one["Name"], jar["Args"]))
        cluster.steps += made
        cluster.most_active = max(cluster.most_active, sum(step.state in ACTIVE for step in cluster.steps))
        self._pump(cluster)
        return {"StepIds": [step.id for step in made]}

    def _describe_step(self, asked: dict[str, Any]) -> dict[str, Any]:
        cluster = self._found(asked["ClusterId"])
        return {"Step": _step(self._step(cluster, asked["StepId"]))}

    def _list_steps(self, asked: dict[str, Any]) -> dict[str, Any]:
        states, cluster = asked.get("StepStates"), self._found(asked["ClusterId"])
        found = [step for step in reversed(cluster.steps) if not states or step.state in states]
        start = int(asked.get("Marker", 0))
        page: dict[str, Any] = {"Steps": [_step(step) for step in found[start : start + PAGE]]}
        return {**page, "Marker": str(start + PAGE)} if len(found) > start + PAGE else page

    def _cancel_steps(self, asked: dict[str, Any]) -> dict[str, Any]:
        cluster = self._found(asked["ClusterId"])
        option = asked.get("StepCancellationOption", "SEND_INTERRUPT")
        for name in asked["StepIds"]:
            self._cancel(self._step(cluster, name), "CANCEL_PENDING", option)
        return {"CancelStepsInfoList": [{"StepId": name, "Status": "SUBMITTED"} for name in asked["StepIds"]]}

    def _describe_cluster(self, asked: dict[str, Any]) -> dict[str, Any]:
        one = self._found(asked["ClusterId"])
        reason = {"Code": one.code, "Message": one.message} if one.code else {}
        told: dict[str, Any] = {"Id": one.id, "Name": one.asked.get("Name", "long-running"), "StepConcurrencyLevel": one.concurrency}
        told["Status"] = {"State": one.state, "StateChangeReason": reason}
        return {"Cluster": {**told, **({"LogUri": one.log_uri} if one.log_uri else {})}}

    def _terminate_job_flows(self, asked: dict[str, Any]) -> dict[str, Any]:
        for name in asked["JobFlowIds"]:
            if (cluster := self._found(name)).state not in GONE:
                self._terminate(cluster, "TERMINATED", "USER_REQUEST", "Terminated by user request")
        return {}

    def _found(self, name: str) -> EmrCluster:
        if name not in self.clusters:
            raise Refused("InvalidRequestException", f"Cluster id '{name}' is not valid.")
        return self.clusters[name]

    def _step(self, cluster: EmrCluster, name: str) -> Running:
        found = next((step for step in cluster.steps if step.id == name), None)
        if found is None:
            raise Refused("InvalidRequestException", f"Step id '{name}' is not valid.")
        return found

    def _terminate(self, cluster: EmrCluster, state: str, code: str, message: str) -> None:
        with self._turn:
            cluster.state, cluster.code, cluster.message = state, code, message
            for step in cluster.steps:
                if step.state == "PENDING":
                    step.state = "CANCELLED"
                elif step.state in ACTIVE:
                    step.state = "INTERRUPTED"
                    self._signal(step, signal.SIGKILL)

    # ---- the job API of EMR Serverless

    def start_job(self, application: str, asked: dict[str, Any]) -> dict[str, Any]:
        with self._turn:
            submit = asked["jobDriver"]["sparkSubmit"]
            words, environment, kept = shlex.split(submit.get("sparkSubmitParameters", "")), {}, []
            for word in words:
                found = re.match(r"spark\.emr-serverless\.driverEnv\.(\w+)=(.*)", word, re.DOTALL)
                if found:
                    environment[found[1]] = found[2]
                    kept.pop()  # its --conf
                else:
                    kept.append(word)
            token = asked["clientToken"]
            if (same := next((job for job in self.jobs.values() if job.asked["clientToken"] == token), None)) is not None:
                return {"applicationId": application, "jobRunId": same.id, "arn": same.id}
            self._count += 1
            command = ["spark-submit", *kept, submit["entryPoint"], *submit.get("entryPointArguments", [])]
            job = Running(f"00job{self._count:06d}", asked.get("name", ""), command, environment, "SUBMITTED", asked=asked)
            self.jobs[job.id] = job
            self._start(job, None, ("SUCCESS", "FAILED"))
            return {"applicationId": application, "jobRunId": job.id, "arn": f"arn:aws:emr-serverless:::{application}/{job.id}"}

    def job(self, application: str, name: str) -> dict[str, Any]:
        one = self.jobs[name]
        told: dict[str, Any] = {"applicationId": application, "jobRunId": one.id, "name": one.name, "state": one.state, "attempt": 1}
        told |= {"stateDetails": one.reason, "arn": one.id, "createdBy": "x", "createdAt": 0, "updatedAt": 0, "releaseLabel": "emr-7.10.0"}
        return {**told, "executionRole": one.asked["executionRoleArn"], "jobDriver": one.asked["jobDriver"]}

    # ---- running

    def _pump(self, cluster: EmrCluster) -> None:
        with self._turn:
            for step in cluster.steps:
                at_once = sum(one.state in ("RUNNING", "CANCEL_PENDING") for one in cluster.steps)
                if step.state == "PENDING" and at_once < cluster.concurrency and cluster.state not in GONE:
                    self._start(step, cluster, ("COMPLETED", "FAILED"))
                    cluster.most_running = max(cluster.most_running, at_once + 1)

    def _start(self, one: Running, cluster: EmrCluster | None, ends: tuple[str, str]) -> None:
        """Starts the process, the first of a group of its own; a thread sees its end."""
        folder = self._folder / one.id
        folder.mkdir(parents=True)
        with (folder / "stdout").open("wb") as out, (folder / "stderr").open("wb") as err:
            settings: dict[str, Any] = {"stdout": out, "stderr": err, "cwd": folder, "env": {**self._environment, **one.environment}}
            one.process = self._starter.submit(subprocess.Popen, one.command, preexec_fn=_own_group, **settings).result()
        one.state = "RUNNING"
        threading.Thread(target=self._see_end, args=(one, cluster, folder, ends), daemon=True).start()

    def _see_end(self, one: Running, cluster: EmrCluster | None, folder: Path, ends: tuple[str, str]) -> None:
        assert one.process is not None
        one.exit_status = one.process.wait()
        ended = f"INFO waitProcessCompletion ended with exit code {one.exit_status} : hadoop jar command-runner.jar\n"
        (folder / "controller").write_text(ended)
        if cluster is not None and cluster.log_uri is not None and self._put_log is not None:
            bucket, _, prefix = cluster.log_uri.partition("://")[2].partition("/")
            for name in ("stdout", "stderr", "controller"):
                key = "/".join(filter(None, (prefix.strip("/"), cluster.id, "steps", one.id, f"{name}.gz")))
                self._put_log(bucket, key, gzip.compress((folder / name).read_bytes()))
        with self._turn:
            if one.state in ("CANCEL_PENDING", "CANCELLING"):
                one.state = "CANCELLED"
            elif one.state == "RUNNING":
                one.state = ends[0] if one.exit_status == 0 else ends[1]
                last = (folder / "stderr").read_text(errors="replace").strip().rpartition("\n")[2]
                one.reason = "" if one.exit_status == 0 else f"Job failed, please check complete logs. ExitCode: {one.exit_status}.\n{last}"
            if cluster is not None:
                self._pump(cluster)

    def cancel_job(self, name: str) -> None:
        self.cancel(self.jobs[name])

    def _cancel(self, one: Running, meanwhile: str, option: str) -> None:
        one.cancelled_by = option
        if one.state == "PENDING":
            one.state = "CANCELLED"
        elif one.state == "RUNNING":
            one.state = meanwhile
            self._signal(one, {"SEND_INTERRUPT": signal.SIGTERM, "TERMINATE_PROCESS": signal.SIGKILL}[option])

    def _signal(self, one: Running, number: signal.Signals) -> None:
        if one.process is not None and one.process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(one.process.pid, number)

    def log(self, name: str, stream: str = "stderr") -> str:
        """What a step or job has written so far."""
        return (self._folder / name / stream).read_text(errors="replace")


def _own_group() -> None:
    os.setpgid(0, 0)
    end_with_parent()


def _step(step: Running) -> dict[str, Any]:
    status: dict[str, Any] = {"State": step.state, "StateChangeReason": {}, "Timeline": {}}
    if step.state == "FAILED":
        status["FailureDetails"] = {"Reason": "Unknown Error.", "LogFile": f"{step.id}/stderr.gz"}
    return {"Id": step.id, "Name": step.name, "ActionOnFailure": "CONTINUE", "Status": status}


class _Handler(JsonHandler):
    protocol_version = "HTTP/1.1"
    emr: EmrServer

    def do_POST(self) -> None:  # noqa: N802 - http.server calls it so
        asked = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
        target = self.headers.get("X-Amz-Target", "")
        if target.startswith("ElasticMapReduce."):
            operation = target.partition(".")[2]
            self._answer(operation, lambda: self.emr.answer(operation, asked))
        else:
            self._answer("StartJobRun", lambda: self.emr.start_job(self._parts()[1], asked))

    def do_GET(self) -> None:  # noqa: N802 - http.server calls it so
        match self._parts():
            case ["applications", application]:
                told: dict[str, Any] = {"applicationId": application, "type": "Spark", "state": "STARTED", "releaseLabel": "emr-7.10.0"}
                self._answer("GetApplication", lambda: {"application": told})
            case ["applications", application, "jobruns"]:
                states = parse_qs(urlsplit(self.path).query).get("states", [])
                found = [self.emr.job(application, name) for name, job in self.emr.jobs.items() if not states or job.state in states]
                self._answer("ListJobRuns", lambda: {"jobRuns": [{**one, "id": one["jobRunId"]} for one in found]})
            case ["applications", application, "jobruns", name]:
                self._answer("GetJobRun", lambda: {"jobRun": self.emr.job(application, name)})
            case _:
                self._answer("GetDashboardForJobRun", lambda: {"url": "https://127.0.0.1/dashboard"})

    def do_DELETE(self) -> None:  # noqa: N802 - http.server calls it so
        application, name = self._parts()[1], self._parts()[3]
        self._answer("CancelJobRun", lambda: self.emr.cancel_job(name) or {"applicationId": application, "jobRunId": name})

    def _parts(self) -> list[str]:
        return urlsplit(self.path).path.strip("/").split("/")

    def _answer(self, operation: str, ask: Callable[[], dict[str, Any]]) -> None:
        self.emr.calls[operation] += 1
        if operation in self.emr.cut:
            self.emr.cut.discard(operation)
            self.close_connection = True
            return
        status, body = 200, {}
        try:
            if self.emr.refusals[operation]:
                raise self.emr.refusals[operation].pop(0)
            body = ask()
        except Refused as refused:
            status, body = refused.status, {"__type": refused.code, "message": refused.message}
        if operation in self.emr.lost:
            self.emr.lost.discard(operation)
            self.close_connection = True
            return
        self.answer(status, body)


@contextmanager
def emr_server(folder: Path, environment: Mapping[str, str], put_log: PutLog | None = None) -> Iterator[EmrServer]:
    """Runs from here to the end of the block, and what it has started ends with it. ``environment``: of the steps."""
    made = EmrServer(folder, environment, put_log)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"emr": made}))
    made.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        made.close()
        server.shutdown()
        server.server_close()


def until(what: Callable[[], Any], told: str, most_s: float = 60) -> Any:
    end = time.monotonic() + most_s
    while not (found := what()):
        assert time.monotonic() < end, f"waited {most_s:g} s in vain for {told}"
        time.sleep(0.02)
    return found
