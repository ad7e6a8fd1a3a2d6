"""What a run leaves of every test image: its detections, or the rank of its true class."""

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.registry import DATASETS, init_default_scope

from mmattn.core.text import read_json
from mmattn.data.coco import as_coco_boxes

__all__ = ['Outcome', 'Recorder', 'read_truth']

_STEP = 1 / 16  # pixels; boxes are kept as whole numbers of it
_MOST = 100  # detections an image, the number that COCO's AP counts


@dataclass
class Outcome:
    """What one run found on the test images.

    Args:
        kind: ``'detection'``, ``'classification'`` or ``'other'`` (figures only).
        images: How many images were tested.
        image: Detections: ``(N,)`` numbers of their images, as the truth counts them.
        boxes: ``(N, 4)`` ``x, y, width, height`` in pixels.
        scores: ``(N,)``.
        labels: ``(N,)``.
        truth: Classification: ``(images,)`` true labels.
        rank: ``(images,)`` classes with a higher score than the true one.
    """

    kind: str
    images: int
    image: np.ndarray | None = None
    boxes: np.ndarray | None = None
    scores: np.ndarray | None = None
    labels: np.ndarray | None = None
    truth: np.ndarray | None = None
    rank: np.ndarray | None = None

    def save(self, path: Path) -> None:
        """Write a small file: boxes to 1/16 pixel, integers as short as they are."""
        content = {'kind': np.array(self.kind), 'images': np.array(self.images)}
        for name in ('image', 'labels', 'truth', 'rank'):
            values = getattr(self, name)
            if values is not None:
                content[name] = _short(values)
        if self.boxes is not None:
            content['boxes'] = _short(np.rint(np.asarray(self.boxes) / _STEP).astype(np.int64))
            content['scores'] = np.asarray(self.scores, np.float32)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f'.{path.name}')
        with open(temporary, 'wb') as file:
            np.savez_compressed(file, **content)
        temporary.replace(path)

    @classmethod
    def load(cls, path: Path) -> 'Outcome':
        """Read what :meth:`save` wrote.

        Raises:
            ValueError: The file is damaged.
        """
        try:
            with np.load(path, allow_pickle=False) as content:
                values = {name: content[name] for name in content.files}
            outcome = cls(str(values.pop('kind')), int(values.pop('images')))
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise ValueError(f'{path} is damaged ({error}): delete it to run again') from error
        for name, array in values.items():
            wide = np.float64 if name in ('boxes', 'scores') else np.int64
            setattr(outcome, name, array.astype(wide))
        if outcome.boxes is not None:
            outcome.boxes *= _STEP
        return outcome


def _short(values: np.ndarray) -> np.ndarray:
    """Return the shortest kind of integer that holds the values."""
    values = np.asarray(values)
    low, high = (int(values.min()), int(values.max())) if values.size else (0, 0)
    for kind in (np.uint8, np.int16, np.uint16, np.int32):
        if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max:
            return values.astype(kind)
    return values.astype(np.int64)


