"""Values of files: exact, or rejected with the reason; the same in every format."""

from __future__ import annotations

import io
import json
import tempfile
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from loaded_files import (
    HEADER,
    JSON_NUMBER,
    MONEY,
    amount_of,
    expected_decimal,
    inspect,
    load,
    parquet_bytes,
    timed,
)

from recon.errors import WrongInput
from recon.intake.files import EventSpec
from recon.intake.files import inspect as inspected
from recon.vocabulary.types import Type


@pytest.mark.parametrize(
    ("token", "expected"),
    [
        ("1.50", Decimal("1.50")),
        (" +1.5\t", Decimal("1.50")),
        ("1.5000000000000000000000000000000000000000000000000000", Decimal("1.50")),
        ("0" * 60 + "1", Decimal(1)),
        ("1E2", Decimal(100)),
        ("1.5e-1", Decimal("0.15")),
        ("-.5", Decimal("-0.50")),
        ("5.", Decimal(5)),
        ("9999999999999999.99", Decimal("9999999999999999.99")),
        ("abc", "v: 'abc' is not a decimal(18,2)"),
        ("1,000", "v: '1,000' is not a decimal(18,2)"),
        ("1_000", "v: '1_000' is not a decimal(18,2)"),
        ("0x10", "v: '0x10' is not a decimal(18,2)"),
        ("1 000", "v: '1 000' is not a decimal(18,2)"),
        (".", "v: '.' is not a decimal(18,2)"),
        ("\u0661", "v: '\u0661' is not a decimal(18,2)"),
        ("1e1000", "v: '1e1000' is not a decimal(18,2)"),
        (" ", "v: ' ' is not a decimal(18,2)"),
        ("1.005", "v: '1.005' has more than 2 decimals"),
        ("1.5e-2", "v: '1.5e-2' has more than 2 decimals"),
        ("1e-400", "v: '1e-400' has more than 2 decimals"),
        ("10000000000000000", "v: '10000000000000000' does not fit decimal(18,2)"),
        ("1e16", "v: '1e16' does not fit decimal(18,2)"),
        ("NaN", "v: 'NaN' is not a number"),
        ("-Infinity", "v: '-Infinity' is not a number"),
        ("9" * 50, "v: '" + "9" * 39 + "…' does not fit decimal(18,2)"),
        ("a\nb", "v: 'a b' is not a decimal(18,2)"),
    ],
)
def test_decimals_are_exact_or_rejected_with_the_reason(tmp_path: Path, token: str, expected: Any) -> None:
    assert amount_of(tmp_path, token) == expected


@pytest.mark.parametrize(
    ("kind", "token", "expected"),
    [
        ("integer", "-9223372036854775808", -(2**63)),
        ("integer", "9223372036854775808", "v: '9223372036854775808' does not fit 64 bits"),
        ("integer", "5.0", 5),
        ("integer", "5.5", "v: '5.5' is not a whole number"),
        ("integer", "x", "v: 'x' is not an integer"),
        ("boolean", "TRUE", True),
        ("boolean", "0", False),
        ("boolean", "yes", "v: 'yes' is not true, false, 1 or 0"),
        ("date", "2026-02-28", date(2026, 2, 28)),
        *(("date", bad, f"v: '{bad}' is not a date such as 2026-11-01") for bad in ("2026-02-29", "infinity", "2026-1-1", "0000-01-01")),
        ("timestamp", "2026-11-01", datetime(2026, 11, 1, tzinfo=UTC)),
        ("timestamp", " 2026-11-01 09:30Z", datetime(2026, 11, 1, 9, 30, tzinfo=UTC)),
        ("timestamp", "2026-11-01T09:30:00.123456Z", datetime(2026, 11, 1, 9, 30, 0, 123456, tzinfo=UTC)),
        ("timestamp", "2026-11-01T09:30:00-05:30", datetime(2026, 11, 1, 15, tzinfo=UTC)),
        ("timestamp", "2026-11-01T09:30:00.5000000000Z", datetime(2026, 11, 1, 9, 30, 0, 500000, tzinfo=UTC)),
        *(
            ("timestamp", bad, f"v: '{bad}' is not a time such as 2026-11-01T09:30:00Z")
            for bad in (
                "yesterday",
                "epoch",
                "infinity",
                "24:00",
                "2026-11-01T24:00Z",
                "2026-11-01T09:30:60Z",
                "2026-02-30T00:00Z",
                "2026-11-01T09:30:00.1234567Z",
                "0001-01-01T00:00+14:00",
                "9999-12-31T23:59-10:00",
                "0000-01-01T00:00Z",
                "01/11/2026",
                "0044-03-15 (BC)",
            )
        ),
    ],
)
def test_other_types_are_exact_or_rejected_with_the_reason(tmp_path: Path, kind: Any, token: str, expected: Any) -> None:
    assert amount_of(tmp_path, token, Type(kind)) == expected


