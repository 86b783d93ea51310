"""Two deliveries at the same time, files that change while they are read, and members of an archive that look like one file."""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from threading import Barrier, BrokenBarrierError
from typing import Any
from unittest.mock import patch

import pytest
from sources_site import deliver_one, inbox, site

import recon
from recon.cli import main
from recon.intake import batches
from recon.intake.sources import deliver, process
from recon.intake.sources import inbox as inboxes
from recon.intake.sources.tracking import Tracking
from recon.storage.local import LocalStore
from recon.storage.s3.foreign import Listed

WINDOW = "2026-11-01T00:00Z"
SNAPSHOT = "delivery: snapshot\nversion: part"


def test_two_versions_taken_by_two_processes_at_once_land_once(tmp_path: Path) -> None:
    r = site(tmp_path, extra=SNAPSHOT)
    for part in (1, 2):
        (inbox(r) / f"bank_20261101_{part}.csv").write_text(f"Konto;Betrag\na;{part}\n")
    with patch.object(deliver, "process_open"):
        r.deliver(inbox(r))
    files, meeting, real = r.intake().tracking.files(), Barrier(2), batches.land

    def land(*args: Any) -> Any:
        with suppress(BrokenBarrierError):
            meeting.wait(1)  # both have looked for other versions
        return real(*args)

    with patch.object(batches, "land", land), ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda file: process.process(recon.open(tmp_path / "recon.yaml").intake(), file), files))
    assert [file.state for file in r.intake().tracking.files()] == ["superseded", "landed"]
    r.close(WINDOW)
    r.run()
    assert [row["total"] for row in r.artifacts().to_pylist()] == [Decimal(2)]


def test_a_file_that_changes_while_it_is_copied_is_not_received(tmp_path: Path) -> None:
    r = site(tmp_path)
    path, real = inbox(r) / "bank_20261101_1.csv", shutil.copyfile
    path.write_text("Konto;Betrag\na;1\n")

    def copyfile(source: str, target: Path) -> None:
        real(source, target)
        with path.open("a") as file:
            file.write("b;2\n")

    with patch.object(inboxes.shutil, "copyfile", copyfile):
        found = r.deliver(inbox(r))
    assert (found.files, [name for name, _ in found.changing]) == ([], [path.name])
    assert "run the same again when its writer is done" in found.changing[0][1]
    assert r.intake().tracking.files() == []
    assert [file.kept for file in r.deliver(inbox(r)).files] == [2]


class Bucket(LocalStore):
    """A folder that is listed as a bucket of other programs is."""

    def listed(self) -> Iterator[Listed]:
        for path, size in self.sizes(""):
            yield Listed(path, size, self.version(path))


@pytest.mark.parametrize("after", ["Konto;Betrag\na;3\n", "Konto;Betrag\n"])
def test_an_object_that_is_replaced_while_it_is_copied_is_not_received(after: str, tmp_path: Path) -> None:
    r, store = site(tmp_path), Bucket(tmp_path / "bucket")
    path, real = tmp_path / "bucket" / "bank_20261101_1.csv", store.copy_out
    path.parent.mkdir(exist_ok=True)
    path.write_text("Konto;Betrag\na;1\n")
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns

    def copy_out(name: str, target: Path) -> int:
        size = real(name, target)
        path.write_text(after)
        os.utime(path, ns=times)
        return size

    with patch.object(inboxes, "open_foreign", lambda *_: store):
        with patch.object(store, "copy_out", copy_out):
            found = r.deliver("s3://bucket")
        assert (found.files, [name for name, _ in found.changing]) == ([], [path.name])
        assert "it was replaced while it was read" in found.changing[0][1]
        assert [file.size for file in r.deliver("s3://bucket").files] == [len(after)]
        path.write_text("Konto;Betrag\na;4\n")
        os.utime(path, ns=times)
        assert len(r.deliver("s3://bucket").files) == 1


