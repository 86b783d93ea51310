#!/usr/bin/env bash
# Carries out every job of the gallery in docs/transformations.md and prints its figures and its output.
# Works in a copy: ./run.sh [FOLDER]
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
folder="${1:-$(mktemp -d)}"
cp -r "$here/." "$folder" && cd "$folder"
for job in */; do
  echo "# ${job%/}"
  recon transform "$job/request.yaml"
  diff -r --exclude='*.xlsx' --exclude='*.json' "$job/expected" "$job/out"
  tail -n +1 "$job"/out/*.csv
done
