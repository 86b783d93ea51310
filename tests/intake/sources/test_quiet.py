"""Files that are still being written are left for the next delivery, by the command and by the sensor."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from unittest.mock import patch

import pytest
from cli_calls import Call
from hypothesis import given
from hypothesis import strategies as st
from sources_site import inbox, site

from recon.intake.sources import deliver, quiet
from recon.intake.sources.inbox import FolderInbox, Item, StillChanging

NAME = "bank_20261101_1.csv"
QUIET = "quiet: 3s"
HEADER, ROWS = "Konto;Betrag\n", ["a;1\n", "b;2\n", "c;3\n"]


@dataclass
class Written:
    """A file in a model of a folder: the times at which it grows, and what a look at a time finds. Times in seconds from 1970."""

    changes: list[float]
    looks: list[float] = field(default_factory=list)

    def size(self, now: float) -> int:
        return sum(1 for at in self.changes if at <= now)

    def look(self, now: float) -> Item:
        last = max((at for at in self.changes if at <= now), default=0.0)
        ns = int(last * 10**9)
        return Item("x.csv", "/in/x.csv", f"{self.size(now)} {ns} {ns}")


SECONDS = st.integers(1, 40).map(lambda tenths: tenths / 10)


@given(pauses=st.lists(SECONDS, max_size=8), quiet_s=SECONDS, first_look=st.integers(0, 400).map(lambda tenths: tenths / 10))
def test_a_file_is_taken_whole_or_not_yet_if_its_pauses_are_shorter_than_the_quiet_time(
    pauses: list[float], quiet_s: float, first_look: float
) -> None:
    changes, at = [1000.0], 1000.0
    for pause in pauses:
        at += min(pause, quiet_s * 0.9)
        changes.append(at)
    file, now = Written(changes), 1000.0 + first_look
    for _ in range(2_000):
        left = quiet.remaining_s(file.look(now), timedelta(seconds=quiet_s), now)
        if left == 0:
            break
        before = file.look(now)
        now += left
        if file.look(now).stamp == before.stamp:  # the second look
            break
    assert file.size(now) == len(changes)


def test_a_writer_that_pauses_while_the_command_waits_is_not_done(tmp_path: Path) -> None:
    r = site(tmp_path, extra=QUIET)
    path, waits = inbox(r) / NAME, list[float]()
    path.write_text(HEADER + ROWS[0])

    def goes_on(seconds: float) -> None:
        waits.append(seconds)
        with path.open("a") as file:
            file.write(ROWS[len(waits)])

    real = quiet.without_changing
    with patch.object(deliver, "without_changing", lambda *given: real(*given, sleep=goes_on)):
        found = r.deliver(inbox(r))
        again = r.deliver(inbox(r))
    assert all(0 < seconds <= 3 for seconds in waits)
    assert (found.files, again.files, found.failed) == ([], [], [])
    assert [name for name, _ in found.changing + again.changing] == [NAME, NAME]
    assert (
        f"{path}: it changed less than 3 s ago (quiet), and was not received; run the same again when its writer is done"
        in found.changing[0][1]
    )
    with patch.object(deliver, "without_changing", lambda *given: real(*given, sleep=lambda _: None)):
        assert [file.kept for file in r.deliver(inbox(r)).files] == [3]


def test_a_file_that_grows_after_it_was_taken_is_taken_again_whole(tmp_path: Path) -> None:
    r = site(tmp_path, extra="quiet: 0s\ndelivery: snapshot")
    path = inbox(r) / NAME
    kept = list[int | None]()
    for rows in (1, 2, 3):
        path.write_text(HEADER + "".join(ROWS[:rows]))
        kept += [file.kept for file in r.deliver(inbox(r)).files]
    assert kept == [1, 2, 3]
    assert [file.state for file in r.intake().tracking.files()] == ["superseded", "superseded", "landed"]


def test_a_file_that_another_replaces_while_it_is_copied_is_left(tmp_path: Path) -> None:
    place, other = tmp_path / "x.csv", tmp_path / "other"
    place.write_text("a")
    other.write_text("b")
    (item,) = [item for item in FolderInbox(tmp_path).items() if item.name == "x.csv"]

    def same_times(source: str, target: Path) -> None:
        target.write_text(place.read_text())
        other.rename(place)

    scratch = tmp_path / "scratch"
    scratch.mkdir()
    with (
        patch("recon.intake.sources.inbox.shutil.copyfile", same_times),
        patch("recon.intake.sources.inbox.stamp_of", lambda _: item.stamp),  # size and times are those of the file before
        pytest.raises(StillChanging, match="when its writer is done"),
    ):
        FolderInbox(tmp_path).local(item, scratch)


def test_a_file_whose_times_are_in_the_future_is_judged_by_two_looks(tmp_path: Path) -> None:
    now = time.time()
    ahead = int((now + 3600) * 10**9)
    item = Item("x.csv", "/in/x.csv", f"5 {ahead} {ahead}")
    assert quiet.remaining_s(item, timedelta(seconds=3), now) == 3
    assert quiet.remaining_s(item, timedelta(minutes=10), now) == quiet.WAIT_MAX_S
    old = Item("x.csv", "/in/x.csv", f"5 {ahead} {int((now - 60) * 10**9)}")
    assert quiet.remaining_s(old, timedelta(seconds=3), now) == 0


def test_a_long_quiet_time_is_not_waited_for_and_an_archive_waits_for_any_source(tmp_path: Path, recon: Call) -> None:
    r = site(tmp_path, extra="quiet: 10m")
    for name in (NAME, "any.zip"):
        (inbox(r) / name).write_text(HEADER)
    with patch.object(quiet.time, "sleep", lambda _: pytest.fail("it waits")):
        answer = recon("land", "--from", str(inbox(r)), "--config", str(tmp_path / "recon.yaml"))
    assert answer.status == 3
    assert f"{NAME}: {inbox(r) / NAME}: it changed less than 600 s ago" in answer.err
    assert f"any.zip: {inbox(r)}/any.zip: it changed less than 600 s ago" in answer.err
    assert r.intake().tracking.files() == []


def test_the_sensor_sees_the_same(tmp_path: Path) -> None:
    r = site(tmp_path, extra="quiet: 10m\ninbox: inbox")
    (inbox(r) / NAME).write_text(HEADER + ROWS[0])
    intake = r.intake()
    items = intake.inbox(str(inbox(r))).items()
    assert quiet.changing(intake, items) == items
    past = time.time() - 3600
    os.utime(inbox(r) / NAME, (past, past))  # the time of the file itself is still now
    assert quiet.changing(intake, intake.inbox(str(inbox(r))).items()) != []


@pytest.mark.parametrize(
    ("text", "seconds"), [("0s", 0), ("30s", 30), ("10m", 600), ("1h", 3600), ("soon", None), ("1.5s", None), ("5", None)]
)
def test_a_quiet_time_is_seconds_minutes_or_hours(tmp_path: Path, text: str, seconds: int | None) -> None:
    intake = site(tmp_path, extra=f"quiet: {text}").intake()
    if seconds is not None:
        assert intake.sources["bank"].section.quiet == timedelta(seconds=seconds)
        return
    assert "is no time for which a file must not have changed; write one such as 0s, 30s or 10m" in str(intake.broken["bank"])
