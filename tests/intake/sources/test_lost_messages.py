"""Messages of the embedded queue that are lost at any point: 'recon dlq resend' sends them again, and every record is finished once."""

from __future__ import annotations

from collections import Counter
from functools import partial
from pathlib import Path

import pytest
import sqlalchemy as sa
from cli_calls import Call

import recon as library
from recon.database.tables import QUEUE_MESSAGES
from recon.errors import TryAgain
from recon.intake.queues import embedded, whole
from recon.intake.queues.parcels import records_of
from recon.intake.sources import records

RECON = """
name: payments
store: ./store
key: number
windows: {start: 2026-11-01T00:00Z, every: 1d}
measures: {lines: {count: "*"}}
"""
SOURCE = """
files: "payments_{day}.csv"
window: {part: day, format: "%Y%m%d"}
format: {kind: delimited, header: true}
columns: {number: {required: true}}
process: accounts:look_up
"""
FUNCTION = """
def look_up(records):
    return [ValueError("no account") if record["number"] == "777" else record for record in records]
"""
ROWS = 1_300


@pytest.mark.parametrize("steps", [0, 1, 2, 3, 4, 6, 9])
def test_messages_lost_after_some_steps_are_sent_again(tmp_path: Path, recon: Call, monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    (tmp_path / "sources").mkdir()
    (tmp_path / "inbox").mkdir()
    (tmp_path / "recon.yaml").write_text(RECON)
    (tmp_path / "sources" / "payments.yaml").write_text(SOURCE)
    (tmp_path / "accounts.py").write_text(FUNCTION)
    (tmp_path / "inbox" / "payments_20261102.csv").write_text("number\n" + "".join(f"{n}\n" for n in range(ROWS)))
    config = ("--config", str(tmp_path / "recon.yaml"))
    monkeypatch.setattr(records, "through_queue", partial(whole.through_queue, again_s=0.0))
    with monkeypatch.context() as patch:
        patch.setattr(embedded, "_work", _stopping(steps))
        assert recon("land", "--from", str(tmp_path / "inbox"), *config).status == 1
    r = library.open(tmp_path / "recon.yaml")
    with r.intake().database.write() as connection:
        connection.execute(sa.delete(QUEUE_MESSAGES))
    stuck = recon("land", "--from", str(tmp_path / "inbox"), *config)
    assert stuck.status == 3
    assert "records are in progress; run the same again; 'recon dlq resend' where their messages were lost" in stuck.out
    assert recon("dlq", "resend", "--reason", "the table was emptied", *config).status == 0
    assert recon("land", "--from", str(tmp_path / "inbox"), *config).status == 0
    intake = r.intake()
    (file,) = intake.tracking.files()
    assert (file.state, file.kept, file.rejected_rows) == ("landed", ROWS - 1, 1)
    name = records.records_file(intake, intake.sources["payments"], file)
    lines = Counter(line for parcel in intake.records.results(name) for line in records_of(parcel).lines)
    assert lines == Counter(n + 2 for n in range(ROWS) if n != 777)


def _stopping(steps: int) -> object:
    """Carries out some batches of messages; then the process is interrupted, and its messages are lost with it."""
    real, done = embedded._work, [0]

    def work(*given: object) -> bool:
        if done[0] >= steps:
            raise TryAgain("interrupted")
        worked = real(*given)
        done[0] += worked
        return worked

    return work
