"""vis_attention: three networks, steps, searchlights, the maps of AW and learn-to-pay."""

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from tests.commands import run_command

from .conftest import ROOT

pytest.importorskip('mmdet')
pytest.importorskip('mmpretrain', reason='the networks are classifiers')
TOOL = 'visualization/vis_attention.py'
TD = 'tdam/td-resnet18-joint-t2m2_20e_one-digit'
PLAIN = 'ssia/resnet18_20e_one-digit'
CBAM = 'demo/resnet18-cbam_750i_one-digit'


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp('images')
    files = []
    for name in 'ab':
        rng = np.random.default_rng(ord(name))
        pixels = rng.integers(0, 90, (32, 32, 3)).astype(np.uint8)
        cv2.rectangle(pixels, (8, 6), (20, 24), rng.integers(100, 255, 3).tolist(), -1)
        files.append(folder / f'{name}.png')
        cv2.imwrite(str(files[-1]), pixels)
    return files


def network(tmp_path, name, changes=''):
    """A config, and a checkpoint of its start."""
    config = tmp_path / f'{name.rpartition("/")[2]}{len(changes)}.py'
    config.write_text(f"_base_ = '{ROOT / 'configs' / name}.py'\n{changes}")
    cfg = Config.fromfile(config)
    init_default_scope('mmpretrain')
    torch.manual_seed(len(name))
    model = MODELS.build(dict(cfg.model, data_preprocessor=cfg.data_preprocessor))
    model.init_weights()
    file = config.with_suffix('.pth')
    torch.save(dict(state_dict=model.state_dict()), file)
    return config, file


def read(file):
    drawn = cv2.imread(str(file))
    assert drawn is not None, file
    assert drawn.std() > 10
    return drawn


def panels(drawn, number):
    width = drawn.shape[1] // number
    return [drawn[40:, k * width : (k + 1) * width] for k in range(number)]


def test_three_networks_side_by_side(tmp_path, images, capsys):
    (config, first), (other, second) = network(tmp_path, PLAIN), network(tmp_path, CBAM)
    third = network(tmp_path, TD)
    words = ['cam', config, first, second, images[0], '--other-config', other]
    words += ['--more', *third, '--out-dir', tmp_path]
    assert run_command(TOOL, *words, '--names', 'vanilla', 'CBAM', 'TDAM') == 0
    _, *maps = panels(read(tmp_path / 'a_cam.png'), 4)
    assert all((x != y).mean() > 0.05 for x, y in zip(maps, maps[1:]))
    assert run_command(TOOL, *words, '--names', 'one') == 1
    assert 'names must be one a network (3), got 1' in capsys.readouterr().err


def test_steps_beside_the_plain_network(tmp_path, images, capsys):
    config, checkpoint = network(tmp_path, TD)
    plain = network(tmp_path, PLAIN)
    words = ['steps', config, checkpoint, images[0], '--label', 2, '--out-dir', tmp_path]
    assert run_command(TOOL, *words, '--plain', *plain) == 0
    *_, first, second = panels(read(tmp_path / 'a_steps.png'), 4)
    assert (first != second).mean() > 0.01
    assert run_command(TOOL, 'steps', *plain, images[0]) == 1
    assert f'{plain[0]} must have top-down blocks' in capsys.readouterr().err


def test_searchlights_and_their_selectivity(tmp_path, images, capsys):
    config, checkpoint = network(tmp_path, TD)
    words = ['searchlight', config, checkpoint, *images, '--out-dir', tmp_path]
    assert run_command(TOOL, *words) == 0
    said = capsys.readouterr().out
    for name in ('a_searchlight.png', 'b_searchlight.png', 'selectivity.png'):
        assert name in said
        read(tmp_path / name)
    assert run_command(TOOL, 'gates', config, checkpoint, images[0]) == 1
    assert "Searchlight is shown by 'searchlight'" in capsys.readouterr().err


def test_the_map_of_aw_convolutions(tmp_path, images, capsys):
    changes = "model = dict(backbone=dict(attention=[], conv2=dict(type='mmattn.AWConv2d')))\n"
    config, checkpoint = network(tmp_path, CBAM, changes)
    words = [config, checkpoint, images[0], '--out-dir', tmp_path]
    assert run_command(TOOL, 'weights', *words) == 0
    assert read(tmp_path / 'a_weights.png').shape[0] > 2000  # 16 convolutions
    assert run_command(TOOL, 'gates', *words) == 1
    assert "AWConv2d is shown by 'weights'" in capsys.readouterr().err


def test_the_weights_of_learn_to_pay(tmp_path, images, capsys):
    changes = (
        'model = dict(backbone=dict(attention=[], out_indices=(1, 2, 3)), neck=None,\n'
        "    head=dict(_delete_=True, type='mmattn.LearnToPayHead', num_classes=10,\n"
        '        in_channels=[32, 64, 128], topk=(1,)))\n'
    )
    config, checkpoint = network(tmp_path, CBAM, changes)
    words = [config, checkpoint, images[0], '--out-dir', tmp_path]
    assert run_command(TOOL, 'positions', *words) == 0
    read(tmp_path / 'a_positions.png')
    assert run_command(TOOL, 'gates', *words) == 1
    assert "LearnToPay is shown by 'positions'" in capsys.readouterr().err
