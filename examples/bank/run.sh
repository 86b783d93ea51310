#!/usr/bin/env bash
# From an unknown bank file to a certified window: one unreadable amount, found by the bank's own total; then the corrected file.
# Works in a copy, so that it begins empty each time: ./run.sh [FOLDER]
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
folder="${1:-$(mktemp -d)}"
cp -r "$here/." "$folder" && cd "$folder" && rm -rf store .recon .dagster
recon source try inbox/kontoauszug_20261102.csv || echo "exit status $?"
recon land --from inbox || echo "exit status $?"
echo "# the bank sends the file again, with a digit in place of the letter"
LC_ALL=C sed -i.as-received 's/12,5O/12,50/' inbox/kontoauszug_20261102.csv && mv inbox/*.as-received .
recon land --from inbox
recon files list
recon run
recon certificate 2026-11-02T00:00Z
recon rejects
recon verify --full
