"""Constants of carrying forward so small that small histories reach them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from unittest.mock import patch

from recon.engines.duckdb import carried_forward, reduce
from recon.verification import carried_forward as verification_blocks
from recon.verification import expected as verification_expected


@contextmanager
def small(ids_max: int = 4096) -> Iterator[None]:
    """Keys of more than 3 windows fold, the border moves by 2, and lies two horizons (of one window each) and 2 behind."""
    with ExitStack() as patches:
        for module in (carried_forward, verification_blocks):
            patches.enter_context(patch.object(module, "FOLD_MIN", 3))
            patches.enter_context(patch.object(module, "STEP", 2))
        for module in (reduce, verification_expected):
            patches.enter_context(patch.object(module, "IDS_MAX", ids_max))
        yield
