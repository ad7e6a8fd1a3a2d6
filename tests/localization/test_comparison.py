"""Two runs beside each other."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mmattn.localization.comparison import check_other, compare_runs, compared_table
from mmattn.localization.metrics import LocalizationMetrics
from mmattn.localization.results import LOG_NAME, ResultLog
from mmattn.localization.structures import AnnotatedImage, ImageResult
from mmattn.localization.work_dir import images_of


def write_run(folder, ious, crc=7, broken=()):
    folder.mkdir()
    with ResultLog(folder / LOG_NAME) as log:
        for i, iou in enumerate(ious):
            error = 'cannot decode' if i in broken else None
            log.append([ImageResult(f'p{i}', 1, (1, 2), iou, ((0, 0, 5, 5),), error=error)])
    (folder / 'run.json').write_text(json.dumps(dict(images=len(ious), images_crc=crc)))
    summary = dict(model='net', cam='gradcam', rule=dict(name='gradcam-0.15'))
    (folder / 'summary.json').write_text(json.dumps(summary))
    return folder


def row_of(compared, key='gt_known'):
    return next(row for row in compared['rows'] if row['key'] == key)


def test_differences_and_their_paired_interval(tmp_path):
    ious = np.random.default_rng(0).random(60)
    better = ious + 0.2  # right wherever the other one is: 0 is outside the interval
    a, b = write_run(tmp_path / 'a', better.tolist()), write_run(tmp_path / 'b', ious.tolist())
    compared, kept = compare_runs(a, b, wanted={'p3', 'p9'})
    row = row_of(compared)
    expected = (better >= 0.5).mean() - (ious >= 0.5).mean()
    assert row['difference'] == pytest.approx(expected)
    assert row['interval'][0] > 0
    alone = []
    for values in (better, ious):
        metrics = LocalizationMetrics()
        for i, iou in enumerate(values):
            metrics.update(ImageResult(f'p{i}', 1, (1, 2), iou))
        alone.append(metrics.replicated()['gt_known'])
    np.testing.assert_allclose(row['interval'], np.percentile(alone[0] - alone[1], [2.5, 97.5]))
    assert {key: result.iou for key, result in kept.items()} == {'p3': ious[3], 'p9': ious[9]}
    assert row_of(compared, 'top1_cls')['interval'] == [0, 0]
    text = compared_table(compared)
    assert f'beside net (gradcam, gradcam-0.15) in {b}, the same 60 images:' in text
    assert f'gt_known        {row["value"]:>8.4f}{row["other"]:>8.4f}' in text


def test_an_image_that_one_run_cannot_read_is_left_out(tmp_path):
    a = write_run(tmp_path / 'a', [0.9, 0.9, 0.1])
    b = write_run(tmp_path / 'b', [0.9, 0.1, 0.1], broken=[1])
    compared, _ = compare_runs(a, b)
    assert compared['images'] == 2
    assert row_of(compared)['difference'] == 0


def test_what_is_no_run_over_the_same_images_is_refused(tmp_path):
    a = write_run(tmp_path / 'a', [0.9, 0.1])
    with pytest.raises(
        ValueError, match=r'compare must be the work dir of a finished run, got .*/no'
    ):
        check_other(tmp_path / 'no', [])
    with pytest.raises(ValueError, match='the same boxes, got .*images_crc is 8, here it is 7'):
        compare_runs(a, write_run(tmp_path / 'b', [0.9, 0.1], crc=8))
    mixed = write_run(tmp_path / 'c', [0.9, 0.1])
    lines = (mixed / LOG_NAME).read_text().splitlines(keepends=True)
    (mixed / LOG_NAME).write_text(''.join(lines[::-1]))
    with pytest.raises(ValueError, match='in another order'):
        compare_runs(a, mixed)
    (mixed / LOG_NAME).write_text(lines[0])
    with pytest.raises(ValueError, match='has another number of images'):
        compare_runs(a, mixed)


def test_the_images_are_compared_before_the_run(tmp_path):
    images = [AnnotatedImage('p0', Path('p0'), 1), AnnotatedImage('p1', Path('p1'), 1)]
    other = write_run(tmp_path / 'a', [0.9, 0.1], crc=images_of(images)['images_crc'])
    check_other(other, images)
    with pytest.raises(ValueError, match='the same boxes, got .*images is 2, here it is 1'):
        check_other(other, images[:1])
    with pytest.raises(ValueError, match='the same boxes, got .*images_crc is '):
        check_other(other, [images[0], replace(images[1], boxes_xyxy=((0, 0, 5, 5),))])


@pytest.mark.parametrize('name', ['run.json', 'summary.json'])
@pytest.mark.parametrize('text', ['{}', '[]', 'null'])
def test_files_of_something_else_are_no_run(tmp_path, name, text):
    other = write_run(tmp_path / 'a', [0.9])
    (other / name).write_text(text)
    with pytest.raises(ValueError, match='its run.json or summary.json is of something else'):
        check_other(other, [])
