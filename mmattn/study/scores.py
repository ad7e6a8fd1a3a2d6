"""Figures of finished runs, on the test images and on resampled sets of them.

Every set is evaluated anew, with an image as often as it was drawn. (``hotcoco.compare`` takes an
image that was drawn twice once, which makes its standard errors a quarter too small.)
"""

import importlib.util
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mmattn.evaluation import coco
from mmattn.study.record import Outcome
from mmattn.study.runs import Run
from mmattn.study.statistics import Scores, resample_counts

__all__ = ['FIGURES', 'Figure', 'collect', 'measure', 'need_hotcoco']


class Figure(NamedTuple):
    """A figure of merit.

    Args:
        name: As in tables.
        unit: What one of it is.
        sign: 1 where more is better, -1 where less is.
        digits: Decimals that mean something.
    """

    name: str
    unit: str = 'points'
    sign: int = 1
    digits: int = 1


_PRECISIONS = {
    **{'AP': 'mAP', 'AP50': 'mAP_50', 'AP75': 'mAP_75'},
    **{'AP small': 'mAP_s', 'AP medium': 'mAP_m', 'AP large': 'mAP_l'},
}
# TIDE's six errors: what each costs of AP50
_ERRORS = {
    **{'wrong class': 'Cls', 'wrong place': 'Loc', 'both wrong': 'Both'},
    **{'found twice': 'Dupe', 'background': 'Bkg', 'missed': 'Miss'},
}
FIGURES = {
    'detection': [
        *(Figure(name) for name in _PRECISIONS),
        *(Figure(name, 'points of AP50 lost', -1) for name in _ERRORS),
    ],
    'classification': [Figure('top-1'), Figure('top-5')],
}
_TIMES = 300  # resampled sets
_MAX_DETS = (1, 10, 100)


def need_hotcoco() -> None:
    """Say beforehand what the statistics of a detector need.

    Raises:
        ImportError: hotcoco is not installed.
    """
    if importlib.util.find_spec('hotcoco') is None:
        raise ImportError('a study of detectors needs hotcoco: pip install hotcoco')


def collect(
    runs: Mapping[str, Mapping[int, Run]], truth: Mapping | None, cache: Path
) -> tuple[str, int, dict[str, dict[str, Scores]]]:
    """Return the scores of all finished runs.

    Args:
        runs: Entry to seed to finished run.
        truth: The boxes of the test images, for detectors.
        cache: Where the figures of resampled sets are kept.

    Returns:
        The kind of outcome, the number of test images, and by figure and entry the scores.

    Raises:
        ValueError: Runs were tested on different images.
    """
    found: dict[str, dict[str, tuple[dict, dict]]] = {}
    kinds, images = set(), set()
    known: dict[str, np.ndarray] = {}
    for label, own in runs.items():
        for seed, run in own.items():
            outcome = run.outcome()
            kinds.add(outcome.kind)
            images.add(outcome.images)
            if outcome.kind == 'classification':
                first = known.setdefault('truth', outcome.truth)
                if not np.array_equal(first, outcome.truth):
                    raise ValueError(f'{run.outcome_file}: tested on other images than the rest')
            for name, (value, sets) in _cached(run, outcome, truth, cache).items():
                values, resampled = found.setdefault(name, {}).setdefault(label, ({}, {}))
                values[seed] = value
                if sets is not None:
                    resampled[seed] = sets
    if len(kinds) > 1 or len(images) > 1:
        raise ValueError(f'the runs were tested on different images: {sorted(images)}')
    scores = {
        name: {
            label: Scores(values, resampled if len(resampled) == len(values) else None)
            for label, (values, resampled) in entries.items()
        }
        for name, entries in found.items()
    }
    return kinds.pop(), images.pop(), scores


def _cached(run: Run, outcome: Outcome, truth: Mapping | None, cache: Path) -> dict[str, tuple]:
    """Figures of a run: the value, and those of resampled sets."""
    own = _own_figures(run.result())
    if outcome.kind == 'other':
        return own
    file = cache / run.label / f'seed_{run.seed}.npz'
    stamp = f'{zlib.crc32(run.outcome_file.read_bytes())} {_TIMES}'
    if file.is_file():
        with np.load(file, allow_pickle=False) as content:
            if str(content['stamp']) == stamp:
                names = [name for name in content.files if name != 'stamp']
                return {**{n: (content[n][0], content[n][1:]) for n in names}, **own}
    counts = resample_counts(outcome.images, _TIMES)
    measured = measure(outcome, truth, counts)
    file.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(file, stamp=np.array(stamp), **measured)
    return {**{name: (row[0], row[1:]) for name, row in measured.items()}, **own}


