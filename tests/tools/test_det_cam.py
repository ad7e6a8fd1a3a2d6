"""det_cam: the images it leaves and what it says."""

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from tests.commands import run_command

from .conftest import ROOT, write_config

pytest.importorskip('mmdet')
TOOL = 'visualization/det_cam.py'


@pytest.fixture
def words(tmp_path, digits):
    """Config, checkpoint and image of a tiny detector that sees threes everywhere."""
    config = write_config(tmp_path, digits)
    init_default_scope('mmdet')
    model = MODELS.build(Config.fromfile(config).model)
    model.roi_head.bbox_head.fc_cls.bias.data[3] = 4.0
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'weights.pth')
    pixels = np.random.default_rng(0).integers(0, 255, (48, 64, 3)).astype(np.uint8)
    cv2.imwrite(str(tmp_path / 'scene.png'), pixels)
    files = [config, tmp_path / 'weights.pth', tmp_path / 'scene.png']
    return [*map(str, files), '--out-dir', str(tmp_path / 'out')]


@pytest.mark.parametrize(
    'options, said, panels',
    [
        ([], '; three 0.', 4),
        (['--detection', '0', '--level', '0', '--method', 'layercam'], ': three 0.', 2),
        (['--class', 'three', '--layer', 'backbone.layer4'], ': three, ', 2),
        (['--score-thr', '1.1'], 'nothing with 1.1 and more', 1),
    ],
    ids=str,
)
def test_images(words, tmp_path, capsys, options, said, panels):
    assert run_command(TOOL, *words, *options) == 0
    method = 'layercam' if 'layercam' in options else 'gradcam'
    out = capsys.readouterr().out
    assert f'scene_{method}.png: ' in out
    assert said in out
    image = cv2.imread(str(tmp_path / 'out' / f'scene_{method}.png'))
    assert image.std() > 10
    width = panels * (2.2 * 64 / 48 + 0.2) * 130
    assert abs(image.shape[1] - width) < 5


def test_mistakes(words, capsys):
    assert run_command(TOOL, *words, '--class', 'thre') == 1
    assert "got 'thre', did you mean 'three'" in capsys.readouterr().err
    assert run_command(TOOL, *words[:2], 'none.png') == 1
    assert 'det_cam: the image none.png does not exist' in capsys.readouterr().err
    words[0] = str(ROOT / 'configs/demo/resnet18-cbam_750i_one-digit.py')
    pytest.importorskip('mmpretrain')
    assert run_command(TOOL, *words) == 1
    assert 'does not fit' in capsys.readouterr().err
