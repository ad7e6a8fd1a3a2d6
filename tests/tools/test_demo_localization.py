"""The localization half of the demo, on few scenes."""

import json

import pytest
import torch
from mmengine.config import Config

from tests.commands import ROOT, run_command

CONFIG = ROOT / 'configs/demo/resnet18-cbam_750i_one-digit.py'


def test_network_gives_fine_maps_in_closed_form():
    pytest.importorskip('mmpretrain', reason='the demo trains with mmpretrain')
    from mmpretrain.registry import MODELS

    from mmattn.localization.cam import ScoreMaps

    model = MODELS.build(dict(Config.fromfile(CONFIG).model, _scope_='mmpretrain'))
    with ScoreMaps(model) as maps:
        out = maps(torch.randn(2, 3, 32, 32), torch.tensor([1, 2]))
        assert maps.analytic
    assert out.maps.shape[-2:] == (8, 8)
    assert sum('cbam.mlp.0.weight' in name for name, _ in model.named_parameters()) == 8


def test_steps_below_one(tmp_path, capsys):
    assert run_command('demo_localization.py', '--work-dir', tmp_path, '--steps', '0') == 1
    assert 'demo_localization: steps must be at least 1, got 0' in capsys.readouterr().err


@pytest.mark.slow  # tests/tools/test_demo.py runs the same on few scenes
def test_digits_are_found_without_boxes(tmp_path, capfd):
    pytest.importorskip('mmpretrain', reason='the demo trains with mmpretrain')
    pytest.importorskip('sklearn', reason='the digits come with scikit-learn')
    assert run_command('demo_localization.py', '--work-dir', tmp_path) == 0
    assert 'centre box' in capfd.readouterr().out
    figures = json.loads((tmp_path / 'summary.json').read_text())['localization']
    assert figures['gt_known'] >= 0.6
    assert figures['centre_box'] < 0.2
    assert figures['top1_cls'] >= 0.7
