"""Lambda on the loopback for tests: functions run by the true runtime client, from an unzipped package, with nothing else to import.

An execution environment is a process of ``python -m awslambdaric``, which asks its own Runtime API for the next event, one after the
other. As on AWS it is killed at the function's timeout, and the next event starts a fresh one. Unlike there it is not frozen in between.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import sysconfig
import threading
import time
import uuid
import zipfile
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from daemons import end_with_parent
from http_requests import read_body

# What Lambda's Python runtime brings beside Python itself, and what that needs.
BROUGHT = ("awslambdaric", "runtime_client", "simplejson", "boto3", "botocore", "s3transfer", "jmespath", "dateutil", "six", "urllib3")
ANSWER_S_MAX = 120.0
_INVOKE = "/2015-03-31/functions/"
_RUNTIME = "/2018-06-01/runtime/"


@dataclass
class Invocation:
    """One event, handed to an execution environment or waiting for one. ``outcome``: "" until it is over, then ``answered``, ``error`` (the
    handler raised, or could not be imported), ``timed out`` or ``died``. ``answer``: JSON of the handler, or of the error."""

    function: str
    event: bytes
    tried: int = 0
    pid: int = 0
    outcome: str = ""
    answer: Any = None
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    over: threading.Event = field(default_factory=threading.Event)

    def wait(self) -> str:
        assert self.over.wait(ANSWER_S_MAX), f"{self.function}: an invocation does not end"
        return self.outcome


@dataclass
class Function:
    """``code``: the unzipped package. ``environment``: the function's variables. ``at_once``: execution environments at most. ``retries``:
    of an asynchronous event that was not answered. ``told_s``: the time limits that the first invocations are told of in place of
    ``timeout_s``, after which each is ended: for tests in which a slow machine must not be the reason.

    What a test asks for, each counted down: ``throttled``: invocations that are refused; ``unanswered``: that are taken, but whoever
    invokes loses the answer; ``doubled``: that are delivered twice."""

    name: str
    code: Path
    handler: str
    environment: Mapping[str, str]
    timeout_s: float = 60.0
    told_s: list[float] = field(default_factory=list)
    at_once: int = 4
    retries: int = 0
    throttled: int = 0
    unanswered: int = 0
    doubled: int = 0
    refused: int = 0
    invocations: list[Invocation] = field(default_factory=list)
    waiting: deque[Invocation] = field(default_factory=deque)
    environments: list[_Environment] = field(default_factory=list)

    @property
    def at_work(self) -> list[Invocation]:
        """Those that an execution environment has in hand."""
        return [one.current for one in self.environments if one.current is not None]

    @property
    def outcomes(self) -> list[str]:
        """What became of each invocation; of those that were answered what the handler told as ``outcome``."""
        return [one.answer["outcome"] if one.outcome == "answered" else one.outcome for one in self.invocations]

    def all_over(self) -> list[str]:
        """The same, once each is over."""
        for one in self.invocations:
            one.wait()
        return self.outcomes

    def time_out(self) -> None:
        """The time of all that are at work is up."""
        for environment in list(self.environments):
            if environment.current is not None:
                environment.time_out(environment.current)


class Lambda:
    """The functions of an account. ``logs``: a folder, to which each execution environment writes ``<function>.log``."""

    def __init__(self, logs: Path) -> None:
        self.logs, self.functions = logs, dict[str, Function]()
        self.port = 0
        self.changed = threading.Condition()
        self.ended = False

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def deploy(self, code: Path, handler: str, environment: Mapping[str, str], **more: Any) -> Function:
        """A function under a name of its own."""
        made = Function(f"recon-{uuid.uuid4().hex[:12]}", code, handler, environment, **more)
        self.functions[made.name] = made
        return made

    def remove(self, function: Function) -> None:
        with self.changed:
            self.functions.pop(function.name, None)
            function.waiting.clear()
            for environment in function.environments:
                environment.kill()

    def log_of(self, function: Function) -> str:
        return (self.logs / f"{function.name}.log").read_text()

    def invoke(self, function: Function, event: bytes) -> Invocation:
        with self.changed:
            made = Invocation(function.name, event)
            function.invocations.append(made)
            self._queue(function, made)
        return made

    def _queue(self, function: Function, invocation: Invocation) -> None:
        function.waiting.append(invocation)
        idle = sum(one.idle for one in function.environments)
        if len(function.waiting) > idle and len(function.environments) < function.at_once:
            environment = _Environment(self, function)
            function.environments.append(environment)
            environment.start()
        self.changed.notify_all()

    def is_over(self, function: Function, invocation: Invocation, outcome: str, answer: Any = None) -> None:
        """To be called with ``changed`` held."""
        if invocation.outcome:
            return
        invocation.outcome, invocation.answer = outcome, answer
        invocation.over.set()
        if outcome != "answered" and invocation.tried < function.retries:
            again = Invocation(function.name, invocation.event, invocation.tried + 1, id=invocation.id)
            function.invocations.append(again)
            self._queue(function, again)

    def end(self) -> None:
        with self.changed:
            self.ended = True
            self.changed.notify_all()
        for function in list(self.functions.values()):
            for environment in list(function.environments):
                environment.kill()
                environment.join(20)


class _Environment(threading.Thread):
    """An execution environment: the process, and the Runtime API that it asks. The thread lives as long as the process."""

    def __init__(self, account: Lambda, function: Function) -> None:
        super().__init__(daemon=True)
        self.account, self.function = account, function
        self.current: Invocation | None = None
        self.idle = self._killed = False
        self._process: subprocess.Popen[bytes] | None = None
        self._timer: threading.Timer | None = None

    def run(self) -> None:
        with _serving(_RuntimeApi, self) as port, (self.account.logs / f"{self.function.name}.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-S", "-m", "awslambdaric", self.function.handler],
                cwd=self.function.code,
                env=self._variables(port),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=end_with_parent,
            )
            if self._killed:
                self._process.kill()
            status = self._process.wait()
        with self.account.changed:
            self.function.environments.remove(self)
            self._over("died", f"status {status}")
            if self.function.waiting and not self.account.ended:
                self.account._queue(self.function, self.function.waiting.popleft())

    def kill(self) -> None:
        self._killed = True
        if self._process is not None:
            self._process.kill()

    def _variables(self, port: int) -> dict[str, str]:
        """All that the process is told: nothing of this one's environment."""
        return {
            **self.function.environment,
            "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{port}",
            "AWS_LAMBDA_FUNCTION_NAME": self.function.name,
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "512",
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "LAMBDA_TASK_ROOT": str(self.function.code),
            "PYTHONPATH": str(brought(self.account.logs)),
            "PYTHONPYCACHEPREFIX": str(self.account.logs / "compiled"),
            "LANG": "en_US.UTF-8",
            "PATH": "/usr/bin:/bin",
        }

    def next(self) -> Invocation | None:
        """The event for this environment; None once nobody will come any more."""
        with self.account.changed:
            self._over("died", "it asked for the next event without an answer")
            self.idle = True
            self.account.changed.wait_for(lambda: self.function.waiting or self.account.ended)
            self.idle = False
            if self.account.ended:
                return None
            self.current = self.function.waiting.popleft()
            assert self._process is not None
            self.current.pid = self._process.pid
            self._timer = threading.Timer(self.function.timeout_s, self.time_out, [self.current])
            self._timer.daemon = True
            self._timer.start()
            return self.current

    def answered(self, invocation: str, outcome: str, answer: Any) -> bool:
        with self.account.changed:
            if self.current is None or self.current.id != invocation:
                return False
            self._over(outcome, answer)
            return True

    def cannot_begin(self, error: Any) -> None:
        """The handler could not be imported: the event that the environment was started for is lost."""
        with self.account.changed:
            if self.function.waiting:
                self.account.is_over(self.function, self.function.waiting.popleft(), "error", error)

    def time_out(self, invocation: Invocation) -> None:
        with self.account.changed:
            if self.current is invocation:
                self._over("timed out", None)
                self.kill()

    def _over(self, outcome: str, answer: Any) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self.current is not None:
            ended, self.current = self.current, None
            self.account.is_over(self.function, ended, outcome, answer)


