"""The sheet of predictions and the curves."""

import json

import cv2
import numpy as np
import pytest
import torch

from mmattn.analysis.sheets import draw_curves, draw_sheet, overlap, surest, truth_of


@pytest.mark.parametrize(
    'a, b, expected',
    [
        ([0, 0, 2, 2], [0, 0, 2, 2], 1),
        ([0, 0, 2, 2], [1, 1, 3, 3], 1 / 7),
        ([0, 0, 2, 2], [2, 0, 4, 2], 0),
    ],
    ids=['same', 'one of seven', 'touching'],
)
def test_overlap(a, b, expected):
    assert overlap(a, b) == pytest.approx(expected)


def test_only_the_surest_prediction_of_a_place_is_drawn():
    boxes = [[0, 0, 10, 10], [1, 0, 10, 10], [20, 20, 30, 30], [50, 50, 60, 60]]
    found = dict(
        labels=torch.tensor([1, 2, 3, 4]),
        bboxes=torch.tensor(boxes),
        scores=torch.tensor([0.5, 0.75, 0.5, 0.25]),
    )
    kept = surest(found)
    assert [(label, score) for label, _, score in kept] == [(2, 0.75), (3, 0.5)]


@pytest.fixture
def scene(tmp_path):
    """An image of one object, and its COCO file."""
    cv2.imwrite(str(tmp_path / 'a.png'), np.full((40, 40, 3), 200, np.uint8))
    content = dict(
        images=[dict(id=7, file_name='a.png', width=40, height=40)],
        annotations=[dict(id=1, image_id=7, category_id=2, bbox=[4, 6, 10, 20])],
        categories=[dict(id=1, name='one'), dict(id=2, name='two')],
    )
    (tmp_path / 'a.json').write_text(json.dumps(content))
    return tmp_path


def test_truth(scene):
    assert truth_of(scene / 'a.json') == ({7: [(1, [4, 6, 14, 26])]}, ['one', 'two'])


def colours(file):
    """Which of matplotlib's green and red are in a drawing."""
    image = cv2.imread(str(file))[..., ::-1].astype(int)
    named = dict(green=(44, 160, 44), red=(214, 39, 40))
    return {name for name, rgb in named.items() if (abs(image - rgb).max(2) < 12).any()}


@pytest.mark.parametrize(
    'label, box, colour',
    [
        (1, [4, 6, 14, 26], 'green'),
        (0, [4, 6, 14, 26], 'red'),
        (1, [20, 6, 30, 26], 'red'),
    ],
    ids=['right', 'wrong class', 'wrong place'],
)
def test_right_predictions_are_green(scene, label, box, colour):
    found = dict(
        labels=torch.tensor([label]),
        bboxes=torch.tensor([box]),
        scores=torch.tensor([0.9]),
    )
    prediction = dict(img_path=str(scene / 'a.png'), img_id=7, pred_instances=found)
    draw_sheet(scene / 'sheet.png', scene / 'a.json', [prediction])
    assert colours(scene / 'sheet.png') == {colour}


def test_curves(tmp_path):
    curves = {'loss': [(1, 3.0), (2, 1.0)], 'coco/bbox_mAP': [(1, 0.2)]}
    draw_curves(tmp_path / 'a.png', curves, dict(AP=0.4, AP50=0.6))
    draw_curves(tmp_path / 'b.png', curves, dict(AP=0.1, AP50=0.6))
    first, second = (cv2.imread(str(tmp_path / f'{name}.png')) for name in 'ab')
    half = first.shape[1] // 2
    assert (first[:, : half - 20] == second[:, : half - 20]).all()
    assert (first[:, half:] != second[:, half:]).any()


@pytest.mark.parametrize('box, expected', [([4, 6, 14, 26], False), ([20, 6, 30, 26], True)])
def test_missed_objects_are_marked(scene, box, expected):
    found = dict(labels=torch.tensor([1]), bboxes=torch.tensor([box]), scores=torch.tensor([0.9]))
    prediction = dict(img_path=str(scene / 'a.png'), img_id=7, pred_instances=found)
    draw_sheet(scene / 'sheet.png', scene / 'a.json', [prediction])
    orange = abs(cv2.imread(str(scene / 'sheet.png'))[..., ::-1].astype(int) - (255, 127, 14))
    assert (orange.max(2) < 12).any() == expected
