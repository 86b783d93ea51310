"""OpenLineage events of the stages: a run of a stage is a run of OpenLineage, whose datasets are the folders of the store.

Sending takes bounded time and never raises: a backend that is away is named once in the log, and asked again a minute later.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

from recon.config import Config
from recon.config.observability import Lineage
from recon.config.secrets import credentials
from recon.errors import ReconError
from recon.storage.redact import shareable

if TYPE_CHECKING:
    from openlineage.client import OpenLineageClient
    from openlineage.client.event_v2 import InputDataset, OutputDataset, RunEvent

PRODUCER = "urn:dagster-recon"
AWAY_S = 60.0
"""After a failure no event is sent for this time."""
_LOG = logging.getLogger(__name__)
_SECTION = "observability.lineage"
Kind = Literal["START", "COMPLETE", "FAIL", "ABORT"]


@dataclass(frozen=True)
class Used:
    """A dataset that a stage reads or writes. ``folder``: of the store. ``rows``, ``size`` in bytes, ``files``: of this run, None if the
    stage does not know them. ``ties``: window → whether rows and money tie, where the stage has found out."""

    folder: str
    rows: int | None = None
    size: int | None = None
    files: int | None = None
    ties: Mapping[str, bool] = field(default_factory=dict)


@dataclass(frozen=True)
class StageRun:
    """A run of a stage. ``run``: its UUID. ``parent``: run and job that it is part of; the run is a UUID, or there is no parent.
    ``first``, ``end``: the time that its windows span."""

    reconciliation: str
    stage: str
    run: str
    parent: tuple[str, str] | None
    first: datetime
    end: datetime


def dataset_of(location: str, folder: str) -> tuple[str, str]:
    """Namespace and name of a folder of a store, by OpenLineage's naming: ``s3://bucket`` and the key, or ``file`` and the path.

    ``location``: of the store, ``s3://bucket/prefix`` or an absolute path."""
    if location.startswith("s3://"):
        bucket, _, prefix = location.removeprefix("s3://").partition("/")
        return f"s3://{bucket}", "/".join(filter(None, (prefix.strip("/"), folder.strip("/"))))
    return "file", f"{location.rstrip('/')}/{folder.strip('/')}"


def emit(
    config: Config, kind: Kind, run: StageRun, inputs: Sequence[Used] = (), outputs: Sequence[Used] = (), error: BaseException | None = None
) -> None:
    """Sends one event, if the configuration names a backend."""
    settings = config.observability.lineage
    if settings.url is None:
        return
    backend = _backend(settings)
    if backend.answers:
        backend.send(lambda: event_of(settings.namespace, config.location, kind, run, (inputs, outputs), error))


def event_of(
    namespace: str,
    location: str,
    kind: Kind,
    run: StageRun,
    used: tuple[Sequence[Used], Sequence[Used]] = ((), ()),
    error: BaseException | None = None,
) -> RunEvent:
    """The event. ``used``: inputs and outputs. The text of an error is shortened, without quoted texts, which may be event data."""
    from openlineage.client.event_v2 import Job, Run, RunEvent, RunState
    from openlineage.client.facet_v2 import error_message_run, job_type_job, nominal_time_run, parent_run

    facets: dict[str, Any] = {
        "nominalTime": nominal_time_run.NominalTimeRunFacet(nominalStartTime=_text(run.first), nominalEndTime=_text(run.end))
    }
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
        job=Job(namespace=namespace, name=f"{run.reconciliation}.{run.stage}", facets=of_job),
        inputs=[_input(location, one) for one in inputs],
        outputs=[_output(location, one) for one in outputs],
        producer=PRODUCER,
    )


def _input(location: str, used: Used) -> InputDataset:
    from openlineage.client.event_v2 import InputDataset
    from openlineage.client.facet_v2 import data_quality_assertions_dataset, input_statistics_input_dataset

    facets: dict[str, Any] = {}
    if (used.rows, used.size, used.files) != (None, None, None):
        facets["inputStatistics"] = input_statistics_input_dataset.InputStatisticsInputDatasetFacet(used.rows, used.size, used.files)
    if used.ties:
        assertions = [
            data_quality_assertions_dataset.Assertion(assertion=f"rows and money of {window} tie", success=ties)
            for window, ties in used.ties.items()
        ]
        facets["dataQualityAssertions"] = data_quality_assertions_dataset.DataQualityAssertionsDatasetFacet(assertions=assertions)
    namespace, name = dataset_of(location, used.folder)
    return InputDataset(namespace=namespace, name=name, inputFacets=facets)


def _output(location: str, used: Used) -> OutputDataset:
    from openlineage.client.event_v2 import OutputDataset
    from openlineage.client.facet_v2 import output_statistics_output_dataset

    facets: dict[str, Any] = {}
    if (used.rows, used.size, used.files) != (None, None, None):
        facets["outputStatistics"] = output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(used.rows, used.size, used.files)
    namespace, name = dataset_of(location, used.folder)
    return OutputDataset(namespace=namespace, name=name, outputFacets=facets)


class _Backend:
    """The backend of one configuration, for all runs of this process."""

    def __init__(self, settings: Lineage) -> None:
        self._settings = settings
        self._client: OpenLineageClient | None = None
        self._away_until = 0.0

    @property
    def answers(self) -> bool:
        """False for a while after a failure."""
        return time.monotonic() >= self._away_until

    def send(self, make: Any) -> None:
        """Sends what ``make`` returns, in bounded time."""
        problems: list[str] = []
        thread = threading.Thread(target=self._send, args=(make, problems), daemon=True)
        thread.start()
        thread.join(2 * self._settings.timeout_s)  # an answer that comes byte by byte exceeds no timeout of the connection
        if thread.is_alive():
            problems.append("it does not answer in time")
        if problems:
            self._away_until = time.monotonic() + AWAY_S
            _LOG.warning("lineage at %s: %s; no events for %.0f s, and the run goes on", self._settings.url, problems[0], AWAY_S)

    def _send(self, make: Any, problems: list[str]) -> None:
        try:
            self._client = self._client or self._opened()
            self._client.emit(make())
        except ModuleNotFoundError as error:
            problems.append(f"{error.name} is not installed; pip install 'dagster-recon[observability]'")
        except ReconError as error:
            problems.append(str(error))
        except Exception as error:
            status = getattr(getattr(error, "response", None), "status_code", None)
            problems.append(f"it answered {status}" if status else f"it could not be reached ({type(error).__name__})")

    def _opened(self) -> OpenLineageClient:
        from openlineage.client import OpenLineageClient
        from openlineage.client.transport.http import ApiKeyTokenProvider, HttpConfig, HttpTransport, TokenProvider

        settings, key = self._settings, credentials(_SECTION, None, self._settings.secret).password
        config = HttpConfig(
            url=str(settings.url),
            endpoint=settings.endpoint,
            timeout=settings.timeout_s,
            auth=ApiKeyTokenProvider({"api_key": key}) if key else TokenProvider({}),
            retry={"total": 0},
        )
        return OpenLineageClient(transport=HttpTransport(config))


@lru_cache(maxsize=32)
def _backend(settings: Lineage) -> _Backend:
    return _Backend(settings)


def _text(time: datetime) -> str:
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
