"""The images of the README, drawn from a tiny demo."""

import numpy as np
import torch
from mmengine.fileio import dump
from PIL import Image

from mmattn.analysis.showcase import draw_showcase
from mmattn.data.digits import make_digits


def test_both_halves_are_drawn_from_what_the_demo_leaves(tmp_path):
    demo = tmp_path / 'demo'
    make_digits(demo / 'digits', train=1, val=2)
    make_digits(demo / 'one_digit', train=1, val=20, size=32, one_digit=True)
    found = dict(
        labels=torch.tensor([3]), bboxes=torch.tensor([[8.0, 8, 60, 60]]), scores=torch.tensor([1])
    )
    scenes = sorted((demo / 'digits/val').glob('*.jpg'))
    dump(
        [dict(img_id=i, img_path=str(s), pred_instances=found) for i, s in enumerate(scenes, 1)],
        demo / 'detection/predictions.pkl',
    )
    (demo / 'localization/result').mkdir(parents=True)
    model = 'python:tests.analysis.test_showcase:classifier'
    dump(dict(model=model), demo / 'localization/result/run.json')
    torch.save({}, demo / 'localization/classifier.pth')
    draw_showcase(demo, tmp_path / 'out', [1, 2])
    both = Image.open(tmp_path / 'out/demo.webp')
    below = Image.open(tmp_path / 'out/localizations.webp')
    assert both.width == below.width > 1000
    assert both.height > below.height
    purple = np.abs(np.asarray(below).astype(int) - (148, 103, 189)).sum(2) < 40
    assert purple.sum() > 500  # boxes


def classifier(checkpoint):
    """A network that knows nothing."""
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(8, 10),
    )
    return net, dict(input_size=(32, 32), classes=tuple('abcdefghij'))
