"""Keys that differ in what is not seen: as they are, and shown so that it is seen; or made one key by `clean`."""

from __future__ import annotations

import csv
import json
import tempfile
from dataclasses import replace
from pathlib import Path

import duckdb
import oracle
import pyarrow.parquet as pq
import pytest
import strategies as s
from folders import CASES
from histories import carry_out, check_store, open_in
from hypothesis import given, settings
from hypothesis import strategies as st

import recon
from recon.api import Reconciliation
from recon.cli import main
from recon.cli.screen import seen
from recon.errors import WrongInput, WrongUsage
from recon.model.cleaning import STEPS, cleaned, cleaned_sql

CASE = CASES / "invisible-blanks-in-keys"
WINDOW = "2026-11-01T00:00Z"
CLEAN = "key: {column: order_id, clean: [trim, nfc, strip_format]}"
ZERO_WIDTH, NO_BREAK, PARTED = "\u200b", "\u00a0", "Cafe\u0301-9"


def case(folder: Path, key: str = "key: order_id", more: str = "") -> Reconciliation:
    folder.mkdir(exist_ok=True)
    (folder / "recon.yaml").write_text((CASE / "recon.yaml").read_text().replace("key: order_id", key) + more)
    opened = recon.open(folder / "recon.yaml")
    opened.land([CASE / "p.csv"], WINDOW, close=True)
    opened.run()
    return opened


def statuses(opened: Reconciliation) -> dict[str, str]:
    return {row["key"]: row["status"] for row in opened.artifacts().to_pylist()}


def test_keys_are_as_they_are_unless_they_are_cleaned(tmp_path: Path) -> None:
    found = statuses(case(tmp_path))
    assert {"A112", "A112 ", "B7", f"B7{ZERO_WIDTH}", "Café-9", PARTED} <= set(found)
    assert (found["A112"], found["A112 "]) == ("UNPAID", "BREAK")


def test_cleaned_keys_are_one_and_verification_finds_the_same(tmp_path: Path) -> None:
    opened = case(tmp_path, CLEAN)
    assert statuses(opened) == {"A112": "MATCHED", "B7": "MATCHED", "Café-9": "MATCHED", "C1": "UNPAID", "D1": "MATCHED"}
    assert opened.verify(full=True).problems == []


@pytest.mark.parametrize("asked", ["A112", "A112 ", f"\t{ZERO_WIDTH}A112{NO_BREAK}", "\ufeffA112"])
def test_a_look_up_cleans_the_key_that_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str], asked: str) -> None:
    opened = case(tmp_path, CLEAN)
    assert opened.show(asked)["key"] == "A112"
    assert opened.show(asked, known_at=opened.state().time)["key"] == "A112"
    assert main(["show", asked, "--json", "--config", str(opened.config.path)]) == 0
    assert json.loads(capsys.readouterr().out)["key"] == "A112"
    assert opened.show(PARTED)["key"] == "Café-9"
    plain = case(tmp_path / "plain")
    if asked != "A112 ":
        assert (asked == "A112") == (plain.show("A112")["key"] == asked)
    with pytest.raises(WrongInput):
        plain.show("A112\t")


def test_each_column_of_a_key_is_cleaned_for_itself(tmp_path: Path) -> None:
    opened = case(tmp_path, "key: [currency, {column: order_id, clean: trim}]")
    found = set(statuses(opened))
    assert '["EUR","A112"]' in found
    assert not {key for key in found if 'A112 "' in key}
    assert {f'["EUR","B7{ZERO_WIDTH}"]', '["EUR","B7"]'} <= found, "only blanks at its ends are taken away"
    for asked in (("EUR", " A112"), ('["EUR","A112 "]',), ('[ "EUR", "A112" ]',)):
        assert opened.show(*asked)["key"] == '["EUR","A112"]'
    with pytest.raises(WrongUsage, match="KEY: 3 values were given; the key is currency, order_id"):
        opened.show("EUR", "A112", "x")
    assert opened.verify(full=True).problems == []


