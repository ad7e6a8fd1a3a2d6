"""COCO evaluation of drawn detections: mmdet's metric, its FasterCocoMetric, mmattn.CocoMetric.

The detections are the ground truth moved at random, with wrong classes and false boxes among
them. The time is end to end: from the making of the metric, through all detections, to the
figures. The memory is the most that a process of its own held beyond what it held before.
A config uses the last one with the single line ``val_evaluator.type = 'mmattn.CocoMetric'`` (and
``test_evaluator.type``).

    python benchmarks/coco_eval.py [--images 5000] [--boxes 100] [--json FILE]
"""

import contextlib
import importlib.util
import io
import json
import os
import resource
import tempfile
from pathlib import Path

import numpy as np
import torch
from harness import interleave, machine, make_parser, positive, ratio, save
from mmdet.evaluation import CocoMetric, FasterCocoMetric
from mmengine.logging import MMLogger

from mmattn.evaluation.coco_metric import CocoMetric as OurCocoMetric

CLASSES, SIDE, TRUE_BOXES = 80, 640, 7  # COCO's val2017 has 7.3 boxes an image
FIGURES = [
    *('mAP', 'mAP_50', 'mAP_75', 'mAP_s', 'mAP_m', 'mAP_l'),
    *('AR@100', 'AR@300', 'AR@1000', 'AR_s@1000', 'AR_m@1000', 'AR_l@1000'),
]
HEADER = [
    *('metric', 'times as fast', 'seconds', 'peak memory (MiB)'),
    'largest difference of 12 figures',
]
PLAIN = "mmdet's CocoMetric"
KINDS = {
    PLAIN: CocoMetric,
    'FasterCocoMetric': FasterCocoMetric,
    'mmattn.CocoMetric': OurCocoMetric,
}


def write_annotations(path: Path, images: int, rng: np.random.Generator) -> np.ndarray:
    """Write a COCO file of random boxes and return them as (images, TRUE_BOXES, 5), label last."""
    corner = rng.uniform(0, SIDE * 0.7, (images, TRUE_BOXES, 2))
    size = np.minimum(rng.lognormal(4, 1, (images, TRUE_BOXES, 2)) + 4, SIDE - corner)
    labels = rng.integers(0, CLASSES, (images, TRUE_BOXES, 1))
    boxes = np.concatenate([corner, size, labels], 2)
    content = dict(
        images=[dict(id=i, width=SIDE, height=SIDE, file_name=f'{i}.jpg') for i in range(images)],
        categories=[dict(id=i, name=f'class {i}') for i in range(CLASSES)],
        annotations=[
            dict(
                id=i * TRUE_BOXES + j + 1,
                image_id=i,
                category_id=int(box[4]),
                bbox=box[:4].tolist(),
                area=float(box[2] * box[3]),
                iscrowd=0,
            )
            for i, row in enumerate(boxes)
            for j, box in enumerate(row)
        ],
    )
    path.write_text(json.dumps(content))
    return boxes


def detections(truth: np.ndarray, count: int, rng: np.random.Generator) -> list[dict]:
    """Return what a detector would hand to the metric, image by image."""
    samples = []
    for i, true in enumerate(truth):
        chosen = true[rng.integers(0, len(true), count)]
        xywh = chosen[:, :4] * rng.normal(1, 0.15, (count, 4)).clip(0.5, 1.5)
        labels = np.where(rng.random(count) < 0.3, rng.integers(0, CLASSES, count), chosen[:, 4])
        xyxy = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], 1)
        prediction = dict(
            bboxes=torch.tensor(xyxy, dtype=torch.float32),
            scores=torch.tensor(rng.random(count), dtype=torch.float32),
            labels=torch.tensor(labels, dtype=torch.long),
        )
        samples.append(dict(img_id=i, ori_shape=(SIDE, SIDE), pred_instances=prediction))
    return samples


def evaluate(kind: type, path: Path, samples: list[dict]) -> dict[str, float]:
    metric = kind(ann_file=str(path), metric='bbox', metric_items=FIGURES)
    metric.dataset_meta = dict(classes=[f'class {i}' for i in range(CLASSES)])
    metric.process({}, samples)
    return metric.evaluate(len(samples))


def peak_memory(form: str) -> float:
    """MiB that a forked process needs for a call, beyond what it shares with this one."""
    reader, writer = os.pipe()
    if not os.fork():
        status = 1
        with contextlib.suppress(Exception):
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            form()
            after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            os.write(writer, str((after - before) / 1024).encode())
            status = 0
        os._exit(status)
    os.close(writer)
    os.wait()
    with os.fdopen(reader) as file:
        return float(file.read() or 'nan')


def main() -> None:
    parser = make_parser(__doc__, repeats=1)
    parser.add_argument('--images', type=positive, default=5000)
    parser.add_argument('--boxes', type=positive, default=100, help='detections an image')
    args = parser.parse_args()
    print(f'{machine(args)}, {args.images} images with {args.boxes} detections each')
    MMLogger.get_instance('coco_eval', log_level='ERROR')
    rng = np.random.default_rng(0)
    kinds = dict(KINDS)
    if not importlib.util.find_spec('faster_coco_eval'):
        del kinds['FasterCocoMetric']
    found = {}
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        path = Path(folder) / 'boxes.json'
        samples = detections(write_annotations(path, args.images, rng), args.boxes, rng)

        def form(name: str):
            return lambda: found.__setitem__(name, evaluate(kinds[name], path, samples))

        # memory first: a process must not be split once hotcoco's threads are there
        memory = {name: peak_memory(form(name)) for name in kinds}
        times = interleave({name: form(name) for name in kinds}, args.repeats, warm_up=False)
    exact = found[PLAIN]
    rows = [
        [
            name,
            ratio(times, PLAIN, name),
            min(times[name]),
            round(memory[name]),
            max(abs(found[name][key] - exact[key]) for key in exact),
        ]
        for name in kinds
    ]
    save(args, 'COCO evaluation', HEADER, rows)


if __name__ == '__main__':
    main()