def _own_figures(result: Mapping[str, Any]) -> dict[str, tuple]:
    """Return what the config's own evaluator said, if not ours; of the starts alone."""
    ours = ('coco/', 'accuracy/top', 'study/')
    return {
        name: (float(value), None)
        for name, value in result['figures'].items()
        if not name.startswith(ours) and name not in ('time', 'data_time')
    }


def measure(outcome: Outcome, truth: Mapping | None, counts: np.ndarray) -> dict[str, np.ndarray]:
    """All figures of an outcome.

    Args:
        outcome: What a run found.
        truth: The boxes of the test images, for a detector.
        counts: ``(R, images)`` resampled sets, as :func:`.resample_counts` draws them.

    Returns:
        Figure to ``(1 + R,)`` values: of the test images, then of every set; nan where there is
        nothing to judge. Figures without any value are left out.
    """
    sets = np.concatenate([np.ones((1, outcome.images), int), counts])
    if outcome.kind == 'classification':
        right = {'top-1': outcome.rank < 1}
        if int(outcome.truth.max(initial=0)) >= 5:
            right['top-5'] = outcome.rank < 5
        return {name: 100 * (sets @ hits) / outcome.images for name, hits in right.items()}
    detections = _Detections(outcome, truth)
    rows = [detections.figures(order) for order in sets]
    table = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    return {name: row for name, row in table.items() if np.isfinite(row[0])}


class _Detections:
    """Detections and truth by image, so that a set of images can be put together at once."""

    def __init__(self, outcome: Outcome, truth: Mapping) -> None:
        self.images = [
            dict(id=n, width=one['width'], height=one['height'], file_name='')
            for n, one in enumerate(truth['images'])
        ]
        self.categories = truth['categories']
        objects = truth['annotations']
        self.truth, self.truth_starts = _by_image(
            np.array([one['image_id'] for one in objects], int),
            len(self.images),
            boxes=np.array([one['bbox'] for one in objects], float).reshape(-1, 4),
            labels=np.array([one['category_id'] for one in objects], int),
            area=np.array([one['area'] for one in objects], float),
            crowd=np.array([one['iscrowd'] for one in objects], bool),
        )
        self.found, self.found_starts = _by_image(
            outcome.image,
            len(self.images),
            boxes=outcome.boxes,
            labels=outcome.labels,
            scores=outcome.scores,
        )

    def figures(self, counts: np.ndarray) -> dict[str, float]:
        """Return the figures of a set in which each image is so many times."""
        import hotcoco

        order = np.repeat(np.arange(len(self.images)), counts)
        rows, images = _gather(self.truth_starts, order)
        truth = hotcoco.COCO.from_arrays(
            self.images,
            self.categories,
            images,
            self.truth['labels'][rows],
            self.truth['boxes'][rows],
            area=self.truth['area'][rows],
            iscrowd=self.truth['crowd'][rows],
        )
        rows, images = _gather(self.found_starts, order)
        found = coco.Boxes(
            images,
            self.found['boxes'][rows],
            self.found['scores'][rows],
            self.found['labels'][rows],
        )
        evaluator = coco.evaluate(truth, found, 'hotcoco', max_dets=_MAX_DETS)
        exact = coco.figures(evaluator)
        values = {name: exact[theirs] for name, theirs in _PRECISIONS.items()}
        lost = evaluator.tide_errors()['delta_ap'] if len(found) else {}
        values |= {name: lost.get(theirs, 0.0) for name, theirs in _ERRORS.items()}
        return {name: np.nan if v == -1 else 100 * v for name, v in values.items()}


def _by_image(
    image: np.ndarray, images: int, **columns: np.ndarray
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Columns in the order of their images, and where each image starts."""
    order = np.argsort(image, kind='stable')
    starts = np.searchsorted(image[order], np.arange(images + 1))
    return {name: column[order] for name, column in columns.items()}, starts


def _gather(starts: np.ndarray, order: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Rows of these images one after the other, and the place of each row's image."""
    first, sizes = starts[:-1][order], np.diff(starts)[order]
    before = np.cumsum(sizes) - sizes
    rows = np.arange(sizes.sum()) + np.repeat(first - before, sizes)
    return rows, np.repeat(np.arange(len(order)), sizes)
