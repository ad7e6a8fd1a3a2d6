"""The results as tables for a spreadsheet."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from mmattn.core.text import write_text
from mmattn.localization.class_names import class_name
from mmattn.localization.metrics import COUNTED, LocalizationMetrics
from mmattn.localization.structures import ImageResult

__all__ = [
    'BOX_CSV',
    'CLASS_CSV',
    'IMAGE_CSV',
    'write_box_csv',
    'write_class_csv',
    'write_image_csv',
]

IMAGE_CSV, CLASS_CSV, BOX_CSV = 'per_image.csv', 'per_class.csv', 'boxes.csv'
BOX_COLUMNS = ('image', 'label', 'class', 'score', 'x0', 'y0', 'x1', 'y1', 'error')

IMAGE_COLUMNS = (
    'image',
    'class',
    'best_class',
    'score',
    'iou',
    'box_right',
    'class_right',
    'boxes',
)


def write_image_csv(
    work_dir: str | Path, results: Iterable[ImageResult], names: Sequence[str], iou_thr: float
) -> None:
    """Write ``per_image.csv``: one row an image, empty cells for one that could not be read.

    Args:
        work_dir: Its folder.
        results: In order; never held all at once.
        names: Class names in label order.
        iou_thr: IoU from which a box is right.
    """
    path = Path(work_dir) / IMAGE_CSV
    with path.open('w', newline='', encoding='utf-8', errors='surrogateescape') as file:
        rows = csv.writer(file)
        rows.writerow(IMAGE_COLUMNS)
        for result in results:
            rows.writerow(_row(result, names, iou_thr))


def _row(result: ImageResult, names: Sequence[str], iou_thr: float) -> list:
    start = [result.key, class_name(names, result.label)]
    if result.error is not None:
        return start + [''] * (len(IMAGE_COLUMNS) - len(start))
    best = result.top5[0]
    boxes = '; '.join(' '.join(f'{v:g}' for v in box) for box in result.boxes_xyxy)
    right = [int(result.iou >= iou_thr), int(best == result.label)]
    return [
        *start,
        class_name(names, best),
        f'{result.score:.4f}',
        f'{result.iou:.4f}',
        *right,
        boxes,
    ]


def write_box_csv(
    work_dir: str | Path, results: Iterable[ImageResult], names: Sequence[str]
) -> None:
    """Write ``boxes.csv``: one row a box, and one with the reason for an image without any."""
    path = Path(work_dir) / BOX_CSV
    with path.open('w', newline='', encoding='utf-8', errors='surrogateescape') as file:
        rows = csv.writer(file)
        rows.writerow(BOX_COLUMNS)
        for result in results:
            if result.error is not None:
                rows.writerow([result.key, *[''] * (len(BOX_COLUMNS) - 2), result.error])
            for box in result.boxes_xyxy:
                name, score = class_name(names, result.label), f'{result.label_score:.4f}'
                corners = [f'{value:g}' for value in box]
                rows.writerow([result.key, result.label, name, score, *corners, ''])


def write_class_csv(
    work_dir: str | Path, metrics: LocalizationMetrics, names: Sequence[str]
) -> None:
    """Write ``per_class.csv``: one row a class, lowest ``gt_known`` first."""
    text = io.StringIO()
    rows = csv.DictWriter(text, ('label', 'name', 'images', *COUNTED))
    rows.writeheader()
    rows.writerows(metrics.class_table(names))
    write_text(Path(work_dir) / CLASS_CSV, text.getvalue())
