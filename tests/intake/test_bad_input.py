"""Bad input, from file to report: each fault is one clear line that names file and line or field, and nothing is lost.

The many forms of each fault are tests of the intake.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import strategies as s
from cli_calls import command, forked

from recon.cli import main
from recon.model.windows import name_of

WINDOW = "2026-11-01T00:00Z"
HEADER = "event_id,order_id,event_type,amount,currency,booked_at\n"
GOOD = "1,A,INVOICE,10.00,EUR,2026-11-01T00:10:00Z\n"
Told = tuple[int, str, str]
Call = Callable[..., Told]


@pytest.fixture
def recon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Calls a command in a folder with a recon.yaml: status, stdout, stderr, which is one line at most and never a bug."""
    (tmp_path / "recon.yaml").write_text(s.STANDARD_YAML)
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> Told:
        capsys.readouterr()
        status = main(arguments)
        out, err = capsys.readouterr()
        assert err.count("\n") <= 1, err
        assert "this is a bug" not in err
        return status, out, err

    return call


def landed(recon: Call, name: str, content: bytes) -> Told:
    Path(name).write_bytes(content)
    return recon("land", name, "--window", WINDOW, "--close")


BAD_ROWS = {
    "a text amount": ("2,B,INVOICE,TBC,EUR,2026-11-01T00:10:00Z", "amount: 'TBC' is not a decimal(18,2)"),
    "a thousands separator": ('2,B,INVOICE,"1,000.00",EUR,2026-11-01T00:10:00Z', "amount: '1,000.00' is not a decimal(18,2)"),
    "too many decimals": ("2,B,INVOICE,1.005,EUR,2026-11-01T00:10:00Z", "amount: '1.005' has more than 2 decimals"),
    "a huge amount": (f"2,B,INVOICE,{'9' * 40},EUR,2026-11-01T00:10:00Z", "does not fit decimal(18,2)"),
    "NaN": ("2,B,INVOICE,NaN,EUR,2026-11-01T00:10:00Z", "amount: 'NaN' is not a number"),
    "Infinity": ("2,B,INVOICE,-Infinity,EUR,2026-11-01T00:10:00Z", "amount: '-Infinity' is not a number"),
    "an empty key": ("2,,INVOICE,1.00,EUR,2026-11-01T00:10:00Z", "order_id: the key is empty"),
    "a key with NUL": ("2,B\0C,INVOICE,1.00,EUR,2026-11-01T00:10:00Z", "order_id: the key holds a NUL character"),
    "a key of 4,097 bytes": (f"2,{'k' * 4097},INVOICE,1.00,EUR,2026-11-01T00:10:00Z", "order_id: the key is longer than 4096 bytes"),
    "a bad time": ("2,B,INVOICE,1.00,EUR,01.11.2026", "booked_at: '01.11.2026' is not a time such as"),
    "a day that is none": ("2,B,INVOICE,1.00,EUR,2026-02-30T00:00:00Z", "booked_at: '2026-02-30T00:00:00Z' is not a time such as"),
    "broken UTF-8": ("2,B\udcff,INVOICE,1.00,EUR,2026-11-01T00:10:00Z", "bytes that are not UTF-8"),
    "a doubled header": (HEADER.rstrip("\n"), "the header again"),
    "a field too few": ("2,B,INVOICE,1.00,EUR", "5 fields"),
    "a quote that is never closed": ('2,"B,INVOICE,1.00,EUR,2026-11-01T00:10:00Z', "a quoted field that does not end at a delimiter"),
    "a field too many": ("2,B,INVOICE,1.00,EUR,2026-11-01T00:10:00Z,x", "7 fields"),
}


