"""vis_attention: what it measures of a gate, and the images it leaves."""

import copy

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from mmattn import Gate
from mmattn.analysis.gains import find_gates, watch_gates
from mmattn.analysis.loading import load_image, load_model
from tests.commands import run_command

from .conftest import ROOT, write_config

pytest.importorskip('mmdet')
TOOL = 'visualization/vis_attention.py'

GATES = """
model = dict(
    backbone=dict(
        type='mmattn.AttentionResNet',
        attention=[
            dict(gate=dict(type='mmattn.SE', reduction=4), position='after_conv2', stages=(0,)),
            dict(gate=dict(type='mmattn.SpatialGate'), position='after_stage', stages=(3,)),
        ],
    )
)
"""


@pytest.fixture(scope='module')
def image(tmp_path_factory):
    path = tmp_path_factory.mktemp('image') / 'scene.png'
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 60, (48, 64, 3)).astype(np.uint8)
    pixels[10:30, 20:50] = (10, 200, 240)  # BGR
    cv2.imwrite(str(path), pixels)
    return path


def detector(tmp_path, digits, extra, base='faster-rcnn_r18_fpn_350i_digits.py'):
    config = write_config(tmp_path, digits, base, extra)
    cfg = Config.fromfile(config)
    init_default_scope('mmdet')
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    for module in model.modules():
        if type(module).__name__ == 'SpatialGate':
            module.spatial[1].weight.data.fill_(1.0)  # 0 at the start: the same gate everywhere
    checkpoint = tmp_path / 'weights.pth'
    torch.save(dict(state_dict=model.state_dict()), checkpoint)
    return config, checkpoint, model


def read(file):
    image = cv2.imread(str(file))
    assert image is not None, file
    assert image.std() > 10  # something is painted
    return image


def test_gates_of_a_detector(tmp_path, digits, image, capsys):
    config, checkpoint, model = detector(tmp_path, digits, GATES)
    names = [name for name, m in model.named_modules() if isinstance(m, Gate)]
    assert len(names) >= 2
    words = [str(config), str(checkpoint), str(image), '--out-dir', str(tmp_path / 'out')]
    assert run_command(TOOL, 'gates', *words) == 0
    first = read(tmp_path / 'out' / 'scene_gates.png')
    assert 'scene_gates.png' in capsys.readouterr().out

    loaded, cfg, _ = load_model(config, str(checkpoint))
    shown, data = load_image(cfg, loaded, image)
    assert shown[20, 30].tolist() == [240, 200, 10]  # RGB, as the network sees it
    found = watch_gates(loaded, find_gates(loaded), **data, mode='predict')
    assert list(found) == names
    kinds = {type(loaded.get_submodule(name)).__name__: gain for name, gain in found.items()}
    assert kinds['SE'][1] is None
    assert kinds['SpatialGate'][0] is None
    assert kinds['SpatialGate'][1].shape == (2, 2)
    assert not [name for name in names if loaded.get_submodule(name)._forward_hooks]

    assert run_command(TOOL, 'gates', *words, '--gates', r'backbone\.layer3') == 1
    assert 'layer3 does not turn a map into one of its shape' in capsys.readouterr().err
    assert run_command(TOOL, 'gates', *words, '--gates', r'backbone\.layer3\.1') == 0
    assert read(tmp_path / 'out' / 'scene_gates.png').shape != first.shape


def ssia_config(tmp_path, digits):
    """The tiny detector of the other tests inside the wrapper."""
    plain = write_config(tmp_path, digits, 'faster-rcnn_r18_fpn_350i_digits.py')
    path = tmp_path / 'tiny_ssia.py'
    path.write_text(
        f"_base_ = '{plain}'\n"
        "model = dict(_delete_=True, type='mmattn.SSIA', model=_base_.model,\n"
        '    taps=(0, 1, 2, 3), sample=(3, 64, 64))\n'
        "custom_hooks = [dict(type='mmattn.SSIAHook')]\n"
    )
    return path


