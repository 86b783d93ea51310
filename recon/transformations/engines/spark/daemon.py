"""Spark's process that forks its Python workers, with all imported that a task needs: else each worker imports it anew, for a second."""

from __future__ import annotations

import duckdb
import numpy as np
import pyarrow as pa
from pyspark import daemon, worker

from recon.transformations.engines.spark import tasks

READY = (duckdb, np, pa, worker, tasks)

if __name__ == "__main__":
    daemon.manager()
