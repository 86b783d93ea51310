"""Names of datasets by OpenLineage's naming: a namespace, and a name in it. Neither has credentials."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

_S3 = "s3://"
_ROOT = "/"


class Dataset(NamedTuple):
    """A dataset's namespace, such as ``s3://bucket``, and its name, such as the key."""

    namespace: str
    name: str


@dataclass(frozen=True)
class Used:
    """A dataset that a run reads or writes. ``place``: the dataset, or a folder of the store. ``rows``, ``size`` in bytes, ``files``: of
    this run, None if the run does not know them. ``checks``: what was examined → whether it is right, where the run has found out."""

    place: Dataset | str
    rows: int | None = None
    size: int | None = None
    files: int | None = None
    checks: Mapping[str, bool] = field(default_factory=dict)


def dataset_at(location: str) -> Dataset:
    """The dataset of a folder or file: ``s3://bucket/key``, or an absolute path."""
    if location.startswith(_S3):
        bucket, _, key = location.removeprefix(_S3).partition("/")
        return Dataset(f"{_S3}{bucket}", key.strip("/") or _ROOT)
    return Dataset("file", location.rstrip("/") or _ROOT)


def dataset_of(location: str, folder: str) -> Dataset:
    """The dataset of a folder of a store. ``location``: of the store, ``s3://bucket/prefix`` or an absolute path."""
    return dataset_at(f"{location.rstrip('/')}/{folder.strip('/')}")
