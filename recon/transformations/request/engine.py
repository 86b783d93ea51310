"""What carries out a request, as it may say."""

from __future__ import annotations

import os
from typing import Annotated, Literal

from pydantic import Field

from recon.config.fields import Section, Size, Text, written
from recon.config.settings import Engine, MemoryLimit

DAEMON = "recon.transformations.engines.spark.daemon"


class SparkSection(Section):
    """``above``: bytes of all inputs from which ``engine: auto`` is Spark. ``master``, ``settings``: of a session that this process starts;
    in spark-submit it takes part in the session that is there. ``slices``: parts that a table is cut into, by default one a core.
    ``memory_limit``: of DuckDB in one task. ``shared``: a folder, or a place in S3, that all machines see, for pieces of outputs; by
    default the request's folder. The machines fetch inputs from S3, and see other inputs under the same paths."""

    above: Size = written("100GB")
    master: Text = "local[*]"
    settings: dict[str, Text] = Field(default={})
    slices: Annotated[int, Field(ge=1, le=100_000)] | None = None
    memory_limit: MemoryLimit = "1GB"
    shared: Text | None = None

    def as_engine(self) -> Engine:
        """The settings of a session."""
        here = self.master.startswith("local") and "PYSPARK_GATEWAY_PORT" not in os.environ  # else other machines may not have it
        ready = {"spark.python.daemon.module": DAEMON} if here else {}
        return Engine(
            kind="spark", master=self.master, settings={**ready, **self.settings}, slices=self.slices, memory_limit=self.memory_limit
        )


EngineName = Literal["auto", "duckdb", "spark"]
