"""Localization of a data set of ImageNet's size: 50,000 images, 1,000 classes.

What is left beside the network: reading the annotations in each format, and what follows the last
image (joined logs, figures with their intervals, tables, gallery, page), from a log of made-up
results, with a classifier of one convolution for the gallery. Seconds are CPU time, all threads
together; memory is what the peak of the process grew by.

    python benchmarks/localization_scale.py [--images 50000] [--json FILE]
"""

import json
import resource
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from harness import machine, make_parser, positive, save
from PIL import Image
from torch import nn

from mmattn.localization.annotations import load_annotations
from mmattn.localization.api import center_baseline, how_made
from mmattn.localization.cards import make_cards
from mmattn.localization.classifiers import Classifier
from mmattn.localization.images import Preprocess
from mmattn.localization.localizer import Localizer, Settings
from mmattn.localization.report import write_report, write_summary
from mmattn.localization.results import LOG_NAME, ResultLog, RunInfo, collect, read_log
from mmattn.localization.structures import AnnotatedImage, AnnotationSet, ImageResult
from mmattn.localization.sweep import pack
from mmattn.localization.tables import write_class_csv, write_image_csv

CLASSES = 1000
HEADER = ['step', 'CPU seconds', 'memory, MB']
XML = (
    '<annotation><filename>{name}</filename><size><width>{w}</width><height>{h}</height></size>'
    '<object><name>{word}</name><bndbox><xmin>{x0}</xmin><ymin>{y0}</ymin><xmax>{x1}</xmax>'
    '<ymax>{y1}</ymax></bndbox></object></annotation>'
)


def write_set(root: Path, count: int) -> dict[str, Path]:
    """Write images and their annotations in four formats, ``{format: path}``."""
    images, xml = root / 'images', root / 'xml'
    images.mkdir()
    xml.mkdir()
    rng = np.random.default_rng(0)
    words = [f'n{label:08d}' for label in range(CLASSES)]
    (root / 'synsets.txt').write_text('\n'.join(words) + '\n')
    kinds = []
    for _ in range(64):  # contents that differ, encoded once each
        w, h = (int(v) for v in rng.integers(20, 40, 2))
        file = root / 'one.jpg'
        Image.fromarray(rng.integers(0, 255, (h, w, 3)).astype(np.uint8)).save(file)
        kinds.append((file.read_bytes(), w, h))
    rows, listed, coco = ['ImageId,PredictionString'], [], dict(images=[], annotations=[])
    for i in range(count):
        data, w, h = kinds[i % len(kinds)]
        name, label = f'val_{i:08d}', i % CLASSES
        x0, y0 = (int(v) for v in rng.integers(0, 8, 2))
        x1, y1 = x0 + w // 2, y0 + h // 2
        box = dict(x0=x0, y0=y0, x1=x1, y1=y1)
        (images / f'{name}.jpg').write_bytes(data)
        (xml / f'{name}.xml').write_text(XML.format(name=name, w=w, h=h, word=words[label], **box))
        rows.append(f'{name},{words[label]} {x0} {y0} {x1} {y1} ')
        boxes = [[x0, y0, x1, y1]]
        listed.append(dict(file=f'{name}.jpg', label=label, width=w, height=h, boxes=boxes))
        coco['images'].append(dict(id=i, file_name=f'{name}.jpg', width=w, height=h))
        box = [x0, y0, x1 - x0, y1 - y0]
        coco['annotations'].append(dict(id=i, image_id=i, category_id=label, bbox=box))
    coco['categories'] = [dict(id=label, name=word) for label, word in enumerate(words)]
    (root / 'val.csv').write_text('\n'.join(rows) + '\n')
    (root / 'coco.json').write_text(json.dumps(coco))
    (root / 'boxes.json').write_text(json.dumps(listed))
    files = dict(csv='val.csv', coco='coco.json', boxes='boxes.json')
    return dict(xml=xml, **{name: root / file for name, file in files.items()})


def make_classifier() -> Classifier:
    """Build one convolution, pooling and a linear layer: cells of 4 x 4 pixels."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 16, 4, 4),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, CLASSES),
    )
    return Classifier(model.eval(), Preprocess(input_size=(28, 28)), 'tiny')


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def write_log(work_dir: Path, images: Sequence[AnnotatedImage]) -> None:
    """Write what a run leaves: boxes that hit at some thresholds, for every image."""
    rng = np.random.default_rng(0)
    tops = rng.integers(1, 256, 64)
    bits = [tuple(pack(np.arange(256) < top * share) for share in (1, 0.8, 0.5)) for top in tops]
    work_dir.mkdir()
    with ResultLog(work_dir / LOG_NAME) as log:
        for start in range(0, len(images), 64):
            log.append(
                [
                    ImageResult(
                        image.key,
                        image.label,
                        tuple((image.label + shift + i % 2) % CLASSES for shift in range(5)),
                        float(tops[i % 64] / 256),
                        image.boxes_xyxy,
                        sweep=dict(v1=bits[i % 64], v2=bits[(i + 1) % 64]),
                        image_size=image.size,
                        score=0.5,
                        label_score=0.4,
                    )
                    for i, image in enumerate(images[start : start + 64], start)
                ]
            )


def finish(work_dir: Path, found: AnnotationSet) -> None:
    """Do what ``tools/localize.py`` does after the last image."""
    settings, classifier = Settings(), make_classifier()
    keys = [image.key for image in found.images]
    metrics, info = collect(work_dir, keys, settings, RunInfo())
    summary = dict(
        metrics.summary(),
        **how_made(classifier, settings, info),
        baseline=center_baseline(found.images),
        annotations='',
    )
    write_summary(work_dir, metrics, summary)
    results = (result for _, result in read_log(work_dir / LOG_NAME))
    write_image_csv(work_dir, results, found.classes, settings.iou_thr)
    write_class_csv(work_dir, metrics, found.classes)
    with Localizer(classifier, settings) as localizer:
        shown = info.hits + info.misses
        cards = make_cards(localizer, shown, found.images, found.classes, settings.iou_thr)
    write_report(work_dir, summary, cards, found.classes, metrics=metrics)


def measure(root: Path, count: int) -> list[list[Any]]:
    """One row a step: name, CPU seconds, MB."""
    paths = write_set(root, count)
    rows = []

    def timed(name: str, call: Callable[[], Any]) -> Any:
        before, start = peak_mb(), time.process_time()
        value = call()
        rows.append([name, time.process_time() - start, peak_mb() - before])
        return value

    for name, path in paths.items():
        synsets = root / 'synsets.txt' if name in ('xml', 'csv') else None
        read = partial(load_annotations, path, root / 'images', None, synsets, num_classes=CLASSES)
        found = timed(f'annotations, {name}', read)
        assert len(found.images) == count, found.problem_list()
    write_log(root / 'out', found.images)
    timed('after the last image', partial(finish, root / 'out', found))
    return rows


def main() -> None:
    """Run the benchmark."""
    parser = make_parser(__doc__, repeats=1)
    parser.add_argument('--images', type=positive, default=50000)
    args = parser.parse_args()
    print(f'{machine(args)}\n')
    with tempfile.TemporaryDirectory() as root:
        rows = measure(Path(root), args.images)
    save(args, f'Localization of {args.images} images', HEADER, rows)


if __name__ == '__main__':
    main()
