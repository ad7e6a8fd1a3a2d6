"""Boxes for images that have none: ``tools/localize.py MODEL --images DIR``."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from mmattn.core.text import write_text
from mmattn.data.sizes import first_size
from mmattn.localization.api import how_made
from mmattn.localization.cards import make_cards
from mmattn.localization.class_names import class_name, in_words
from mmattn.localization.classifiers import Classifier, count_classes
from mmattn.localization.drawing import draw, explain
from mmattn.localization.localizer import Localizer
from mmattn.localization.predict import label_images
from mmattn.localization.report import write_report
from mmattn.localization.results import LOG_NAME, RunPlan, read_log
from mmattn.localization.run import write_results
from mmattn.localization.structures import AnnotatedImage, ImageResult
from mmattn.localization.tables import write_box_csv

__all__ = ['annotate', 'annotated_table', 'as_coco']

BOXES_JSON, OVERLAYS = 'boxes.json', 'overlays'


def annotate(
    classifier: Classifier,
    paths: Sequence[Path],
    plan: RunPlan,
    label: int | None = None,
    overlays: int | None = None,
) -> dict[str, Any] | None:
    """Find the boxes of images without annotations and write all output into the plan's folder.

    Args:
        classifier: The network with its preprocessing.
        paths: Image files, each once.
        plan: How and where. Its folder gets ``boxes.json`` (COCO's format), ``boxes.csv``,
            ``overlays/``, ``per_image.jsonl``, ``summary.json`` and ``report.html``.
        label: Class to find the boxes of, or None for the best class of each image.
        overlays: Drawings to make, of the first images; None for all.

    Returns:
        The summary in the first process, None in the others.

    Raises:
        ValueError: No such class, or fewer than no drawings; see
            :func:`~mmattn.localization.run.write_results`.
    """
    if overlays is not None and overlays < 0:
        raise ValueError(f'overlays must be 0 or more, got {overlays}')
    settings = replace(plan.settings, sweep_step=0)  # there is nothing to hit
    work_dir, device = Path(plan.work_dir), plan.device
    classifier.model.to(device)
    num_classes = count_classes(classifier, device, first_size(paths))
    images = _by_relative_name(label_images(paths, label, num_classes))
    found = write_results(classifier, images, replace(plan, settings=settings))
    if found is None:
        return None
    metrics, info = found
    names = in_words(classifier.classes, num_classes)
    results = [result for _, result in read_log(work_dir / LOG_NAME)]
    write_text(work_dir / BOXES_JSON, json.dumps(as_coco(results, names, num_classes)) + '\n')
    write_box_csv(work_dir, results, names)
    best = Counter(result.label for result in results if result.error is None)
    summary = dict(
        how_made(classifier, settings, info),
        images=metrics.images,
        failed=metrics.failed,
        boxes=sum(len(result.boxes_xyxy) for result in results),
        classes={class_name(names, label): count for label, count in best.most_common()},
    )
    write_text(work_dir / 'summary.json', json.dumps(summary, indent=1) + '\n')
    with Localizer(classifier, settings, device) as localizer:
        readable = (result for result in results if result.error is None)
        by_key = {image.key: image for image in images}
        for result in islice(readable, overlays):
            file = work_dir / OVERLAYS / f'{result.key}.png'
            file.parent.mkdir(parents=True, exist_ok=True)
            draw(explain(localizer, by_key[result.key].path, result.label)[-1]).save(file)
        cards = make_cards(localizer, info.misses, images, names, settings.iou_thr)
    assumed = names != tuple(classifier.classes)
    write_report(work_dir, summary, cards, names, info.command, names_assumed=assumed)
    return summary


def _by_relative_name(images: Sequence[AnnotatedImage]) -> list[AnnotatedImage]:
    """Name images by their paths below the folder that holds them all."""
    absolute = [image.path.absolute() for image in images]
    root = os.path.commonpath([path.parent for path in absolute])
    keys = [path.relative_to(root).as_posix() for path in absolute]
    return [replace(image, key=key) for image, key in zip(images, keys)]


def as_coco(
    results: Sequence[ImageResult], names: Sequence[str], num_classes: int
) -> dict[str, list[dict[str, Any]]]:
    """Write boxes in COCO's format; what it returns is itself an annotation file.

    Categories are all of the classifier's, with ids from 1 in label order. An image that could not
    be read is left out.

    Args:
        results: One an image.
        names: Class names in label order; may be empty.
        num_classes: Number of classes of the classifier.
    """
    images, annotations = [], []
    for number, result in enumerate(results, 1):
        if result.error is not None:
            continue
        height, width = result.image_size
        images.append(dict(id=number, file_name=result.key, width=width, height=height))
        for x0, y0, x1, y1 in result.boxes_xyxy:
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=number,
                    category_id=result.label + 1,
                    bbox=[x0, y0, round(x1 - x0, 2), round(y1 - y0, 2)],
                    area=round((x1 - x0) * (y1 - y0), 2),
                    iscrowd=0,
                    score=round(result.label_score, 6),
                )
            )
    categories = [dict(id=i + 1, name=class_name(names, i)) for i in range(num_classes)]
    return dict(images=images, annotations=annotations, categories=categories)


def annotated_table(summary: dict[str, Any], shown: int = 10) -> str:
    """Write what was found as lines of text."""
    lines = [f'{summary["boxes"]} boxes in {summary["images"]} images']
    if summary['failed']:
        lines.append(f'{summary["failed"]} images could not be read')
    classes = list(summary['classes'].items())
    lines += [f'{count:>8}  {name}' for name, count in classes[:shown]]
    if len(classes) > shown:
        lines.append(f'{"":>8}  and {len(classes) - shown} more classes')
    return '\n'.join(lines)