class Recorder(BaseMetric):
    """A metric without figures that writes the outcome of a test.

    Args:
        path: Where to.
        names: The ids of the test images, in the order in which the truth counts them; empty for
            a classifier.
    """

    default_prefix = 'study'

    def __init__(self, path: Path, names: Sequence = ()) -> None:
        super().__init__()
        self.path = Path(path)
        self.numbers = {name: number for number, name in enumerate(names)}

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keep what matters of a batch."""
        for sample in data_samples:
            if 'pred_instances' in sample:
                self.results.append(self._detections(sample))
            elif 'pred_score' in sample and torch.as_tensor(sample['gt_label']).numel() == 1:
                score = torch.as_tensor(sample['pred_score']).flatten().float()
                label = int(torch.as_tensor(sample['gt_label']))
                true = score[label]
                # as mmpretrain sorts: of equal scores, the true class counts as the last
                rank = int((score > true).sum() + (score == true).sum() - 1)
                self.results.append((label, rank))
            else:
                self.results.append(None)

    def _detections(self, sample: Mapping) -> tuple:
        found = sample['pred_instances']
        scores = found['scores'].detach().cpu()
        best = scores.argsort(descending=True, stable=True)[:_MOST]
        corners = torch.as_tensor(found['bboxes']).detach().cpu()[best].double().reshape(-1, 4)
        boxes = torch.cat([corners[:, :2], corners[:, 2:] - corners[:, :2]], 1)
        labels = found['labels'].detach().cpu()[best]
        return sample['img_id'], boxes.numpy(), scores[best].numpy(), labels.numpy()

    def compute_metrics(self, results: list) -> dict:
        """Write the outcome; there are no figures."""
        outcome = Outcome('other', len(results))
        if results and all(len(one or ()) == 4 for one in results):
            counts = [len(one[2]) for one in results]
            numbers = [self.numbers[one[0]] for one in results]
            outcome = Outcome(
                'detection',
                len(results),
                np.repeat(numbers, counts),
                *(np.concatenate([one[part] for one in results]) for part in (1, 2, 3)),
            )
        elif results and all(len(one or ()) == 2 for one in results):
            truth, rank = np.array(results).T
            outcome = Outcome('classification', len(results), truth=truth, rank=rank)
        outcome.save(self.path)
        return {}


def read_truth(cfg: Config) -> dict | None:
    """Return the boxes that a detector's test is judged by, in COCO's layout.

    Images are counted in the order of the data set and categories are its labels. Objects are
    those of the evaluator's annotation file where it has one (with its areas and crowds), else
    the data set's own.

    Returns:
        ``images`` (with the data set's ids as ``name``), ``annotations``, ``categories``; None
        for data without boxes.
    """
    init_default_scope(cfg.get('default_scope') or 'mmengine')
    try:
        dataset = DATASETS.build({**cfg.test_dataloader.dataset, 'pipeline': []})
        dataset.full_init()
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f'test_dataloader.dataset: {error.filename or error} does not exist; set data_root '
            '(--data-root) to where the data lie'
        ) from error
    infos = [dataset.get_data_info(index) for index in range(len(dataset))]
    if not infos or 'instances' not in infos[0]:
        return None
    classes = list(dataset.metainfo['classes'])
    numbers = {info['img_id']: number for number, info in enumerate(infos)}
    file = _annotation_file(cfg)
    own = ((number, one) for number, info in enumerate(infos) for one in info['instances'])
    return dict(
        images=[
            dict(id=n, name=info['img_id'], width=info['width'], height=info['height'])
            for n, info in enumerate(infos)
        ],
        categories=[dict(id=n, name=name) for n, name in enumerate(classes)],
        annotations=_from_file(file, classes, numbers) if file else as_coco_boxes(own),
    )


def _annotation_file(cfg: Config) -> str | None:
    evaluators = cfg.get('test_evaluator') or []
    for one in evaluators if isinstance(evaluators, list | tuple) else [evaluators]:
        file = one.get('ann_file')
        if isinstance(file, str) and file.endswith('.json') and Path(file).is_file():
            return file
    return None


def _from_file(file: str, classes: list[str], numbers: Mapping) -> list[dict]:
    content = read_json(file)
    # labels count the file's categories that are among the classes, in the file's order
    ids = [one['id'] for one in content['categories'] if one['name'] in classes]
    labels = {id_: label for label, id_ in enumerate(ids)}
    kept = [
        one
        for one in content['annotations']
        if one['category_id'] in labels and one['image_id'] in numbers
    ]
    return [
        dict(
            id=n,
            image_id=numbers[one['image_id']],
            category_id=labels[one['category_id']],
            bbox=[float(side) for side in one['bbox']],
            area=float(one['area']),
            iscrowd=int(one.get('iscrowd', 0)),
        )
        for n, one in enumerate(kept, 1)
    ]
