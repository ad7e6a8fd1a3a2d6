"""COCO's evaluation of arrays in memory, by hotcoco or, where that is missing, pycocotools.

Both engines take the same calls, so what follows is written once. Nothing here needs mmdet.
"""

import contextlib
import importlib.util
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

__all__ = [
    'ENGINES',
    'FIGURES',
    'IOU_THRS',
    'Boxes',
    'category_figures',
    'choose_engine',
    'evaluate',
    'figures',
    'load_truth',
]

ENGINES = ('hotcoco', 'pycocotools')
# mmdet's names: (precision or recall, its one IoU threshold, area, place in max_dets)
FIGURES = {
    'mAP': ('precision', None, 'all', 100),
    'mAP_50': ('precision', 0.5, 'all', -1),
    'mAP_75': ('precision', 0.75, 'all', -1),
    'mAP_s': ('precision', None, 'small', -1),
    'mAP_m': ('precision', None, 'medium', -1),
    'mAP_l': ('precision', None, 'large', -1),
    'AR@100': ('recall', None, 'all', 0),
    'AR@300': ('recall', None, 'all', 1),
    'AR@1000': ('recall', None, 'all', 2),
    'AR_s@1000': ('recall', None, 'small', -1),
    'AR_m@1000': ('recall', None, 'medium', -1),
    'AR_l@1000': ('recall', None, 'large', -1),
}
IOU_THRS = tuple(np.linspace(0.5, 0.95, 10).tolist())
_MAX_EXACT = 2**53  # ids travel in float64


@dataclass
class Boxes:
    """Detections of a whole data set, one row each.

    Args:
        image_ids: ``(N,)`` ids of the images, as in the truth.
        boxes: ``(N, 4)`` boxes ``x, y, width, height`` in pixels.
        scores: ``(N,)`` scores.
        category_ids: ``(N,)`` ids of the categories, as in the truth.
        masks: ``N`` run-length encodings as pycocotools makes them, or None.
    """

    image_ids: Sequence
    boxes: np.ndarray
    scores: np.ndarray
    category_ids: np.ndarray
    masks: list[dict] | None = None

    def __len__(self) -> int:
        return len(self.scores)

    def table(self) -> np.ndarray:
        """Return the ``(N, 7)`` array that COCO's loaders take."""
        parts = (self.image_ids, *np.asarray(self.boxes, float).T, self.scores, self.category_ids)
        return np.stack([np.asarray(part, float) for part in parts], axis=1)

    def records(self, masks: bool) -> list[dict[str, Any]]:
        """COCO's list of results; with masks, without boxes, so that areas are those of masks."""
        columns = (self.image_ids, self.category_ids, self.scores)
        kind, shapes = ('segmentation', self.masks) if masks else ('bbox', self.boxes.tolist())
        return [
            {'image_id': image, 'category_id': int(category), 'score': float(score), kind: shape}
            for image, category, score, shape in zip(*columns, shapes)
        ]


def choose_engine(wanted: str | None = None) -> str:
    """Return the engine to evaluate with.

    Args:
        wanted: ``'hotcoco'``, ``'pycocotools'``, or None for hotcoco where it is installed.

    Raises:
        ValueError: There is no such engine.
        ImportError: It is not installed.
    """
    if wanted not in (None, *ENGINES):
        raise ValueError(f'engine must be one of {ENGINES} or None, got {wanted!r}')
    there = importlib.util.find_spec('hotcoco') is not None
    if wanted == 'hotcoco' and not there:
        raise ImportError("engine='hotcoco' needs hotcoco: pip install hotcoco")
    return wanted or ('hotcoco' if there else 'pycocotools')


def load_truth(content: str | Path | dict, engine: str) -> Any:
    """Read annotations in COCO's layout.

    Args:
        content: A JSON file, or what it would hold.
        engine: Which package reads it.

    Returns:
        The engine's ``COCO``.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: hotcoco cannot take these annotations (ids that are no integers below 2^53).
    """
    if not isinstance(content, dict) and not Path(content).is_file():
        raise FileNotFoundError(f'the annotation file {str(content)!r} does not exist')
    if engine == 'pycocotools':
        from pycocotools.coco import COCO

        with _quiet():
            if not isinstance(content, dict):
                return COCO(str(content))
            truth = COCO()
            truth.dataset = content
            truth.createIndex()
            return truth
    import hotcoco

    truth = hotcoco.COCO(content if isinstance(content, dict) else str(content))
    if any(abs(int(i)) >= _MAX_EXACT for i in truth.getImgIds()):
        raise ValueError('hotcoco takes image ids below 2^53 only')
    return truth


