"""The localization half of the demo, on few scenes."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]


def load_demo():
    pytest.importorskip('mmdet', reason='the demo network is built on mmdet')
    path = ROOT / 'tools/demo_localization.py'
    spec = importlib.util.spec_from_file_location('demo_localization', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_network_gives_fine_maps_in_closed_form():
    from mmattn.localization.cam import ScoreMaps

    demo = load_demo()
    with ScoreMaps(demo.DigitClassifier()) as maps:
        out = maps(torch.randn(2, 3, demo.SIZE, demo.SIZE), torch.tensor([1, 2]))
        assert maps.analytic
    assert out.maps.shape[-2:] == (demo.SIZE // 4, demo.SIZE // 4)
    assert any('cbam' in name for name, _ in maps.model.named_parameters())


def test_steps_below_one(tmp_path, capsys):
    assert load_demo().main(['--work-dir', str(tmp_path), '--steps', '0']) == 1
    assert 'demo_localization: steps must be at least 1, got 0' in capsys.readouterr().err


@pytest.mark.slow  # tests/tools/test_demo.py runs the same on few scenes
def test_digits_are_found_without_boxes(tmp_path, capfd):
    pytest.importorskip('sklearn', reason='the digits come with scikit-learn')
    assert load_demo().main(['--work-dir', str(tmp_path)]) == 0
    assert 'centre box' in capfd.readouterr().out
    figures = json.loads((tmp_path / 'summary.json').read_text())['localization']
    assert figures['gt_known'] >= 0.6
    assert figures['centre_box'] < 0.2
    assert figures['top1_cls'] >= 0.7
