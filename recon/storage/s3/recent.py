"""Objects that this process has just created, or was told of that they exist."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict

KEPT_MAX = 4096
STALE_S_MAX = 5.0
"""So long after it was last seen an object that is not found is looked for again."""


class Recent:
    """Paths → when they were last seen. Of many only the newest are kept."""

    def __init__(self) -> None:
        self._seen: OrderedDict[str, float] = OrderedDict()
        self._turn = threading.Lock()

    def add(self, path: str) -> None:
        with self._turn:
            self._seen[path] = time.monotonic()
            self._seen.move_to_end(path)
            if len(self._seen) > KEPT_MAX:
                self._seen.popitem(last=False)

    def drop(self, path: str) -> None:
        with self._turn:
            self._seen.pop(path, None)

    def waits_for(self, path: str) -> bool:
        """Whether an answer that there is no such object may be old."""
        with self._turn:
            seen = self._seen.get(path)
            return seen is not None and time.monotonic() - seen < STALE_S_MAX
