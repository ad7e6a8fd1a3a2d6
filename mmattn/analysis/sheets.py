"""Drawings of a detector's training: its curves, and its predictions beside the truth."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np

from mmattn.core.text import read_json
from mmattn.localization.sweep import iou_matrix

matplotlib.use('Agg')
from matplotlib import image, patches, pyplot  # noqa: E402

__all__ = ['draw_curves', 'draw_sheet', 'overlap', 'show_boxes', 'surest', 'truth_of']

SURE = 0.3  # score from which a prediction is drawn
MISSED = 'tab:orange'


def draw_curves(path: Path, curves: Mapping[str, list], figures: Mapping[str, float]) -> None:
    """Draw loss and AP of a detector over the steps.

    Args:
        path: file to write.
        curves: name -> ``(step, value)`` pairs, as a training logs them.
        figures: ``AP`` and ``AP50`` of the last checkpoint, which are the last point.
    """
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 4), constrained_layout=True)
    for name, label in [
        ('loss', 'sum'),
        ('loss_cls', 'class'),
        ('loss_bbox', 'box'),
        ('loss_rpn_cls', 'proposal class'),
        ('loss_rpn_bbox', 'proposal box'),
    ]:
        if name in curves:
            left.plot(*zip(*curves[name]), label=label)
    last = max(step for step, _ in curves['loss'])
    for name, key, label in [
        ('coco/bbox_mAP_50', 'AP50', 'AP50'),
        ('coco/bbox_mAP', 'AP', 'AP (0.50 to 0.95)'),
    ]:
        points = {**dict(curves.get(name, [])), last: figures[key]}
        right.plot(*zip(*sorted(points.items())), marker='o', label=label)
    left.set(title='training loss', xlabel='step')
    left.set_ylim(bottom=0)
    right.set(title='validation', xlabel='step', ylim=(0, 1))
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def overlap(a: Sequence[float], b: Sequence[float]) -> float:
    """Intersection over union of two boxes ``[x1, y1, x2, y2]``."""
    return float(iou_matrix([a], [b])[0, 0])


def truth_of(file: Path) -> tuple[dict, list]:
    """Read a COCO file: image id to ``(label, box)`` pairs, and the class names.

    Args:
        file: its boxes; ids of categories run from 1.
    """
    content = read_json(file)
    boxes: dict[int, list] = {image['id']: [] for image in content['images']}
    for entry in content['annotations']:
        x, y, w, h = entry['bbox']
        boxes[entry['image_id']].append((entry['category_id'] - 1, [x, y, x + w, y + h]))
    return boxes, [category['name'] for category in content['categories']]


def surest(found: Mapping) -> list[tuple]:
    """Return the surest prediction at each place; the evaluation uses all.

    Args:
        found: tensors ``labels``, ``bboxes`` and ``scores`` of an image.

    Returns:
        ``(label, box, score)`` of each, the best first.
    """
    rows = zip(found['labels'].tolist(), found['bboxes'].tolist(), found['scores'].tolist())
    kept: list[tuple] = []
    for label, box, score in sorted(rows, key=lambda row: -row[2]):
        if score >= SURE and all(overlap(box, other) < 0.5 for _, other, _ in kept):
            kept.append((label, box, score))
    return kept


def draw_sheet(path: Path, annotations: Path, predictions: Sequence, images: int = 8) -> None:
    """Draw predictions beside the ground truth, of which missed objects are dashed.

    Args:
        path: file to write.
        annotations: the COCO file.
        predictions: as mmdet dumps them, one dict an image.
        images: of the first so many.
    """
    truth, names = truth_of(annotations)
    predictions = predictions[:images]
    rows = -(-len(predictions) // 2)
    figure, grid = pyplot.subplots(
        rows, 4, figsize=(12, 3.2 * rows), squeeze=False, constrained_layout=True
    )
    for axes in grid.flat:
        axes.axis('off')

    for i, scene in enumerate(predictions):
        shown = image.imread(scene['img_path'])
        real = truth[scene['img_id']]
        left, right = grid[i // 2, i % 2 * 2], grid[i // 2, i % 2 * 2 + 1]
        found = surest(scene['pred_instances'])
        objects = [
            (names[n], box, 'tab:blue')
            if any(n == label and overlap(box, other) >= 0.5 for label, other, _ in found)
            else (f'{names[n]}, missed', box, MISSED)
            for n, box in real
        ]
        show_boxes(left, 'ground truth (dashed: missed)', shown, objects)
        drawn = []
        for label, box, score in found:
            right_one = any(n == label and overlap(box, b) >= 0.5 for n, b in real)
            colour = 'tab:green' if right_one else 'tab:red'
            drawn.append((f'{names[label]} {score:.2f}', box, colour))
        show_boxes(right, 'prediction (red: wrong class or place)', shown, drawn)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def show_boxes(axes: pyplot.Axes, title: str, shown: np.ndarray, boxes: Sequence) -> None:
    """Draw an image, and boxes on it: ``(text, xyxy, colour)`` of each."""
    axes.imshow(shown)
    axes.set_title(title, fontsize=9)
    for text, (x1, y1, x2, y2), colour in boxes:
        style = dict(fill=False, ec=colour, lw=1.5, ls='--' if colour == MISSED else '-')
        axes.add_patch(patches.Rectangle((x1, y1), x2 - x1, y2 - y1, **style))
        place = dict(va='bottom') if y1 > 12 else dict(va='top')
        background = dict(facecolor=colour, edgecolor='none', pad=1)
        axes.text(x1, y1, text, fontsize=7, color='white', bbox=background, **place)
