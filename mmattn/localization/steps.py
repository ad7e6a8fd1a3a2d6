"""A classifier that looks several times, evaluated at each of its steps.

Every function takes one classifier for each step: the same network, stopped there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mmattn.core.text import write_text
from mmattn.localization.api import evaluate
from mmattn.localization.classifiers import Classifier
from mmattn.localization.metrics import COUNTED, judge
from mmattn.localization.results import LOG_NAME, RunPlan, read_log
from mmattn.localization.structures import AnnotationSet, ImageResult
from mmattn.localization.sweep import iou_matrix

__all__ = ['confident_step', 'evaluate_steps', 'keep_apart', 'steps_table', 'union_of_steps']

SHOWN = ('top1_cls', 'top5_cls', 'top1_loc', 'gt_known', 'max_box_acc')


def evaluate_steps(
    classifiers: Sequence[Classifier],
    annotations: AnnotationSet,
    plan: RunPlan,
) -> dict[str, Any] | None:
    """Evaluate every step, then the most confident one, then all by the rule of TDAM's authors.

    Args:
        classifiers: One for each step.
        annotations: The images and their true boxes.
        plan: How and where. Its folder gets what :func:`~mmattn.localization.api.evaluate` writes
            for step k in ``step_k``, and ``steps.json``. The maps and boxes of the five best
            classes are always made: the rule needs the best one's.

    Returns:
        ``{'steps': [summary, ...], 'confident': fractions, 'union': fractions, 'failed':
        unreadable images}`` in the first process, None in the others; the fractions are those of
        :func:`confident_step` and :func:`union_of_steps`.

    Raises:
        ValueError: See :func:`~mmattn.localization.api.evaluate`.
    """
    settings = replace(plan.settings, maps='top5')
    work_dir = Path(plan.work_dir)
    folders = [work_dir / f'step_{step}' for step in range(1, len(classifiers) + 1)]
    summaries = [
        evaluate(classifier, annotations, replace(plan, settings=settings, work_dir=folder))
        for classifier, folder in zip(classifiers, folders)
    ]
    if summaries[0] is None:
        return None
    found = dict(
        steps=summaries,
        confident=confident_step(folders, settings.iou_thr),
        union=union_of_steps(folders, settings.iou_thr),
        failed=summaries[0]['failed'],
    )
    write_text(work_dir / 'steps.json', json.dumps(found, indent=1) + '\n')
    return found


def confident_step(folders: Sequence[str | Path], iou_thr: float = 0.5) -> dict[str, float]:
    """Count what is right at each image's most confident step: a plain accuracy.

    Args:
        folders, iou_thr: See :func:`union_of_steps`.

    Returns:
        Fractions of the readable images: ``top1_cls`` and the other counted metrics of the step
        whose best class has the highest probability (the first of equal ones).
    """
    counts, images = dict.fromkeys(COUNTED, 0), 0
    for results in _readable(folders):
        images += 1
        best = max(results, key=lambda result: result.score)
        for name, right in zip(COUNTED, judge(best, iou_thr)):
            counts[name] += right
    return {name: count / max(images, 1) for name, count in counts.items()}


def _readable(folders: Sequence[str | Path]) -> Iterator[list[ImageResult]]:
    """Yield the results of every step for each readable image."""
    for lines in zip(*(read_log(Path(folder) / LOG_NAME) for folder in folders), strict=True):
        results = [result for _, result in lines]
        if results[0].error is None:
            yield results


def union_of_steps(folders: Sequence[str | Path], iou_thr: float = 0.5) -> dict[str, float]:
    """Count what is right when every step may speak: no plain accuracy.

    The rule of TDAM's authors: each step's best class is kept, unless its box overlaps that of an
    earlier step with IoU > 0.5; then the more confident of the two stands for both. An image is
    right if any step that was kept is right.

    Args:
        folders: Results of each step, with the maps of the five best classes.
        iou_thr: IoU from which a box is right; it does not change the 0.5 of the rule.

    Returns:
        Fractions of the readable images: ``top1_cls`` and the other counted metrics, each at
        any step that was kept, and ``several``: steps of different classes were kept.
    """
    counts = dict.fromkeys((*COUNTED, 'several'), 0)
    images = 0
    for results in _readable(folders):
        images += 1
        guesses = [(result.score, result.class_boxes[0]) for result in results]
        kept = [results[step] for step in keep_apart(guesses)]
        for name, answers in zip(COUNTED, zip(*(judge(result, iou_thr) for result in kept))):
            counts[name] += any(answers)
        counts['several'] += len({result.top5[0] for result in kept}) > 1
    return {name: count / max(images, 1) for name, count in counts.items()}


def keep_apart(guesses: Sequence[tuple[float, Sequence]], iou_thr: float = 0.5) -> list[int]:
    """Choose the step that stands for each step by the authors' rule.

    Args:
        guesses: For every step, in order, ``(probability, boxes_xyxy)`` of its best class; the
            first box counts.
        iou_thr: Overlap above which two steps show the same thing.

    Returns:
        For every step the number, from 0, of the step that stands for it.
    """
    kept = []
    for step in range(len(guesses)):
        stands = step
        for index, other in enumerate(kept):
            if _overlap(guesses[other][1], guesses[stands][1]) > iou_thr:
                if guesses[stands][0] > guesses[other][0]:
                    kept[index] = stands
                else:
                    stands = other
        kept.append(stands)
    return kept


def _overlap(boxes_a: Sequence, boxes_b: Sequence) -> float:
    if not len(boxes_a) or not len(boxes_b):
        return 0.0
    return float(iou_matrix(boxes_a[:1], boxes_b[:1])[0, 0])


def steps_table(summary: dict[str, Any]) -> str:
    """Write the results as lines of text."""
    lines = [f'{"":<10}' + ''.join(f'{key:>13}' for key in SHOWN)]
    for step, values in enumerate(summary['steps'], 1):
        lines.append(_row(f'step {step}', values))
    lines.append(_row('confident', summary['confident']))
    union = summary['union']
    lines.append(_row('union', union))
    lines.append(
        "confident: each image's most confident step; "
        'union: right at any step that was kept (the rule of the authors), no plain accuracy; '
        f'steps of several classes were kept in {union["several"]:.4f} of the images'
    )
    return '\n'.join(lines)


def _row(name: str, values: dict[str, Any]) -> str:
    cells = (values.get(key) for key in SHOWN)
    return f'{name:<10}' + ''.join(f'{"" if v is None else format(v, ".4f"):>13}' for v in cells)
