#!/usr/bin/env bash
# Thirteen stores' files, from an empty folder to certified figures and a table of the warehouse; then files that come again, changed or not.
# Works in a copy, so that it begins empty each time: ./run.sh [FOLDER]
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
folder="${1:-$(mktemp -d)}"
cp -r "$here/." "$folder" && cd "$folder" && rm -rf store .recon .dagster inbox warehouse.duckdb && mkdir inbox
totals() { recon export - | python3 -c '
import csv, sys
from decimal import Decimal
rows = [row for row in csv.DictReader(sys.stdin) if row["status"] != "IGNORED"]
sums = {name: sum((Decimal(row[name] or 0) for row in rows), Decimal(0)) for name in ("sale", "tax", "discount")}
print(f"{len(rows)} rows:", ", ".join(f"{name} {total:,}" for name, total in sums.items()))'; }
# An example can't wait for a day: it says in the database that the item master came one day earlier.
yesterday() { python3 -c '
import sqlite3
from datetime import datetime, timedelta
connection = sqlite3.connect(".recon/recon.sqlite")
(came,) = connection.execute("SELECT received_at FROM files WHERE source = ?", ["items"]).fetchone()
before = (datetime.fromisoformat(came) - timedelta(days=1)).isoformat(timespec="microseconds")
connection.execute("UPDATE files SET received_at = ? WHERE source = ?", [before, "items"])
connection.commit()'; }
aggregate() { recon aggregation run "$@" || echo "(exit status $?)"; }

recon source try data/IL-311.tdf
echo "# twelve of thirteen files, and the item master"
cp data/*.tdf Item-Master-Data.tdf inbox && rm inbox/IL-911.tdf
recon land --from inbox || echo "(exit status $?)"
aggregate daily_sales
recon aggregation why daily_sales
echo "# the thirteenth, on the next day: the item master is of yesterday then (we change its time in .recon/recon.sqlite)"
yesterday
cp data/IL-911.tdf inbox
recon land --from inbox
aggregate daily_sales
echo "# the item master comes again, unchanged"
touch inbox/Item-Master-Data.tdf
recon land --from inbox
aggregate daily_sales
aggregate daily_sales

recon files list
recon files show IL-311.tdf
recon run
recon status
totals
echo "# store 101 sends its file again, one line longer"
printf 'v101\t1000.00\t4\ti999\t2016-06-01\ta\tb\tc\n' >> inbox/IL-101.tdf
recon land --from inbox
recon run
totals
aggregate daily_sales
echo "# store 111 sends other amounts, and store 211 no longer has item i301"
sed 's/450\.00/460.00/' data/IL-111.tdf > inbox/IL-111.tdf
grep -v i301 data/IL-211.tdf > inbox/IL-211.tdf
recon land --from inbox
aggregate daily_sales
echo "# all first files once more: older deliveries change nothing"
sleep 0.01 && cp data/*.tdf inbox
recon land --from inbox
aggregate daily_sales
recon aggregation list --runs
recon run
recon verify --full
