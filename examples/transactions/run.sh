#!/usr/bin/env bash
# Two sides of 45,326 payments: 11,499 match, the others differ by 29,146.68 in all.
# Works in a copy, so that it begins empty each time: ./run.sh [FOLDER]
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
folder="${1:-$(mktemp -d)}"
cp -r "$here/." "$folder" && cd "$folder" && rm -rf store events/PPD-200.parquet
python prepare.py | sh
recon run
recon breaks --limit 10
recon verify --full
