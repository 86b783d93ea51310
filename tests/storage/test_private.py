"""What others can see: modes of a store, secrets of the configuration, control characters on a terminal; and how large a certificate
gets.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from small_reconciliation import YAML, landed, made, window

import recon
from recon.api import Reconciliation
from recon.cli import main
from recon.errors import WrongUsage
from recon.planning import quarantine
from recon.remote import exchange
from recon.stages.request import StageRequest
from recon.state import kept_rules
from recon.storage.local import LocalStore


@pytest.fixture
def open_umask() -> Iterator[None]:
    """Of a machine on which everybody may read what is made."""
    before = os.umask(0o022)
    yield
    os.umask(before)


def with_more(folder: Path, more: str, name: str = "orders") -> Reconciliation:
    path = folder / f"{name}.yaml"
    path.write_text(YAML.format(name=name) + more)
    return recon.open(path)


def modes(root: Path) -> tuple[set[int], set[int]]:
    """Those of the folders and of the files."""
    there = [root, *root.rglob("*")]
    return tuple({stat.S_IMODE(path.stat().st_mode) for path in there if path.is_dir() is folder} for folder in (True, False))  # type: ignore[return-value]


@pytest.mark.usefixtures("open_umask")
def test_a_store_and_its_copy_can_be_read_by_their_user_only(tmp_path: Path) -> None:
    opened = made(tmp_path, hours=2)
    opened.run()
    opened.copy(tmp_path / "deep" / "copy")
    assert modes(tmp_path / "orders_data") == modes(tmp_path / "deep" / "copy") == ({0o700}, {0o600})
    assert stat.S_IMODE((tmp_path / "deep").stat().st_mode) == 0o755, "what lies above a store is not its own"


@pytest.mark.usefixtures("open_umask")
def test_a_store_that_is_asked_to_be_shared_has_the_modes_of_the_umask(tmp_path: Path) -> None:
    opened = with_more(tmp_path, "permissions: shared\n")
    landed(opened, 0)
    opened.run()
    temporary = tmp_path / "orders_data" / "tmp"
    folders, files = modes(tmp_path / "orders_data")
    assert files == {0o644}
    assert folders == {0o755, 0o700}
    assert {path for path in (tmp_path / "orders_data").rglob("*") if path.is_dir() and stat.S_IMODE(path.stat().st_mode) == 0o700} == {
        *temporary.glob("spill-*")
    }, "what DuckDB spills is nobody else's business"


def test_other_permissions_are_refused_and_these_are_no_rules(tmp_path: Path) -> None:
    with pytest.raises(WrongUsage, match=r"orders\.yaml:\d+: permissions: '0777' is not one of 'private' or 'shared'"):
        _ = with_more(tmp_path, "permissions: '0777'\n").config
    assert with_more(tmp_path, "permissions: shared\n").config.rules_version == made(tmp_path).config.rules_version


def test_a_folder_that_lies_there_already_keeps_its_mode(tmp_path: Path) -> None:
    (tmp_path / "orders_data").mkdir(mode=0o755)
    (tmp_path / "orders_data").chmod(0o755)
    opened = made(tmp_path, hours=1)
    assert stat.S_IMODE((tmp_path / "orders_data").stat().st_mode) == 0o755
    assert all(stat.S_IMODE(path.stat().st_mode) & 0o077 == 0 for path in (tmp_path / "orders_data").rglob("*"))
    assert isinstance(opened.store(), LocalStore)


# ---- secrets

SECRET = "wJalrXUtnFEMI-K7MDENG"
SETTINGS = f"engine: {{kind: duckdb, settings: {{spark.hadoop.fs.s3a.secret.key: {SECRET}, spark.executor.cores: 2}}}}\n"


def holds(root: Path, text: str) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file() and text.encode() in path.read_bytes()]


def test_a_secret_in_the_engines_settings_never_reaches_the_store(tmp_path: Path) -> None:
    opened = with_more(tmp_path, SETTINGS + "retention: {history: 400d}\n")
    landed(opened, 0)
    opened.run()
    attempt = exchange.put_request(opened.store(), opened.config, StageRequest("merge", window(0), window(0), {window(0): 1}))
    assert list(opened.store().list("rules/"))
    assert holds(tmp_path / "orders_data", SECRET) == []
    config, _ = exchange.read_request(opened.store(), str(tmp_path / "orders_data"), attempt)
    assert config.engine.settings == {}, "the cluster's Spark was submitted with them"
    assert config.retention == opened.config.retention


def test_rules_of_earlier_commits_are_kept_without_settings_which_are_those_of_now(tmp_path: Path) -> None:
    opened = with_more(tmp_path, SETTINGS + "memory_limit: 512MB\n")
    landed(opened, 0)
    opened.run()
    (path,) = opened.store().list("rules/")
    assert set(json.loads(opened.store().get(path))["configuration"]) <= {*kept_rules._SECTIONS}
    old = opened.config.rules_version
    text = opened.config.path.read_text().replace("coalesce(billed, 0)", "coalesce(billed, 1)").replace("512MB", "1GB")
    opened.config.path.write_text(text)
    later = Reconciliation(opened.config.path)
    found = kept_rules.rules_of(later.store(), later.config, old)
    assert (found.rules_version, found.memory_limit, found.engine.settings) == (old, "1GB", later.config.engine.settings)
    assert later.config.rules_version != old


# ---- texts of others

HOSTILE = "A\x9b31m\u202egnp.exe\u2066\u200b\x1b]0;x\x07"


@pytest.mark.parametrize(
    "arguments", [["rejects"], ["rejects", "--json"], ["breaks", "--json"], ["show", HOSTILE], ["show", HOSTILE, "--json"]]
)
def test_no_output_acts_on_a_terminal_and_json_reads_as_the_text_that_was_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    opened = made(tmp_path)
    landed(opened, 0, f"{HOSTILE},1,INVOICE,10.00,EUR\nB,2,INVOICE,{HOSTILE},EUR\n")
    opened.run()
    capsys.readouterr()
    assert main([*arguments, "--config", str(opened.config.path)]) == 0
    out = capsys.readouterr().out
    assert not [character for character in out if character != "\n" and not character.isprintable()]
    if arguments == ["rejects", "--json"]:
        assert HOSTILE in json.loads(out)[0]["raw"]
    if arguments[0] == "show" and "--json" in arguments:
        assert json.loads(out)["key"] == HOSTILE


# ---- groups of a control total


def test_a_window_with_a_control_group_for_each_row_is_put_in_quarantine_and_the_others_go_on(tmp_path: Path) -> None:
    opened = with_more(tmp_path, "limits: {control_groups: 100}\n")
    landed(opened, 0, "".join(f"A,{n},INVOICE,1.00,C{n}\n" for n in range(100)))
    landed(opened, 1, "".join(f"A,{n},INVOICE,1.00,C{n}\n" for n in range(101)))
    landed(opened, 2, "".join(f"A,{n},INVOICE,x,C{n}\n" for n in range(500)))
    report = opened.run()
    assert report.windows == [window(0)]
    told = (
        "control.amount: 'currency' has more than 100 different values; group the total by a column with few values, such as the currency, "
    )
    assert report.bad == {window(hour): f"{told}or raise limits.control_groups" for hour in (1, 2)}
    held = quarantine.read(opened.store(), opened.config.grid.parse(window(1)), 1, opened.config.judged_by)
    assert held is not None
    more = with_more(tmp_path, "limits: {control_groups: 101}\n")
    assert more.config.rules_version == opened.config.rules_version
    assert more.run().windows == [window(1)]


def test_the_limit_is_a_thousand_unless_it_is_written(tmp_path: Path) -> None:
    assert made(tmp_path).config.limits.control_groups == 1_000
    with pytest.raises(WrongUsage, match=r"limits\.control_groups: '0' does not fit; write how many values"):
        _ = with_more(tmp_path, "limits: {control_groups: 0}\n").config