def evaluate(
    truth: Any,
    found: Boxes,
    engine: str,
    iou_type: str = 'bbox',
    *,
    cat_ids: Sequence[int] | None = None,
    max_dets: Sequence[int] = (100, 300, 1000),
    iou_thrs: Sequence[float] = IOU_THRS,
    use_cats: bool = True,
) -> Any:
    """Match detections to the truth and accumulate precision and recall.

    Args:
        truth: What :func:`load_truth` gave, of the same engine.
        found: The detections; there may be none.
        engine: The engine.
        iou_type: ``'bbox'`` or ``'segm'``.
        cat_ids: The categories to look at; None for all.
        max_dets: Three limits on the detections of an image.
        iou_thrs: IoU thresholds.
        use_cats: Whether a box must have the right category.

    Returns:
        The engine's ``COCOeval``, for :func:`figures`.
    """
    module = _module(engine)
    evaluator = module.COCOeval(truth, _detected(truth, found, engine, iou_type), iou_type)
    if cat_ids is not None:
        evaluator.params.catIds = list(cat_ids)
    evaluator.params.maxDets = list(max_dets)
    evaluator.params.iouThrs = np.asarray(iou_thrs) if engine == 'pycocotools' else list(iou_thrs)
    evaluator.params.useCats = use_cats if engine == 'hotcoco' else int(use_cats)
    with _quiet():
        evaluator.evaluate()
        evaluator.accumulate()
    return evaluator


def figures(evaluator: Any) -> dict[str, float]:
    """COCO's twelve figures under mmdet's names; -1 where there is nothing to judge.

    ``mAP`` counts the best 100 detections of an image, the other precisions ``max_dets[-1]``;
    recalls are named for mmdet's ``max_dets`` of 100, 300 and 1000.
    """
    return {name: _figure(evaluator.eval, evaluator.params, *what) for name, what in _plan()}


def category_figures(evaluator: Any) -> dict[int, dict[str, float]]:
    """Return the six average precisions of every category, by its id; nan without objects."""
    content, params = evaluator.eval, evaluator.params
    found = {}
    for index, category in enumerate(params.catIds):
        own = {'precision': content['precision'][:, :, index]}
        row = {
            name: _figure(own, params, kind, iou, area, -1)
            for name, (kind, iou, area, _) in _plan()[:6]
        }
        found[int(category)] = {n: float('nan') if v == -1 else v for n, v in row.items()}
    return found


def _plan() -> list[tuple[str, tuple]]:
    return list(FIGURES.items())


def _figure(content: dict, params: Any, kind: str, iou: object, area: str, max_dets: int) -> float:
    """One mean, over the same values in the same order as pycocotools."""
    values = np.asarray(content[kind])
    areas, counts = list(params.areaRngLbl), list(params.maxDets)
    if max_dets == 100:
        if 100 not in counts:
            return -1.0
        max_dets = counts.index(100)
    values = values[..., areas.index(area), max_dets]
    if iou is not None:
        values = values[np.asarray(params.iouThrs) == iou]
    values = values[values > -1]
    return float(np.mean(values)) if values.size else -1.0


def _detected(truth: Any, found: Boxes, engine: str, iou_type: str) -> Any:
    """Return detections as the engine's COCO; of masks, the areas are those of the masks."""
    masks = iou_type == 'segm'
    if engine == 'hotcoco':
        import hotcoco.mask

        if not masks or not len(found):
            return truth.load_res(found.table())
        detected = truth.load_res(found.table(), segmentation=found.masks)
        areas = np.asarray(hotcoco.mask.area(found.masks), float)
        detected.update_anns(ids=np.arange(1, len(areas) + 1), area=areas)
        return detected
    with _quiet():
        if len(found):
            return truth.loadRes(found.records(masks))
        empty = type(truth)()
        empty.dataset = dict(truth.dataset, annotations=[])
        empty.createIndex()
        return empty


def _module(engine: str) -> ModuleType:
    return importlib.import_module('hotcoco' if engine == 'hotcoco' else 'pycocotools.cocoeval')


def _quiet() -> contextlib.AbstractContextManager:
    """Both engines print as they go."""
    return contextlib.redirect_stdout(io.StringIO())
