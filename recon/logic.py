"""User logic: a function ``module:function`` on Arrow tables, after reduce and after merge, where the vocabulary ends.

Belongs here: finding, calling and checking that function. Does not belong here: any rule of reconciliation.

The function is called as ``function(table, stage)`` with ``stage`` ``"reduce"`` or ``"merge"`` and returns a table of the same rows in
the same order with the same columns and types; it may change values of measures (reduce), derived values and status (merge). A
result must depend on a row alone: rows come in batches of any size and order.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING

from recon.config import Config
from recon.errors import WrongUsage

if TYPE_CHECKING:
    import pyarrow as pa

_KEPT = {"reduce": ("hi", "lo", "key", "n", "ids"), "merge": ("key",)}


def after_reduce(config: Config, table: pa.Table) -> pa.Table:
    """Artifacts of one window: hi, lo, key, n, ids, then ``m_<name>`` per measure."""
    return _call(config, table, "reduce")


def after_merge(config: Config, table: pa.Table) -> pa.Table:
    """Artifacts as they will stand: key, status, ``m_<name>`` per measure, ``x_<name>`` per derived value."""
    return _call(config, table, "merge")


def _call(config: Config, table: pa.Table, stage: str) -> pa.Table:
    assert config.logic is not None
    module_name, _, function_name = config.logic.partition(":")
    folder = str(config.path.parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        function = getattr(importlib.import_module(module_name), function_name)
    except (ImportError, AttributeError) as error:
        raise WrongUsage(
            f"{config.path}: logic: {config.logic!r} cannot be loaded ({error}); name it module:function"
        ) from None
    judged = function(table, stage)
    if judged.schema != table.schema:
        raise WrongUsage(
            f"{config.path}: logic: after {stage} it returned other columns or types than it was given; return them all"
        )
    for name in _KEPT[stage]:
        if not judged.column(name).equals(table.column(name)):
            raise WrongUsage(
                f"{config.path}: logic: after {stage} it changed {name!r} or the order of rows; those must stay"
            )
    return judged
