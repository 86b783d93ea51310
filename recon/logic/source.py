"""Finds the source of user logic: its module with the user's own modules that it imports, or the distribution it was installed from.

The user's own modules are those beside recon.yaml, or beside the logic's module if that is elsewhere on the Python path, that import
statements reach transitively. The standard library and installed packages are not the user's own.
"""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.util
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from recon.errors import WrongUsage


@dataclass(frozen=True)
class Module:
    """A module as it was when the configuration was read. ``name``: dotted, as in imports. ``package``: whether it is a package."""

    name: str
    path: Path
    text: str
    package: bool


@dataclass(frozen=True)
class LogicSource:
    """The function ``module:function`` and its source.

    ``own``: the user's own modules that ``module`` imports, with their packages, by name. ``distribution``: name and version of the
    distribution that ``module`` was installed from; its version then replaces ``own``, which is empty."""

    module: Module
    function: str
    own: tuple[Module, ...]
    distribution: str | None
    installed: bool

    def meaning(self) -> list[object]:
        """The parts that give artifacts their meaning, for the rules version."""
        parts: list[object] = [self.module.text, *([module.name, module.text] for module in self.own)]
        return [*parts, self.distribution] if self.distribution else parts


def find(name: str, function: str, folder: Path, field: str) -> LogicSource:
    """Finds the logic ``name:function`` of a recon.yaml in ``folder``; executes nothing. Raises WrongUsage that begins with ``field``."""
    beside = _file(folder, name)
    path = beside or _on_python_path(name)
    if path is None:
        raise WrongUsage(f"{field}: there is no module {name} beside recon.yaml or on the Python path")
    module = _read(name, path, field)
    if function not in _defined(_parsed(module, field)):
        raise WrongUsage(f"{field}: {path} defines no function {function}")
    if beside is None and _is_installed(path):
        return LogicSource(module, function, (), _distribution(name), True)
    root = path.parents[name.count(".") + (1 if module.package else 0)]
    own = _reached(root, module, field)
    return LogicSource(module, function, tuple(own[name] for name in sorted(own)), None, False)


def _reached(root: Path, first: Module, field: str) -> dict[str, Module]:
    """Name → each of the user's own modules that ``first`` imports, directly or not, and their packages; without ``first``."""
    found: dict[str, Module] = {first.name: first}
    waiting = [first]
    for name in _packages_of(first.name):
        waiting += _add(root, name, found, field)
    while waiting:
        module = waiting.pop()
        for name in _imported(_parsed(module, field), module):
            for part in (*_packages_of(name), name):
                waiting += _add(root, part, found, field)
    del found[first.name]
    return found


def _add(root: Path, name: str, found: dict[str, Module], field: str) -> list[Module]:
    """Adds ``name`` to ``found`` if it is a new module of the user's own. A folder without ``__init__.py`` is an empty package."""
    if name in found or not name or name.partition(".")[0] in sys.stdlib_module_names or name.partition(".")[0] == "recon":
        return []
    path = _file(root, name)
    if path is not None:
        found[name] = _read(name, path, field)
    elif (folder := root.joinpath(*name.split("."))).is_dir() and _on_python_path(name.partition(".")[0]) is None:
        found[name] = Module(name, folder, "", True)
    else:
        return []
    return [found[name]]


def _packages_of(name: str) -> list[str]:
    """``a.b.c`` → ``a``, ``a.b``."""
    parts = name.split(".")
    return [".".join(parts[:size]) for size in range(1, len(parts))]


def _imported(tree: ast.Module, module: Module) -> Iterator[str]:
    """Every name in the module's import statements that may be a module; relative names are resolved."""
    package = module.name if module.package else module.name.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = package.split(".") if package else []
                kept = parts[: len(parts) - node.level + 1] if node.level > 1 else parts
                base = ".".join([*kept, *filter(None, [base])])
            yield from filter(None, [base, *(f"{base}.{alias.name}".lstrip(".") for alias in node.names)])


def _file(folder: Path, name: str) -> Path | None:
    path = folder.joinpath(*name.split("."))
    return next((file for file in (path / "__init__.py", path.with_name(path.name + ".py")) if file.is_file()), None)


def _on_python_path(name: str) -> Path | None:
    """The module's source on the Python path, found without executing it or its packages."""
    locations: list[str] | None = None
    parts = name.split(".")
    for index in range(len(parts)):
        spec = importlib.machinery.PathFinder.find_spec(".".join(parts[: index + 1]), locations)
        if spec is None:
            return None
        locations = list(spec.submodule_search_locations or [])
    return Path(spec.origin) if spec and spec.origin and spec.origin.endswith(".py") else None


def _read(name: str, path: Path, field: str) -> Module:
    try:
        return Module(name, path, path.read_text("utf-8-sig"), path.name == "__init__.py")
    except (OSError, ValueError) as error:
        raise WrongUsage(f"{field}: {path} cannot be read as Python ({error})") from None


def _parsed(module: Module, field: str) -> ast.Module:
    try:
        return ast.parse(module.text)
    except (SyntaxError, ValueError, RecursionError) as error:
        raise WrongUsage(f"{field}: {module.path} cannot be read as Python ({error})") from None


def _defined(tree: ast.Module) -> set[str]:
    """The names that the module's top-level statements define."""
    names: set[str] = set()
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            names |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return names


def _is_installed(path: Path) -> bool:
    paths = sysconfig.get_paths()
    return any(path.is_relative_to(paths[kind]) for kind in ("purelib", "platlib", "stdlib", "platstdlib"))


def _distribution(name: str) -> str | None:
    """``name==version`` of a module's distribution; None for a file that was copied into site-packages."""
    owners = importlib.metadata.packages_distributions().get(name.partition(".")[0], [])
    return ", ".join(f"{owner}=={importlib.metadata.version(owner)}" for owner in sorted(set(owners))) or None