def test_a_file_of_equal_size_and_time_is_a_new_one(tmp_path: Path) -> None:
    r = site(tmp_path)
    for amount in (1, 2):
        path = inbox(r) / "bank_20261101_1.csv"
        path.write_text(f"Konto;Betrag\na;{amount}\n")
        os.utime(path, ns=(0, 0))
        assert len(r.deliver(inbox(r)).files) == 1


def test_members_of_the_same_name_and_bytes_in_two_folders_are_refused_together(tmp_path: Path) -> None:
    r = site(tmp_path)
    for second, message in (("a;1", "a/bank_20261101_1.csv and b/bank_20261101_1.csv have equal names and bytes"), ("a;2", None)):
        with zipfile.ZipFile(inbox(r) / "stores.zip", "w") as archive:
            archive.writestr("a/bank_20261101_1.csv", "Konto;Betrag\na;1\n")
            archive.writestr("b/bank_20261101_1.csv", f"Konto;Betrag\n{second}\n")
        found = r.deliver(inbox(r))
        assert (len(found.files), len(found.failed)) == ((0, 1) if message else (2, 0))
        if message:
            assert message in found.failed[0][1]


def test_members_of_one_name_in_two_folders_do_not_replace_each_other(tmp_path: Path) -> None:
    r = site(tmp_path, extra="delivery: snapshot")
    with zipfile.ZipFile(inbox(r) / "stores.zip", "w") as archive:
        for number, folder in enumerate("ab"):
            archive.writestr(f"{folder}/bank_20261101_1.csv", f"Konto;Betrag\n{folder};{number}\n")
    found = r.deliver(inbox(r))
    assert (found.files, len(found.failed)) == ([], 1)
    assert "have one name, so the second would replace the first; ask the sender for names that differ" in found.failed[0][1]


@pytest.mark.parametrize("place", ["before", "after"])
def test_a_process_that_dies_before_it_closes_the_window_leaves_that_to_the_next(tmp_path: Path, place: str) -> None:
    r, real = site(tmp_path, extra='expect: {files: ["bank_{window:%Y%m%d}_1.csv"]}'), Tracking.move

    class Killed(BaseException):
        pass

    def move(self: Tracking, file: Any, state: Any, run: str, **fields: Any) -> Any:
        if state == "landed" and place == "before":
            raise Killed
        moved = real(self, file, state, run, **fields)
        if state == "landed":
            raise Killed
        return moved

    with patch.object(Tracking, "move", move), pytest.raises(Killed):
        deliver_one(r, "Konto;Betrag\na;1\n")
    r.deliver(inbox(r))
    assert r.run().windows == [WINDOW]


def test_a_file_that_was_taken_back_is_rejected_until_it_is_taken_up_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    r = site(tmp_path)
    file = deliver_one(r, "Konto;Betrag\na;1\n")
    r.unland(str(file.landed_as), WINDOW, "sent by mistake")
    again = ["land", "--from", str(inbox(r)), "--config", str(tmp_path / "recon.yaml")]
    (inbox(r) / file.name).touch()
    assert main(again) == 1
    assert f"taken back out of {WINDOW}: sent by mistake" in capsys.readouterr().err
    assert main(["files", "retry", str(file.id), *again[3:]]) == 0
    assert [landed.state for landed in r.intake().tracking.files()] == ["landed"]
    assert [landed.name for landed in r.close(WINDOW)[0].files] == [file.landed_as]
    assert [landed.landings for landed in r.intake().tracking.files()] == [2], "aggregations take it for another version"


def test_a_file_that_comes_again_unchanged_notes_when(tmp_path: Path) -> None:
    r = site(tmp_path)
    file = deliver_one(r, "Konto;Betrag\na;1\n")
    assert file.delivered_at is None
    (inbox(r) / file.name).touch()
    r.deliver(inbox(r))
    (again,) = r.intake().tracking.files()
    assert again.delivered_at is not None
    assert again.delivered_at > again.received_at == file.received_at
