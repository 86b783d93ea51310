"""First and last of events of one time: by window, order of landing and line, never by the text of an id."""

from __future__ import annotations

from pathlib import Path

from cases import case

from recon.intake.manifests import read_manifest

STATES = """\
name: states
store: ./data
key: account
windows: {start: 2026-11-01T00:00Z, every: 1h}
events: {types: {state: text}, id: tx, time: booked}
measures: {opened: {first: state}, state: {last: state}, lines: {count: "*"}}
"""


def test_the_closing_balance_of_a_day_is_that_of_the_last_line_of_the_statement(tmp_path: Path) -> None:
    r = case(tmp_path, "last-on-equal-times")
    r.land([tmp_path / "statement.csv"], "2026-10-31T00:00Z", close=True, again=True)
    r.run()
    shown = r.show("GB-77")
    assert (shown["measures"]["closing"], shown["measures"]["moved"], shown["status"]) == ("1780.00", "780.00", "TIES")
    assert r.verify(full=True).ok


def test_events_of_one_second_are_in_the_order_of_their_lines(tmp_path: Path) -> None:
    r = case(tmp_path, "last-on-equal-times", "charges.yaml")
    r.land([tmp_path / "charge-events.jsonl"], "2026-10-31T00:00Z", close=True, again=True)
    r.run()
    shown = r.show("ch_1")
    assert (shown["measures"]["state"], shown["status"]) == ("paid", "PAID")
    assert r.verify(full=True).ok


def states(folder: Path, name: str, *rows: tuple[str, str]) -> Path:
    path = folder / name
    path.write_text("tx,account,booked,state\n" + "".join(f"{tx},A,2026-11-01T00:00:00Z,{state}\n" for tx, state in rows))
    return path


def test_files_of_a_window_are_in_the_order_of_landing_and_a_corrected_file_takes_its_place(tmp_path: Path) -> None:
    for order in ([1, 2, 3], [3, 1, 2], [2, 3, 1]):
        folder = tmp_path / "".join(map(str, order))
        r = case(folder, text=STATES)
        for number in order:
            r.land([states(folder, f"f{number}.csv", (str(number), f"state {number}"))], "2026-11-01T00:00Z", again=True)
        r.close("2026-11-01T00:00Z")
        r.run()
        measures = r.show("A")["measures"]
        assert (measures["opened"], measures["state"]) == (f"state {order[0]}", f"state {order[-1]}")

        r.land([states(folder, "corrected.csv", ("9", "corrected"))], "2026-11-01T00:00Z", replace=f"f{order[0]}.csv", again=True)
        r.run()
        manifest = read_manifest(r.store(), r.config.grid.parse("2026-11-01T00:00Z"))
        assert manifest is not None
        assert [file.name for file in manifest.files] == ["corrected.csv", *(f"f{number}.csv" for number in order[1:])]
        measures = r.show("A")["measures"]
        assert (measures["opened"], measures["state"]) == ("corrected", f"state {order[-1]}")
        assert r.verify(full=True).ok


def test_equal_times_in_two_windows_are_in_the_order_of_the_windows_whatever_is_processed_first(tmp_path: Path) -> None:
    for late in (0, 1):
        folder = tmp_path / str(late)
        r = case(folder, text=STATES)
        for window in (1 - late, late):
            r.land(
                [states(folder, f"w{window}.csv", (str(9 - window), f"window {window}"))],
                f"2026-11-01T0{window}:00Z",
                close=True,
                again=True,
            )
            r.run()
        measures = r.show("A")["measures"]
        assert (measures["opened"], measures["state"]) == ("window 0", "window 1")
        assert r.verify(full=True).ok
