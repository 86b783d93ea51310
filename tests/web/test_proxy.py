"""The proxy of docs/service.md: TLS in front of the service and of a UI without a login."""

from __future__ import annotations

import os
import re
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import web_site as w
from folders import ROOT
from loopback import free_port, listens, running

CADDY = Path(sys.executable).with_name("caddy")
PASSWORD = "a long word"


class Ui(BaseHTTPRequestHandler):
    """In place of Dagster's UI: shows whoever comes."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"the UI")

    def log_message(self, *given: object) -> None:
        pass


@contextmanager
def proxied(folder: Path, service: str) -> Iterator[httpx.Client]:
    """A client of the proxy, which trusts its certificate."""
    page = (ROOT / "docs" / "service.md").read_text()
    found = re.search(r"^```caddyfile\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert found is not None
    ui, port = ThreadingHTTPServer(("127.0.0.1", 0), Ui), free_port()
    threading.Thread(target=ui.serve_forever, daemon=True).start()
    text = found[1].replace("recon.example {", f"https://localhost:{port} {{\n    tls internal")
    text = text.replace("127.0.0.1:8321", service.removeprefix("http://")).replace("127.0.0.1:3000", f"127.0.0.1:{ui.server_port}")
    (folder / "Caddyfile").write_text("{\n    admin off\n    skip_install_trust\n    auto_https disable_redirects\n}\n" + text)
    hashed = subprocess.run([CADDY, "hash-password", "--plaintext", PASSWORD], capture_output=True, text=True, check=True).stdout.strip()
    environment = {**os.environ, "UI_PASSWORD_HASH": hashed, "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    root = folder / "caddy" / "pki" / "authorities" / "local" / "root.crt"
    try:
        with running([CADDY, "run", "--config", "Caddyfile"], folder, lambda: listens(port) and root.exists(), environment):
            trust = ssl.create_default_context(cafile=str(root))
            with httpx.Client(base_url=f"https://localhost:{port}", verify=trust, timeout=w.WAIT_S) as client:
                yield client
    finally:
        ui.shutdown()
        ui.server_close()


def test_the_service_and_a_ui_behind_one_proxy(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    with w.served_here(tmp_path / "site", oidc_header="X-Recon-Owner") as served, proxied(tmp_path, served.url) as client:
        token = {"Authorization": f"Bearer {served.token()}"}
        w.problem(client.get("/v1/requests"), 401, "not-logged-in")
        assert client.get("/v1/requests", headers=token).json()["items"] == []
        assert served.anyone().get("/v1/requests", headers={"X-Recon-Owner": "finance"}).status_code == 200
        w.problem(client.get("/v1/requests", headers={"X-Recon-Owner": "finance"}), 401, "not-logged-in")
        upload = client.post("/v1/uploads", params={"name": "a.csv"}, content=iter([b"x" * 1_000_000] * 5), headers=token)
        assert upload.json()["bytes"] == 5_000_000
        assert client.get("/").status_code == 401
        assert client.get("/", auth=("controller", "wrong")).status_code == 401
        assert client.get("/", auth=("controller", PASSWORD)).text == "the UI"
        for inside in ("/metrics", "/health/live", "/v1/../metrics"):
            assert client.get(inside).status_code in (401, 404)
