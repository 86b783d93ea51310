"""Launchers start workers: processes of this machine, or invocations of a Lambda function. Both run recon.serving.workers.worker."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import IO, Any, Protocol, cast

from recon.errors import OutOfCapacity, Throttled, WrongUsage, transient_kind
from recon.metering.meter import Meter, NoMeter
from recon.serving.workers.worker import STORE, TABLE, Event
from recon.telemetry import logs

STOP_S_MAX = 5.0


class Handle(Protocol):
    """A started worker, for the launcher that started it."""


class Launcher(Protocol):
    """Starts workers, each with one event. Called by one thread."""

    def start(self, event: Event) -> Handle:
        """Raises Throttled or OutOfCapacity if the worker was not started, another TryAgain if it may have been started, WrongUsage if it
        can never be started."""
        ...

    def poll(self, handle: Handle) -> str | None:
        """None while the worker may be running; else how it ended, in a few words."""
        ...

    def stop(self, handle: Handle) -> None:
        """Stops the worker if that is possible. It may have ended."""
        ...


class Processes:
    """Each worker is a process of this machine. It goes on if its coordinator is killed, and ends with its share."""

    def __init__(self, command: Sequence[str] = (), more: Mapping[str, str] | None = None) -> None:
        """``more``: additional environment variables."""
        self._command = [*command] or [sys.executable, "-m", "recon.serving.workers.worker"]
        self._environment = {**os.environ, **(more or {})}

    def start(self, event: Event) -> Handle:
        environment = {**self._environment, **logs.environment(), STORE: event.store, TABLE: event.table}
        try:
            # A group of its own, so that Ctrl-C reaches the coordinator alone, which then stops its workers.
            process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                env=environment,
                start_new_session=True,
            )
        except OSError as error:
            kind = transient_kind(error) or OutOfCapacity
            raise kind(f"workers: no process could be started ({error.strerror}); close others, then run the same again") from error
        with suppress(BrokenPipeError):  # it has ended; poll returns how
            stdin = cast(IO[bytes], process.stdin)
            stdin.write(event.to_json().encode())
            stdin.close()
        return process

    def poll(self, handle: Handle) -> str | None:
        status = cast("subprocess.Popen[bytes]", handle).poll()
        if status is None:
            return None
        return f"its process was ended by signal {-status}" if status < 0 else f"its process ended with status {status}"

    def stop(self, handle: Handle) -> None:
        process = cast("subprocess.Popen[bytes]", handle)
        process.kill()
        with suppress(subprocess.TimeoutExpired):  # it hangs in the kernel, on a dead disk; it does no harm
            process.wait(STOP_S_MAX)


class LambdaFunction:
    """Each worker is an asynchronous invocation of a function. AWS answers before the worker begins; its progress is in the store.

    ``client``: boto3's Lambda client; by default made from the environment. ``meter`` counts invocations."""

    def __init__(self, function: str, client: Any = None, meter: Meter | None = None) -> None:
        self._function, self._meter = function, meter or NoMeter()
        self._client = lambda_client() if client is None else client

    def start(self, event: Event) -> Handle:
        payload = event.to_json().encode()
        self._meter.count("lambda", "Invoke", sent=len(payload))
        try:
            response = self._client.invoke(FunctionName=self._function, InvocationType="Event", Payload=payload)
        except Exception as error:
            raise self._failure(error) from error
        return str(response["ResponseMetadata"].get("RequestId", ""))

    def poll(self, handle: Handle) -> str | None:
        return None

    def stop(self, handle: Handle) -> None:
        """Does nothing: AWS ends an invocation only at the function's timeout."""

    def _failure(self, error: Exception) -> Exception:
        kind, name = transient_kind(error), f"workers: function {self._function}"
        if kind in (Throttled, OutOfCapacity):
            return kind(f"{name}: AWS invokes no more of it for now; raise its concurrency, or lower workers.count")
        if kind is not None:
            return kind(f"{name}: it could not be reached; run the same again")
        response = getattr(error, "response", None)
        code = response.get("Error", {}).get("Code", "") if isinstance(response, Mapping) else ""
        if code == "ResourceNotFoundException":
            return WrongUsage(f"{name}: it does not exist in this account and region; name the deployed function in workers.function")
        if code in ("AccessDeniedException", "ExpiredTokenException", "UnrecognizedClientException", "InvalidSignatureException"):
            return WrongUsage(f"{name}: {code}; the role of this run needs lambda:InvokeFunction on it, with credentials that are valid")
        return WrongUsage(f"{name}: {type(error).__name__} {code}".rstrip() + "; check that it is deployed and that AWS can be reached")


def lambda_client() -> Any:
    """boto3's Lambda client with the environment's endpoint, region and credentials."""
    try:
        import boto3
        from botocore.config import Config
    except ImportError:
        raise WrongUsage("workers: kind: lambda needs boto3: pip install 'dagster-recon[aws]'") from None
    # No retries here: on throttling the coordinator waits before it starts any worker.
    return boto3.client("lambda", config=Config(retries={"total_max_attempts": 1}, connect_timeout=10, read_timeout=60))