def test_times_do_not_depend_on_the_session_time_zone(tmp_path: Path) -> None:
    content = {"a.csv": (HEADER + "a,,2026-11-01,,\nb,,2026-11-01T01:30Z,,\n").encode()}
    expected = [datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 11, 1, 1, 30, tzinfo=UTC)]
    assert [row["time"] for row in load(tmp_path, content, zone="America/New_York")[1]] == expected


def test_a_time_without_a_zone_is_rejected_unless_a_zone_is_set(tmp_path: Path) -> None:
    texts = ["2026-11-05T09:30", "2026-11-05 09:30:00.5", "2026-11-05T09:30+01:00", "2026-11-05", "x"]
    none = timed(tmp_path, texts, None)
    says = "has no time zone; write one, as in 2026-11-01T09:30:00Z, or set events.zone"
    assert none[:2] == [f"t: '{text}' {says}" for text in texts[:2]]
    assert none[2:4] == [datetime(2026, 11, 5, 8, 30, tzinfo=UTC), datetime(2026, 11, 5, tzinfo=UTC)]
    half = datetime(2026, 11, 5, 9, 30, 0, 500_000, tzinfo=UTC)
    assert timed(tmp_path, texts, "")[:2] == [datetime(2026, 11, 5, 9, 30, tzinfo=UTC), half]
    local = timed(tmp_path, texts, "America/New_York")
    assert local[:2] == [datetime(2026, 11, 5, 14, 30, tzinfo=UTC), half + timedelta(hours=5)]
    assert local[2:4] == [datetime(2026, 11, 5, 8, 30, tzinfo=UTC), datetime(2026, 11, 5, 5, tzinfo=UTC)]
    assert none[4] == local[4] == "t: 'x' is not a time such as 2026-11-01T09:30:00Z"


ZONES = [
    "America/New_York",
    "Europe/Berlin",
    "Australia/Lord_Howe",
    "Antarctica/Troll",
    "America/Santiago",
    "Asia/Kathmandu",
    "America/St_Johns",
]


@pytest.mark.parametrize("zone", ZONES)
def test_a_local_time_that_is_twice_or_not_at_all_is_rejected_and_any_other_is_its_instant(tmp_path: Path, zone: str) -> None:
    """Around each change of the clocks of a year, against Python's own zones."""
    there, hours = ZoneInfo(zone), [datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=n) for n in range(366 * 24)]
    changes = [hour for hour, after in pairwise(hours) if hour.astimezone(there).utcoffset() != after.astimezone(there).utcoffset()]
    around = [change + timedelta(minutes=n) for change in [*changes, datetime(2026, 7, 1, tzinfo=UTC)] for n in range(-300, 300, 15)]
    locals_ = sorted({instant.astimezone(there).replace(tzinfo=None) for instant in around} | {c.replace(tzinfo=None) for c in around})
    for local, found in zip(locals_, timed(tmp_path, [local.isoformat() for local in locals_], zone), strict=True):
        both = {local.replace(tzinfo=there, fold=fold).astimezone(UTC) for fold in (0, 1)}
        right = {instant for instant in both if instant.astimezone(there).replace(tzinfo=None) == local}
        if len(right) == 1:
            assert {found} == right, local
        else:
            word = "is twice" if right else "does not exist"
            changed = f"in {zone}, where the clocks change; write it with its offset, such as -05:00"
            assert found == f"t: '{local.isoformat()}' {word} {changed}"


