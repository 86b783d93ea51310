"""``recon.yaml``: the contract's example loads, and each mistake is one line that names file, line and field."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from recon.config import Config, load_config
from recon.config.model import Control
from recon.config.settings import Caps, Compaction
from recon.errors import WrongUsage
from recon.model.windows import Grid

EXAMPLE = """\
name: orders
store: ./data
key: order_id
windows: {start: 2026-11-01T00:00Z, every: 1h}
events:
  types: {amount: "decimal(18,2)"}
  id: event_id
  time: booked_at
  dedupe: 31d
measures:
  billed: {sum: amount, where: "event_type = 'INVOICE'"}
  paid:   {sum: amount, where: "event_type = 'PAYMENT'"}
  lines:  {count: "*"}
derived:
  balance: coalesce(billed, 0) - coalesce(paid, 0)
status:
  - {MATCHED: "balance = 0"}
  - {UNPAID: "paid is null"}
  - {BREAK: "true"}
control: {rows: {count: "*"}, amount: {sum: amount, by: currency}}
"""
Load = Callable[..., Config]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    def written(old: str = "", new: str = "", text: str = EXAMPLE) -> Config:
        assert old in text
        path = tmp_path / "recon.yaml"
        path.write_text(text.replace(old, new, 1) if old else text + new, "utf-8")
        return load_config(path)

    return written


def test_the_contracts_example_loads(load: Load, tmp_path: Path) -> None:
    config = load()
    assert (config.name, config.key, config.store, config.store_path) == (
        "orders",
        ("order_id",),
        "./data",
        tmp_path / "data",
    )
    assert config.grid == Grid(datetime(2026, 11, 1, tzinfo=UTC), timedelta(hours=1))
    assert (config.events.id, config.events.time, config.events.dedupe) == (("event_id",), "booked_at", timedelta(days=31))
    assert [(m.name, m.kind, m.column, str(m.type)) for m in config.measures] == [
        ("billed", "sum", "amount", "decimal(38,2)"),
        ("paid", "sum", "amount", "decimal(38,2)"),
        ("lines", "count", None, "integer"),
    ]
    assert [(d.name, str(d.expression.type)) for d in config.derived] == [("balance", "decimal(38,2)")]
    assert [s.name for s in config.status] == ["MATCHED", "UNPAID", "BREAK"]
    assert config.control == (Control("rows", "count", None, None), Control("amount", "sum", "amount", "currency"))
    assert {name: str(kind) for name, kind in config.columns.items()} == {
        "order_id": "text",
        "event_id": "text",
        "booked_at": "timestamp",
        "amount": "decimal(18,2)",
        "event_type": "text",
        "currency": "text",
    }
    assert list(config.columns) == ["order_id", "event_id", "booked_at", "amount", "event_type", "currency"]
    assert len(config.rules_version) == 16
    assert int(config.rules_version, 16)


def test_what_is_not_written_has_its_default(load: Load) -> None:
    config = load(EXAMPLE[EXAMPLE.index("control:") :], "")
    assert config.control == (Control("rows", "count", None, None),)
    assert (config.rejects, config.memory_limit, config.threads, config.caps) == (
        "keep",
        "2GB",
        os.cpu_count(),
        Caps(windows=48, events=None, bytes=None),
    )
    assert config.logic is None


def test_caps_bound_windows_events_and_bytes(load: Load) -> None:
    assert load("name: orders", "name: orders\ncaps: {events: 2000000, bytes: 1.5 GiB}").caps == Caps(events=2_000_000, bytes=1_610_612_736)
    assert load("name: orders", "name: orders\ncaps: {bytes: 500MB}").caps.bytes == 500_000_000


def test_a_key_may_be_a_list_and_further_sections_may_be_set(load: Load) -> None:
    config = load("key: order_id", "key: [shop, order_id]\nthreads: 3\nrejects: stop\ncaps: {windows: 5}\nmemory_limit: 512MB")
    assert config.key == ("shop", "order_id")
    assert (config.threads, config.rejects, config.caps, config.memory_limit) == (3, "stop", Caps(windows=5), "512MB")


def test_one_of_two_bounds_is_kept_and_configurations_of_before_stay_valid(load: Load) -> None:
    assert load("", "").compaction == Compaction(bound="disk", disk=1.5, writes=1.5)
    assert load("name: orders", "name: orders\ncompaction: {disk: 2}").compaction == Compaction(bound="disk", disk=2.0, writes=1.5)
    assert load("name: orders", "name: orders\ncompaction: {bound: writes, writes: 1.25}").compaction == Compaction(
        bound="writes", disk=1.5, writes=1.25
    )
    for wrong, expected in (
        ("{bound: both}", "compaction.bound: 'both' is not one of 'disk' or 'writes'"),
        ("{writes: 1}", "compaction.writes: '1' does not fit; write how many times what changed may be written, 1.1 to 10"),
    ):
        with pytest.raises(WrongUsage) as caught:
            load("name: orders", f"name: orders\ncompaction: {wrong}")
        assert expected in str(caught.value)


def test_a_bucket_has_no_path_here(load: Load) -> None:
    assert load("./data", "s3://bucket/prefix").store_path is None


def test_yaml_guesses_nothing_about_names_and_values(load: Load) -> None:
    config = load('  - {UNPAID: "paid is null"}\n  - {BREAK: "true"}', "  - {NO: billed > 0.10}\n  - {2026-11-01: true}")
    assert [s.name for s in config.status] == ["MATCHED", "NO", "2026-11-01"]


def test_measures_have_the_types_of_what_they_take(load: Load) -> None:
    extra = "  n: {sum: pieces}\n  low: {min: amount}\n  who: {last: clerk}\n  some: {count: clerk}\n"
    config = load("  lines:", extra + "  lines:", EXAMPLE.replace("{amount:", "{pieces: integer, amount:"))
    kinds = {m.name: str(m.type) for m in config.measures}
    assert kinds | {"lines": ""} == {
        "billed": "decimal(38,2)",
        "paid": "decimal(38,2)",
        "n": "decimal(38,0)",
        "low": "decimal(18,2)",
        "who": "text",
        "some": "integer",
        "lines": "",
    }


MEANING = [
    ("key: order_id", "key: [order_id]", True),
    ("coalesce(billed, 0) - coalesce(paid, 0)", "( coalesce(billed,0) - coalesce(paid,0) )", True),
    ("name: orders", "name: orders # a comment", True),
    ("./data", "./elsewhere", True),
    ("name: orders", "name: orders\nthreads: 1\nrejects: stop\nmemory_limit: 1GB\ncaps: {windows: 2}", True),
    ("key: order_id", "key: order", False),
    ("every: 1h", "every: 2h", False),
    ("decimal(18,2)", "decimal(18,3)", False),
    ("id: event_id", "id: other_id", False),
    ("31d", "30d", False),
    ("'INVOICE'", "'invoice'", False),
    ("coalesce(paid, 0)", "coalesce(paid, 1)", False),
    ("UNPAID", "OPEN", False),
    (", by: currency", "", False),
]


@pytest.mark.parametrize(("old", "new", "same"), MEANING, ids=[new[:30] for _, new, _ in MEANING])
def test_the_rules_version_changes_with_the_meaning_and_with_nothing_else(load: Load, old: str, new: str, same: bool) -> None:
    before = load()
    assert (load(old, new).rules_version == before.rules_version) is same


def test_the_logics_source_is_part_of_the_rules_version_and_is_not_run(load: Load, tmp_path: Path) -> None:
    module = tmp_path / "judge.py"
    module.write_text("raise SystemExit('never run')\ndef after(table, stage):\n    return table\n")
    first = load(new="logic: judge:after\n")
    assert first.logic == "judge:after"
    assert first.rules_version != load().rules_version
    module.write_text(module.read_text() + "# changed\n")
    assert load(new="logic: judge:after\n").rules_version != first.rules_version


def test_columns_whose_order_as_text_nobody_declared_are_known(load: Load) -> None:
    assert load().ordered == frozenset()
    more = "  most: {max: quantity}\n  kind: {min: event_type}\n  dear: {max: amount}\n  k: {min: order_id}\n  seen: {last: note}\n"
    assert load("derived:", f"{more}derived:").ordered == {"quantity", "event_type"}


def test_a_config_is_equal_to_itself_read_again(load: Load) -> None:
    assert replace(load(), raw={}) == replace(load(), raw={})


MISTAKES = [
    ("store: ./data", "stroe: ./data", 2, "stroe: not known here; did you mean store?"),
    ("store: ./data\n", "", None, "store: is missing; write a folder"),
    ("name: orders", "name: Orders", 1, "name: 'Orders' does not fit; write a lower-case name"),
    ("store: ./data", "store: ftp://x", 2, "store: 'ftp://x' is no store"),
    ("store: ./data", "store: ./data\nstore: ./other", 3, "store is there twice, first in line 2"),
    ("every: 1h", "every: 7m", 4, "windows.every: 0:07:00 does not fit the clock"),
    ("every: 1h", "every: soon", 4, "windows.every: 'soon' is not a duration"),
    ("2026-11-01T00:00Z", "2026-11-01", 4, "windows.start: '2026-11-01' has no zone"),
    ("dedupe: 31d", "dedup: 31d", 9, "events.dedup: not known here; did you mean dedupe?"),
    ("dedupe: 31d", "dedupe: 31", 9, "events.dedupe: '31' is not a duration"),
    ('"decimal(18,2)"', "float", 6, "events.types.amount: float does not hold money exactly"),
    ("{amount:", "{order_id: integer, amount:", 6, "events.types.order_id: key and id are compared as text"),
    ("time: booked_at", "time: amount", 8, "events.time: 'amount' is declared decimal(18,2)"),
    ("time: booked_at", "time: event_id", 8, "events.time: 'event_id' is the key or id already"),
    (
        "{sum: amount, where",
        "{sum: fee, where",
        11,
        "measures.billed.sum: sum needs a number and 'fee' is text; declare it under events.types",
    ),
    ("{sum: amount, where", "{summ: amount, where", 11, "measures.billed.summ: not known here; did you mean sum?"),
    ("{sum: amount, where", "{sum: amount, min: amount, where", 11, "measures.billed: name exactly one of"),
    ('{count: "*"}\nderived', '{sum: "*"}\nderived', 13, "measures.lines.sum: only count takes '*'"),
    (
        "event_type = 'INVOICE'",
        "event_type",
        11,
        "measures.billed.where: a condition is true or false, this one is text",
    ),
    ("event_type = 'INVOICE'", "event_type = 1", 11, "measures.billed.where: =: text and integer don't mix"),
    ("  lines:", "  Lines:", 13, "measures.Lines: a name is lower-case"),
    ("  lines:", "  status:", 13, "measures.status: 'status' is a column of every export"),
    ("  balance:", "  paid:", 15, "derived.paid: a measure has that name already"),
    (
        "coalesce(paid, 0)",
        "coalesce(piad, 0)",
        15,
        "derived.balance: 'piad' is not known here; did you mean paid? (at column 32",
    ),
    ("balance = 0", "balance", 17, "status[0].MATCHED: a condition is true or false"),
    ("balance = 0", "true", 18, 'status[1].UNPAID: never reached, since MATCHED before it is "true"'),
    ("{UNPAID: ", "{UNPAID: 'true', ALSO: ", 18, "status[1]: each entry is one status and its condition"),
    ("by: currency", "per: currency", 20, "control.amount.per: not known here; known are count, sum, by"),
    ("{sum: amount, by", "{sum: currency, by", 20, "control.amount.sum: sum needs a number"),
    (
        "name: orders",
        "name: orders\nthreads: many",
        2,
        "threads: 'many' does not fit; write a whole number from 1 to 1024",
    ),
    ("name: orders", "name: orders\nrejects: drop", 2, "rejects: 'drop' is not one of 'keep' or 'stop'"),
    ("name: orders", "name: orders\nmemory_limit: lots", 2, "memory_limit: 'lots' does not fit; write a size"),
    ("name: orders", "name: orders\ncaps: {windows: 0}", 2, "caps.windows: '0' does not fit; write how many windows one run merges"),
    ("name: orders", "name: orders\ncaps: 7", 2, "caps: '7' is no section; write {windows: …}"),
    ('{count: "*"}', "count(1)", 13, "measures.lines: 'count(1)' is no section; write {sum: …}, with names such as sum, count, min"),
    ("key: order_id", "key: [order_id, order_id]", 3, "key: a column is named twice; name each once"),
    ("key: order_id", "key: [[order_id]]", 3, "key[0]: \"['order_id']\" is not a text"),
    ("name: orders", "name: orders\ncaps: {events: 0}", 2, "caps.events: "),
    ("name: orders", "name: orders\ncaps: {bytes: 17}", 2, "caps.bytes: '17' does not fit; write a size such as bytes: 4GB"),
    ("name: orders", "name: orders\nlogic: judge", 2, "logic: 'judge' is not module:function"),
    ("name: orders", "name: orders\nlogic: no_such_judge:after", 2, "logic: there is no module no_such_judge"),
    ("key: order_id", "key: &k order_id\nlogic: *k", 3, "anchors, aliases"),
    ("{start:", "[start:", 4, "not YAML"),
]


@pytest.mark.parametrize(("old", "new", "line", "said"), MISTAKES, ids=[said[:45] for *_, said in MISTAKES])
def test_a_mistake_is_one_line_with_file_line_and_field(
    load: Load, tmp_path: Path, old: str, new: str, line: int | None, said: str
) -> None:
    with pytest.raises(WrongUsage) as caught:
        load(old, new)
    message = str(caught.value)
    place = f"{tmp_path / 'recon.yaml'}" + (f":{line}" if line else "")
    assert message.startswith(f"{place}: ")
    assert said in message
    assert "\n" not in message


def test_first_and_last_need_the_events_time(load: Load) -> None:
    with pytest.raises(WrongUsage, match=r"recon.yaml:12: measures.lines.last: last goes by the events' time; name its column"):
        load('lines:  {count: "*"}', "lines:  {last: amount}", EXAMPLE.replace("  time: booked_at\n", ""))


@pytest.mark.parametrize("content", [b"", b"- a\n", b"just text", b"\xff\xfe\x00", b"a: \x07", b"? [a]\n: b\n", b"[" * 5000])
def test_what_is_no_configuration_at_all_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "recon.yaml"
    path.write_bytes(content)
    with pytest.raises(WrongUsage) as caught:
        load_config(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(WrongUsage, match="no such file"):
        load_config(tmp_path / "recon.yaml")
