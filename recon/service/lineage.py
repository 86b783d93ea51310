"""The lineage of the service's requests: the owner's files are datasets, and so are all uploads together, and all results together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from recon.operations import request_lineage
from recon.operations.request_lineage import Names
from recon.operations.transforming import table_of
from recon.service.results import RESULTS, UPLOADS
from recon.service.submissions import UPLOAD, Submission
from recon.transformations.request.model import Request

if TYPE_CHECKING:
    from recon.service.site import Service

Done = Callable[[Mapping[str, Any]], None]
"""Takes the certificate."""


@contextmanager
def reported(service: Service, one: Submission, request: Request) -> Iterator[Done]:
    """A block that carries out a request, of which lineage is sent. Neither the name of an upload nor the place of a result is in it: who
    knows the latter may read the result."""
    place, results = service.place, service.results

    def written(path: str) -> str:
        return path if "/" in path else results.folder(RESULTS)

    def read(path: str) -> str:
        return results.folder(UPLOADS) if path.startswith(UPLOAD) else path

    names = Names(lambda table: table_of(service.open_readers(place.path), table), read, written)
    with request_lineage.reported(place, f"service.{one.lane}", lambda: request, names) as sent:
        yield lambda certificate: sent.complete(lambda: request_lineage.used_by(place, request, names, certificate))