@pytest.mark.parametrize(
    ("unit", "text", "micros"),
    [
        ("s", "1793491200", 1_793_491_200_000_000),
        ("s", "1793491200.5", 1_793_491_200_500_000),
        ("s", "1.7934912e9", 1_793_491_200_000_000),
        ("s", "-1", -1_000_000),
        ("s", "253402200000.999999", 253_402_200_000_999_999),
        ("ms", "1793491200123", 1_793_491_200_123_000),
        ("us", "1793491200123456", 1_793_491_200_123_456),
        *(("s", bad, None) for bad in ("x", "253402300800", "1793491200.0000001", "2026-11-01", "1e30")),
        ("ms", "1793491200123.0001", None),
        ("us", "0.5", None),
    ],
)
def test_a_time_may_be_counted_since_1970(tmp_path: Path, unit: str, text: str, micros: int | None) -> None:
    name = {"s": "seconds", "ms": "milliseconds", "us": "microseconds"}[unit]
    expected: Any = f"t: '{text}' is not a time in {name} since 1970 (years 1 to 9999)"
    if micros is not None:
        expected = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros)
    assert timed(tmp_path, [text], None, {"t": unit, "u": unit}) == [expected]


def test_a_parquet_time_without_a_zone_is_refused_unless_a_zone_is_set(tmp_path: Path) -> None:
    content = parquet_bytes(k=["a"], t=pa.array([datetime(2026, 11, 5, 9, 30, tzinfo=UTC)], pa.timestamp("ms")))
    says = r"a.parquet: column 't' is timestamp\[ms\], which has no time zone; set events.zone in recon.yaml"
    (tmp_path / "x").write_bytes(content)
    for call in (
        lambda: inspected("a.parquet", tmp_path / "x", EventSpec(("k",), None, "t", {})),
        lambda: load(tmp_path, {"a.parquet": content}, EventSpec(("k",), None, "t", {})),
    ):
        with pytest.raises(WrongInput, match=says):
            call()
    for zone, hour in {"": 9, "America/New_York": 14}.items():
        _, accepted, _ = load(tmp_path, {"a.parquet": content}, EventSpec(("k",), None, "t", {}, zone=zone))
        assert [row["time"] for row in accepted] == [datetime(2026, 11, 5, hour, 30, tzinfo=UTC)]


def test_a_bad_time_is_rejected_and_its_money_can_still_be_totalled(tmp_path: Path) -> None:
    _, _, rejected = load(tmp_path, {"a.csv": (HEADER + "a,,yesterday,7.25,\n").encode()})
    assert rejected[0]["reason"] == "t: 'yesterday' is not a time such as 2026-11-01T09:30:00Z"
    assert rejected[0]["c_amount"] == Decimal("7.25")


