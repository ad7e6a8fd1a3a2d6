"""Tables for a spreadsheet."""

import csv
import os
from functools import partial

import pytest

from mmattn.localization.metrics import LocalizationMetrics
from mmattn.localization.structures import ImageResult
from mmattn.localization.tables import write_box_csv, write_class_csv, write_image_csv

NAMES = ('cat', 'dog, wolf')
RESULTS = [
    ImageResult('a.jpg', 1, (1, 0), 0.75, ((1, 2, 3.5, 4),), score=0.9),
    ImageResult('ä, b.jpg', 0, (1, 0), 0.25, ((1, 2, 3, 4), (0, 0, 9, 9)), score=0.5),
    ImageResult('c.jpg', 3, error='cannot decode'),
]


def read(path):
    return list(csv.reader(path.open(newline='', encoding='utf-8')))


def test_one_row_an_image(tmp_path):
    write_image_csv(tmp_path, iter(RESULTS), NAMES, 0.5)
    columns = ['image', 'class', 'best_class', 'score', 'iou', 'box_right', 'class_right', 'boxes']
    assert read(tmp_path / 'per_image.csv') == [
        columns,
        ['a.jpg', 'dog, wolf', 'dog, wolf', '0.9000', '0.7500', '1', '1', '1 2 3.5 4'],
        ['ä, b.jpg', 'cat', 'dog, wolf', '0.5000', '0.2500', '0', '0', '1 2 3 4; 0 0 9 9'],
        ['c.jpg', 'class 3', '', '', '', '', '', ''],
    ]


def test_the_threshold_decides_what_is_right(tmp_path):
    write_image_csv(tmp_path, RESULTS, NAMES, 0.8)
    assert [row[5] for row in read(tmp_path / 'per_image.csv')[1:]] == ['0', '0', '']


@pytest.mark.parametrize('write', [partial(write_image_csv, iou_thr=0.5), write_box_csv])
def test_a_name_that_is_not_utf8_stays_as_its_bytes(tmp_path, write):
    name = os.fsdecode(b'\xe4.jpg')
    write(tmp_path, [ImageResult(name, 1, (1,), 0.75, ((1, 2, 3, 4),))], names=NAMES)
    (file,) = tmp_path.iterdir()
    assert file.read_bytes().splitlines()[1].startswith(b'\xe4.jpg,')


def test_one_row_a_class(tmp_path):
    metrics = LocalizationMetrics(replicates=0)
    for result in RESULTS:
        metrics.update(result)
    write_class_csv(tmp_path, metrics, NAMES)
    rows = read(tmp_path / 'per_class.csv')
    assert rows[0][:4] == ['label', 'name', 'images', 'top1_cls']
    assert rows[1] == ['0', 'cat', '1', '0.0', '1.0', '0.0', '0.0', '0.0']
    assert rows[2][1:3] == ['dog, wolf', '1']
    assert len(rows) == 3
