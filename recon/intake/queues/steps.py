"""What is done with messages: one function a step, the same embedded and in Lambda. Each returns the messages that failed.

A message that fails stays in its queue and is received again. A log line has the parcel's place, the outcome and the kind of an error; a
reason may quote a record, so it is kept in the store only.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence

from recon.errors import ReconError, TryAgain, WrongInput, transient_kind
from recon.intake.queues.parcels import Parcel, Record, Records, parcel_of, records_of, result_of, split
from recon.intake.queues.port import TRIES, Delivery, Process, Queue, RecordStore

LOG = logging.getLogger("recon.queues")
REASON_MAX = 1_000
DIED = f"its workers died {TRIES} times without an answer; look for memory, time and the function's log"

Step = Callable[[Sequence[Delivery]], list[Delivery]]


def store_messages(store: RecordStore, deliveries: Sequence[Delivery]) -> list[Delivery]:
    """Opens parcels in the store."""
    return _together("store", store.put, deliveries)


def finish_messages(store: RecordStore, deliveries: Sequence[Delivery]) -> list[Delivery]:
    """Stores results."""
    return _together("finish", store.finish, deliveries)


def bury_messages(store: RecordStore, deliveries: Sequence[Delivery]) -> list[Delivery]:
    """Makes parcels of dead letters dead."""

    def bury(parcels: Sequence[Parcel]) -> None:
        for parcel in parcels:
            store.bury(parcel, DIED)

    return _together("bury", bury, deliveries)


def bury_unstored(store: RecordStore, deliveries: Sequence[Delivery]) -> list[Delivery]:
    """Stores parcels of the store queue's dead letters, dead."""

    def bury(parcels: Sequence[Parcel]) -> None:
        for parcel in parcels:
            store.put([parcel])
            store.bury(parcel, "it could not be stored; redrive it")

    return _together("bury", bury, deliveries)


def process_messages(
    store: RecordStore, finish: Queue, process_of: Callable[[str], Process], deliveries: Sequence[Delivery]
) -> list[Delivery]:
    """Calls the user's function and sends its results to be finished. ``process_of``: a source's function."""
    failed, done = [], []
    if not deliveries:
        return []
    parcels = [parcel_of(one.body) for one in deliveries]
    for delivery, parcel, is_open in zip(deliveries, parcels, store.are_open(parcels), strict=True):
        if not is_open:
            _log("process", parcel, "was done before")
            continue
        try:
            result = _process(store, process_of(parcel.source), parcel, delivery.received)
        except TryAgain as error:
            _log("process", parcel, type(error).__name__)
            failed.append(delivery)
            continue
        except _Failed:
            failed.append(delivery)
            continue
        done += [result] if result else []
    finish.send([one.body() for one in done])
    return failed


class _Failed(Exception):
    """The message is to be tried again; why is noted."""


def _process(store: RecordStore, process: Process, parcel: Parcel, received: int) -> Parcel | None:
    """The parcel with its results; None if it was split. Raises _Failed."""
    if parcel.count > 1 and received >= TRIES:
        _split(store, parcel, (), "split, since two tries were not answered")
        return None
    records = records_of(parcel)
    try:
        results, errors = _call(process, records)
    except Exception as error:  # the user's function may raise anything
        errors, why, passing = {}, error, transient_kind(error) is not None
    else:
        if not errors:
            return _result(store, parcel, records, results, received)
        why, passing = next(iter(errors.values())), False
    if parcel.count > 1 and not passing:
        _split(store, parcel, tuple(errors), f"split, {type(why).__name__}")
        return None
    store.note(parcel, reason_of(why))
    _log("process", parcel, f"failed, {type(why).__name__}, try {received}")
    raise _Failed


def _result(store: RecordStore, parcel: Parcel, records: Records, results: Sequence[Record], received: int) -> Parcel | None:
    try:
        result = result_of(parcel, records.lines, results)
    except WrongInput as error:
        if parcel.count > 1:
            _split(store, parcel, (), "split, its result does not fit a message or is no text")
            return None
        store.note(parcel, reason_of(error))
        _log("process", parcel, f"failed, no result that can be stored, try {received}")
        raise _Failed from None
    _log("process", parcel, "processed")
    return result


def _call(process: Process, records: Records) -> tuple[list[Record], dict[int, Exception]]:
    """The function's results, and its errors by position. Raises what it raises."""
    found = process(records.rows())
    if not isinstance(found, Sequence) or len(found) != len(records.lines):
        size = len(found) if isinstance(found, Sequence) else type(found).__name__
        raise WrongInput(f"the function gave {size} results for {len(records.lines)} records; give one for each, in their order")
    errors: dict[int, Exception] = {}
    results: list[Record] = []
    for position, one in enumerate(found):
        if isinstance(one, Exception):
            errors[position] = one
        elif isinstance(one, Mapping):
            results.append(dict(one))
        else:
            errors[position] = WrongInput(f"the function gave {type(one).__name__}; give a dict of texts, or an exception")
    return results, errors


def _split(store: RecordStore, parcel: Parcel, at: Sequence[int], why: str) -> None:
    store.split(parcel, split(parcel, at))
    _log("process", parcel, why)


def _together(step: str, work: Callable[[Sequence[Parcel]], None], deliveries: Sequence[Delivery]) -> list[Delivery]:
    """Works on all at once; if that fails, on each alone."""
    parcels: list[Parcel] = []
    try:
        parcels = [parcel_of(one.body) for one in deliveries]
        work(parcels)
    except ReconError as error:
        if len(deliveries) == 1:
            LOG.warning("%s: %s failed, %s", step, parcels[0].shown if parcels else f"message {deliveries[0].id}", type(error).__name__)
            return list(deliveries)
        return [failed for one in deliveries for failed in _together(step, work, [one])]
    for parcel in parcels:
        _log(step, parcel, "done")
    return []


def reason_of(error: Exception) -> str:
    """Why a record failed, for the store."""
    text = str(error) if isinstance(error, ReconError) else f"{type(error).__name__}: {error}"
    return text[:REASON_MAX]


def _log(step: str, parcel: Parcel, outcome: str) -> None:
    LOG.info("%s: %s: %s", step, parcel.shown, outcome)