def test_a_rule_reads_the_cleaned_column_and_what_is_empty_then_is_an_empty_key(tmp_path: Path) -> None:
    text = (CASE / "recon.yaml").read_text().replace("key: order_id", CLEAN).replace("event_type = 'INVOICE'", "order_id = 'A112'")
    (tmp_path / "recon.yaml").write_text(text)
    opened = recon.open(tmp_path / "recon.yaml")
    (tmp_path / "x.csv").write_text(
        f"event_id,order_id,event_type,amount,currency\n1,A112{NO_BREAK},PAYMENT,1.00,EUR\n2,{ZERO_WIDTH} ,PAYMENT,1.00,EUR\n"
    )
    opened.land([tmp_path / "x.csv"], WINDOW, close=True)
    opened.run()
    assert opened.show("A112")["measures"]["billed"] == "1.00"
    assert opened.rejects().column("reason").to_pylist() == ["order_id: the key is empty"]


# ---- the configuration


def test_cleaning_is_part_of_the_rules_and_the_order_of_its_steps_is_not(tmp_path: Path) -> None:
    def rules(key: str) -> str:
        (tmp_path / "recon.yaml").write_text((CASE / "recon.yaml").read_text().replace("key: order_id", key))
        return Reconciliation(tmp_path / "recon.yaml").config.rules_version

    assert (
        rules("key: order_id")
        == rules("key: {column: order_id}")
        == rules("key: [order_id]")
        == rules("key: {column: order_id, clean: []}")
    )
    assert rules(CLEAN) == rules("key: {column: order_id, clean: [strip_format, trim, nfc]}") != rules("key: order_id")
    assert len({rules(f"key: {{column: order_id, clean: {step}}}") for step in STEPS}) == len(STEPS)


@pytest.mark.parametrize(
    ("key", "told"),
    [
        ("key: {column: order_id, clean: [fold]}", "'fold' is not one of 'trim', 'nfc' or 'strip_format'"),
        ("key: {column: order_id, cleaned: trim}", "not known here; did you mean clean?"),
        ("key: {clean: trim}", "is missing; write the column that names an artifact"),
        ("key: []", "write the column that names an artifact, such as key: order_id, or a list of columns"),
        ("key: [order_id, {column: order_id, clean: trim}]", "a column is named twice"),
    ],
)
def test_another_cleaning_is_refused(tmp_path: Path, key: str, told: str) -> None:
    (tmp_path / "recon.yaml").write_text((CASE / "recon.yaml").read_text().replace("key: order_id", key))
    with pytest.raises(WrongUsage) as error:
        _ = Reconciliation(tmp_path / "recon.yaml").config
    assert told in str(error.value)
    assert "recon.yaml:3: key" in str(error.value)


def test_a_change_of_the_cleaning_is_a_change_of_the_rules(tmp_path: Path) -> None:
    opened = case(tmp_path)
    opened.config.path.write_text(opened.config.path.read_text().replace("key: order_id", CLEAN))
    changed = Reconciliation(opened.config.path)
    with pytest.raises(WrongUsage, match="the rules changed since commit 1"):
        changed.run()
    before = changed.state().time
    changed.rebuild()
    assert statuses(changed)["A112"] == "MATCHED"
    assert changed.show("A112 ", known_at=before)["key"] == "A112 ", "as it was known then, keys were as they were"


# ---- one meaning

CONNECTION = duckdb.connect()
TEXTS = st.text(
    st.one_of(
        st.sampled_from("AB7 \t\u00a0\u200b\u200d\u00ad\u202e\ufeff\u2028\u3000\x85\x1ce\u0301\u00e9\u0600\u1160\uac00\u11a8"),
        st.characters(min_codepoint=1, exclude_categories=("Cs", "Cn")),
    ),
    max_size=8,
)


@settings(deadline=None, max_examples=300)
@given(TEXTS, st.sets(st.sampled_from(STEPS)))
def test_python_duckdb_and_the_oracle_clean_alike(text: str, steps: set[str]) -> None:
    (found,) = CONNECTION.execute(f"SELECT {cleaned_sql('t', steps)} FROM (SELECT ? AS t)", [text]).fetchone() or (None,)
    assert found == cleaned(text, steps) == oracle.clean(text, steps)
    assert cleaned(found, steps) == found, "cleaned again it is the same"


