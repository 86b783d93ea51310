"""What makes a command shorter: less collection of garbage, and no pandas for PyArrow's own sake.

Python looks for garbage many times while modules load, and twice more before it ends, when all that a command has loaded is garbage: half
a second of a ``recon run``, most of it among Dagster's modules.

PyArrow imports pandas the first time that it converts anything, an array of NumPy's included, to find out whether it was given a Series.
That takes a quarter of the time of ``recon breaks``, which has no use for pandas. There PyArrow is loaded as if pandas were not installed;
once other code imports pandas, such as the user's logic, PyArrow recognizes it again. ``to_pandas`` imports it as usual.

Commands that let PyArrow convert many Python values, such as ``transform``, do not do so: its C++ code would import pandas a moment later,
and a Ctrl-C in the meantime would be lost, since that import ignores every error.
"""

from __future__ import annotations

import atexit
import gc
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType

_OBJECTS, _YOUNG, _OLDER = 50_000, 20, 50
"""New objects between two collections, and collections between two of the older generations: 70 times Python's own. mypy does the same."""


def collect_less() -> None:
    """To be called once, by a process that carries out one command."""
    gc.set_threshold(_OBJECTS, _YOUNG, _OLDER)
    atexit.register(gc.freeze)  # the last to be called, since it is the first to be registered


def load_no_pandas() -> None:
    """To be called before PyArrow or pandas is loaded; else it does nothing."""
    if "pyarrow" not in sys.modules and "pandas" not in sys.modules:
        sys.meta_path.insert(0, _After({"pyarrow": _without_pandas, "pandas": _with_pandas}))


class _After:
    """A finder that does something after a module was loaded by the finders behind it. ``actions``: name of the module → what to do."""

    def __init__(self, actions: dict[str, Callable[[], None]]) -> None:
        self._actions = actions

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        action = self._actions.pop(name, None)
        spec = None if action is None else find_spec(name)
        if action is None or spec is None or spec.loader is None:
            return None
        load = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            load(module)
            action()

        spec.loader.exec_module = exec_module  # type: ignore[method-assign] # of this one object
        return spec


class _Absent:
    """A finder for which pandas is not installed."""

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> None:
        if name == "pandas":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def _without_pandas() -> None:
    """Lets PyArrow find out that pandas is absent, which it does once. Does nothing while pandas itself loads PyArrow: it is there."""
    if "pandas" in sys.modules:
        return
    import pyarrow as pa

    absent = _Absent()
    sys.meta_path.insert(0, absent)
    try:
        _ = pa.lib._pandas_api.have_pandas
    finally:
        sys.meta_path.remove(absent)


def _with_pandas() -> None:
    """Lets PyArrow find pandas after all."""
    if "pyarrow" in sys.modules:
        import pyarrow as pa

        _ = pa.lib._pandas_api.pd
