"""The rules of earlier commits, stored with the state, so that an earlier state is shown by the rules of its time.

Settings are not stored: they do not change artifacts, and ``engine.settings`` may hold secrets.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from recon.config import Config, load_config
from recon.errors import Damaged, WrongUsage
from recon.state.timeline import State
from recon.storage import documents, layout
from recon.storage.port import AlreadyExists, NotFound, ObjectStore
from recon.storage.sealing import sealed, unsealed

_SECTIONS = ("name", "store", "key", "windows", "events", "measures", "derived", "status", "control", "logic")
"""Sections of ``recon.yaml`` that are rules, and the store's location, which every configuration needs."""
_OF_RULES = {
    *("path", "key", "cleaning", "grid", "numbers", "names", "events", "measures", "derived", "status", "control", "logic", "logic_source"),
    *("columns", "rules_version", "raw"),
}
"""Fields of Config that come from the rules; the others are current settings."""


def keep(store: ObjectStore, config: Config) -> None:
    """Stores the rules and their logic's source under the rules version; the same call again changes nothing."""
    path = layout.rules(config.rules_version)
    if store.exists(path):
        return
    with suppress(AlreadyExists):
        store.put_new(path, [sealed(kept(config), indent=1)])


def kept(config: Config) -> dict[str, Any]:
    """A configuration's rules and their logic's source, for ``unpacked``."""
    return {"configuration": {name: value for name, value in config.raw.items() if name in _SECTIONS}, "logic": _sources(config)}


def kept_with_settings(config: Config) -> dict[str, Any]:
    """The same with the settings that a cluster needs, without Spark's own: these are given to spark-submit, and may hold secrets."""
    raw = dict(config.raw)
    if isinstance(engine := raw.get("engine"), Mapping):
        raw["engine"] = {name: value for name, value in engine.items() if name != "settings"}
    return {"configuration": raw, "logic": _sources(config)}


def unpacked(path: str, body: Mapping[str, Any], store: str) -> Config:
    """The configuration in the result of ``kept``, for a store at the location ``store``. ``path``: of the stored rules, for errors. Raises
    ValueError, TypeError or KeyError where ``body`` is not from ``kept``."""
    text, sources = json.dumps({**body["configuration"], "store": store}), dict(body["logic"])
    return load_config(_unpacked(path, text, tuple(sorted(sources.items()))) / "recon.yaml")


def _sources(config: Config) -> dict[str, str]:
    """File → text of the user's own modules; installed packages are left out."""
    source = config.logic_source
    if source is None or source.installed:
        return {}
    modules = [module for module in (source.module, *source.own) if module.path.is_file()]
    return {module.name.replace(".", "/") + ("/__init__.py" if module.package else ".py"): module.text for module in modules}


def rules_of(store: ObjectStore, config: Config, version: str) -> Config:
    """The configuration with the rules of ``version``: ``config`` if they are its own, else as stored.

    Raises WrongUsage where the store does not hold them, or they need an installed module that has changed."""
    if version in ("", config.rules_version):
        return config
    path = layout.rules(version)
    try:
        with documents.damaged(path, documents.RESTORE):
            found = unpacked(path, unsealed(store.get(path)), config.store)
    except NotFound:
        raise WrongUsage(
            f"{path}: the rules of version {version} are not in the store; put them back into {config.path} to ask for what was known then"
        ) from None
    if found.rules_version != version:
        raise WrongUsage(
            f"{path}: the rules of version {version} give {found.rules_version} now; their logic, {found.logic}, is not what it was: "
            "install it as it was then"
        )
    return replace(found, **{item.name: getattr(config, item.name) for item in fields(Config) if item.name not in _OF_RULES})


@lru_cache(maxsize=16)
def _unpacked(path: str, text: str, sources: tuple[tuple[str, str], ...]) -> Path:
    """A folder with the configuration and its logic, which exists until this process ends."""
    folder = tempfile.TemporaryDirectory(prefix="recon-rules-")
    _KEPT_ALIVE.append(folder)
    place = Path(folder.name)
    (place / "recon.yaml").write_text(text, encoding="utf-8")
    for name, source in sources:
        file = (place / name).resolve()
        if not file.is_relative_to(place.resolve()):
            raise Damaged(f"{path}: it names a file outside its folder ({name}); restore it from a copy of the store")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(source, encoding="utf-8")
    return place


_KEPT_ALIVE: list[tempfile.TemporaryDirectory[str]] = []


def refuse_other_rules(config: Config, state: State) -> None:
    """Raises WrongUsage where the state was made by other rules."""
    if state.rules and state.rules != config.rules_version:
        raise WrongUsage(
            f"{config.path}: the rules changed since commit {state.commit} (version {state.rules}, now {config.rules_version}): "
            "key, windows, events, measures, derived, status, control or logic; see what would change with "
            "'recon rebuild --preview', then 'recon rebuild', or put them back"
        )
