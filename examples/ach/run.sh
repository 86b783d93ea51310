#!/usr/bin/env bash
# 100,199 entries of 200 ACH batches against their control records, then with one digit changed.
# Works in a copy, so that it begins empty each time: ./run.sh [FOLDER]
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
folder="${1:-$(mktemp -d)}"
cp -r "$here/." "$folder" && cd "$folder" && rm -rf store events/PPD-200.parquet
python ach_events.py data/PPD-200-batches-100000-entries.ach.gz events/PPD-200.parquet
recon land events/PPD-200.parquet --window 2026-05-08T00:00Z --close
recon run
recon status 2026-05-08T00:00Z
recon breaks
python -c 'from pathlib import Path; import ach_events
ach_events.change_digit(Path("data/PPD-200-batches-100000-entries.ach.gz"), Path("changed.ach"), line=93000, position=37)'
python ach_events.py changed.ach events/changed.parquet
recon land events/changed.parquet --window 2026-05-08T00:00Z --replace PPD-200.parquet
recon run
recon breaks