def bad(fault: str, number: int = 0) -> bytes:
    """A file with a good row, of a key of its own for each number, and the bad one."""
    good = GOOD.replace("1,A,", f"1,A{number},", 1)
    return (HEADER + good + BAD_ROWS[fault][0] + "\n").encode(errors="surrogateescape")


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a window for each fault, in their order."""
    folder = tmp_path_factory.mktemp("kept")
    (folder / "recon.yaml").write_text(s.STANDARD_YAML + "rejects: keep\n")
    for number, fault in enumerate(BAD_ROWS):
        (folder / "bank.csv").write_bytes(bad(fault, number))
        assert command("land", "bank.csv", "--window", name_of(s.at(number)), "--close", cwd=folder).returncode == 0
    done = command("run", cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    return folder


@pytest.mark.parametrize("fault", BAD_ROWS)
def test_a_bad_row_is_rejected_with_file_line_and_reason(recon: Call, kept: Path, monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    monkeypatch.chdir(kept)
    (row, reason), number = BAD_ROWS[fault], list(BAD_ROWS).index(fault)
    window = name_of(s.at(number))
    ((rejected),) = json.loads(recon("rejects", window, "--json")[1])
    assert (rejected["window"], rejected["file"], rejected["line"]) == (window, "bank.csv", 3)
    assert reason in rejected["reason"]
    assert rejected["raw"].startswith(row[:2])
    certificate = json.loads(recon("certificate", window, "--json")[1])
    assert [certificate[part]["rows"] for part in ("in", "accepted", "duplicates", "rejected")] == [2, 1, 0, 1]
    assert certificate["ties"] is True
    assert json.loads(recon("show", f"A{number}", "--json")[1])["measures"]["billed"] == "10.00"


STOPPING = ("a text amount", "broken UTF-8", "a field too few")
"""Faults of a value, of its bytes and of its row: in `make test` these stop a window, in `make e2e` all do."""


@pytest.mark.parametrize("fault", [pytest.param(one, marks=[] if one in STOPPING else pytest.mark.soak) for one in BAD_ROWS])
def test_a_bad_row_stops_its_window_where_rejects_stop(recon: Call, fault: str) -> None:
    Path("recon.yaml").write_text(s.STANDARD_YAML + "rejects: stop\n")
    assert landed(recon, "bank.csv", bad(fault))[0] == 0
    status, _, err = recon("run")
    assert status == 1
    assert f"window {WINDOW}" in err
    assert "bank.csv" in err
    assert "3" in err
    assert recon("show", "A0")[0] == 1


TEXT = (HEADER + GOOD).encode()
BAD_FILES: dict[str, tuple[str, bytes, str]] = {
    "a missing column": ("x.csv", TEXT.replace(b"amount", b"sum"), "x.csv: line 1: the header has no column 'amount'"),
    "a column in other letters": ("x.csv", TEXT.replace(b"amount", b"Amount"), "did you mean 'Amount'?"),
    "a column given twice": ("x.csv", TEXT.replace(b"currency", b"amount"), "x.csv: line 1: the header has column 'amount' twice"),
    "semicolons": ("x.csv", TEXT.replace(b",", b";"), "which is separated by ';'; expected ','"),
    "a cut-off gzip": ("x.csv.gz", gzip.compress(TEXT * 50)[:-9], "x.csv.gz: the gzip data is cut off"),
    "an empty file": ("x.csv", b"", "x.csv: the file is empty (0 bytes)"),
    "an empty Parquet file": ("x.parquet", b"", "x.parquet: the file is empty (0 bytes)"),
    "a cut-off Parquet file": ("x.parquet", b"PAR1" + b"x" * 50, "x.parquet: not a whole Parquet file"),
    "gzip that is called csv": ("x.csv", gzip.compress(TEXT), "x.csv: the content is gzip, the name says plain text"),
    "csv that is called gzip": ("x.csv.gz", TEXT, "x.csv.gz: the content is not gzip, the name says gzip"),
    "csv that is called Parquet": ("x.parquet", TEXT, "x.parquet: the content is not Parquet, the name says Parquet"),
    "csv that is called jsonl": ("x.jsonl", TEXT, "x.jsonl: line 1 is no JSON object"),
    "jsonl that is called csv": ("x.csv", b'{"a": 1}\n', "x.csv: line 1 is a JSON object, the name says CSV"),
    "a workbook that is called csv": ("x.csv", b"PK\x03\x04" + b"x" * 99, "x.csv: the content is a zip archive or an Excel workbook"),
    "a workbook": ("x.xlsx", b"PK\x03\x04" + b"x" * 99, "x.xlsx: the name has no known suffix"),
    "a JSON array": ("x.json", b"[{}]\n", "x.json: line 1 begins a JSON array; expected JSON lines"),
    "UTF-16": ("x.csv", TEXT.decode().encode("utf-16"), "x.csv: the file is UTF-16 text; save it as UTF-8"),
    "UTF-16 without its mark": ("x.csv", TEXT.decode().encode("utf-16-le"), "x.csv: line 1: the header holds NUL characters, as UTF-16"),
    "nothing but NUL": ("x.csv", bytes(512), "x.csv: line 1: the header holds NUL characters"),
    "carriage returns only": ("x.csv", TEXT.replace(b"\n", b"\r"), "x.csv: lines end with carriage returns only"),
}


@pytest.mark.parametrize("fault", BAD_FILES)
def test_a_bad_file_is_refused_when_it_lands_and_leaves_nothing(recon: Call, tmp_path: Path, fault: str) -> None:
    name, content, said = BAD_FILES[fault]
    status, out, err = landed(recon, name, content)
    assert status in (1, 2)
    assert (out, said in err) == ("", True), err
    assert not list(tmp_path.glob("data/events/**/*"))


def test_a_fault_that_only_shows_when_the_rows_are_read_leaves_its_window_out_by_name(recon: Call) -> None:
    damaged = io.BytesIO()
    columns = dict(zip(HEADER.strip().split(","), (["x" * 5_000] for _ in range(6)), strict=True))
    pq.write_table(pa.table(columns), damaged, compression="none", use_dictionary=False, write_statistics=False)
    content = damaged.getvalue()[:4] + bytes(4_000) + damaged.getvalue()[4_004:]
    assert landed(recon, "x.parquet", content)[0] == 0
    status, out, err = recon("run")
    assert status == 1
    assert out.startswith("processed no window\n")
    assert err.startswith(f"recon: left out: window {WINDOW}: x.parquet: ")
    assert err.endswith("; transfer the file again\n")
    Path("better.csv").write_bytes(TEXT)
    assert recon("land", "better.csv", "-w", WINDOW, "--replace", "x.parquet")[0] == 0
    assert recon("run")[0] == 0
    assert recon("show", "A")[0] == 0


@pytest.mark.parametrize("name", ["x.csv", "x.tsv", "x.jsonl", "x.parquet"])
def test_what_is_odd_but_meant_is_taken_as_it_is(recon: Call, name: str) -> None:
    """A mark of byte order, CRLF, negative zero, a time before 1970, a null amount."""
    columns = HEADER.strip().split(",")
    rows = [
        ["1", "old", "INVOICE", "-0.00", "EUR", "1969-12-31T23:59:59Z"],
        ["2", "older", "INVOICE", "-0", "EUR", "0001-01-01T00:00:00Z"],
        ["3", "none", "INVOICE", None, "EUR", "9999-12-31T23:59:59.999999Z"],
    ]
    if name.endswith("parquet"):
        pq.write_table(pa.table(dict(zip(columns, map(list, zip(*rows, strict=True)), strict=True))), name)
        content = Path(name).read_bytes()
    elif name.endswith("jsonl"):
        content = b"\xef\xbb\xbf" + "".join(json.dumps(dict(zip(columns, row, strict=True))) + "\r\n" for row in rows).encode()
    else:
        mark = "\t" if name.endswith("tsv") else ","
        content = b"\xef\xbb\xbf" + "".join(mark.join(cell or "" for cell in row) + "\r\n" for row in [columns, *rows]).encode()
    assert landed(recon, name, content)[0] == 0
    assert recon("run")[0] == 0
    shown = {key: json.loads(recon("show", key, "--events", "--json")[1]) for key in ("old", "older", "none")}
    assert [shown[key]["measures"]["billed"] for key in shown] == ["0.00", "0.00", None]
    times = [shown[key]["contributions"][0]["event_list"][0]["time"] for key in shown]
    assert times == ["1969-12-31T23:59:59+00:00", "0001-01-01T00:00:00+00:00", "9999-12-31T23:59:59.999999+00:00"]


def test_a_file_that_is_still_being_written_does_not_land(recon: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from recon.intake import batches

    path, looked = tmp_path / "x.csv", batches.file_digest

    def digest_while_another_writes(file: Path) -> str:
        digest = looked(file)
        if path.read_bytes() == TEXT:
            with path.open("ab") as writer:
                writer.write(GOOD.replace("1,", "2,", 1).encode())
        return digest

    monkeypatch.setattr(batches, "file_digest", digest_while_another_writes)
    status, out, err = landed(recon, "x.csv", TEXT)
    assert (status, out) == (3, "")
    assert err == "recon: x.csv: it changed while it was landed, and nothing was; land it again when its writer is done\n"
    assert not [file for file in tmp_path.glob("data/events/**/*") if file.is_file()]
    monkeypatch.setattr(batches, "file_digest", looked)
    assert recon("land", "x.csv", "-w", WINDOW, "--close")[0] == 0
    assert "2 in = 2 accepted" in recon("run")[1]


def test_a_full_disk_is_told_in_one_line_and_nothing_is_lost(recon: Call, tmp_path: Path) -> None:
    rows = "".join(f"{n},K{n},INVOICE,1.00,EUR,2026-11-01T00:10:00Z\n" for n in range(20_000))
    Path("x.csv").write_text(HEADER + rows)
    (refused,) = forked(f"land x.csv -w {WINDOW} --close", limits=[65_536])
    assert (refused.returncode, refused.stdout, refused.stderr.count("\n")) == (3, "", 1), refused.stderr
    assert "full" in refused.stderr or "space" in refused.stderr
    assert recon("land", "x.csv", "-w", WINDOW, "--close")[0] == 0
    for stopped in forked("run", "run", "run", limits=[20_000, 200_000, 600_000]):
        assert stopped.returncode == 3, stopped.stderr
        assert stopped.stderr.count("\n") == 1
        assert "this is a bug" not in stopped.stderr
    assert not list(tmp_path.glob("data/timeline/0*"))
    assert recon("run")[0] == 0
    assert recon("verify", "--full")[0] == 0


def without_privilege(*commands: str) -> list[subprocess.CompletedProcess[str]]:
    """Commands that permissions bind, also where the tests run as root."""
    if os.geteuid() == 0 and shutil.which("setpriv") is None:
        pytest.skip("as root nothing is forbidden, and setpriv (util-linux), which would change that, is not there")
    bound = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    return forked(*commands, by=bound)


def test_a_store_that_may_only_be_read_answers_and_says_what_it_cannot_take(recon: Call, tmp_path: Path) -> None:
    assert landed(recon, "x.csv", TEXT)[0] == 0
    assert recon("run")[0] == 0
    Path("secret.csv").write_bytes(TEXT + b"\n")
    Path("secret.csv").chmod(0)
    folders = [path for path in (tmp_path / "data", *tmp_path.glob("data/**/*")) if path.is_dir()]
    for folder in folders:
        folder.chmod(0o555)
    try:
        looks = ("show A --events", "status", "breaks", "rejects", "export out.csv", "verify --full", f"certificate {WINDOW}")
        changes = {f"land secret.csv -w {WINDOW}": 1, f"replay {WINDOW}": 3, "close 2026-11-01T01:00Z": 3}
        for told in without_privilege(*looks, *changes):
            if told.args in looks:
                assert (told.returncode, told.stderr) == (0, ""), told.args
            else:
                assert (told.returncode, told.stdout, told.stderr.count("\n")) == (changes[told.args], "", 1), told.stderr
                assert "Permission denied" in told.stderr
    finally:
        for folder in folders:
            folder.chmod(0o755)


@pytest.mark.parametrize("damage", ["flip", "cut"])
def test_a_look_up_of_a_damaged_record_says_so_and_shows_nothing(recon: Call, tmp_path: Path, damage: str) -> None:
    assert landed(recon, "x.csv", TEXT)[0] == 0
    assert recon("run")[0] == 0
    (part,) = tmp_path.glob("data/state/*/part-*.words")
    part.chmod(0o644)
    whole = part.read_bytes()
    part.write_bytes(whole[:-9] if damage == "cut" else whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:])
    for asked in (["show", "A"], ["export", "out.csv"], ["breaks"]):
        status, out, err = recon(*asked)
        assert (status, out) == (1, ""), asked
        assert part.name in err
    assert not (tmp_path / "out.csv").exists()
    assert main(["verify"]) == 1


@pytest.mark.parametrize("time", ["0001-01-01T00:00Z", "0001-01-01T00:00+14:00", "9999-12-31T23:59:59-14:00", "9999-12-31T00:00Z"])
@pytest.mark.parametrize(
    "asked",
    [
        ("land", "x.csv", "--window"),
        ("close",),
        ("status",),
        ("certificate",),
        ("rejects",),
        ("duplicates",),
        ("replay",),
        ("show", "A", "--as-of"),
        ("show", "A", "--through"),
        ("show", "A", "--known-at"),
        ("export", "out.csv", "--as-of"),
        ("run", "--from"),
        ("run", "--to"),
    ],
)
def test_a_year_that_arithmetic_could_leave_is_refused_wherever_a_time_is_given(
    recon: Call, kept: Path, asked: tuple[str, ...], time: str
) -> None:
    Path("x.csv").write_bytes(TEXT)
    status, _, err = recon(*asked, time, "--config", str(kept / "recon.yaml"))
    assert status == 2
    assert f"'{time}' is not from 1900 to 2999; write a time within these years" in err


def test_a_question_mark_in_a_path_is_right_or_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recon: Call) -> None:
    folder = tmp_path / "what?now"
    folder.mkdir()
    (folder / "recon.yaml").write_text(s.STANDARD_YAML)
    monkeypatch.chdir(folder)
    assert landed(recon, "a?b.csv", TEXT)[0] == 0
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    status, _, err = recon("run")
    assert (status, "Dagster cannot keep its files in a folder with '?' in its path" in err) == (2, True)
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    assert recon("run")[0] == 0
    assert json.loads(recon("show", "A", "--json")[1])["measures"]["billed"] == "10.00"
    assert recon("export", "o?t.csv")[0] == 0
    assert (folder / "o?t.csv").exists()
    assert recon("verify", "--full")[0] == 0
