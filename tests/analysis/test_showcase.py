"""The images of the README, drawn from a tiny demo."""

import numpy as np
import pytest
import torch
from mmengine.fileio import dump
from PIL import Image

from mmattn.analysis import showcase
from mmattn.analysis.sheets import truth_of
from mmattn.analysis.showcase import draw_showcase
from mmattn.data.digits import make_digits


def test_both_halves_are_drawn_from_what_the_demo_leaves(tmp_path, monkeypatch):
    demo = tmp_path / 'demo'
    make_digits(demo / 'digits', train=1, val=2)
    make_digits(demo / 'one_digit', train=1, val=20, size=32, one_digit=True)
    scenes = sorted((demo / 'digits/val').glob('*.jpg'))
    truth, _ = truth_of(demo / 'digits/annotations/instances_val.json')
    label, box = truth[1][0]
    found = dict(
        labels=torch.tensor([label, label]),
        bboxes=torch.tensor([box, [0.0, 0, 3, 3]]),
        scores=torch.tensor([1.0, 0.9]),
    )
    shown = []
    draw = showcase.show_boxes
    monkeypatch.setattr(showcase, 'show_boxes', lambda *a: (shown.append(a[2:]), draw(*a)))
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
    assert [colour for *_, colour in shown[0][1]] == ['tab:green', 'tab:red']
    for image, boxes in shown[2:]:
        assert image.shape == (256, 256, 3)
        assert boxes
        for _, (x1, y1, x2, y2), _ in boxes:  # of pixels as large as those of the image
            assert 0 <= x1 < x2 <= 256 and 0 <= y1 < y2 <= 256


def test_without_a_demo_it_is_named(tmp_path):
    with pytest.raises(
        FileNotFoundError, match='demo: .*predictions.pkl does not exist; .*make d'
    ):
        draw_showcase(tmp_path, tmp_path, [1])


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
