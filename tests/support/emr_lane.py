"""A service whose large requests are steps of EMR's stand-in, for tests."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import service_site
from daemons import end_with_parent
from emr_server import EmrCluster
from emr_site import Site
from emr_worker import hurried
from folders import ROOT, SUPPORT

from recon.service.site import Service

SALES = "a,b\nx,1.10\ny,2.00\nx,0.05\n"
SUMS = b"a,total\nx,1.15\ny,2.00\n"


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
    command = [sys.executable, str(SUPPORT / "emr_worker.py"), str(service.place.path)]
    path = os.pathsep.join([str(ROOT), str(SUPPORT)])
    return subprocess.Popen(command, env={**os.environ, "PYTHONPATH": path}, preexec_fn=end_with_parent)