def test_of_every_character_python_duckdb_and_the_oracle_think_alike() -> None:
    points = [point for point in range(1, 0x30000) if not 0xD800 <= point < 0xE000] + list(range(0xE0000, 0xE0200))
    texts = [f"{chr(point)}A{chr(point)}" for point in points]
    ours = [cleaned(text, ("strip_format", "trim")) for text in texts]
    assert ours == [oracle.clean(text, ("strip_format", "trim")) for text in texts]
    sql = f"SELECT {cleaned_sql('t', ('strip_format', 'trim'))} FROM (SELECT unnest(?) AS t)"
    assert [found for (found,) in CONNECTION.execute(sql, [texts]).fetchall()] == ours


KEYS = ("A", "A ", f"A{ZERO_WIDTH}", f"{NO_BREAK}A", "é", "e\u0301", " ", "B")
ROWS = st.builds(s.Row, order_id=st.sampled_from(KEYS), event_id=st.sampled_from("123"))


@settings(deadline=None, max_examples=8)
@given(
    st.lists(
        st.lists(st.builds(s.Row, order_id=st.sampled_from(KEYS), event_id=st.sampled_from("123")), max_size=5), min_size=1, max_size=3
    )
)
def test_the_store_is_the_oracles_whatever_is_not_seen_in_its_keys(windows: list[list[s.Row]]) -> None:
    rules = replace(s.STANDARD_RULES, clean={"order_id": frozenset(STEPS)})
    text = s.STANDARD_YAML.replace("key: order_id", CLEAN)
    assert CLEAN in text
    with tempfile.TemporaryDirectory() as folder:
        r, state = open_in(Path(folder), text), s.State()
        operations: list[s.Operation] = []
        for number, rows in enumerate(windows):
            operations += [s.Land(number, s.File(f"f{number}", tuple(rows))), s.Close(number)]
        for operation in [*operations, s.Run(tuple(range(len(windows))))]:
            carry_out(r, operation)
            state = s.apply(state, operation)
        check_store(r, state, rules)
        assert not r.verify(full=True).problems


# ---- screens


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("A112", "A112"),
        ("A112 ", "'A112␠'"),
        ("  A112", "'␠␠A112'"),
        (" ", "'␠'"),
        ("A 112", "A 112"),
        (f"B7{ZERO_WIDTH}", r"'B7\u200b'"),
        (f"B7{NO_BREAK}", r"'B7\xa0'"),
        ("A\u200dB", r"'A\u200dB'"),
        ("Café-9", "Café-9"),
        (PARTED, r"'Cafe\u0301-9'"),
        ("\U0001f469\u200d\U0001f680", "\U0001f469\u200d\U0001f680"),
        ("", ""),
    ],
)
def test_a_text_that_would_look_like_another_is_shown_with_what_is_not_seen(text: str, shown: str) -> None:
    assert seen(text) == shown


def test_screens_show_the_difference_and_exports_give_keys_as_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    opened = case(tmp_path)
    config = ["--config", str(opened.config.path)]

    def call(*arguments: str) -> str:
        capsys.readouterr()
        assert main([*arguments, *config]) == 0
        return capsys.readouterr().out

    breaks = call("breaks")
    for shown in ("'A112␠'", r"'B7\u200b'", r"'Cafe\u0301-9'"):
        assert shown in breaks
    assert call("show", "A112 ").startswith("'A112␠'  BREAK")
    assert call("show", "A112").startswith("A112  UNPAID")
    assert json.loads(call("show", "A112 ", "--json"))["key"] == "A112 "
    call("export", str(tmp_path / "out.csv"))
    call("export", str(tmp_path / "out.parquet"))
    with (tmp_path / "out.csv").open(encoding="utf-8-sig", newline="") as file:
        assert {"A112", "A112 ", f"B7{ZERO_WIDTH}", PARTED} <= {row["key"] for row in csv.DictReader(file)}
    assert "A112 " in pq.read_table(tmp_path / "out.parquet").column("key").to_pylist()


@given(st.text())
def test_a_text_that_is_shown_never_moves_the_cursor_nor_ends_with_what_is_not_seen(text: str) -> None:
    shown = seen(text)
    assert all(c.isprintable() or c == "\u200d" for c in shown)
    assert shown == shown.strip()
    assert not text.isprintable() or text != text.strip() or shown == text or "\\u" in shown
