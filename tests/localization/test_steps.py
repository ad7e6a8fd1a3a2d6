"""Every step of a top-down network: the authors' rule by hand, and the tool as a user runs it."""

import json

import pytest
import torch
from PIL import Image
from torch import nn

from mmattn.localization.results import LOG_NAME, ResultLog
from mmattn.localization.steps import confident_step, keep_apart, union_of_steps
from mmattn.localization.structures import ImageResult
from tests.localization.data import boxes_json
from tests.localization.test_tool import call

LEFT, RIGHT = [[0, 0, 10, 10]], [[20, 0, 30, 10]]
ALMOST_LEFT = [[0, 0, 10, 8]]  # IoU 0.8 with LEFT
HALF_LEFT = [[0, 0, 10, 5]]  # IoU 0.5: not above


@pytest.mark.parametrize(
    ('guesses', 'kept'),
    [
        pytest.param([(0.9, LEFT), (0.5, RIGHT)], [0, 1], id='apart'),
        pytest.param([(0.9, LEFT), (0.5, ALMOST_LEFT)], [0, 0], id='first-surer'),
        pytest.param([(0.4, LEFT), (0.5, ALMOST_LEFT)], [1, 1], id='second-surer'),
        pytest.param([(0.4, LEFT), (0.5, HALF_LEFT)], [0, 1], id='exactly-half'),
        pytest.param([(0.4, LEFT), (0.5, [])], [0, 1], id='no-box'),
        pytest.param([(0.4, LEFT), (0.5, RIGHT), (0.6, ALMOST_LEFT)], [2, 1, 2], id='three'),
        pytest.param([(0.4, LEFT), (0.5, [*RIGHT, *LEFT])], [0, 1], id='first-box-counts'),
    ],
)
def test_the_authors_rule(guesses, kept):
    assert keep_apart(guesses) == kept


def result(key, best, score, box, iou=0.0):
    """One step's result; the true class is 1, the other of the two best is 3 - best."""
    return ImageResult(
        key,
        label=1,
        top5=(best, 3 - best),
        score=score,
        iou=iou,
        class_ious=(iou, 0.0),
        class_boxes=(box, LEFT),
    )


def write_steps(root, *steps):
    folders = []
    for number, results in enumerate(steps, 1):
        folders.append(root / f'step_{number}')
        folders[-1].mkdir()
        with ResultLog(folders[-1] / LOG_NAME) as log:
            log.append(results)
    return folders


def test_union_by_hand(tmp_path):
    folders = write_steps(
        tmp_path,
        [
            result('right first, elsewhere later', 1, 0.6, LEFT, 0.4),
            result('the surer one is wrong', 1, 0.3, LEFT, 0.9),
            result('right and hits', 2, 0.3, LEFT),
            result('never right', 2, 0.3, LEFT),
            ImageResult('broken', 1, error='no image'),
        ],
        [
            result('right first, elsewhere later', 2, 0.9, RIGHT),
            result('the surer one is wrong', 2, 0.9, ALMOST_LEFT),
            result('right and hits', 1, 0.4, ALMOST_LEFT, 0.8),
            result('never right', 2, 0.5, RIGHT),
            ImageResult('broken', 1, error='no image'),
        ],
    )
    union = union_of_steps(folders)
    assert union['top1_cls'] == 2 / 4  # 'the surer one' stands for both steps and is wrong
    assert union['top5_cls'] == 1
    assert union['top1_loc'] == 1 / 4
    assert union['several'] == 1 / 4
    assert union_of_steps(folders, iou_thr=0.35)['top1_loc'] == 2 / 4
    surest = confident_step(folders)  # step 2 of every image
    assert surest['top1_cls'] == surest['gt_known'] == surest['top1_loc'] == 1 / 4
    assert surest['top5_cls'] == 1


def test_logs_of_different_length_are_not_joined(tmp_path):
    folders = write_steps(tmp_path, [result('a', 1, 0.5, LEFT)] * 2, [result('a', 1, 0.5, LEFT)])
    with pytest.raises(ValueError, match='shorter'):
        union_of_steps(folders)


def three_steps():
    """For ``python:FILE:three_steps``."""
    from mmattn.backbones import TDResNet

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone = TDResNet(18, base_channels=8, reduction=4, steps=3)
            self.fc = nn.Linear(64, 4)
            self.fc.weight.data.abs_()  # a map that is not all below zero

        def forward(self, x):
            return self.fc(self.backbone(x)[-1].mean((2, 3)))

    torch.manual_seed(0)
    return Net(), dict(input_size=(96, 96))


MODEL = f'python:{__file__}:three_steps'


def test_the_tool_evaluates_every_step(tmp_path, capsys):
    images, boxes = boxes_json(tmp_path, 6)
    (images / 'p2.png').write_bytes(b'nothing')
    options = ['--images', images, '--annotations', boxes, '--work-dir', tmp_path / 'out']
    assert call(MODEL, *options, '--workers', 0, '--steps', 'all') == 1  # one is unreadable
    out = capsys.readouterr().out
    rows = [line.split()[:2] for line in out.splitlines() if line.startswith('step ')]
    assert rows == [['step', '1'], ['step', '2'], ['step', '3']]
    assert [line for line in out.splitlines() if line.startswith('confident ')]
    assert 'union: right at any step that was kept' in out and 'no plain accuracy' in out
    outcome = json.loads((tmp_path / 'out/steps.json').read_text())
    models = [summary['model'] for summary in outcome['steps']]
    assert models == [f'{MODEL}, step {step}' for step in (1, 2, 3)]
    assert outcome['failed'] == 1 and all(s['images'] == 5 for s in outcome['steps'])
    assert set(outcome['confident']) == {*outcome['union']} - {'several'}
    best = max(summary['top1_cls'] for summary in outcome['steps'])
    assert 0 <= outcome['union']['top1_cls'] <= 1 and best <= 1

    scores = []
    for step in (1, 2, 3):
        lines = (tmp_path / f'out/step_{step}/per_image.jsonl').read_text().splitlines()
        scores.append([json.loads(line)['score'] for line in lines])
        assert (tmp_path / f'out/step_{step}/report.html').is_file()
    assert scores[0] != scores[1] != scores[2]
    assert call(MODEL, *options, '--steps', 'last', '--work-dir', tmp_path / 'plain') == 1
    plain = (tmp_path / 'plain/per_image.jsonl').read_text().splitlines()
    assert [json.loads(line)['score'] for line in plain] == scores[2]  # the whole network


def test_the_tool_draws_every_step(tmp_path, capsys):
    images, _ = boxes_json(tmp_path, 1)
    options = ['--steps', 'all', '--work-dir', tmp_path / 'out']
    assert call(MODEL, '--show', images / 'p0.png', *options) == 0
    out = capsys.readouterr().out.splitlines()
    assert [f'step {k}, class' in line for k, line in enumerate(out, 1)] == [True] * 3
    drawn = Image.open(tmp_path / 'out/p0_steps_gradcam.png')
    assert drawn.size == (4 * 308 - 8, 225)  # 40 x 30 pixels, the image and three steps
    panels = [drawn.crop((308 * k, 0, 308 * k + 300, 225)).tobytes() for k in range(4)]
    assert len(set(panels)) == 4
