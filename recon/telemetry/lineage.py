"""OpenLineage events of stages, deliveries, aggregations and transformations: each execution is a run of a job, with its datasets.

Datasets of the store are its folders. Sending takes bounded time and never raises: a backend that is away is named once in the log, and
asked again a minute later.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from recon.config.observability import Lineage
from recon.errors import Cancelled, NotReady
from recon.storage.redact import shareable
from recon.telemetry import logs
from recon.telemetry.datasets import Dataset, Used, dataset_of
from recon.telemetry.lineage_backend import backend_of

if TYPE_CHECKING:
    from openlineage.client.event_v2 import InputDataset, OutputDataset, RunEvent

PRODUCER = "urn:dagster-recon"
CHECKS_MAX = 100
"""Checks of a dataset that an event lists; those that failed come first."""
Kind = Literal["START", "COMPLETE", "FAIL", "ABORT"]
Datasets = tuple[Sequence[Used], Sequence[Used]]
"""Inputs and outputs."""
_NONE: Datasets = ((), ())
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class JobRun:
    """A run of a job. ``job``: its name, such as ``orders.merge``. ``location``: of the store, for datasets that are its folders. ``span``:
    the time of its windows, first and end; None for a run without windows. ``run``: its UUID. ``parent``: run and job that it is part of;
    the run is a UUID, or there is no parent."""

    job: str
    location: str
    span: tuple[datetime, datetime] | None = None
    parent: tuple[str, str] | None = None
    run: str = field(default_factory=lambda: str(uuid.uuid4()))


def parent_of(job: str) -> tuple[str, str] | None:
    """The run, of Dagster or of the library, that this code is part of, and its job. ``job``: its name where Dagster does not run it."""
    run = str(logs.fields().get("run", ""))
    with suppress(ValueError):
        return str(uuid.UUID(run)), str(logs.fields().get("job") or job)
    return None


def kind_of(error: BaseException) -> Literal["FAIL", "ABORT"]:
    """The event of a run that ended with an error. What is not ready, and a person who interrupts, abort a run; it has not failed."""
    aborted = isinstance(error, NotReady | Cancelled) or not isinstance(error, Exception)
    return "ABORT" if aborted else "FAIL"


def emit(settings: Lineage, kind: Kind, run: JobRun, used: Datasets = _NONE, error: BaseException | None = None) -> None:
    """Sends one event, if the settings name a backend. ``used``: inputs and outputs."""
    if settings.url is None:
        return
    backend = backend_of(settings)
    if backend.answers:
        backend.send(lambda: event_of(settings.namespace, kind, run, used, error))


class Reported:
    """The datasets of a run whose lineage is sent."""

    def __init__(self, on: bool, used: Callable[[], Datasets]) -> None:
        self._on = on
        self.used = _safe(used) if on else _NONE

    def complete(self, used: Callable[[], Datasets]) -> None:
        """Replaces inputs and outputs by those with figures, at the end of the block. ``used`` is asked only if lineage is sent."""
        if self._on:
            self.used = _safe(used)


@contextmanager
def reported(settings: Lineage, run: JobRun, used: Callable[[], Datasets]) -> Iterator[Reported]:
    """A block that is a run: its beginning, and its end or failure, are sent. ``used``: inputs and outputs as known at the beginning. It is
    called only if the settings name a backend; if it raises, the events have no datasets, and the run goes on."""
    found = Reported(settings.url is not None, used)
    emit(settings, "START", run, found.used)
    try:
        yield found
    except BaseException as error:
        emit(settings, kind_of(error), run, found.used, error)
        raise
    emit(settings, "COMPLETE", run, found.used)


def _safe(used: Callable[[], Datasets]) -> Datasets:
    try:
        return used()
    except Exception as error:
        _LOG.warning("lineage: the datasets of a run are unknown: %s: %s", type(error).__name__, shareable(str(error)))
        return _NONE


def event_of(namespace: str, kind: Kind, run: JobRun, used: Datasets = _NONE, error: BaseException | None = None) -> RunEvent:
    """The event. The text of an error is shortened, without quoted texts, which may be event data."""
    from openlineage.client.event_v2 import Job, Run, RunEvent, RunState
    from openlineage.client.facet_v2 import error_message_run, job_type_job, nominal_time_run, parent_run

    facets: dict[str, Any] = {}
    if run.span is not None:
        first, end = run.span
        facets["nominalTime"] = nominal_time_run.NominalTimeRunFacet(nominalStartTime=_text(first), nominalEndTime=_text(end))
    if run.parent is not None:
        parent, job = run.parent
        facets["parent"] = parent_run.ParentRunFacet(parent_run.Run(runId=parent), parent_run.Job(namespace, job))
    if error is not None:
        message = f"{type(error).__name__}: {shareable(str(error))}" if str(error) else type(error).__name__
        facets["errorMessage"] = error_message_run.ErrorMessageRunFacet(message=message, programmingLanguage="python")
    of_job: dict[str, Any] = {"jobType": job_type_job.JobTypeJobFacet(processingType="BATCH", integration="RECON", jobType="TASK")}
    inputs, outputs = used
    return RunEvent(
        eventType=RunState[kind],
        eventTime=_text(datetime.now(UTC)),
        run=Run(runId=run.run, facets=facets),
        job=Job(namespace=namespace, name=run.job, facets=of_job),
        inputs=[_input(_place(run, one), one) for one in inputs],
        outputs=[_output(_place(run, one), one) for one in outputs],
        producer=PRODUCER,
    )


def _place(run: JobRun, used: Used) -> Dataset:
    return used.place if isinstance(used.place, Dataset) else dataset_of(run.location, used.place)


def _input(place: Dataset, used: Used) -> InputDataset:
    from openlineage.client.event_v2 import InputDataset
    from openlineage.client.facet_v2 import data_quality_assertions_dataset, input_statistics_input_dataset

    facets: dict[str, Any] = {}
    if (used.rows, used.size, used.files) != (None, None, None):
        facets["inputStatistics"] = input_statistics_input_dataset.InputStatisticsInputDatasetFacet(used.rows, used.size, used.files)
    if used.checks:
        found = sorted(used.checks.items(), key=lambda check: check[1])[:CHECKS_MAX]
        assertions = [data_quality_assertions_dataset.Assertion(assertion=check, success=right) for check, right in found]
        facets["dataQualityAssertions"] = data_quality_assertions_dataset.DataQualityAssertionsDatasetFacet(assertions=assertions)
    return InputDataset(namespace=place.namespace, name=place.name, inputFacets=facets)


def _output(place: Dataset, used: Used) -> OutputDataset:
    from openlineage.client.event_v2 import OutputDataset
    from openlineage.client.facet_v2 import output_statistics_output_dataset

    facets: dict[str, Any] = {}
    if (used.rows, used.size, used.files) != (None, None, None):
        facets["outputStatistics"] = output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(used.rows, used.size, used.files)
    return OutputDataset(namespace=place.namespace, name=place.name, outputFacets=facets)


def _text(time: datetime) -> str:
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
