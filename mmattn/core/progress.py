"""How far a long run is: a bar on a terminal, a plain line now and then in a log."""

from __future__ import annotations

import sys
import time
from typing import Any, TextIO

from mmengine.dist import get_dist_info

__all__ = ['Progress']


class Progress:
    """Shows a count that grows; use it as a context.

    On a terminal of one process, where rich is installed, it is a bar with the time that is left.
    Elsewhere (a file, a pipe) it is a line every few seconds. A class that derives from it may
    write other lines (:meth:`line`) to another place (:meth:`say`).

    Args:
        what: what is counted, a word before the count.
        total: how many there will be.
        stream: where to; ``None`` for the standard output.
        every: seconds between two plain lines.
    """

    def __init__(
        self, what: str, total: int, stream: TextIO | None = None, every: float = 10.0
    ) -> None:
        self.what, self.total, self.every = what, total, every
        self.stream = stream or sys.stdout
        self.start = self.last = time.monotonic()
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar:
            self._bar.stop()

    def update(self, done: int, said: str = '') -> None:
        """Show that so many are done, and a word on how it goes."""
        if self._bar is None and self.stream.isatty() and get_dist_info()[1] == 1:
            self._bar, self._task = _make_bar(self.what, self.total, self.stream)
        if self._bar:
            self._bar.update(self._task, completed=done, said=said)
            return
        now = time.monotonic()
        if done < self.total and now - self.last < self.every:
            return
        self.last = now
        left = (now - self.start) / max(done, 1) * (self.total - done)
        self.say(self.line(done, said, left))

    def line(self, done: int, said: str, left: float) -> str:
        """Return the plain line for a count, a word on how it goes, and the seconds left."""
        parts = [f'  {self.what} {done}/{self.total}', said, f'time left {left:.0f} s']
        return '  '.join(part for part in parts if part)

    def say(self, line: str) -> None:
        """Print a line, above the bar where there is one."""
        if self._bar:
            self._bar.console.print(line, markup=False, highlight=False, soft_wrap=True)
        else:
            print(line, file=self.stream, flush=True)


def _make_bar(what: str, total: int, stream: TextIO) -> tuple[Any, Any]:
    """Return a started bar of rich and its task; nothing where rich is missing."""
    try:
        from rich import progress
        from rich.console import Console
    except ImportError:
        return False, None
    bar = progress.Progress(
        progress.TextColumn('  {task.description}'),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TextColumn('{task.fields[said]}'),
        progress.TimeRemainingColumn(),
        console=Console(file=stream),
    )
    bar.start()
    return bar, bar.add_task(what, total=total, said='')
