#!/usr/bin/env bash
# Invoices and payments; the user's own function names the cause of each break.
# Works in a copy, so that it begins empty each time: ./run.sh [FOLDER]
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
folder="${1:-$(mktemp -d)}"
cp -r "$here/." "$folder" && cd "$folder" && rm -rf store events/PPD-200.parquet
recon land events.csv --window 2026-11-01T00:00Z --close
recon run
recon breaks
recon verify --full
