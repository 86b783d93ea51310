"""What a request takes from the reconciliation, or the machine, that carries it out."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from recon.config.settings import Engine, S3Settings
from recon.transformations.inputs.opening import Fetch
from recon.transformations.request.model import Request


@dataclass(frozen=True)
class Site:
    """``fetch``: reads inputs that a reconciliation has. ``s3``: settings of objects in S3. ``spark``: where Spark runs, as far as the
    request does not say it. ``engine``: in place of the request's. ``today``: where the request has no ``as_of``. ``shared``: where Spark's
    machines put pieces of outputs, where the request does not say it."""

    fetch: Fetch | None = None
    s3: S3Settings | None = None
    spark: Engine | None = None
    engine: str | None = None
    today: date | None = None
    shared: str | None = None

    def fill(self, request: Request) -> Request:
        """The request with what it does not say itself."""
        own: dict[str, object] = {} if self.shared is None else {"shared": self.shared}
        if self.spark is not None:
            own |= {name: getattr(self.spark, name) for name in ("master", "settings", "slices", "memory_limit")}
        written = request.spark.model_fields_set
        spark = request.spark.model_copy(update={name: value for name, value in own.items() if name not in written})
        as_of = request.as_of or self.today
        return request.model_copy(update={"spark": spark, "engine": self.engine or request.engine, "as_of": as_of})
