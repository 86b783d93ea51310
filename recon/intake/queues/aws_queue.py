"""A queue in SQS. Its visibility timeout and its redrive policy are those of infra/template.yaml."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from recon.errors import ReconError, Throttled, WrongUsage, transient_kind
from recon.intake.queues.port import Delivery

TRIES = 8
_WAIT_S_MAX = 5.0
_BATCH = 10
_BATCH_BYTES_MAX = 1 << 20
_COUNTED = ["ApproximateReceiveCount"]


class SqsQueue:
    """``client``: boto3's, of SQS. ``dead_url``: of the queue of dead letters."""

    def __init__(self, client: Any, url: str, dead_url: str) -> None:
        self._client, self.url, self._dead_url = client, url, dead_url

    @property
    def dead(self) -> SqsQueue:
        return SqsQueue(self._client, self._dead_url, self._dead_url)

    def send(self, bodies: Sequence[str]) -> None:
        for batch in _batches(bodies):
            left = [{"Id": str(number), "MessageBody": body} for number, body in enumerate(batch)]
            for again in again_while_left():
                with again:
                    failed = {one["Id"] for one in self._call("send_message_batch", Entries=left).get("Failed", ())}
                    left = [one for one in left if one["Id"] in failed]
                    refuse_left(left, f"queue {self.url}: SQS refused")

    def receive(self, count: int) -> list[Delivery]:
        wanted = {"MaxNumberOfMessages": min(count, _BATCH), "MessageSystemAttributeNames": _COUNTED}
        found = self._call("receive_message", **wanted).get("Messages", ())
        return [
            Delivery(one["MessageId"], one["ReceiptHandle"], int(one["Attributes"]["ApproximateReceiveCount"]), one["Body"])
            for one in found
        ]

    def delete(self, deliveries: Sequence[Delivery]) -> None:
        # A delivery that fails is one whose receipt has grown stale: its message was received again since, and stays.
        for entries in _entries(deliveries):
            self._call("delete_message_batch", Entries=entries)

    def release(self, deliveries: Sequence[Delivery], after_s: float) -> None:
        for entries in _entries(deliveries):
            self._call("change_message_visibility_batch", Entries=[{**one, "VisibilityTimeout": round(after_s)} for one in entries])

    def _call(self, operation: str, **arguments: Any) -> Any:
        return called(f"queue {self.url}", self._client, operation, QueueUrl=self.url, **arguments)


def called(where: str, client: Any, operation: str, **arguments: Any) -> Any:
    """One call, tried again while its error is transient. Raises Refused, TryAgain, or WrongUsage; each names the code, not the request."""
    tries = Retrying(
        retry=retry_if_exception(lambda error: transient_kind(error) is not None),
        stop=stop_after_attempt(TRIES),
        wait=wait_random_exponential(multiplier=0.05, max=_WAIT_S_MAX),
        reraise=True,
    )
    try:
        return tries(getattr(client, operation), **arguments)
    except Exception as error:
        code = getattr(error, "response", {}).get("Error", {}).get("Code", type(error).__name__)
        what = f"{where}: {operation} failed ({code})"
        if (kind := transient_kind(error)) is not None:
            raise kind(f"{what}; run the same again later") from error
        if code == "ConditionalCheckFailedException":
            raise Refused(what) from None
        if code == "TransactionCanceledException":
            raise _cancelled(error, what) from None
        raise WrongUsage(f"{what}; check the name and what the role may do") from error


class Refused(ReconError):
    """A condition was not met."""


def _cancelled(error: Any, what: str) -> ReconError:
    """The error of a transaction: Refused if a condition was not met, else Throttled or WrongUsage."""
    codes = {str(one.get("Code")) for one in error.response.get("CancellationReasons", ())} - {"None"}
    named = f"{what}: {', '.join(sorted(codes))}"
    if "ConditionalCheckFailed" in codes:
        return Refused(named)
    if codes & {"ValidationError", "ItemCollectionSizeLimitExceeded"}:
        return WrongUsage(f"{named}; check that the table has the keys of infra/template.yaml")
    return Throttled(f"{named}; run the same again later")


def again_while_left() -> Retrying:
    """Tries again, with waits that grow, while a part of a batch is left."""
    return Retrying(
        retry=retry_if_exception(lambda error: isinstance(error, Throttled)),
        stop=stop_after_attempt(TRIES),
        wait=wait_random_exponential(multiplier=0.05, max=_WAIT_S_MAX),
        reraise=True,
    )


def refuse_left(left: Sequence[object], what: str) -> None:
    """Raises Throttled while something is left."""
    if left:
        raise Throttled(f"{what} {len(left)} of a batch, {TRIES} times; run the same again later")


def _batches(bodies: Sequence[str]) -> Iterator[list[str]]:
    """Bodies in batches that SQS takes."""
    batch: list[str] = []
    size = 0
    for body in bodies:
        if batch and (len(batch) == _BATCH or size + len(body) > _BATCH_BYTES_MAX):
            yield batch
            batch, size = [], 0
        batch.append(body)
        size += len(body)
    if batch:
        yield batch


def _entries(deliveries: Sequence[Delivery]) -> Iterator[list[dict[str, Any]]]:
    for start in range(0, len(deliveries), _BATCH):
        yield [{"Id": str(number), "ReceiptHandle": one.receipt} for number, one in enumerate(deliveries[start : start + _BATCH])]
