"""Starts the UI and the daemon: ``python -m recon_dagster.ui [CONFIG]``."""

from __future__ import annotations

import sys

from jobs.ui import main

if __name__ == "__main__":
    main(sys.argv[1:])
