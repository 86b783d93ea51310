"""A transformation as a step: what the submitter tells the cluster, and the cluster's side."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from recon.config import Config
from recon.storage.port import ObjectStore
from recon.transformations.request.inputs import Input
from recon.transformations.run import carry_out, tables_of, unchecked_request
from recon.transformations.site import Site

STAGE = "transform"
"""In the place of a stage's name."""


class Order(BaseModel):
    """``request``: as it was written. ``as_of``: what TODAY is. ``certificate``: where its certificate is written in S3. ``inputs``: what
    is read of the reconciliation, as shown → path in the store. ``pieces``: the store's folder for pieces of outputs."""

    request: dict[str, Any]
    as_of: date
    certificate: str | None
    inputs: dict[str, str]
    pieces: str


def carried_out(store: ObjectStore, config: Config, order: str, tell: Callable[[str], None]) -> dict[str, Any]:
    """Carries out an order with the engine that ``config`` names, and returns the certificate. ``tell``: gets a line for each operation.
    Raises as ``recon.transformations.run.carry_out``."""
    wanted = Order.model_validate_json(order)

    def fetch(given: Input, folder: Path) -> Path | str:
        path = wanted.inputs[given.shown]
        return store.local(path) or f"{config.location}/{path}"

    local = store.local(wanted.pieces)
    if local is not None:
        local.mkdir(parents=True, exist_ok=True)
    shared = f"{config.location}/{wanted.pieces}" if local is None else str(local)
    site = Site(fetch, config.s3, config.engine, config.engine.kind, wanted.as_of, shared)
    with tempfile.TemporaryDirectory(prefix="recon-transform-") as folder:
        file = Path(folder) / "request.json"
        file.write_text(json.dumps(wanted.request), encoding="utf-8")
        seen = {""}

        def progress(stage: str, windows: str, share: float) -> None:
            if windows not in seen:
                seen.add(windows)
                tell(f"{share:.0%} {windows}")

        # A certificate on the submitter's machine is written there.
        asked = replace(unchecked_request(file, site=site), certificate=wanted.certificate)
        tables_of(asked)
        return carry_out(asked, progress)
