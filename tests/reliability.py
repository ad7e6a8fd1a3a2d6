"""Troubles tried in large numbers, counted, for ``tools/analysis_tools/reliability.py``.

Every experiment is cut into units; the counts of each are kept in a file as soon as they are
there, so that a stopped run is resumed.
"""

import json
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

__all__ = ['EXPERIMENTS', 'Count', 'page', 'run']


@dataclass
class Count:
    """What came of the attempts of a unit.

    Args:
        tried: Attempts.
        survived: Those that ended as they should.
        failures: A line for each that did not, the first ones.
        plain: Survived by mmengine alone, where the same was tried with it.
    """

    tried: int = 0
    survived: int = 0
    failures: list[str] = field(default_factory=list)
    plain: int | None = None

    def add(self, complaint: str | None) -> None:
        """Count an attempt and what is wrong with its end, if anything."""
        self.tried += 1
        self.survived += not complaint
        if complaint:
            self.failures.append(complaint[:300])

    def __iadd__(self, other: 'Count') -> 'Count':
        self.tried += other.tried
        self.survived += other.survived
        self.failures += other.failures
        if other.plain is not None:
            self.plain = (self.plain or 0) + other.plain
        return self


@dataclass(frozen=True)
class Experiment:
    """A kind of trouble.

    Args:
        name: Its name.
        trouble: What is tried.
        end: How each attempt should end.
        promise: What mmengine promises.
        units: Names of the units.
        play: ``play(unit, folder) -> Count``.
    """

    name: str
    trouble: str
    end: str
    promise: str
    units: Iterable[str]
    play: Callable[[str, Path], Count]


def _fields(unit: str, folder: Path) -> Count:
    from tests.data.fuzz import prepare
    from tests.data.test_fuzz import CASES, check

    prepare(folder)
    count = Count()
    for case in CASES[int(unit) :: FIELD_UNITS]:
        count.add(check(folder, case))
    return count


def _arguments(unit: str, folder: Path) -> Count:
    from tests.test_argument_fuzz import fuzz, register_all

    register_all()
    count = Count()
    for complaint in fuzz(1000 + int(unit), 100, every=True):
        count.add(complaint)
    return count


def _kills(unit: str, folder: Path) -> Count:
    from tests.core.checkpoint.kills import kill

    count = Count(plain=0)
    for safe in (True, False):
        for seed in range(5):
            before, after = kill(folder, folder / str(safe), 10 * int(unit) + seed, safe)
            lost = f'step {before} before the kill, {after} after' if after <= before else None
            if safe:
                count.add(lost)
            else:
                count.plain += lost is None
    return count


def _disk(unit: str, folder: Path) -> Count:
    from tests.core.checkpoint.kills import fill

    count = Count()
    said, kept, end = fill(folder, int(unit))
    line = said.strip().splitlines()[-1] if said.strip() else ''
    whole = 'Traceback' not in said and 'full' in line and 0 < kept < end
    count.add(None if whole else f'disk of {unit} MB: {line!r}, kept {kept}, then {end}')
    return count


def _losses(unit: str, folder: Path) -> Count:
    from tests.core.test_finite_distributed import diverge

    count = Count()
    for bad_from in range(5):
        count.add(diverge(folder / str(bad_from), int(unit), bad_from))
    return count


FIELD_UNITS = 24
EXPERIMENTS = (
    Experiment(
        'fields',
        'a value of an annotation file absent, null, empty, of another type, NaN, infinite, '
        'negative, huge: every field of COCO, VOC, ILSVRC, Kaggle, CUB, wsolevaluation, own JSON',
        'taken by everything that reads the file, or one sentence with file, entry and field',
        'nothing: data sets are not looked at before a run',
        tuple(map(str, range(FIELD_UNITS))),
        _fields,
    ),
    Experiment(
        'arguments',
        'a constructor argument misspelt, missing or of another type: every registered module, '
        'hook, metric and data set',
        'the right type, or one sentence of mmattn',
        "nothing: Python's own errors, from wherever the value is used first",
        tuple(map(str, range(30))),
        _arguments,
    ),
    Experiment(
        'kills',
        'a training with `max_keep_ckpts=1` killed (SIGKILL) shortly after a checkpoint, then '
        'resumed, again and again',
        'resumes from a later step each time',
        '"resume" from `last_checkpoint`; the old file is deleted before the new one is whole',
        tuple(map(str, range(4))),
        _kills,
    ),
    Experiment(
        'full disk',
        'a training whose disk is full at a checkpoint; then there is room again',
        'one sentence, the last checkpoint is whole, and the same command resumes to the end',
        'nothing: a traceback',
        tuple(map(str, range(8, 16))),  # MB; a checkpoint has 8, and two of them do not fit
        _disk,
    ),
    Experiment(
        'bad losses',
        'a loss that becomes NaN or infinite: one process, and one of two processes',
        'every process ends within seconds, the sentence names step, loss and layer, the last '
        'good checkpoint stays',
        'nothing: the training continues; mmdet has `CheckInvalidLossHook`, every 50 steps',
        ('1', '2'),
        _losses,
    ),
)


def run(results: Path, names: Iterable[str], report: Callable[[str], None] = print) -> dict:
    """Play what is not in the file of results yet.

    Args:
        results: A JSON line for each unit that was played.
        names: Experiments to play.
        report: Gets a line of progress for each unit.

    Returns:
        The counts by experiment, of whatever is in the file.
    """
    results.parent.mkdir(parents=True, exist_ok=True)
    lines = results.read_text().splitlines() if results.is_file() else []
    done = {(entry['name'], entry['unit']): entry['count'] for entry in map(json.loads, lines)}
    for experiment in EXPERIMENTS:
        for unit in experiment.units if experiment.name in names else ():
            if (experiment.name, unit) in done:
                continue
            with tempfile.TemporaryDirectory() as folder:
                count = asdict(experiment.play(unit, Path(folder)))
            done[experiment.name, unit] = count
            with results.open('a') as file:
                entry = dict(name=experiment.name, unit=unit, count=count)
                file.write(json.dumps(entry) + '\n')
            report(f'{experiment.name} {unit}: {count["survived"]} of {count["tried"]}')
    counts: dict[str, Count] = {}
    for (name, _), count in done.items():
        counts.setdefault(name, Count()).__iadd__(Count(**count))
    return counts


PAGE = """# Reliability

What goes wrong in practice was tried in large numbers. Counts of
`python tools/analysis_tools/reliability.py`, which writes this page; a failure is listed below the
table.

| trouble | each should end with | tried | survived | mmengine alone | mmengine promises |
|---|---|---|---|---|---|
{rows}

*mmengine alone*: the same kills of the same training without mmattn's hook. The slow suite
(`make test-slow`) plays the same attempts as tests.
{failures}"""


def page(counts: dict) -> str:
    """Write the page."""
    rows, failures = [], []
    for experiment in EXPERIMENTS:
        count = counts.get(experiment.name)
        if count is None:
            continue
        plain = '-' if count.plain is None else f'{count.plain:,}'
        rows.append(
            f'| {experiment.trouble} | {experiment.end} | {count.tried:,} | {count.survived:,} | '
            f'{plain} | {experiment.promise} |'
        )
        failures += [f'- {experiment.name}: `{line}`' for line in count.failures]
    listed = '\n## Failures\n\n' + '\n'.join(failures) + '\n' if failures else ''
    return PAGE.format(rows='\n'.join(rows), failures=listed)
