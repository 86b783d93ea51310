#!/usr/bin/env bash
# An asset of one's own downstream of the artifacts: a pandas report of each hour's breaks, with a chart.
# Works in a copy, so that it begins empty each time: ./run.sh [FOLDER]
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
folder="${1:-$(mktemp -d)}"
cp -r "$here/." "$folder" && cd "$folder" && rm -rf data reports .dagster
export DAGSTER_HOME="$folder/.dagster" && mkdir -p "$DAGSTER_HOME"
recon land events/first-hour.csv --window 2026-11-01T00:00Z --close
recon land events/second-hour.csv --window 2026-11-01T01:00Z --close
recon run
for hour in 2026-11-01-00:00 2026-11-01-01:00; do
    python -m dagster asset materialize --python-file definitions.py --select breaks_report --partition "$hour" \
        >materialize.log 2>&1 || { cat materialize.log; exit 1; }
done
head -n 20 reports/*.csv
