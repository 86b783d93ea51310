"""The origin of runs that start outside the code location: the job and location that they belong to."""

from __future__ import annotations

import sys
from pathlib import Path

from dagster._core.code_pointer import FileCodePointer
from dagster._core.definitions.repository_definition import SINGLETON_REPOSITORY_NAME
from dagster._core.origin import DEFAULT_DAGSTER_ENTRY_POINT, JobPythonOrigin, RepositoryPythonOrigin
from dagster._core.remote_origin import ManagedGrpcPythonEnvCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin

LOCATION, ATTRIBUTE = "recon", "defs"
"""The names in workspace.yaml. Dagster finds a run's job by the names of location, repository and job."""
_FILE = Path(__file__).resolve().with_name("definitions.py")
ROOT = Path(__file__).resolve().parents[__name__.count(".")]
"""The folder that has Recon's packages: the checkout, or site-packages."""


def remote_origin(job: str) -> RemoteJobOrigin:
    """The job's origin for the UI and the daemon, which look it up in their workspace."""
    target = LoadableTargetOrigin(python_file=str(_FILE), working_directory=str(ROOT), attribute=ATTRIBUTE)
    location = ManagedGrpcPythonEnvCodeLocationOrigin(target, LOCATION)
    return RemoteJobOrigin(RemoteRepositoryOrigin(location, SINGLETON_REPOSITORY_NAME), job)


def code_origin(job: str) -> JobPythonOrigin:
    """The job's origin for a process that executes the run."""
    pointer = FileCodePointer(str(_FILE), ATTRIBUTE, str(ROOT))
    return JobPythonOrigin(job, RepositoryPythonOrigin(sys.executable, pointer, entry_point=DEFAULT_DAGSTER_ENTRY_POINT))