@settings(max_examples=25, deadline=None)
@given(st.lists(st.decimals(allow_nan=False, allow_infinity=False), max_size=20), st.data())
def test_json_numbers_come_out_as_exact_as_their_text(numbers: list[Decimal], data: st.DataObject) -> None:
    plain = st.from_regex(r"-?(0|[1-9][0-9]{0,20})(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,2})?", fullmatch=True)
    tokens = data.draw(st.lists(plain, min_size=1, max_size=30)) + [token for n in numbers if JSON_NUMBER.fullmatch(token := str(n))]
    behind, comma = data.draw(
        st.sampled_from([("", ""), (" ", " "), ("\t", ""), ("", "  ")])
    )  # lines without blanks are searched otherwise
    text = "".join(f'{{"k":{json.dumps(str(i))},{comma}"v":{behind}{token}}}\n' for i, token in enumerate(tokens))
    with tempfile.TemporaryDirectory() as folder:
        kind = Type("decimal", 38, 10)
        _, accepted, rejected = load(Path(folder), {"a.jsonl": text.encode()}, EventSpec(("k",), None, None, {"v": kind}))
    values = {row["line"]: row["c_v"] for row in accepted} | {row["line"]: None for row in rejected}
    for line, token in enumerate(tokens, 1):
        assert values[line] == expected_decimal(token, 38, 10), token


def test_text_columns_have_the_same_text_however_the_line_is_parsed(tmp_path: Path) -> None:
    members = ["1.10", "100.00", "-0", "7", "true", "null", '"a\\u00e4\\n"', "[]", '"1.10"']
    members.append('{"x" : [1, 2.50, "q\\"", false, null],"x":{}}')
    spec = EventSpec(("k",), None, None, {"v": Type("text")})
    for member in members:
        lines = f'{{"k":"a","v":{member}}}\n{{"k":"a","v":{member},"x":1e5}}\n'
        fast, exact_row = load(tmp_path, {"a.jsonl": lines.encode()}, spec)[1]
        assert fast["c_v"] == exact_row["c_v"], member


def test_parquet_types_come_out_exactly(tmp_path: Path) -> None:
    table = pa.table(
        {
            "k": pa.array(["a", "b", "c"]).dictionary_encode(),
            "dec": pa.array([Decimal("0.00000001"), Decimal("12345678901234567890.12"), None], pa.decimal128(38, 8)),
            "flt": pa.array([1e-07, 0.1, float("nan")]),
            "int": pa.array([2**63 - 1, -1, None], pa.int64()),
            "day": pa.array([date(2026, 2, 28), None, date(1, 1, 1)]),
            "utc": pa.array([0, 1, None], pa.timestamp("us", "America/New_York")),
            "ns": pa.array([1000, None, 1], pa.timestamp("ns")),
            "ok": pa.array([True, False, None]),
        }
    )
    sink = io.BytesIO()
    pq.write_table(table, sink)
    types = {"dec": Type("decimal", 38, 8), "flt": Type("decimal", 18, 7), "int": Type("integer"), "day": Type("date")}
    types |= {"utc": Type("timestamp"), "ns": Type("timestamp"), "ok": Type("boolean")}
    _, accepted, rejected = load(tmp_path, {"a.parquet": sink.getvalue()}, EventSpec(("k",), None, None, types, zone=""), "Asia/Tokyo")
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    micro = timedelta(microseconds=1)
    values = [tuple(row[f"c_{name}"] for name in types) for row in accepted]
    assert values == [
        (Decimal("0.00000001"), Decimal("0.0000001"), 2**63 - 1, date(2026, 2, 28), epoch, epoch + micro, True),
        (Decimal("12345678901234567890.12"), Decimal("0.1"), -1, None, epoch + micro, None, False),
    ]
    assert [row["reason"] for row in rejected] == ["flt: 'nan' is not a number"]
    assert json.loads(rejected[0]["raw"])["day"] == "0001-01-01"


