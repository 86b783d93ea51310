"""Reduce on Spark: one task per small window; large windows are cut into files, then into slices of the hash space."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from recon.config import Config
from recon.engines.duckdb.window import reduce_window
from recon.engines.spark.reduce_large import reduce_large
from recon.engines.spark.tasks import attempted
from recon.errors import ReconError
from recon.intake.manifests import Manifest
from recon.state.reduced import Figures
from recon.storage.port import ObjectStore

SMALL_BYTES = 64 << 20
"""Bytes of landed files up to which one task reduces the window."""


def reduce_range(store: ObjectStore, config: Config, manifests: Sequence[Manifest]) -> Iterator[Figures]:
    """See recon.engines.port.Engine.reduce. All windows of the range are reduced before the first is yielded."""
    large = [m for m in manifests if m.files and sum(file.bytes for file in m.files) > SMALL_BYTES]
    small = [m for m in manifests if m not in large]
    reduced: dict[str, Figures | ReconError] = {}
    for some, found in ((small, attempted(config, "reduce", _reduce_small, small)), (large, reduce_large(store, config, large))):
        reduced |= {manifest.window: result for manifest, result in zip(some, found, strict=True)}
    for manifest in manifests:
        result = reduced[manifest.window]
        if isinstance(result, ReconError):
            raise result
        yield result


def _reduce_small(store: ObjectStore, config: Config, manifest: Manifest) -> Figures:
    return reduce_window(store, config, manifest)
