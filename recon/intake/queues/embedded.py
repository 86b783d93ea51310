"""The record queue of a database, and the loop that works on it in this process."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from recon.database import Database
from recon.errors import TryAgain
from recon.intake.queues.port import VISIBILITY_S, DeadLetterQueue, Process
from recon.intake.queues.sql_queue import AT_ONCE, SqlQueue
from recon.intake.queues.sql_store import SqlRecordStore
from recon.intake.queues.steps import Step, bury_messages, bury_unstored, finish_messages, process_messages, store_messages

PROCESSED_AT_ONCE = 1
"""Messages whose records are given to the user's function within one visibility timeout."""
AGAIN_S = 1.0
_LOOK_S = 0.2


@dataclass(frozen=True)
class RecordQueues:
    """The queues of a reconciliation and its record store."""

    store_queue: SqlQueue
    process_queue: SqlQueue
    finish_queue: SqlQueue
    records: SqlRecordStore

    @property
    def queues(self) -> tuple[SqlQueue, SqlQueue, SqlQueue]:
        return (self.finish_queue, self.process_queue, self.store_queue)


def record_queues(
    database: Database, reconciliation: str, visibility_s: float = VISIBILITY_S, clock: Callable[[], float] = time.time
) -> RecordQueues:
    """The record queue of a reconciliation in a database."""
    store, process, finish = (
        SqlQueue(database, f"{reconciliation}/{step}", visibility_s, clock) for step in ("store", "process", "finish")
    )
    return RecordQueues(store, process, finish, SqlRecordStore(database, process))


def store_all(queues: RecordQueues) -> None:
    """Stores what is on the store queue, which drain() would do, too: for a run that does one step at a time."""
    step = partial(store_messages, queues.records)
    while (wait := queues.store_queue.next_s()) is not None:
        if not _work(queues.store_queue, step, AT_ONCE, AGAIN_S) and not _bury(
            queues.store_queue.dead, partial(bury_unstored, queues.records)
        ):
            time.sleep(min(_LOOK_S, wait))


def drain(
    queues: RecordQueues,
    process_of: Callable[[str], Process],
    left_s: Callable[[], float] = lambda: float("inf"),
    again_s: float = AGAIN_S,
) -> bool:
    """Works on messages until none is left, or the time is up. Several processes may do this at once.

    ``again_s``: a message that failed waits so long before its second try, and twice as long before its third. False if messages are
    left. Raises TryAgain where the database is away."""
    records = queues.records
    process = partial(process_messages, records, queues.finish_queue, process_of)
    while left_s() > 0:
        worked = [
            _work(queues.finish_queue, partial(finish_messages, records), AT_ONCE, again_s),
            _work(queues.process_queue, process, PROCESSED_AT_ONCE, again_s),
            _work(queues.store_queue, partial(store_messages, records), AT_ONCE, again_s),
        ]
        worked += [_bury(queue.dead, partial(bury_messages, records)) for queue in (queues.finish_queue, queues.process_queue)]
        worked.append(_bury(queues.store_queue.dead, partial(bury_unstored, records)))
        if not any(worked):
            waits = [wait for queue in queues.queues if (wait := queue.next_s()) is not None]
            if not waits:
                return not any(queue.dead.receive(1) for queue in queues.queues)
            time.sleep(min(_LOOK_S, *waits, max(0.0, left_s())))
    return False


def _work(queue: SqlQueue, step: Step, at_once: int, again_s: float) -> bool:
    """One batch of messages. False if there was none. A worker that is interrupted gives its messages back, as far as it can."""
    deliveries = queue.receive(at_once)
    if not deliveries:
        return False
    try:
        failed = step(deliveries)
    except BaseException:
        with suppress(TryAgain):
            queue.release(deliveries, 0)
        raise
    queue.delete([one for one in deliveries if one not in failed])
    for one in failed:
        queue.release([one], again_s * one.received)
    return True


def _bury(dead: DeadLetterQueue, step: Step) -> bool:
    """Some dead letters. False if there was none that could be buried."""
    deliveries = dead.receive(AT_ONCE)
    failed = step(deliveries) if deliveries else []
    dead.delete([one for one in deliveries if one not in failed])
    return len(deliveries) > len(failed)