def test_predictions_of_ssia(tmp_path, digits, image, capsys):
    config = ssia_config(tmp_path, digits)
    cfg = Config.fromfile(config)
    init_default_scope('mmdet')
    torch.manual_seed(0)
    model = MODELS.build(cfg.model).eval()
    checkpoint = tmp_path / 'weights.pth'
    saved = dict(state_dict=model.state_dict(), ssia=model.ssia.state_dict())
    torch.save(saved, checkpoint)
    words = [str(config), str(checkpoint), str(image), '--out-dir', str(tmp_path / 'out')]
    assert run_command(TOOL, 'ssia', *words) == 0
    read(tmp_path / 'out' / 'scene_ssia.png')

    inputs = torch.randn(2, 3, 64, 64)
    found = model.spatial_signals(inputs)
    assert [pair for pair, *_ in found] == model.ssia.pairs
    with torch.no_grad():
        maps = model.backbone(inputs)
    for number, (_, predicted, signal) in enumerate(found):
        mean = maps[number + 1].mean(1, keepdim=True)
        spread = mean.std((2, 3), correction=0, keepdim=True)
        expected = (mean - mean.mean((2, 3), keepdim=True)) / spread
        torch.testing.assert_close(signal, expected, rtol=1e-4, atol=1e-4)
        vector = maps[number].mean(1).flatten(1)
        wanted = model.ssia.blocks[number].predictors['spatial'](vector)
        torch.testing.assert_close(predicted.flatten(1), wanted, rtol=1e-4, atol=1e-4)

    narrow = {key: value[:1] for key, value in saved['ssia'].items() if value.dim()}
    torch.save(dict(saved, ssia=narrow), checkpoint)
    assert run_command(TOOL, 'ssia', *words) == 1
    assert f'the predictors in {checkpoint} do not fit {config}: ' in capsys.readouterr().err
    torch.save(dict(state_dict=saved['state_dict']), checkpoint)
    assert run_command(TOOL, 'ssia', *words) == 1
    assert 'holds no predictors (mmattn.SSIAHook saves them)' in capsys.readouterr().err


def test_two_checkpoints_side_by_side(tmp_path, image):
    pytest.importorskip('mmpretrain', reason='the comparison is of classifiers')
    config = ROOT / 'configs/ssia/resnet18_20e_one-digit.py'
    cfg = Config.fromfile(config)
    init_default_scope('mmpretrain')
    files = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        model = MODELS.build(dict(cfg.model, data_preprocessor=cfg.data_preprocessor))
        model.init_weights()
        files.append(tmp_path / f'{seed}.pth')
        torch.save(dict(state_dict=model.state_dict()), files[-1])
    out = tmp_path / 'out'

    def paint(first, second):
        words = ['cam', str(config), str(first), str(second), str(image), '--label', '3']
        assert run_command(TOOL, *words, '--out-dir', out) == 0
        return read(out / 'scene_cam.png')

    both, same = paint(*files), paint(files[0], files[0])
    third = both.shape[1] // 3
    assert (both[:, : 2 * third] == same[:, : 2 * third]).mean() > 0.95
    assert (both[40:, 2 * third :] != same[40:, 2 * third :]).mean() > 0.1


def test_mistakes(tmp_path, digits, image, capsys):
    config, checkpoint, model = detector(tmp_path, digits, '')
    words = [str(config), str(checkpoint), str(image)]
    assert run_command(TOOL, 'gates', *words) == 1
    assert (
        'gates must be named by a pattern (--gates): the model has none of'
        in capsys.readouterr().err
    )
    assert run_command(TOOL, 'gates', *words, '--gates', 'layer') == 1
    assert "gates must match the whole name of a module, got 'layer'" in capsys.readouterr().err
    assert run_command(TOOL, 'gates', *words, '--gates', '[') == 1
    assert "gates must be a regular expression, got '['" in capsys.readouterr().err
    assert run_command(TOOL, 'ssia', *words) == 1
    assert "must have a model of type 'mmattn.SSIA'" in capsys.readouterr().err
    (tmp_path / 'no.jpg').write_text('text')
    assert run_command(TOOL, 'gates', *words[:2], tmp_path / 'no.jpg', '--gates', 'neck') == 1
    assert 'no.jpg is no image that can be decoded' in capsys.readouterr().err
    state = copy.copy(model.state_dict())
    del state['backbone.conv1.weight']
    torch.save(dict(state_dict=state), checkpoint)
    assert run_command(TOOL, 'gates', *words, '--gates', 'neck') == 1
    assert 'does not fit' in capsys.readouterr().err
    checkpoint.write_text('text')
    assert run_command(TOOL, 'gates', *words) == 1
    assert f'{checkpoint} is no checkpoint: neither torch' in capsys.readouterr().err


def test_class_maps_of_a_detector_are_refused(tmp_path, digits, image, capsys):
    pytest.importorskip('mmpretrain', reason='the comparison is of classifiers')
    config, checkpoint, _ = detector(tmp_path, digits, '')
    assert run_command(TOOL, 'cam', config, checkpoint, checkpoint, image) == 1
    assert f'cam shows classifiers, {config} is a detector: ' in capsys.readouterr().err
