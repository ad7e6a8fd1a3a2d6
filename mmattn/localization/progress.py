"""How far a run is: a bar on a terminal, a line every few seconds in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any, TextIO

from mmengine.dist import get_dist_info
from mmengine.logging import print_log

from mmattn.localization.localizer import Settings
from mmattn.localization.metrics import LocalizationMetrics
from mmattn.localization.structures import ImageResult

__all__ = ['Bar', 'Progress', 'show_progress']


class Progress:
    """A line of progress every few seconds: speed, time left, running metrics.

    Args:
        total: Images to come.
        settings: Gives the IoU from which a box counts.
        judged: Whether there are true boxes, and so metrics.
        every: Seconds between two lines.
    """

    def __init__(
        self, total: int, settings: Settings, judged: bool = True, every: float = 10.0
    ) -> None:
        self.total, self.judged, self.every = total, judged, every
        self.metrics = LocalizationMetrics(settings.iou_thr, 0.5, replicates=0)
        self.start = self.last = time.time()
        self.count = 0

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def update(self, results: Sequence[ImageResult]) -> None:
        """Count results; show them when it is time or everything is done."""
        self.count += len(results)
        for result in results:
            self.metrics.update(result)
        now = time.time()
        if now - self.last < self.every and self.count < self.total:
            return
        self.last = now
        self.show()

    def show(self) -> None:
        """Log a line."""
        speed = self.count / max(time.time() - self.start, 1e-9)
        left = (self.total - self.count) / max(speed, 1e-9)
        print_log(
            f'[{self.count}/{self.total}] {speed:.1f} images/s, {_clock(left)} left'
            f'{self.figures()}',
            'current',
        )

    def figures(self) -> str:
        """Write the running metrics, and how many images could not be read."""
        shown = ''
        if self.judged:
            values = self.metrics.totals()
            shown = ''.join(f'  {k} {values[k]:.3f}' for k in ('top1_loc', 'top5_loc', 'gt_known'))
        return shown + (f'  {self.metrics.failed} unreadable' if self.metrics.failed else '')


class Bar(Progress):
    """The same as a bar on a terminal, drawn by rich.

    Args:
        total: Images to come.
        settings: Gives the IoU from which a box counts.
        judged: Whether there are true boxes, and so metrics.
        stream: Where it is drawn.
    """

    def __init__(
        self, total: int, settings: Settings, judged: bool = True, stream: TextIO = sys.stderr
    ) -> None:
        from rich import progress
        from rich.console import Console

        super().__init__(total, settings, judged, every=0.2)
        self._bar = progress.Progress(
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TextColumn('{task.fields[speed]:.1f} images/s'),
            progress.TimeRemainingColumn(),
            progress.TextColumn('{task.fields[figures]}'),
            console=Console(file=stream),
        )
        self._task = self._bar.add_task('', total=total, speed=0.0, figures='')

    def __enter__(self) -> Bar:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def show(self) -> None:
        """Draw the bar again."""
        speed = self.count / max(time.time() - self.start, 1e-9)
        figures: dict[str, Any] = dict(speed=speed, figures=self.figures().strip())
        self._bar.update(self._task, completed=self.count, **figures)


def show_progress(total: int, settings: Settings, judged: bool = True) -> Progress:
    """Choose the bar on a terminal of one process, where rich is installed, else lines."""
    if get_dist_info()[1] == 1 and sys.stderr.isatty():
        try:
            return Bar(total, settings, judged, sys.stderr)
        except ImportError:
            pass
    return Progress(total, settings, judged)


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f'{hours}:{minutes:02d}:{seconds:02d}'
