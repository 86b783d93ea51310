"""OpenLineage events as a backend receives them, and what is right of each."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import attr
from openlineage.client import facet_v2
from openlineage.client.event_v2 import InputDataset, OutputDataset, RunEvent


def datasets(event: dict[str, Any], side: str) -> dict[str, dict[str, Any]]:
    """Name → statistics."""
    facet = "inputStatistics" if side == "inputs" else "outputStatistics"
    return {one["name"]: one.get(f"{side[:-1]}Facets", {}).get(facet, {}) for one in event[side]}


def check_types(event: dict[str, Any]) -> None:
    """That the event and its facets have the fields of OpenLineage's own classes, made from its schema, and no other."""
    assert set(event) <= {field.name for field in attr.fields(RunEvent)}
    assert event["schemaURL"].startswith("https://openlineage.io/spec/2-")
    UUID(event["run"]["runId"])
    facets = [*event["run"]["facets"].items(), *event["job"]["facets"].items()]
    for side, kind in (("inputs", InputDataset), ("outputs", OutputDataset)):
        for one in event[side]:
            assert set(one) <= {field.name for field in attr.fields(kind)}
            facets += one.get(f"{side[:-1]}Facets", {}).items()
    for name, facet in facets:
        url = facet["_schemaURL"]
        module = {"parent": "parent_run", "nominalTime": "nominal_time_run", "errorMessage": "error_message_run", "jobType": "job_type_job"}
        module |= {"inputStatistics": "input_statistics_input_dataset", "outputStatistics": "output_statistics_output_dataset"}
        module |= {"tags": "tags_run", "dataQualityAssertions": "data_quality_assertions_dataset"}
        known = getattr(getattr(facet_v2, module[name]), url.rpartition("/")[2])
        assert set(facet) <= {field.name for field in attr.fields(known)} | {"_deleted"}, name


def statistics(**known: int) -> dict[str, Any]:
    return _Statistics(known)


class _Statistics(dict[str, Any]):
    """Equal to a facet with these figures and none other."""

    def __eq__(self, other: object) -> bool:
        assert isinstance(other, dict)
        return dict(self) == {name: value for name, value in other.items() if not name.startswith("_") and value is not None}

    __hash__ = None  # type: ignore[assignment]
