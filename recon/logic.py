"""User logic: a function ``module:function`` on Arrow tables, after reduce and after merge, where the vocabulary ends.

Belongs here: finding, calling and checking that function. Does not belong here: any rule of reconciliation.

The function is called as ``function(table, stage)`` with ``stage`` ``"reduce"`` or ``"merge"`` and returns a table of the same rows in
the same order with the same columns and types; it may change values of measures (reduce), derived values and status (merge). A
result must depend on a row alone: rows come in batches of any size and order.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from recon.config import Config
from recon.errors import ReconError, WrongInput, WrongUsage

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
    try:
        function = _function(config.path.parent, *config.logic.split(":", 1), config.rules_version)
    except Exception as error:  # whatever the module does as it is loaded
        raise WrongUsage(f"{config.path}: logic: {config.logic!r} cannot be loaded ({error}); name it module:function") from None
    try:
        judged = function(table, stage)
    except ReconError:
        raise
    except Exception as error:
        raise WrongInput(
            f"{config.path}: logic: {config.logic} failed after {stage} ({type(error).__name__}: {error}); nothing was committed"
        ) from error
    if getattr(judged, "schema", None) != table.schema:
        raise WrongUsage(f"{config.path}: logic: after {stage} it returned other columns or types than it was given; return them all")
    for name in _KEPT[stage]:
        if not judged.column(name).equals(table.column(name)):
            raise WrongUsage(f"{config.path}: logic: after {stage} it changed {name!r} or the order of rows; those must stay")
    return judged


@lru_cache(maxsize=64)
def _function(folder: Path, module_name: str, function_name: str, rules_version: str) -> Callable[[pa.Table, str], pa.Table]:
    """The function of a module beside recon.yaml, else of an installed one.

    A module beside is loaded by its path and under a name of its own: two reconciliations may both have a ``rules.py``.
    ``rules_version`` is a digest of its source too: a process that lives on must not judge by what the file said before."""
    file = folder.joinpath(*module_name.split(".")).with_suffix(".py")
    if file.is_file():
        unique = f"recon_logic_{hashlib.sha256(str(file).encode()).hexdigest()[:16]}"
        spec = importlib.util.spec_from_file_location(unique, file)
        assert spec is not None
        module = importlib.util.module_from_spec(spec)
        # Not by the loader, which may take a stale .pyc where the file was edited within the same second.
        exec(compile(file.read_bytes(), str(file), "exec"), vars(module))  # noqa: S102 - the user's own rules
    else:
        module = importlib.import_module(module_name)
    function: Callable[[pa.Table, str], pa.Table] = getattr(module, function_name)
    return function
