"""What tests change in the processes of Dagster: Python loads this module first where its folder is on PYTHONPATH.

$RECON_TEST_FAULTS names a folder. Below it ``kill/<path of an object, with + for />`` is the beginning of the path before the writing of
which a process kills itself, as ``kill -9`` does; the file is removed by the one process that dies of it. ``break/<path>`` names in the
same way the beginning of paths before the writing of which a process runs out of memory. While there is a file ``full``, no process can
write anything to the store, as on a full disk.

The daemon looks at sensors and backfills every two seconds here, where Dagster has 5 and 30 seconds, and does not load the code anew every
minute, for which it starts another code server. The code server forks each run from a process that has imported everything, where Dagster
starts Python anew, which takes some three seconds of a core.
"""

import errno
import os
import signal
import sys
from pathlib import Path

if told := os.environ.get("RECON_TEST_FAULTS"):
    import recon.storage.local

    folder = Path(told)
    real_put, real_write = recon.storage.local.LocalStore.put_new, recon.storage.local._write_synced

    def put_new(self, path, chunks):
        for marker in (folder / "kill").iterdir():
            if path.startswith(marker.name.replace("+", "/")):
                try:
                    marker.unlink()
                except FileNotFoundError:
                    continue  # another process dies of it
                os.kill(os.getpid(), signal.SIGKILL)
        if any(path.startswith(marker.name.replace("+", "/")) for marker in (folder / "break").glob("*")):
            raise MemoryError
        return real_put(self, path, chunks)

    def write_synced(file, chunks, *more):
        if (folder / "full").exists():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real_write(file, chunks, *more)

    recon.storage.local.LocalStore.put_new, recon.storage.local._write_synced = put_new, write_synced

if "dagster._daemon" in sys.orig_argv:
    import dagster._daemon.controller
    import dagster._daemon.sensor

    dagster._daemon.sensor.MIN_INTERVAL_LOOP_TIME = dagster._daemon.controller.DEFAULT_DAEMON_INTERVAL_SECONDS = 2
    dagster._daemon.controller.RELOAD_WORKSPACE_INTERVAL = 3600

if {"api", "grpc"} <= set(sys.orig_argv):
    import multiprocessing
    import types

    import dagster._grpc.server

    forking = multiprocessing.get_context("forkserver")
    forking.set_forkserver_preload(
        ["dagster._grpc.server", "jobs.build", "recon.api", "recon.stages.pipeline", "duckdb", "pyarrow.parquet"]
    )
    dagster._grpc.server.multiprocessing = types.SimpleNamespace(get_context=lambda _: forking)
