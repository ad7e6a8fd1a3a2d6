"""Random sets of boxes and masks: crowds, images without objects, categories out of order."""

import json
from pathlib import Path

import numpy as np
import torch
from pycocotools import mask as rle

SIDES = (240, 320)
# ids neither in order nor dense; 'unused' is in the file and not among the classes
CATEGORIES = (
    dict(id=9, name='cat'),
    dict(id=2, name='unused'),
    dict(id=5, name='dog'),
    dict(id=1, name='owl'),
)
CLASSES = ('cat', 'dog', 'owl')


def encode(box) -> dict:
    """The run lengths of a box without its lower left corner."""
    x, y, w, h = (float(side) for side in box)
    shape = [x, y, x + w, y, x + w, y + h, x + w / 2, y + h]
    (mask,) = rle.frPyObjects([shape], *SIDES)
    return dict(size=list(mask['size']), counts=mask['counts'].decode())


def write_truth(path: Path, images: int, rng: np.random.Generator, objects: int = 6) -> dict:
    """A COCO file; a fifth of its images hold no object, a sixth of its objects are crowds."""
    ids = rng.permutation(3 * images)[:images].tolist()
    annotations = []
    for image in ids[images // 5 :]:
        for _ in range(rng.integers(1, objects)):
            corner, size = (
                rng.uniform(0, 80, 2),
                np.exp(rng.uniform(2, 5) + rng.uniform(0, 0.1, 2)),
            )
            box = [*corner.tolist(), *size.tolist()]  # 7 to 160 pixels: small, medium and large
            crowd = int(rng.random() < 1 / 6)
            mask = encode(box)
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=image,
                    category_id=int(rng.choice([9, 2, 5])),  # no owl anywhere
                    bbox=box,
                    area=float(rle.area(dict(mask, counts=mask['counts'].encode()))),
                    iscrowd=crowd,
                    segmentation=mask,
                )
            )
    content = dict(
        images=[dict(id=i, height=SIDES[0], width=SIDES[1], file_name=f'{i}.jpg') for i in ids],
        categories=list(CATEGORIES),
        annotations=annotations,
    )
    path.write_text(json.dumps(content))
    return content


def samples(content: dict, rng: np.random.Generator, copies: int = 4, masks: bool = True) -> list:
    """What a detector hands over: moved boxes, wrong classes, equal scores, images with none."""
    labels = {9: 0, 5: 1, 2: 2}
    found = []
    for number, image in enumerate(content['images']):
        own = [one for one in content['annotations'] if one['image_id'] == image['id']] * copies
        own = own if number % 7 else []
        boxes = np.array([one['bbox'] for one in own]).reshape(-1, 4)
        boxes = boxes + rng.normal(0, 3, boxes.shape) * (rng.random((len(boxes), 1)) < 0.8)
        boxes[:, 2:] = boxes[:, 2:].clip(2)
        right = np.array([labels[one['category_id']] for one in own], int)
        wrong = rng.integers(0, 3, len(own))
        instances = dict(
            bboxes=torch.tensor(np.c_[boxes[:, :2], boxes[:, :2] + boxes[:, 2:]]).float(),
            scores=torch.tensor(rng.random(len(own)).round(2)).float(),
            labels=torch.tensor(np.where(rng.random(len(own)) < 0.3, wrong, right)),
        )
        if masks:
            instances['masks'] = [encode(box) for box in boxes]
        # an image's own boxes, as a pipeline hands them over without an annotation file
        truth = [
            dict(
                bbox=[x, y, x + w, y + h],
                bbox_label=labels[one['category_id']],
                ignore_flag=one['iscrowd'],
            )
            for one in own[: len(own) // copies]
            for x, y, w, h in [one['bbox']]
        ]
        found.append(
            dict(
                img_id=image['id'],
                ori_shape=SIDES,
                pred_instances=instances,
                instances=truth,
            )
        )
    return found
