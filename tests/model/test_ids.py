"""Event ids of several columns, and ids that number the equal rows of a file."""

from __future__ import annotations

from pathlib import Path

import pytest
from cases import CASES, case

from recon.config import load_config
from recon.errors import WrongUsage

DAY, NEXT = "2026-11-01T00:00Z", "2026-11-02T00:00Z"
LISTED = '[booked, account, description, amount, "#"]'


def configured(name: str, old: str, new: str) -> str:
    text = (CASES / name / "recon.yaml").read_text()
    assert old in text
    return text.replace(old, new)


def test_sources_that_number_alike_are_told_apart_by_an_id_of_two_columns(tmp_path: Path) -> None:
    r = case(tmp_path, "same-id-from-two-sources", text=configured("same-id-from-two-sources", "id: id", "id: [event_type, id]"))
    r.land([tmp_path / "erp.csv", tmp_path / "psp.csv"], DAY, close=True)
    r.run()
    assert {key: r.show(key)["status"] for key in ("A", "B")} == {"A": "MATCHED", "B": "MATCHED"}
    assert r.duplicates().num_rows == 0
    shown = r.show("A", events=True)["contributions"][0]["event_list"]
    assert [event["id"] for event in shown] == ['["INVOICE","1001"]', '["PAYMENT","1001"]']
    assert r.verify(full=True).ok


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_an_overlapping_statement_without_ids_counts_each_line_once(tmp_path: Path, order: tuple[int, int]) -> None:
    text = configured("same-statement-again", 'types: {amount: "decimal(18,2)"}', f'types: {{amount: "decimal(18,2)"}}, id: {LISTED}')
    r = case(tmp_path, "same-statement-again", text=text)
    landings = [("statement-1101.csv", DAY), ("statement-1101-1102.csv", NEXT)]
    for number in order:
        name, window = landings[number]
        r.land([tmp_path / name], window, close=True)
        r.run()
    again = tmp_path / "again.csv"
    again.write_text((tmp_path / "statement-1101.csv").read_text().replace("-2.80", "-2.8") + "\n")
    r.land([again], "2026-11-03T00:00Z", close=True)
    r.run()
    measures = r.show("ACC")["measures"]
    assert (measures["lines"], measures["moved"]) == (4, "794.40")
    assert r.verify(full=True).ok


def test_a_row_with_an_empty_part_of_its_id_is_never_taken_for_another(tmp_path: Path) -> None:
    text = configured("same-id-from-two-sources", "id: id", "id: [event_type, id]")
    r = case(tmp_path, "same-id-from-two-sources", text=text)
    rows = "id,order_id,event_type,amount,currency\n,A,INVOICE,1.00,EUR\n,A,INVOICE,1.00,EUR\n7,A,,1.00,EUR\n7,A,,1.00,EUR\n"
    (tmp_path / "rows.csv").write_text(rows)
    r.land([tmp_path / "rows.csv"], DAY, close=True)
    r.run()
    certificate = r.certificate(DAY)
    assert certificate is not None
    assert (certificate["accepted"]["rows"], certificate["duplicates"]["rows"]) == (4, 0)


@pytest.mark.parametrize("given", ['"#"', '["#"]', '["#", id]', "[id, id]"])
def test_what_is_no_id_is_refused(tmp_path: Path, given: str) -> None:
    path = tmp_path / "recon.yaml"
    path.write_text(configured("same-id-from-two-sources", "id: id", f"id: {given}"))
    with pytest.raises(WrongUsage, match=r"events\.id: name one or more columns"):
        load_config(path)


def test_a_correction_gets_an_id_of_its_own_among_several_columns(tmp_path: Path) -> None:
    text = configured("same-statement-again", 'types: {amount: "decimal(18,2)"}', f'types: {{amount: "decimal(18,2)"}}, id: {LISTED}')
    r = case(tmp_path, "same-statement-again", text=text)
    r.land([tmp_path / "statement-1101.csv"], DAY, close=True)
    r.run()
    event = {"booked": "2026-11-01", "amount": "-2.80"}
    with pytest.raises(WrongUsage, match="leave out one text column of the event id"):
        r.correct("ACC", event={**event, "description": "tram"}, reason="a test")
    manifest = r.correct("ACC", event=event, reason="a test")
    r.close(manifest.window)
    r.run()
    assert r.show("ACC")["measures"]["moved"] == "1491.60"
