"""Recon reconciles financial events at high volume: complete per window, safe to replay, exact, traceable.

``recon.open("recon.yaml")`` is the way in; see recon.api.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from recon.api import Reconciliation, open

__all__ = ["Reconciliation", "open"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Loads the interface when it is first asked for, so that the command line starts fast."""
    if name in __all__:
        from recon import api

        return getattr(api, name)
    raise AttributeError(f"module 'recon' has no attribute {name!r}")
