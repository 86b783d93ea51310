"""Calls user logic: a function on Arrow tables, after reduce and after merge, for rules that the vocabulary cannot express.

The call is ``function(table, stage)`` with ``stage`` ``"reduce"`` or ``"merge"``. It returns a table of the same rows in the same order
with the same columns and types; it may change measures (reduce), derived values and status (merge). The result must depend on each row
alone, since batches have any size and order.
"""

from __future__ import annotations

import builtins
import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from threading import RLock
from types import ModuleType
from typing import TYPE_CHECKING

from recon.errors import ReconError, WrongInput, WrongUsage

if TYPE_CHECKING:
    import pyarrow as pa

    from recon.logic.source import LogicSource

_KEPT = {"reduce": ("hi", "lo", "key", "n", "ids"), "merge": ("key",)}


def after_reduce(source: LogicSource | None, place: str, table: pa.Table) -> pa.Table:
    """Calls the logic on a window's artifacts: columns hi, lo, key, n, ids, then ``m_<name>`` per measure. ``place``: file and field, for
    errors. Raises WrongUsage for forbidden changes, WrongInput if the function fails."""
    return _call(source, place, table, "reduce")


def after_merge(source: LogicSource | None, place: str, table: pa.Table) -> pa.Table:
    """Calls the logic on merged artifacts: columns key, status, ``m_<name>`` per measure, ``x_<name>`` per derived value. Raises like
    ``after_reduce``."""
    return _call(source, place, table, "merge")


def _call(source: LogicSource | None, place: str, table: pa.Table, stage: str) -> pa.Table:
    assert source is not None, "callers check that there is logic"
    name = f"{source.module.name}:{source.function}"
    try:
        function = function_of(source)
    except ReconError as error:
        raise type(error)(f"{place}: {error}") from None
    except Exception as error:  # the module may raise anything while it is loaded
        raise WrongUsage(f"{place}: {name!r} cannot be loaded ({error}); name it module:function") from None
    try:
        judged = function(table, stage)
    except ReconError:
        raise
    except Exception as error:
        raise WrongInput(f"{place}: {name} failed after {stage} ({type(error).__name__}: {error}); nothing was committed") from error
    if getattr(judged, "schema", None) != table.schema:
        raise WrongUsage(f"{place}: after {stage} it returned other columns or types than it was given; return them all")
    for name in _KEPT[stage]:
        if not judged.column(name).equals(table.column(name)):
            raise WrongUsage(f"{place}: after {stage} it changed {name!r} or the order of rows; those must stay")
    return judged


@lru_cache(maxsize=64)
def function_of(source: LogicSource) -> Callable[[pa.Table, str], pa.Table]:
    """The function, made from the text that the rules version is a digest of, even if the file has changed since."""
    name = source.module.name
    with _loading:
        if not source.installed:
            module = _OwnModules(source).load(name)
        elif _installed.setdefault(name, source) != source:
            raise WrongUsage(f"{name} was installed anew since this process loaded it; start the process again")
        else:
            module = importlib.import_module(name)
    function: Callable[[pa.Table, str], pa.Table] = getattr(module, source.function)
    return function


_loading = RLock()
_installed: dict[str, LogicSource] = {}
"""Installed modules that this process has loaded. Python does not reload them or their imports."""


class _OwnModules:
    """The user's own modules of one rules version, separate from equally named modules of other versions and reconciliations. They are real
    modules under a prefix; their import statements find each other by plain names."""

    def __init__(self, source: LogicSource) -> None:
        self._modules = {module.name: module for module in (source.module, *source.own)}
        texts = "".join(f"{module.path}\0{module.text}\0" for module in self._modules.values())
        self._prefix = f"recon_logic_{hashlib.sha256(texts.encode()).hexdigest()[:16]}"
        self._builtins = {**vars(builtins), "__import__": self._import}
        root = ModuleType(self._prefix)
        root.__path__ = []
        self._root = sys.modules.setdefault(self._prefix, root)

    def load(self, name: str) -> ModuleType:
        """The module of this name. Executes it once, after its packages."""
        if not name:
            return self._root
        full = f"{self._prefix}.{name}"
        if full in sys.modules:
            return sys.modules[full]
        if name not in self._modules:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        source = self._modules[name]
        package, _, last = name.rpartition(".")
        above = self.load(package)
        module = ModuleType(full)
        vars(module).update(__file__=str(source.path), __builtins__=self._builtins)
        module.__package__ = full if source.package else above.__name__
        if source.package:
            module.__path__ = []
        sys.modules[full] = module
        try:
            exec(compile(source.text, str(source.path), "exec"), vars(module))  # noqa: S102 - the user's own rules
        except BaseException:
            del sys.modules[full]
            raise
        setattr(above, last, module)
        return module

    def _import(
        self,
        name: str,
        globals: Mapping[str, object] | None = None,
        locals: Mapping[str, object] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        """Replaces ``__import__`` in the modules: loads the user's own modules here, all others like Python."""
        if level:
            absolute = importlib.util.resolve_name("." * level + name, str((globals or {})["__package__"]))
            name = absolute[len(self._prefix) + 1 :]
        elif name.partition(".")[0] not in self._modules:
            return __import__(name, globals, locals, fromlist or (), 0)
        module = self.load(name)
        for item in fromlist or ():
            if f"{name}.{item}".lstrip(".") in self._modules:
                self.load(f"{name}.{item}".lstrip("."))
        return module if fromlist else self.load(name.partition(".")[0])
