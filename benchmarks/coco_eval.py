"""COCO evaluation of drawn detections: mmdet's metric, its FasterCocoMetric, mmattn.CocoMetric.

The detections are the ground truth moved at random, with wrong classes and false boxes among
them. The time is end to end: from the making of the metric, through all detections, to the
figures; on a machine with other work the processor time, of all threads, is the surer figure. The
memory is the most that a process of its own held beyond what it held before. With
``--processes`` a second table has the same evaluation with the images spread over so many, each
gathering in its own way (mmdet through files, mmattn in memory).
A config uses the last one with the single line ``val_evaluator.type = 'mmattn.CocoMetric'`` (and
``test_evaluator.type``).

    python benchmarks/coco_eval.py [--images 5000] [--boxes 100] [--metric segm] [--classwise]
"""

import argparse
import contextlib
import importlib.util
import io
import json
import math
import os
import resource
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from harness import interleave, machine, make_parser, positive, ratio, save
from mmdet.evaluation import CocoMetric, FasterCocoMetric
from mmengine.logging import MMLogger
from pycocotools import mask as rle

from mmattn.evaluation.coco_metric import CocoMetric as OurCocoMetric

CLASSES, SIDE, TRUE_BOXES = 80, 640, 7  # COCO's val2017 has 7.3 boxes an image
FIGURES = [
    *('mAP', 'mAP_50', 'mAP_75', 'mAP_s', 'mAP_m', 'mAP_l'),
    *('AR@100', 'AR@300', 'AR@1000', 'AR_s@1000', 'AR_m@1000', 'AR_l@1000'),
]
HEADER = [
    *('metric', 'times as fast', 'seconds', 'CPU seconds', 'peak memory (MiB)'),
    'largest difference',
]
PLAIN = "mmdet's CocoMetric"
KINDS = {
    PLAIN: CocoMetric,
    'FasterCocoMetric': FasterCocoMetric,
    'mmattn.CocoMetric': OurCocoMetric,
}


def write_annotations(
    path: Path, images: int, rng: np.random.Generator, masks: bool = False
) -> np.ndarray:
    """Write a COCO file of random boxes and return them as (images, TRUE_BOXES, 5), label last."""
    corner = rng.uniform(0, SIDE * 0.7, (images, TRUE_BOXES, 2))
    size = np.minimum(rng.lognormal(4, 1, (images, TRUE_BOXES, 2)) + 4, SIDE - corner)
    labels = rng.integers(0, CLASSES, (images, TRUE_BOXES, 1))
    boxes = np.concatenate([corner, size, labels], 2)
    annotations = []
    for i, row in enumerate(boxes):
        shapes = encode(row[:, :4]) if masks else [None] * len(row)
        for box, shape in zip(row, shapes):
            one = dict(id=len(annotations) + 1, image_id=i, category_id=int(box[4]), iscrowd=0)
            one.update(bbox=box[:4].tolist(), area=float(box[2] * box[3]))
            if masks:
                one.update(area=float(rle.area(shape)))
                one.update(segmentation=dict(shape, counts=shape['counts'].decode()))
            annotations.append(one)
    content = dict(
        images=[dict(id=i, width=SIDE, height=SIDE, file_name=f'{i}.jpg') for i in range(images)],
        categories=[dict(id=i, name=f'class {i}') for i in range(CLASSES)],
        annotations=annotations,
    )
    path.write_text(json.dumps(content))
    return boxes


def encode(boxes: np.ndarray) -> list[dict]:
    """Return run lengths of the diamond in each box ``x, y, width, height``."""
    x, y, w, h = boxes.T
    corners = np.stack([x + w / 2, y, x + w, y + h / 2, x + w / 2, y + h, x, y + h / 2], 1)
    return rle.frPyObjects(corners.tolist(), SIDE, SIDE)


def detections(
    truth: np.ndarray, count: int, rng: np.random.Generator, masks: bool = False
) -> list[dict]:
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
        if masks:
            prediction['masks'] = encode(xywh)
        samples.append(dict(img_id=i, ori_shape=(SIDE, SIDE), pred_instances=prediction))
    return samples


