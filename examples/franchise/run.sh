#!/usr/bin/env bash
# Thirteen stores' files, from an empty folder to certified figures; then a longer delivery of one store, and the first one again.
# Works in a copy, so that it begins empty each time: ./run.sh [FOLDER]
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
folder="${1:-$(mktemp -d)}"
cp -r "$here/." "$folder" && cd "$folder" && rm -rf store .recon .dagster inbox && mkdir inbox
totals() { recon export - | python3 -c '
import csv, sys
from decimal import Decimal
rows = [row for row in csv.DictReader(sys.stdin) if row["status"] != "IGNORED"]
sums = {name: sum((Decimal(row[name] or 0) for row in rows), Decimal(0)) for name in ("sale", "tax", "discount")}
print(f"{len(rows)} rows:", ", ".join(f"{name} {total:,}" for name, total in sums.items()))'; }
recon source try data/IL-311.tdf
cp data/*.tdf inbox
recon land --from inbox
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
echo "# and its first file once more"
cp data/IL-101.tdf inbox
recon land --from inbox
recon run
totals
recon verify --full
