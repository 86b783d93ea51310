"""A service whose large requests are steps of EMR's stand-in, for tests. What the request's process imports is here too."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import service_site
from daemons import end_with_parent
from emr_server import EmrCluster
from emr_site import Site
from folders import ROOT

from recon.api import Reconciliation
from recon.remote import clusters
from recon.service.site import Service
from recon.storage.aws_calls import Pace

SALES = "a,b\nx,1.10\ny,2.00\nx,0.05\n"
SUMS = b"a,total\nx,1.15\ny,2.00\n"


def hurried(path: Path) -> Reconciliation:
    """Opens a reconciliation in a process that asks EMR often."""
    clusters.PACE = Pace(first=0.05, most=0.2, patience=30, logs=30)
    return Reconciliation(path)


def service_on(site: Site, folder: Path, cluster: EmrCluster, bucket: str, **settings: Any) -> Service:
    """All requests are large. Owners read and write ``s3://bucket/in/`` and ``out/``."""
    engine = {"kind": "emr", "cluster": cluster.id, "package": "/home/hadoop/recon"}
    rights = {"read": f"s3://{bucket}/in/", "write": f"s3://{bucket}/out/"}
    owners = {"owners": {"finance": dict(rights), "sales": dict(rights)}}
    service = service_site.service_in(
        folder, **owners, results=f"s3://{bucket}/service", small_up_to="1KB", large={"engine": engine}, **settings
    )
    hurried(service.place.path).store(create=True)
    service.open_readers = hurried
    return service


def worker(service: Service) -> subprocess.Popen[bytes]:
    """A worker in a process of its own, which can be killed."""
    command = [sys.executable, str(Path(__file__)), str(service.place.path)]
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests" / "support")])
    return subprocess.Popen(command, env={**os.environ, "PYTHONPATH": path}, preexec_fn=end_with_parent)


def main() -> None:
    import emr_lane  # functions of a module, not of __main__, can be found again by the request's process

    from recon.config.load import load_place
    from recon.service.worker import Worker, stop_on_signals

    one = Worker(Service(load_place(Path(sys.argv[1])), emr_lane.hurried))
    stop_on_signals(one)
    one.work()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    main()
