"""What a message advises works: after a fault anywhere, doing what it says gives what no fault would have given."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import crash_child as c
import faulty_store
import pytest
import strategies as s
from histories import carry_out, open_in

import recon
from recon.api import Reconciliation
from recon.errors import Damaged, TryAgain
from recon.intake.corrections import correct
from recon.intake.manifests import read_manifest
from recon.model.windows import name_of
from recon.storage import open as stores

SOAK = os.environ.get("RECON_SOAK") == "1"
W = [name_of(s.at(number)) for number in range(4)]
PAYMENT = {"event_type": "PAYMENT", "amount": "10.00", "currency": "EUR"}


def rows(window: int, amount: str = "10.00") -> tuple[s.Row, ...]:
    return tuple(s.Row(order_id=f"K{n}", event_id=f"{window}-{n}", amount=amount) for n in range(3))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A window that is done, one that is to be run again, a third that is open and holds a file, and two more files to land."""
    folder = tmp_path_factory.mktemp("advice") / "base"
    folder.mkdir()
    r = open_in(folder)
    for window in range(2):
        for operation in (s.Land(window, s.File(f"w{window}", rows(window))), s.Close(window), s.Run((window,))):
            carry_out(r, operation)
    carry_out(r, s.Land(2, s.File("w2", rows(2))))
    carry_out(r, s.Replay(1))
    (folder / "new.csv").write_bytes(s.File("new", rows(3, "2.50")).content)
    (folder / "w0.csv").write_bytes(s.File("w0", rows(0, "7.00")).content)
    return folder


Command = Callable[[Reconciliation], Any]


def in_folder(r: Reconciliation, name: str) -> Path:
    return r.config.path.with_name(name)


COMMANDS: dict[str, Command] = {
    "land": lambda r: r.land([in_folder(r, "new.csv")], W[2], again=True),
    "land two files and close": lambda r: r.land([in_folder(r, "new.csv"), in_folder(r, "w0.csv")], W[2], close=True, again=True),
    "land --replace by another name": lambda r: r.land([in_folder(r, "new.csv")], W[0], replace="w0.csv", again=True),
    "land --replace by the same name": lambda r: r.land([in_folder(r, "w0.csv")], W[0], replace="w0.csv", again=True),
    "unland": lambda r: r.unland("w0.csv", W[0], "sent by mistake"),
    "close": lambda r: r.close(W[2], "complete"),
    "correct": lambda r: r.correct("K0", event=PAYMENT, reason="paid in cash", yes=True),
    "replay": lambda r: r.replay(W[0], W[2], "once more"),
    "run": lambda r: r.run(),
    "rebuild": lambda r: r.rebuild(),
    "compact": lambda r: r.compact(always=True),
}


def landed(r: Reconciliation) -> dict[str, Any]:
    """Every window's newest manifest without times and places, which differ between two calls. Artifacts are a function of it."""
    found = {}
    for folder in sorted({path.split("/")[1] for path in r.store().list("events/") if "/manifests/" in path}):
        name = f"{folder[:13]}:{folder[13:]}"
        manifest = read_manifest(r.store(), r.config.grid.parse(name))
        assert manifest is not None
        files = [(file.reason or file.name, "" if file.reason else file.digest, file.by) for file in manifest.files]
        found[name] = (manifest.revision, files, manifest.closed, manifest.cause, manifest.reason)
    return found


def came_to(r: Reconciliation) -> dict[str, Any]:
    """What a store comes to: what has landed, and once the same is done by a run, artifacts and figures."""
    assert not r.run().bad
    figures = ("revision", "state", "in", "accepted", "duplicates", "rejected", "ties")
    certified = {name: r.certificate(name) or {} for name in r.state().windows}
    return {
        "landed": landed(r),
        "artifacts": r.artifacts().to_pylist(),
        "certified": {name: {field: made[field] for field in figures} for name, made in certified.items()},
    }


def _close_now(r: Reconciliation) -> None:
    """Closes the windows in which corrections have landed."""
    for path in list(r.store().list("events/")):
        window = path.split("/")[1]
        if "/manifests/" in path:
            r.close(f"{window[:13]}:{window[13:]}")


def failing_at(number: int, after: bool) -> tuple[faulty_store.Hook, faulty_store.Hook]:
    """The ``number``-th put fails once, not done, or done and its answer lost."""
    seen = 0

    def hook(call: faulty_store.Call) -> None:
        nonlocal seen
        if call.kind in ("put_new", "copy_in") and not call.path.startswith("leases/"):
            seen += 1
            if seen == number:
                raise TryAgain(f"{call.path}: the storage is away; run the same again")

    nothing: faulty_store.Hook = lambda call: None  # noqa: E731
    return (nothing, hook) if after else (hook, nothing)


