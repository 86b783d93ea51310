"""The record queue of a database, and the loop that works on it in this process."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from recon.database import Database
from recon.intake.queues.port import VISIBILITY_S, DeadLetterQueue, Process
from recon.intake.queues.sql_queue import AT_ONCE, SqlQueue
from recon.intake.queues.sql_store import SqlRecordStore
from recon.intake.queues.steps import Step, bury_messages, bury_unstored, finish_messages, process_messages, store_messages

_AGAIN_S = 1.0
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


def drain(
    queues: RecordQueues,
    process_of: Callable[[str], Process],
    left_s: Callable[[], float] = lambda: float("inf"),
    again_s: float = _AGAIN_S,
) -> bool:
    """Works on messages until none is left, or the time is up. Several processes may do this at once.

    ``again_s``: a message that failed waits so long before its second try, and twice as long before its third. False if messages are
    left. Raises TryAgain where the database is away."""
    records = queues.records
    steps: list[tuple[SqlQueue, Step]] = [
        (queues.finish_queue, partial(finish_messages, records)),
        (queues.process_queue, partial(process_messages, records, queues.finish_queue, process_of)),
        (queues.store_queue, partial(store_messages, records)),
    ]
    while left_s() > 0:
        worked = [_work(queue, step, again_s) for queue, step in steps]
        worked += [_bury(queue.dead, partial(bury_messages, records)) for queue in (queues.finish_queue, queues.process_queue)]
        worked.append(_bury(queues.store_queue.dead, partial(bury_unstored, records)))
        if not any(worked):
            waits = [wait for queue in queues.queues if (wait := queue.next_s()) is not None]
            if not waits:
                return not any(queue.dead.receive(1) for queue in queues.queues)
            time.sleep(min(_LOOK_S, *waits, max(0.0, left_s())))
    return False


def _work(queue: SqlQueue, step: Step, again_s: float) -> bool:
    """One batch of messages. False if there was none."""
    deliveries = queue.receive(AT_ONCE)
    if not deliveries:
        return False
    failed = step(deliveries)
    queue.delete([one for one in deliveries if one not in failed])
    for one in failed:
        queue.release([one], again_s * one.received)
    return True


def _bury(dead: DeadLetterQueue, step: Step) -> bool:
    deliveries = dead.receive(AT_ONCE)
    failed = step(deliveries) if deliveries else []
    dead.delete([one for one in deliveries if one not in failed])
    return len(deliveries) > len(failed)
