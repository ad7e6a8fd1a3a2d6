"""How far a run is: speed, time left and running metrics."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import TextIO

from mmengine.logging import print_log

from mmattn.core.progress import Progress
from mmattn.localization.localizer import Settings
from mmattn.localization.metrics import LocalizationMetrics
from mmattn.localization.structures import ImageResult

__all__ = ['ResultProgress']


class ResultProgress(Progress):
    """Counts results: a bar on a terminal, a line of the log every few seconds elsewhere.

    Args:
        total: Images to come.
        settings: Gives the IoU from which a box counts.
        judged: Whether there are true boxes, and so metrics.
        stream: Where the bar is drawn; None for the standard error.
        every: Seconds between two lines.
    """

    def __init__(
        self,
        total: int,
        settings: Settings,
        judged: bool = True,
        stream: TextIO | None = None,
        every: float = 10.0,
    ) -> None:
        super().__init__('images', total, stream or sys.stderr, every)
        self.judged = judged
        self.metrics = LocalizationMetrics(settings.iou_thr, 0.5, replicates=0)

    def add(self, results: Sequence[ImageResult]) -> None:
        """Count results; show them when it is time or everything is done."""
        for result in results:
            self.metrics.update(result)
        done = self.metrics.images + self.metrics.failed
        self.update(done, f'{self._speed(done)}{self._figures()}')

    def line(self, done: int, said: str, left: float) -> str:
        """Write a line of the log."""
        clock = timedelta(seconds=round(left))
        return f'[{done}/{self.total}] {self._speed(done)}, {clock} left{self._figures()}'

    def say(self, line: str) -> None:
        """Log a line."""
        print_log(line, 'current')

    def _speed(self, done: int) -> str:
        return f'{done / max(time.monotonic() - self.start, 1e-9):.1f} images/s'

    def _figures(self) -> str:
        """Write the running metrics, and how many images could not be read."""
        shown = ''
        if self.judged:
            values = self.metrics.totals()
            shown = ''.join(f'  {k} {values[k]:.3f}' for k in ('top1_loc', 'top5_loc', 'gt_known'))
        return shown + (f'  {self.metrics.failed} unreadable' if self.metrics.failed else '')
