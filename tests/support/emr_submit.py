#!/usr/bin/env python3
"""In the place of ``spark-submit``, for tests of what is around a step: $EMR_DOES says what it does.

    carries out      what was asked, by DuckDB in this process
    waits for FILE   the same, once there is such a file
    <shell command>  that, in place of it

Belongs here: standing in for Spark where a test is not about Spark. Does not belong here: any test.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import replace
from pathlib import Path


def main() -> int:
    does = os.environ["EMR_DOES"]
    if Path(does).is_file():  # so that a test may change it meanwhile
        does = Path(does).read_text()
    if does.startswith("waits for "):
        while not Path(does.removeprefix("waits for ")).exists():
            time.sleep(0.05)
    elif does != "carries out":
        os.execvp("bash", ["bash", "-c", does])
    from recon.cli import spark
    from recon.remote import worker

    result = worker._result
    worker.open_session = lambda engine: None
    duckdb = {"kind": "duckdb"}
    worker._result = lambda config, asked, tell: result(replace(config, engine=config.engine.model_copy(update=duckdb)), asked, tell)
    script = next(place for place, word in enumerate(sys.argv) if word.endswith("recon_spark.py"))
    return spark.main(sys.argv[script + 1 :])


if __name__ == "__main__":
    sys.exit(main())