@pytest.mark.parametrize(
    ("column", "texts"),
    [
        (pa.array([1.0, 5678901234567.0, -(2.0**53) + 1, None]), ["1", "5678901234567", "-9007199254740991", None]),
        (pa.array([1.0, 16777215.0], pa.float32()), ["1", "16777215"]),
        (pa.array([Decimal("10.00"), Decimal("1.50")], pa.decimal128(9, 2)), ["10", "1.50"]),
        (pa.array([Decimal("1.0000000001"), Decimal(7)], pa.decimal256(60, 10)), ["1.0000000001", "7"]),
        (pa.array([2**64 - 1], pa.uint64()), ["18446744073709551615"]),
        (pa.array(["1.00", "1.0"]), ["1.00", "1.0"]),
        (pa.array([date(1, 1, 1), date(9999, 12, 31)]), ["0001-01-01", "9999-12-31"]),
        (pa.array([2**31 - 1, -(2**31) + 1], pa.int32()).view(pa.date32()), ["a day beyond the year 9999"] * 2),
    ],
)
def test_numbers_and_days_of_parquet_that_are_used_as_text_are_their_own_digits(tmp_path: Path, column: Any, texts: list[str]) -> None:
    content = parquet_bytes(k=column, v=column)
    spec = EventSpec(("k",), None, None, {"v": Type("text")})
    _, accepted, _ = load(tmp_path, {"a.parquet": content}, spec)
    assert [row["key"] for row in accepted] == [text for text in texts if text is not None]
    assert [row["c_v"] for row in accepted] == [row["key"] for row in accepted]
    path = tmp_path / "landed"
    path.write_bytes(content)
    inspect("a.parquet", path, ["k", "v"], (), ["k", "v"])


def test_a_float_that_is_used_as_text_and_no_whole_number_is_refused(tmp_path: Path) -> None:
    for column in (pa.array([1.0, 1.5]), pa.array([2.0**24], pa.float32()), pa.array([float("nan")])):
        content, path = parquet_bytes(k=["a"] * len(column), v=column), tmp_path / "landed"
        path.write_bytes(content)
        inspect("a.parquet", path, ["k", "v"])  # as a number it can be read
        says = r"a.parquet: column 'v' is .* and is used as text, but holds .*, which is no whole number below 2\^"
        with pytest.raises(WrongInput, match=says):
            inspect("a.parquet", path, ["k", "v"], (), ["v"])
        with pytest.raises(WrongInput, match=says):
            load(tmp_path, {"a.parquet": content}, EventSpec(("k",), None, None, {"v": Type("text")}))


def test_times_of_96_bits_are_exact_in_every_year(tmp_path: Path) -> None:
    first, last = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)
    times = [
        first,
        last,
        datetime(1677, 1, 1, tzinfo=UTC),
        datetime(2262, 12, 31, tzinfo=UTC),
        datetime(2026, 11, 1, 9, 30, tzinfo=UTC),
        None,
    ]
    sink = io.BytesIO()
    table = pa.table({"k": [str(i) for i in range(len(times))], "t": pa.array(times, pa.timestamp("us", "UTC"))})
    pq.write_table(table, sink, use_deprecated_int96_timestamps=True, row_group_size=2)
    spec = EventSpec(("k",), None, "t", {}, zone="")
    _, accepted, _ = load(tmp_path, {"a.parquet": sink.getvalue()}, spec)
    assert [row["time"] for row in accepted] == times
    fine = io.BytesIO()
    nanos = pa.array([1_793_491_200_000_000_001, -1], pa.timestamp("ns"))
    pq.write_table(pa.table({"k": ["a", "b"], "t": nanos}), fine, use_deprecated_int96_timestamps=True)
    _, _, rejected = load(tmp_path, {"a.parquet": fine.getvalue()}, spec)
    assert [row["reason"].split("'")[1] for row in rejected] == ["2026-11-01 00:00:00.000000001", "1969-12-31 23:59:59.999999999"]


def test_a_parquet_decimal_of_finer_scale_is_rejected_not_rounded(tmp_path: Path) -> None:
    content = parquet_bytes(k=["a", "b"], v=pa.array([Decimal("1.005"), Decimal("1.010")], pa.decimal128(9, 3)))
    _, accepted, rejected = load(tmp_path, {"a.parquet": content}, EventSpec(("k",), None, None, {"v": MONEY}))
    assert [row["c_v"] for row in accepted] == [Decimal("1.01")]
    assert [row["reason"] for row in rejected] == ["v: '1.005' has more than 2 decimals"]
