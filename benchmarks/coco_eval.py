"""COCO evaluation of drawn detections: pycocotools beside faster-coco-eval, both through mmdet.

The detections are the ground truth moved at random, with wrong classes and false boxes among
them. A detector's config uses the fast one with the single line
``val_evaluator.type = 'FasterCocoMetric'`` (and ``test_evaluator.type``).

    python benchmarks/coco_eval.py [--pictures 5000] [--boxes 100] [--json FILE]
"""

import json
import tempfile
from pathlib import Path

import numpy as np
import torch
from harness import interleave, machine, make_parser, positive, ratio, save
from mmdet.evaluation import CocoMetric, FasterCocoMetric
from mmengine.logging import MMLogger

CLASSES, SIDE, TRUE_BOXES = 80, 640, 7  # COCO's val2017 has 7.3 boxes a picture
FIGURES = [
    *('mAP', 'mAP_50', 'mAP_75', 'mAP_s', 'mAP_m', 'mAP_l'),
    *('AR@100', 'AR@300', 'AR@1000', 'AR_s@1000', 'AR_m@1000', 'AR_l@1000'),
]
HEADER = ['metric', 'time to pycocotools', 'seconds', 'largest difference of 12 figures']


def write_annotations(path: Path, pictures: int, rng: np.random.Generator) -> np.ndarray:
    """A COCO file of random boxes; returns them as (pictures, TRUE_BOXES, 5), label last."""
    corner = rng.uniform(0, SIDE * 0.7, (pictures, TRUE_BOXES, 2))
    size = np.minimum(rng.lognormal(4, 1, (pictures, TRUE_BOXES, 2)) + 4, SIDE - corner)
    labels = rng.integers(0, CLASSES, (pictures, TRUE_BOXES, 1))
    boxes = np.concatenate([corner, size, labels], 2)
    content = dict(
        images=[
            dict(id=i, width=SIDE, height=SIDE, file_name=f'{i}.jpg') for i in range(pictures)
        ],
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
    """What a detector would hand to the metric, picture by picture."""
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


def main() -> None:
    parser = make_parser(__doc__, repeats=1)
    parser.add_argument('--pictures', type=positive, default=5000)
    parser.add_argument('--boxes', type=positive, default=100, help='detections a picture')
    args = parser.parse_args()
    print(f'{machine(args)}, {args.pictures} pictures with {args.boxes} detections each')
    MMLogger.get_instance('coco_eval', log_level='ERROR')
    rng = np.random.default_rng(0)
    kinds = {'pycocotools': CocoMetric, 'faster-coco-eval': FasterCocoMetric}
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / 'boxes.json'
        samples = detections(write_annotations(path, args.pictures, rng), args.boxes, rng)

        def form(name):
            return lambda: found.__setitem__(name, evaluate(kinds[name], path, samples))

        times = interleave({name: form(name) for name in kinds}, args.repeats, warm_up=False)
    exact = found['pycocotools']
    rows = [
        [
            name,
            ratio(times, name, 'pycocotools'),
            min(times[name]),
            max(abs(found[name][key] - exact[key]) for key in exact),
        ]
        for name in kinds
    ]
    save(args, 'COCO evaluation', HEADER, rows)


if __name__ == '__main__':
    main()
