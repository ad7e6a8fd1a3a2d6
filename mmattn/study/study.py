"""A study: its entries and seeds, its folders, what is finished and what is to run."""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmattn.core.names import shorten
from mmattn.core.text import read_json, read_text, write_text
from mmattn.study.plan import Entry
from mmattn.study.record import read_truth
from mmattn.study.runs import Run
from mmattn.study.settings import canonical, differences

__all__ = ['Study']


@dataclass
class Study:
    """Methods with seeds, and where their runs and results lie.

    Args:
        title: The plain config's name.
        entries: Plain first, then the methods.
        seeds: The same for every entry.
        work_dir: Logs, configs and checkpoints of the runs.
        out: Results: tables, plots, and small files of every finished run, from which a study
            continues on another machine.
        refused: Methods that cannot stand in this network, with the reason.
        best: The validation figure whose best checkpoint is tested; None for the last one.
        keep: Whether tested checkpoints stay.
        notes: What a reader of the results should know.
    """

    title: str
    entries: list[Entry]
    seeds: Sequence[int]
    work_dir: Path
    out: Path
    refused: dict[str, str] = field(default_factory=dict)
    best: str | None = None
    keep: bool = False
    notes: list[str] = field(default_factory=list)

    def run(self, label: str, seed: int) -> Run:
        """One run."""
        folder = self.work_dir / 'runs' / label / f'seed_{seed}'
        return Run(label, seed, folder, self.out / 'results' / label)

    def runs(self) -> Iterator[Run]:
        """All runs, every entry with the first seed, then with the second."""
        for seed in self.seeds:
            for entry in self.entries:
                yield self.run(entry.label, seed)

    @property
    def truth_file(self) -> Path:
        """The boxes of the test images, for a detector."""
        return self.out / 'truth.json'

    def truth(self) -> dict[str, Any] | None:
        """Return the boxes of the test images; None for a classifier."""
        return read_json(self.truth_file) if self.truth_file.is_file() else None

    def prepare(self) -> None:
        """Write everything the runs need, and refuse results of other settings.

        Raises:
            ValueError: There are results or runs of another config under the same name.
        """
        for entry in self.entries:
            self._check_same(entry)
        truth = read_truth(self.entries[0].config)
        if truth:
            text = json.dumps(truth, separators=(',', ':')) + '\n'
            if self.truth_file.is_file() and read_text(self.truth_file) != text:
                raise ValueError(
                    f'{self.truth_file}: the results here were judged by other boxes than those '
                    'of the test data now; choose another --out'
                )
            write_text(self.truth_file, text)
        names = [image['name'] for image in truth['images']] if truth else []
        for entry in self.entries:
            for seed in self.seeds:
                run = self.run(entry.label, seed)
                if not run.finished:
                    run.prepare(entry.config, self.best, self.keep, names)

    def _check_same(self, entry: Entry) -> None:
        """Results belong to the settings that made them."""
        settings = canonical(entry.config)
        if self.best:
            settings['tested checkpoint'] = f'best {self.best}'
        settings = json.loads(json.dumps(settings))
        file = self.out / 'results' / entry.label / 'config.json'
        if file.is_file():
            changed = differences(read_json(file), settings)
            if changed:
                said = [f'{name} was {old!r}, is {new!r}' for name, (old, new) in changed.items()]
                raise ValueError(
                    f'{file.parent} holds runs of {entry.label} with other settings: '
                    f'{shorten(said, 3)}; choose another --work-dir (and --out), or delete that '
                    'folder and its runs'
                )
            return
        if (self.work_dir / 'runs' / entry.label).is_dir() and any(file.parent.glob('seed_*')):
            raise ValueError(f'{file.parent} holds results without the settings that made them')
        write_text(file, json.dumps(settings, indent=0) + '\n')


def lock(folder: Path) -> Any:
    """Hold a work dir against a second study; keep the result as long as it is to be held.

    Raises:
        ValueError: Another process holds it.
    """
    import fcntl

    folder.mkdir(parents=True, exist_ok=True)
    file = open(folder / '.lock', 'a+')  # noqa: SIM115 - open as long as the study runs
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        raise ValueError(f'--work-dir {folder}: another study runs there') from error
    file.write(f'{os.getpid()}\n')
    return file
