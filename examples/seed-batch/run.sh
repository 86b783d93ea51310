#!/usr/bin/env bash
# The smallest batch, and a replay of it: A112 25.00, B242 50.00, both times.
# Works in a copy, so that it begins empty each time: ./run.sh [FOLDER]
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
folder="${1:-$(mktemp -d)}"
cp -r "$here/." "$folder" && cd "$folder" && rm -rf store events/PPD-200.parquet
recon land data/example-input.csv --window 2026-11-01T00:00Z --close
recon run
recon export -
recon replay 2026-11-01T00:00Z
recon run
recon export -
recon verify --full