def evaluate(
    kind: type,
    path: Path,
    samples: list[dict],
    metric: str = 'bbox',
    classwise: bool = False,
    images: int | None = None,
) -> dict[str, float]:
    """Run a metric from its making to its figures; of all ``images`` these may be a share."""
    made = kind(ann_file=str(path), metric=metric, metric_items=FIGURES, classwise=classwise)
    made.dataset_meta = dict(classes=[f'class {i}' for i in range(CLASSES)])
    made.process({}, samples)
    return made.evaluate(images or len(samples))


def largest_difference(found: dict[str, float], exact: dict[str, float]) -> float:
    """Of all figures; those of a class without objects are nan in both."""
    pairs = [(found[key], exact[key]) for key in exact]
    return max(0.0 if math.isnan(a) and math.isnan(b) else abs(a - b) for a, b in pairs)


def peak_memory(form: Callable[[], object]) -> float:
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


def draw(folder: str, args: argparse.Namespace) -> tuple[Path, list[dict]]:
    """Return the annotations' file and the detections, the same in every process."""
    path, rng, masks = Path(folder) / 'boxes.json', np.random.default_rng(0), args.metric == 'segm'
    truth = write_annotations(path, args.images, rng, masks)
    return path, detections(truth, args.boxes, rng, masks)


def measure(
    kinds: dict, path: Path, samples: list[dict], args: argparse.Namespace, memory: bool
) -> list[list]:
    """Return the rows of a table; ``samples`` are this process's share."""
    found, seconds = {}, {name: [] for name in kinds}
    options = dict(metric=args.metric, classwise=args.classwise, images=args.images)

    def run(name: str) -> None:
        start = time.process_time()
        found[name] = evaluate(kinds[name], path, samples, **options)
        seconds[name].append(time.process_time() - start)

    forms = {name: partial(run, name) for name in kinds}
    # memory first: a process must not be split once hotcoco's threads are there
    peaks = {name: peak_memory(form) for name, form in forms.items()} if memory else None
    times = interleave(forms, args.repeats, warm_up=False)
    return [
        [
            name,
            ratio(times, PLAIN, name),
            min(times[name]),
            min(seconds[name]),
            round(peaks[name]) if peaks else '-',
            largest_difference(found[name], found[PLAIN]),
        ]
        for name in kinds
    ]


def one_of_several(rank: int, folder: str, kinds: dict, args: argparse.Namespace) -> None:
    """Evaluate with a share of the images; the first process writes the table."""
    torch.set_num_threads(args.threads)
    os.chdir(folder)  # where mmdet's way of gathering leaves a folder
    torch.distributed.init_process_group(
        'gloo', init_method=f'file://{folder}/store', rank=rank, world_size=args.processes
    )
    MMLogger.get_instance('coco_eval', log_level='ERROR')
    own = Path(folder) / str(rank)
    own.mkdir()
    path, samples = draw(own, args)
    torch.distributed.barrier()
    with contextlib.redirect_stdout(io.StringIO()):
        rows = measure(kinds, path, samples[rank :: args.processes], args, memory=False)
    if rank == 0:
        (Path(folder) / 'rows.json').write_text(json.dumps(rows))
    torch.distributed.destroy_process_group()


def main() -> None:
    parser = make_parser(__doc__, repeats=1)
    parser.add_argument('--images', type=positive, default=5000)
    parser.add_argument('--boxes', type=positive, default=100, help='detections an image')
    parser.add_argument('--metric', choices=('bbox', 'segm'), default='bbox')
    parser.add_argument('--classwise', action='store_true', help='also a figure for each class')
    parser.add_argument('--processes', type=positive, default=1, help='for a second table')
    args = parser.parse_args()
    print(f'{machine(args)}, {args.images} images with {args.boxes} detections each')
    MMLogger.get_instance('coco_eval', log_level='ERROR')
    kinds = dict(KINDS)
    if not importlib.util.find_spec('faster_coco_eval'):
        del kinds['FasterCocoMetric']
    title = f'COCO evaluation, {args.metric}{", classwise" if args.classwise else ""}'
    with tempfile.TemporaryDirectory() as folder:
        with contextlib.redirect_stdout(io.StringIO()):
            rows = measure(kinds, *draw(folder, args), args, memory=True)
        save(args, title, HEADER, rows)
        if args.processes > 1:
            torch.multiprocessing.spawn(
                one_of_several, (folder, kinds, args), nprocs=args.processes
            )
            rows = json.loads((Path(folder) / 'rows.json').read_text())
            print()
            save(args, f'{title}, {args.processes} processes', HEADER, rows)


if __name__ == '__main__':
    main()
