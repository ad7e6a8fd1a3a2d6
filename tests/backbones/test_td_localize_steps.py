"""tools/analysis_tools/localize_steps.py: the authors' rule by hand, and a small run."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

ROOT = Path(__file__).parents[2]
spec = importlib.util.spec_from_file_location(
    'localize_steps', ROOT / 'tools/analysis_tools/localize_steps.py'
)
tool = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tool)

LEFT, RIGHT = [[0, 0, 10, 10]], [[20, 0, 30, 10]]
ALMOST_LEFT = [[0, 0, 10, 8]]  # IoU 0.8 with LEFT
HALF_LEFT = [[0, 0, 10, 5]]  # IoU 0.5: not above


@pytest.mark.parametrize(
    'guesses, kept',
    [
        pytest.param([(1, 0.9, LEFT), (2, 0.5, RIGHT)], [1, 2], id='apart'),
        pytest.param([(1, 0.9, LEFT), (2, 0.5, ALMOST_LEFT)], [1, 1], id='first-surer'),
        pytest.param([(1, 0.4, LEFT), (2, 0.5, ALMOST_LEFT)], [2, 2], id='second-surer'),
        pytest.param([(1, 0.4, LEFT), (2, 0.5, HALF_LEFT)], [1, 2], id='exactly-half'),
        pytest.param([(1, 0.4, LEFT), (2, 0.5, [])], [1, 2], id='no-box'),
        pytest.param(
            [(1, 0.4, LEFT), (2, 0.5, RIGHT), (3, 0.6, ALMOST_LEFT)], [3, 2, 3], id='three'
        ),
    ],
)
def test_the_authors_rule(guesses, kept):
    assert tool.keep_apart(guesses) == kept


def make_classifier():
    """For ``python:FILE:make_classifier``."""
    from mmattn.backbones import TDResNet

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone = TDResNet(18, base_channels=8, reduction=4, steps=3)
            self.pool = nn.AdaptiveAvgPool2d(1)
            self.fc = nn.Linear(64, 4)

        def forward(self, x):
            return self.fc(self.pool(self.backbone(x)[-1]).flatten(1))

    torch.manual_seed(0)
    return Net(), dict(input_size=(64, 64))


def plain_classifier():
    import torchvision

    return torchvision.models.squeezenet1_1(num_classes=4)


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / 'pictures'
    folder.mkdir()
    rng = np.random.default_rng(0)
    boxes = {}
    for index in range(3):
        Image.fromarray(rng.integers(0, 255, (50, 70, 3), np.uint8)).save(folder / f'{index}.png')
        boxes[index] = (10, 5, 60, 40)
    coco = dict(
        images=[dict(id=i, file_name=f'{i}.png', width=70, height=50) for i in boxes],
        annotations=[
            dict(id=i, image_id=i, category_id=i % 2 + 1, bbox=[10, 5, 50, 35], area=1, iscrowd=0)
            for i in boxes
        ],
        categories=[dict(id=i, name=f'class {i}') for i in range(1, 5)],
    )
    (tmp_path / 'boxes.json').write_text(json.dumps(coco))
    return tmp_path


def test_evaluates_every_step_and_shows(pictures, capsys):
    model = f'python:{__file__}:make_classifier'
    work = pictures / 'work'
    options = [model, '--device', 'cpu', '--workers', '0', '--work-dir', str(work)]
    data = ['--images', str(pictures / 'pictures'), '--annotations', str(pictures / 'boxes.json')]
    assert tool.main([*options, *data]) == 0
    out = capsys.readouterr().out
    assert 'step 3' in out and 'accuracy over steps (union of the authors' in out
    result = json.loads((work / 'steps.json').read_text())
    assert len(result['steps']) == 3 and all(row['images'] == 3 for row in result['steps'])
    best = max(row['top1_cls'] for row in result['steps'])
    assert result['accuracy_over_steps'] <= 1 and best <= 1
    assert (work / 'step_2' / 'report.html').is_file()

    assert tool.main([*options, '--show', str(pictures / 'pictures' / '0.png')]) == 0
    drawn = Image.open(work / '0_steps_gradcam.png')
    assert drawn.width > 3.9 * drawn.height  # the picture and three steps, 70 x 50 each


@pytest.mark.parametrize(
    'arguments, text',
    [
        (['python:{file}:plain_classifier', '--show', 'x.png'], 'must have a top-down block with'),
        (['python:{file}:make_classifier'], '--images and --annotations are needed'),
        (['a', 'b', 'c', '--show', 'x.png'], 'at most one checkpoint, got a b c'),
    ],
)
def test_errors(arguments, text, capsys):
    assert tool.main([each.format(file=__file__) for each in arguments]) == 2
    assert text in capsys.readouterr().err
