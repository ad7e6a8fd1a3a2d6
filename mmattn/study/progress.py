"""How far a study is: one live table in a terminal, lines in a log."""

import sys
import time
from collections.abc import Sequence
from typing import Any, TextIO

from mmattn.study.runs import Run
from mmattn.study.study import Study

__all__ = ['Progress']

_LINE_EVERY = 60  # seconds between two lines on the runs on their way


class Progress:
    """Shows the runs of a study; use it as a context.

    Args:
        study: The study.
        file: Where to; a live table if it is a terminal and rich is installed.
    """

    def __init__(self, study: Study, file: TextIO | None = None) -> None:
        self.study = study
        self.file = file or sys.stdout
        self.said: dict[Run, str] = {}
        self.next = 0.0
        self.live: Any = None

    def __enter__(self) -> 'Progress':
        if self.file.isatty():
            try:
                from rich.console import Console
                from rich.live import Live
            except ImportError:
                return self
            self.live = Live(console=Console(file=self.file), refresh_per_second=2)
            self.live.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self.live:
            self.live.stop()

    def __call__(self, running: Sequence[Run]) -> None:
        """Show the state of things."""
        if self.live:
            self.live.update(self._table(running))
        else:
            self._lines(running)

    def state(self, run: Run, running: Sequence[Run]) -> str:
        """Return a run in a word or two."""
        if run.finished:
            figures = run.result()['figures']
            value = next(iter(figures.values()), None)
            return 'done' if value is None else f'done {value:.3f}'
        if run in running:
            done, total, left = run.progress()
            if not total:
                return 'starts'
            return f'{100 * done // total} %, {_duration(left)} left'
        if run.failure():
            return 'failed'
        return 'waits'

    def time_left(self, running: Sequence[Run], at_a_time: int = 1) -> float | None:
        """Seconds until all runs have ended, from those that have; None before the first."""
        runs = list(self.study.runs())
        known = [run.result()['train_seconds'] for run in runs if run.finished]
        left = [run.progress()[2] for run in running]
        waiting = [r for r in runs if not r.finished and r not in running and not r.failure()]
        if not known:
            return None
        return (sum(left) + len(waiting) * sum(known) / len(known)) / max(at_a_time, 1)

    def _table(self, running: Sequence[Run]) -> Any:
        from rich.table import Table

        left = self.time_left(running, max(len(running), 1))
        caption = f'about {_duration(left)} left' if left else None
        table = Table(title=self.study.title, caption=caption)
        for name in ('method', *(f'seed {seed}' for seed in self.study.seeds)):
            table.add_column(name)
        for entry in self.study.entries:
            runs = [self.study.run(entry.label, seed) for seed in self.study.seeds]
            table.add_row(entry.label, *(self.state(run, running) for run in runs))
        return table

    def _lines(self, running: Sequence[Run]) -> None:
        often = time.time() >= self.next
        if often:
            self.next = time.time() + _LINE_EVERY
        runs = list(self.study.runs())
        for number, run in enumerate(runs, 1):
            state = self.state(run, running)
            kind = state.split()[0] if not state[0].isdigit() else 'runs'
            changed = kind != self.said.get(run, 'waits')
            if not changed and not (often and kind == 'runs'):
                continue
            self.said[run] = kind
            failure = f': {run.failure()}' if kind == 'failed' else ''
            print(
                f'{time.strftime("%H:%M:%S")} run {number} of {len(runs)}: {run.label}, seed '
                f'{run.seed}: {state}{failure}',
                file=self.file,
                flush=True,
            )


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return ''
    minutes = round(seconds / 60)
    return f'{minutes // 60} h {minutes % 60:02} min' if minutes >= 60 else f'{minutes} min'
