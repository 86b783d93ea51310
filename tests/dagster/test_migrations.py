"""Alembic reads Dagster's migrations once while `recon run` works, and as ever afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import coerce_resource_to_filename
from dagster._core.storage.sql import ALEMBIC_SCRIPTS_LOCATION

from recon.database import migrate
from resources.migrations import migrations_read_once


def test_each_folder_of_migrations_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    dagster, own = Config(), Config()
    dagster.set_main_option("script_location", ALEMBIC_SCRIPTS_LOCATION)
    own.set_main_option("script_location", str(Path(migrate.__file__).parent / "migrations"))

    def read(config: Config) -> ScriptDirectory:
        return ScriptDirectory(coerce_resource_to_filename(str(config.get_main_option("script_location"))))

    monkeypatch.setattr(ScriptDirectory, "from_config", read)
    before = ScriptDirectory.from_config(dagster)
    with migrations_read_once():
        once, again, other = (ScriptDirectory.from_config(config) for config in (dagster, dagster, own))
    assert once is again
    assert once is not before
    assert other is not once
    assert once.as_revision_number("head") == before.as_revision_number("head")
    assert other.as_revision_number("head") == migrate.HEAD
    assert ScriptDirectory.from_config is read