@pytest.mark.parametrize("command", COMMANDS)
def test_run_the_same_again_after_a_fault_at_any_put_gives_what_no_fault_would_have_given(base: Path, tmp_path: Path, command: str) -> None:
    """Of long commands some puts in `make test`, in `make soak` all."""
    do, compared = COMMANDS[command], came_to if command in ("run", "rebuild", "compact") else landed
    r = recon.open(c.copy_of(base, tmp_path / "whole") / "recon.yaml")
    r._store = watched = faulty_store.WatchedStore(r.store())
    do(r)
    puts = sum(call.kind in ("put_new", "copy_in") and not call.path.startswith("leases/") for call in watched.calls)
    r._store = None
    expected = compared(r)
    failed = 0
    for after in (False, True):
        for number in range(1, puts + 1) if SOAK or puts <= 6 else (1 + after, puts // 2, puts - after):
            r = recon.open(c.copy_of(base, tmp_path / f"{number}-{after}") / "recon.yaml")
            before_put, after_put = failing_at(number, after)
            r._store = faulty_store.WatchedStore(r.store(), before=before_put, after=after_put)
            if (advice := advised(do, r)) is not None:
                assert "run the same again" in advice
                failed += 1
                do(recon.open(r.config.path))
            assert compared(recon.open(r.config.path)) == expected, f"{command}, {'after' if after else 'before'} put {number} of {puts}"
    assert failed


def advised(do: Command, r: Reconciliation) -> str | None:
    """What a command that fails says; None where the fault does it no harm."""
    try:
        do(r)
    except TryAgain as error:
        return str(error)
    return None


def test_a_copy_that_fails_at_any_put_is_completed_by_the_same_command(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = stores.open_store
    r = recon.open(base / "recon.yaml")
    whole = r.copy(tmp_path / "whole")
    expected = sorted(path for path in real(str(tmp_path / "whole"), tmp_path).list("") if not path.startswith("landings/"))
    for after in (False, True):
        for number in range(1, whole.objects) if SOAK else (2 + after, whole.objects // 2, whole.objects - 2):
            to = tmp_path / f"{number}-{after}"
            before_put, after_put = failing_at(number, after)
            with monkeypatch.context() as patch:
                wrap = lambda *given, b=before_put, a=after_put, **how: faulty_store.WatchedStore(real(*given, **how), before=b, after=a)  # noqa: E731
                patch.setattr(stores, "open_store", wrap)
                with pytest.raises(TryAgain, match="run the same again"):
                    r.copy(to)
            assert r.copy(to).commit == whole.commit
            assert sorted(path for path in real(str(to), tmp_path).list("") if not path.startswith("landings/")) == expected


def test_two_equal_corrections_that_both_succeeded_are_two_and_one_that_failed_is_one_in_the_window_of_the_first(
    base: Path, tmp_path: Path
) -> None:
    r = recon.open(c.copy_of(base, tmp_path / "store") / "recon.yaml")
    early, late = datetime(2026, 11, 1, 3, 10, tzinfo=UTC), datetime(2026, 11, 1, 9, 10, tzinfo=UTC)
    for _ in range(2):
        correct(r.store(), r.config, ("K0",), PAYMENT, "paid in cash", early)
    visible = faulty_store.WatchedStore(r.store(), after=_once("events/2026-11-01T0300Z/manifests/"))
    with pytest.raises(TryAgain, match="run the same again"):
        correct(visible, r.config, ("K0",), PAYMENT, "paid in cash", early)
    finished = correct(r.store(), r.config, ("K0",), PAYMENT, "paid in cash", late)
    assert (finished.window, finished.revision, len(finished.files)) == (W[3], 3, 3)
    assert not list(r.store().list("corrections/"))
    assert correct(r.store(), r.config, ("K0",), PAYMENT, "paid in cash", late).window == "2026-11-01T09:00Z"
    _close_now(r)
    r.run()
    assert r.show("K0")["measures"]["paid"] == "40.00"


def _once(prefix: str) -> faulty_store.Hook:
    failed = False

    def hook(call: faulty_store.Call) -> None:
        nonlocal failed
        if call.kind in ("put_new", "copy_in") and call.path.startswith(prefix) and not failed:
            failed = True
            raise TryAgain(f"{call.path}: the storage is away; run the same again")

    return hook


# ---- numbers ---------------------------------------------------------------------------------------------------------


def manifest_path(window: int, revision: int) -> str:
    return f"events/{W[window].replace(':', '')}/manifests/{revision:06d}.json"


@pytest.mark.parametrize("witness", ["all", "stateless", "certificates", "commits"])
def test_after_the_newest_manifest_was_lost_the_next_landing_has_a_new_number_and_is_processed(
    base: Path, tmp_path: Path, witness: str
) -> None:
    """Whatever else is left to say how far the numbers had come; the files of the lost manifest go on."""
    r = recon.open(c.copy_of(base, tmp_path / "store") / "recon.yaml")
    r.land([in_folder(r, "new.csv")], W[0], again=True)
    r.run()
    lost = read_manifest(r.store(), s.at(0))
    assert lost is not None
    r.store().delete(manifest_path(0, lost.revision))
    for prefix in ("stateless", "certificates"):
        for path in list(r.store().list(f"{prefix}/2026-11-01T0000Z/")) if witness not in ("all", prefix) else ():
            r.store().delete(path)
    extra = in_folder(r, "extra.csv")
    extra.write_bytes(s.File("extra", (s.Row(order_id="X", event_id="x", amount="1.00"),)).content)
    if witness == "commits":
        with pytest.raises(Damaged, match=rf"{manifest_path(0, lost.revision)}: the manifest is gone .* with 'recon replay {W[0]}'"):
            r.land([extra], W[0], again=True)
        (marked,) = r.replay(W[0])
        assert marked.revision == lost.revision + 1
        landed = r.land([extra], W[0], again=True).manifest
        assert [file.name for file in landed.files] == ["w0.csv", "extra.csv"]
        return
    landed = r.land([extra], W[0], again=True).manifest
    assert landed.revision == lost.revision + 1
    assert landed.files[-1].name == "extra.csv"
    assert {(file.name, file.digest, file.path) for file in landed.files[:-1]} == {(f.name, f.digest, f.path) for f in lost.files}
    assert landed.closed
    if witness == "all":
        assert not r.run().bad
        assert r.show("X")["measures"]["billed"] == "1.00"


def test_certificates_are_numbered_on_from_the_highest_number_though_one_between_is_lost(base: Path, tmp_path: Path) -> None:
    r = recon.open(c.copy_of(base, tmp_path / "store") / "recon.yaml")
    for _ in range(2):
        r.replay(W[0])
        r.run()
    r.store().delete("certificates/2026-11-01T0000Z/000002.json")
    r.replay(W[0])
    r.run()
    certificate = r.certificate(W[0])
    assert certificate is not None
    assert certificate["number"] == 4


# ---- what is damaged or gone ------------------------------------------------------------------------------------------


def check_replay_mends(r: Reconciliation, expected: list[dict[str, Any]]) -> None:
    """`verify` advises to replay the first window, and after that every artifact is as expected."""
    problems = r.verify().problems
    assert any(f"recon replay {W[0]}" in problem for problem in problems), problems
    r.replay(W[0])
    report = r.run()
    assert not report.bad, report.bad
    assert r.artifacts().to_pylist() == expected
    assert not r.verify(full=True).problems


@pytest.mark.parametrize("gone", [("artifacts.parquet",), ("events.parquet", "set_aside.parquet"), ()])
def test_replay_mends_a_window_whose_stateless_files_are_gone(base: Path, tmp_path: Path, gone: tuple[str, ...]) -> None:
    r = recon.open(c.copy_of(base, tmp_path / "store") / "recon.yaml")
    r.close(W[2])
    r.run()
    expected = r.artifacts().to_pylist()
    folder = r.state().windows[W[0]].folder
    for name in gone or ("artifacts.parquet", "events.parquet", "set_aside.parquet", "figures.json"):
        r.store().delete(folder + name)
    check_replay_mends(r, expected)
    assert r.run().commits == []


@pytest.mark.parametrize("damaged", ["artifacts.parquet", "events.parquet", "figures.json"])
def test_replay_mends_a_window_whose_stateless_files_are_damaged(base: Path, tmp_path: Path, damaged: str) -> None:
    r = recon.open(c.copy_of(base, tmp_path / "store") / "recon.yaml")
    r.close(W[2])
    r.run()
    expected = r.artifacts().to_pylist()
    path = in_folder(r, "data") / r.state().windows[W[0]].folder / damaged
    body = path.read_bytes()
    path.unlink()  # it is a hard link
    path.write_bytes(body[: len(body) // 2])
    check_replay_mends(r, expected)