class _Requests(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def _tell(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response_only(status)
        for name, value in {"Content-Type": "application/json", **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], OSError):  # whoever asked has been killed
            super().handle_error(request, client_address)


class _RuntimeApi(_Requests):
    """What one execution environment asks."""

    server_of: _Environment

    def do_GET(self) -> None:
        found = self.server_of.next() if self.path == f"{_RUNTIME}invocation/next" else None
        if found is None:
            self._tell(404)
            return
        function = self.server_of.function
        limit_s = function.told_s.pop(0) if function.told_s else function.timeout_s
        self._tell(
            200,
            found.event,
            Lambda_Runtime_Aws_Request_Id=found.id,
            Lambda_Runtime_Deadline_Ms=str(int((time.time() + limit_s) * 1000)),
            Lambda_Runtime_Invoked_Function_Arn=_arn(found.function),
            Lambda_Runtime_Trace_Id=f"Root=1-{uuid.uuid4().hex[:8]}-{uuid.uuid4().hex[:24]};Sampled=0",
        )

    def do_POST(self) -> None:
        body = json.loads(read_body(self) or b"null")
        if self.path == f"{_RUNTIME}init/error":
            self.server_of.cannot_begin(body)
            self._tell(202, b'{"status":"OK"}')
            return
        _, _, told = self.path.partition(f"{_RUNTIME}invocation/")
        invocation, _, what = told.partition("/")
        known = self.server_of.answered(invocation, "answered" if what == "response" else "error", body)
        self._tell(202 if known else 400, b'{"status":"OK"}')


class _Front(_Requests):
    """What boto3's client asks: Invoke."""

    server_of: Lambda

    def do_POST(self) -> None:
        event, account = read_body(self), self.server_of
        name, _, action = unquote(self.path.removeprefix(_INVOKE)).partition("/")
        function = account.functions.get(name.rpartition(":")[2])
        if function is None or action != "invocations":
            self._refuse(404, "ResourceNotFoundException", {"Type": "User", "Message": f"Function not found: {_arn(name)}"})
            return
        if _counted_down(function, "throttled"):
            function.refused += 1
            told = {"Reason": "CallerRateLimitExceeded", "Type": "User", "message": "Rate Exceeded."}
            self._refuse(429, "TooManyRequestsException", told)
            return
        unanswered = _counted_down(function, "unanswered")
        for _ in range(1 + _counted_down(function, "doubled")):
            invocation = account.invoke(function, event)
        if unanswered:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        known = {"x_amzn_RequestId": invocation.id, "X_Amz_Executed_Version": "$LATEST"}
        if self.headers.get("X-Amz-Invocation-Type") == "Event":
            self._tell(202, **known)
            return
        if invocation.wait() != "answered":
            known["X_Amz_Function_Error"] = "Unhandled"
        self._tell(200, json.dumps(invocation.answer).encode(), **known)

    def _refuse(self, status: int, code: str, told: Mapping[str, str]) -> None:
        self._tell(status, json.dumps(told).encode(), X_Amzn_ErrorType=code)


def _counted_down(function: Function, what: str) -> bool:
    left = getattr(function, what)
    setattr(function, what, max(0, left - 1))
    return bool(left)


def _arn(function: str) -> str:
    return f"arn:aws:lambda:us-east-1:123456789012:function:{function}"


def brought(folder: Path) -> Path:
    """A folder with what the runtime brings, and nothing else."""
    made = folder / "runtime"
    if not made.exists():
        site = Path(sysconfig.get_path("platlib"))
        made.mkdir()
        for name in BROUGHT:
            (found,) = [one for one in site.iterdir() if one.name.split(".")[0] == name]
            (made / found.name).symlink_to(found)
    return made


def unzipped(zipped: Path, folder: Path) -> Path:
    """The code of a function, as Lambda lays it out."""
    code = folder / "task"
    with zipfile.ZipFile(zipped) as archive:
        archive.extractall(code)
    return code


@contextmanager
def _serving(requests: type[_Requests], of: Any) -> Iterator[int]:
    handler = type(requests.__name__, (requests,), {"server_of": of})
    with _Server(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        try:
            yield server.server_port
        finally:
            server.shutdown()


@contextmanager
def running_lambda(folder: Path) -> Iterator[Lambda]:
    """Until the end of the block; all its processes end with it."""
    account = Lambda(folder)
    brought(folder)
    with _serving(_Front, account) as account.port:
        try:
            yield account
        finally:
            account.end()
