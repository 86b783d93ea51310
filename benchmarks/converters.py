"""Each format converted by itself: CPU seconds, wall seconds and peak memory of the process that reads a file of it to its end.

    python benchmarks/converters.py [--megabytes 500] [--kinds delimited,nacha,…] [--out FILE.json]

The file is one block of rows, written again and again; where the format carries control totals, they tie. Reading includes decoding.
Statements (MT940, camt.053, BAI2), whose rows are made in Python, get a fifth of the megabytes.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from command_line import write_figures
from pydantic import TypeAdapter

from recon.config.settings import Limits
from recon.intake.converters import Layout, Received
from recon.intake.converters.decoding import decode
from recon.intake.converters.opening import open_conversion

_ROWS = 2_000  # in a block
_STATEMENTS = ("mt940", "camt053", "bai2")
_TEXTS = ("ACME Corporation", "Zürich AG", 'said "no"', "plain")

Parts = tuple[str, str, Callable[[int], str]]
"""What a file begins with, the block that is repeated, and what it ends with, by the number of blocks."""


def delimited() -> Parts:
    rows = "".join(f'{n},"ORD-{n % 977:06}",{n / 100:.2f},EUR,2026-11-01T00:00:{n % 60:02}Z,"{_TEXTS[n % 2]}, {n}"\n' for n in range(_ROWS))
    return "id,order_id,amount,currency,booked_at,note\n", rows, lambda _: ""


def fixed() -> Parts:
    return "", "".join(f"{n:010}{n % 977:06}{n / 100:12.2f}EUR{'ACME':20}\n" for n in range(_ROWS)), lambda _: ""


def _object(number: int) -> str:
    row = {"id": number, "order_id": f"ORD-{number % 977:06}", "amount": f"{number / 100:.2f}", "note": _TEXTS[number % 4]}
    return json.dumps(row, ensure_ascii=False)


def json_lines() -> Parts:
    return "", "".join(f"{_object(n)}\n" for n in range(_ROWS)), lambda _: ""


def json_array() -> Parts:
    return "[", "".join(f"{_object(n)},\n" for n in range(_ROWS)), lambda _: f"{_object(0)}]"


def nacha() -> Parts:
    cents, bank = sum(range(_ROWS)), 23138010
    entries = "".join(f"622{bank}4{'123456789':17}{n:010}{'':15}{'Wade Arnold':22}  0{n:015}\n" for n in range(_ROWS))
    header = f"5220{'ACME Corporation':16}{'':20}{'121042882':10}PPD{'PAYROLL':10}{'':6}260508   1121042880000001\n"
    end = f"8220{_ROWS:06}{_ROWS * bank % 10**10:010}{0:012}{cents:012}{'121042882':10}{'':25}121042880000001\n"

    def last(blocks: int) -> str:
        total = f"{blocks:06}{0:06}{blocks * _ROWS:08}{blocks * _ROWS * bank % 10**10:010}{0:012}{blocks * cents:012}"
        return f"9{total}{'':39}\n"

    return f"101 {231380104:09} {121042882:09}2605081505A094101{'Bank':23}{'Us':23}{'':8}\n", header + entries + end, last


def mt940() -> Parts:
    lines = "".join(f":61:2611011101D1,00NMSCREF{n}//B{n}\n:86:005?00RENT?20November {n}\n" for n in range(_ROWS))
    return "", f":20:R\n:25:ACC\n:28C:1\n:60F:C261031EUR{_ROWS},00\n{lines}:62F:C261101EUR0,00\n-\n", lambda _: ""


def camt053() -> Parts:
    def balance(code: str, amount: int) -> str:
        return f'<Bal><Tp><CdOrPrtry><Cd>{code}</Cd></CdOrPrtry></Tp><Amt Ccy="EUR">{amount}</Amt><CdtDbtInd>CRDT</CdtDbtInd></Bal>'

    details = "<NtryDtls><TxDtls><Refs><EndToEndId>E{}</EndToEndId></Refs><RmtInf><Ustrd>Rent {}</Ustrd></RmtInf></TxDtls></NtryDtls>"
    entries = "".join(
        f'<Ntry><Amt Ccy="EUR">1.00</Amt><CdtDbtInd>CRDT</CdtDbtInd><Sts><Cd>BOOK</Cd></Sts>{details.format(n, n)}</Ntry>\n'
        for n in range(_ROWS)
    )
    account = "<Id>S</Id><Acct><Id><IBAN>DE89370400440532013000</IBAN></Id></Acct>"
    block = f"<Stmt>{account}{balance('OPBD', 0)}{balance('CLBD', _ROWS)}{entries}</Stmt>\n"
    return "<Document><BkToCstmrStmt>", block, lambda _: "</BkToCstmrStmt></Document>"


def bai2() -> Parts:
    lines = "".join(f"16,475,100,0,B{n},C{n},CHECK {n}\n88,second line\n" for n in range(_ROWS))
    records = 2 * _ROWS + 2

    def last(blocks: int) -> str:
        total = blocks * _ROWS * 100
        return f"98,{total},{blocks},{blocks * records + 2}/\n99,{total},1,{blocks * records + 4}/\n"

    block = f"03,0975312468,,,,,/\n{lines}49,{_ROWS * 100},{records}/\n"
    return "01,BANK,US,261101,0600,1,,,2/\n02,US,BANK,1,261101,0600,USD,2/\n", block, last


FIELDS = {"id": "1-10", "order_id": "11-16", "amount": "17-28", "currency": "29-31", "name": "32-51"}
KINDS: dict[str, tuple[Any, Callable[[], Parts]]] = {
    "delimited": ({"kind": "delimited", "header": True}, delimited),
    "fixed": ({"kind": "fixed", "fields": FIELDS}, fixed),
    "jsonl": ("jsonl", json_lines),
    "json": ("json", json_array),
    "nacha": ("nacha", nacha),
    "mt940": ("mt940", mt940),
    "camt053": ("camt053", camt053),
    "bai2": ("bai2", bai2),
}


def blocks(kind: str, megabytes: int) -> Iterator[bytes]:
    first, block, last = KINDS[kind][1]()
    content = block.encode()
    times = megabytes * 1_000_000 // (5 if kind in _STATEMENTS else 1) // len(content)
    yield first.encode()
    for _ in range(times):
        yield content
    yield last(times).encode()


def converted(kind: str, path: Path) -> dict[str, Any]:
    """What this process needs to read the file to its end."""
    limits = Limits()
    begun, cpu = time.perf_counter(), time.process_time()
    received = Received(path.name, path)
    if kind != "camt053":
        received = decode(received, "utf-8", path.parent, limits)
    conversion = open_conversion(received, TypeAdapter(Layout).validate_python(KINDS[kind][0]), None, limits)
    rows = problems = 0
    for batch in conversion.batches():
        rows += batch.num_rows
        problems += batch.num_rows - batch.column("problem").null_count
    return {
        "mb": round(path.stat().st_size / 1e6),
        "rows": rows,
        "problems": problems,
        "controls": len(conversion.controls),
        "tie": sum(control.ties for control in conversion.controls),
        "wall_s": round(time.perf_counter() - begun, 1),
        "cpu_s": round(time.process_time() - cpu, 1),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=500)
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--out", type=Path)
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)  # the file of a process of its own
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(converted(asked.kinds, asked.one)))
        return
    figures: dict[str, Any] = {"megabytes": asked.megabytes, "formats": {}}
    for kind in asked.kinds.split(","):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"file.{kind}"
            with path.open("wb") as file:
                file.writelines(blocks(kind, asked.megabytes))
            found = subprocess.run([sys.executable, __file__, "--kinds", kind, "--one", path], check=True, capture_output=True, text=True)
        figures["formats"][kind] = json.loads(found.stdout)
        print(f"{kind:10} {found.stdout.strip()}", flush=True)
    write_figures(asked.out, figures)


if __name__ == "__main__":
    main()
