"""One evaluation from end to end; the command line and the demo use it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging import print_log

from mmattn.core.names import distinct_names
from mmattn.core.version import __version__
from mmattn.data.sizes import first_size
from mmattn.localization.cards import make_cards
from mmattn.localization.class_names import class_name, in_words
from mmattn.localization.classifiers import Classifier, count_classes
from mmattn.localization.comparison import check_other, compare_runs, compared_table
from mmattn.localization.drawing import draw, explain
from mmattn.localization.localizer import Localizer, Settings
from mmattn.localization.report import write_curves_png, write_report, write_summary
from mmattn.localization.results import LOG_NAME, RunInfo, RunPlan, read_log
from mmattn.localization.run import write_results
from mmattn.localization.structures import AnnotatedImage, AnnotationSet
from mmattn.localization.sweep import iou_matrix
from mmattn.localization.tables import write_class_csv, write_image_csv

__all__ = [
    'center_baseline',
    'check_label',
    'check_labels',
    'evaluate',
    'how_made',
    'show',
    'table',
]

SHOWN = ('top1_loc', 'top5_loc', 'gt_known', 'max_box_acc', 'max_box_acc_v2')


def evaluate(
    classifier: Classifier,
    annotations: AnnotationSet,
    plan: RunPlan,
) -> dict[str, Any] | None:
    """Score a classifier's boxes and write all output into the plan's folder.

    Args:
        classifier: The network with its preprocessing.
        annotations: The images and their true boxes.
        plan: How and where. Its folder gets ``summary.json``, ``per_image.jsonl``,
            ``curves.json``, ``curves.png`` and ``report.html``, and the tables ``per_image.csv``
            and ``per_class.csv``.

    Returns:
        The summary in the first process, None in the others.

    Raises:
        ValueError: The run to compare with is none over these images; see :func:`check_labels`
            and :func:`~mmattn.localization.run.write_results`.
    """
    if plan.info.compare is not None:
        check_other(plan.info.compare, annotations.images)
    settings, work_dir, device = plan.settings, plan.work_dir, plan.device
    classifier.model.to(device)
    images = annotations.images
    num_classes = count_classes(classifier, device, first_size(i.path for i in images))
    check_labels(annotations, num_classes)
    found = write_results(classifier, images, plan)
    if found is None:
        return None
    metrics, info = found
    summary = dict(
        metrics.summary(),
        **how_made(classifier, settings, info),
        problems=annotations.problem_counts(),
        baseline=center_baseline(images, settings.iou_thr),
        annotations=info.annotations,
    )
    drawn = info.hits + info.misses
    others = {}
    if info.compare is not None:
        summary['compared'], others = compare_runs(
            work_dir,
            info.compare,
            settings.iou_thr,
            settings.sweep_step,
            {result.key for result in drawn},
        )
    write_summary(work_dir, metrics, summary)
    known = annotations.classes or classifier.classes
    names = in_words(known, num_classes)
    if metrics.swept:
        write_curves_png(work_dir, metrics)
    results = (result for _, result in read_log(Path(work_dir) / LOG_NAME))
    write_image_csv(work_dir, results, names, settings.iou_thr)
    write_class_csv(work_dir, metrics, names)
    with Localizer(classifier, settings, device) as localizer:
        cards = make_cards(localizer, drawn, images, names, settings.iou_thr, others)
    write_report(
        work_dir, summary, cards, names, info.command, metrics, names_assumed=names != tuple(known)
    )
    return summary


def how_made(classifier: Classifier, settings: Settings, info: RunInfo) -> dict[str, Any]:
    """Give the part of a summary that says where results come from."""
    return dict(
        model=classifier.name,
        cam=settings.cam,
        rule=asdict(settings.rule),
        input=str(classifier.preprocess),
        preprocess=asdict(classifier.preprocess),
        version=__version__,
        weights=info.weights,
        fused=info.fused,
        target_layer=list(info.target_layers),
        closed_form=info.closed_form,
        failures=[dict(key=k, error=e) for k, e in info.failures[:50]],
    )


def check_label(label: int | None, num_classes: int) -> None:
    """Check the class that a user asks for; None is the best one of each image.

    Raises:
        ValueError: No such class.
        TypeError: The label is no integer.
    """
    if label is None:
        return
    if not isinstance(label, int) or isinstance(label, bool):
        raise TypeError(f'label must be an integer or None, got {label!r}')
    if not 0 <= label < num_classes:
        raise ValueError(f'label must be 0 to {num_classes - 1}, got {label}')


def check_labels(annotations: AnnotationSet, num_classes: int) -> None:
    """Compare the annotations' classes with the classifier's.

    Raises:
        ValueError: Another number of classes, or a label outside them.
    """
    if annotations.classes and len(annotations.classes) != num_classes:
        first = ', '.join(map(str, annotations.classes[:3]))
        more = ', ...' if len(annotations.classes) > 3 else ''
        raise ValueError(
            f'the classifier has {num_classes} classes and the annotations have labels for '
            f'{len(annotations.classes)} ({first}{more}): they must be the same classes in the '
            'same order'
        )
    for image in annotations.images:
        if not 0 <= image.label < num_classes:
            raise ValueError(
                f'the classifier has {num_classes} classes, so labels are 0 to '
                f'{num_classes - 1}, but {image.key} has label {image.label}'
            )


def center_baseline(
    images: Sequence[AnnotatedImage], iou_thr: float = 0.5
) -> dict[str, float] | None:
    """Score one box for all images: average relative size, centre of the image.

    Returns:
        ``{'gt_known': fraction, 'width': ..., 'height': ...}`` (relative), or None where no
        image's size is known.
    """
    relative = [
        np.asarray(p.boxes_xyxy, np.float64) / np.tile(p.size[::-1], 2) for p in images if p.size
    ]
    if not relative:
        return None
    every = np.concatenate(relative)
    width, height = (every[:, 2:] - every[:, :2]).mean(0).tolist()
    box = [[0.5 - width / 2, 0.5 - height / 2, 0.5 + width / 2, 0.5 + height / 2]]
    hits = [iou_matrix(box, boxes).max() >= iou_thr for boxes in relative]
    return dict(gt_known=float(np.mean(hits)), width=width, height=height)


def table(summary: dict[str, Any]) -> str:
    """Write the results as lines of text."""
    lines = [f'{"metric":<16}{"value":>8}   95 % interval   best threshold']
    for key in (*SHOWN, 'top1_cls', 'top5_cls'):
        if summary.get(key) is None:
            continue
        low, high = summary['interval_95'].get(key, (float('nan'),) * 2)
        best = summary['best_threshold'].get(key, '')
        best = ', '.join(f'{k}: {v}' for k, v in best.items()) if isinstance(best, dict) else best
        lines.append(f'{key:<16}{summary[key]:>8.4f}   {low:.3f} - {high:.3f}   {best}')
    lines.append(f'images          {summary["images"]:>8}')
    if summary['failed']:
        lines.append(f'unreadable      {summary["failed"]:>8}')
    if summary.get('baseline'):
        lines.append(f'centre box      {summary["baseline"]["gt_known"]:>8.4f}   (gt_known)')
    if summary.get('compared'):
        lines += ['', compared_table(summary['compared'])]
    return '\n'.join(lines)


def show(
    classifiers: Sequence[Classifier],
    paths: Sequence[str | Path],
    settings: Settings,
    work_dir: str | Path,
    device: torch.device | str = 'cpu',
    label: int | None = None,
    steps: str | None = None,
) -> list[tuple[Path, str, float, tuple]]:
    """Draw images with map and box, no annotations needed.

    Args:
        classifiers: One, or one for each step of a network; their maps lie side by side in one
            drawing.
        paths: Image files.
        settings: What decides maps and boxes.
        work_dir: Folder for the drawings.
        device: Where the network runs.
        label: Class to explain, or None for the best one.
        steps: Overrides ``settings.steps``; ``'all'`` draws every call of the target layer.

    Returns:
        ``[(drawing's path, class name, probability, boxes)]``, one entry for each step.

    Raises:
        ValueError: An image cannot be decoded, an unknown label, or an unwritable folder.
    """
    count = count_classes(classifiers[0], device, first_size(paths))
    check_label(label, count)
    try:
        Path(work_dir).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f'work dir {work_dir} cannot be written: {error}') from error
    overlays: dict = {path: [] for path in paths}  # each file once
    for classifier in classifiers:  # one after the other: they share hooks on one network
        with Localizer(classifier, settings, device, steps=steps) as localizer:
            for path in overlays:
                overlays[path] += explain(localizer, path, label)
            layers = ', '.join(localizer.maps.names)
    print_log(f'layer {layers}; input: {classifiers[0].preprocess}', 'current')
    drawn = []
    names = in_words(classifiers[0].classes, count)
    for stem, each in zip(distinct_names(overlays), overlays.values()):
        several = '_steps' if len(each) > 1 else ''
        file = Path(work_dir) / f'{stem}{several}_{settings.cam}.png'
        draw(*each).save(file)
        for step, overlay in enumerate(each, 1):
            name = class_name(names, overlay.label)
            name = f'step {step}, {name}' if several else name
            drawn.append((file, name, overlay.score, overlay.boxes_xyxy))
    return drawn
