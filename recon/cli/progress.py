"""A progress bar on stderr for commands that take longer than two seconds, on a terminal only."""

from __future__ import annotations

import sys
from threading import Lock, Timer
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

SHOWN_AFTER_S = 2.0


class Bar:
    """A callback ``(stage, windows, share)`` that draws a bar after two seconds, and only on a terminal."""

    def __init__(self, stage: str) -> None:
        self._stage, self._share = stage, 0.0
        self._known = False  # whether a share was reported; without one the bar only shows activity
        self._drawn: Progress | None = None
        self._task: TaskID | None = None
        self._lock = Lock()
        self._timer = Timer(SHOWN_AFTER_S, self._draw)
        self._timer.daemon = True

    def __call__(self, stage: str, windows: str, share: float) -> None:
        with self._lock:
            self._stage, self._share, self._known = f"{stage} {windows}".strip(), share, True
            if self._drawn is not None and self._task is not None:
                self._drawn.update(self._task, description=self._stage, completed=share, total=1)

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            self._timer.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._timer.cancel()
        with self._lock:
            if self._drawn is not None:
                self._drawn.stop()
            self._timer.function = lambda: None  # a timer that fires just now finds nothing to draw

    def _draw(self) -> None:
        from rich.console import Console
        from rich.markup import escape
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

        with self._lock:
            columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
            self._drawn = Progress(*columns, console=Console(file=sys.stderr), transient=True)
            self._task = self._drawn.add_task(escape(self._stage), total=1 if self._known else None, completed=int(self._share))
            self._drawn.start()
