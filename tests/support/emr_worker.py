"""A worker of the service whose requests' processes ask EMR often: as a program, so that a test may kill it.

It imports nothing of the tests, since each request's process imports it.
"""

from __future__ import annotations

import sys
from pathlib import Path

from recon.api import Reconciliation
from recon.remote import clusters
from recon.storage.aws_calls import Pace


def hurried(path: Path) -> Reconciliation:
    """Opens a reconciliation in a process that asks EMR often."""
    clusters.PACE = Pace(first=0.05, most=0.2, patience=30, logs=30)
    return Reconciliation(path)


def main() -> None:
    import emr_worker  # functions of a module, not of __main__, can be found again by the request's process

    from recon.config.load import load_place
    from recon.service.site import Service
    from recon.service.worker import Worker, stop_on_signals

    one = Worker(Service(load_place(Path(sys.argv[1])), emr_worker.hurried))
    stop_on_signals(one)
    one.work()


if __name__ == "__main__":
    main()
