"""The code location of Recon alone: ``dagster code-server start --module-name recon_dagster.definitions``."""

from __future__ import annotations

from jobs.definitions import defs

__all__ = ["defs"]
