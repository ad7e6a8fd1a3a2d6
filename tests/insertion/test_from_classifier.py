"""A detector's backbone from a classifier of mmpretrain, torchvision, timm or CBAM's authors."""

import re

import pytest
import torch
import torchvision
from mmengine.config import Config

pytest.importorskip('mmdet')

import mmattn
from mmattn.core.modes import eval_mode
from mmattn.insertion import detector_start, read_config
from mmattn.testing import randomise
from tests.commands import run_command
from tests.reference.authors_resnet import authors_maps, authors_state

PLAIN = 'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py'
FOLDER = 'configs/attention_resnet/faster-rcnn_r50-'
CLASSIFIER = 'configs/demo/resnet18-cbam-dilated_1500i_one-digit.py'
DETECTOR = 'configs/demo/faster-rcnn_r18-cbam_fpn_150i_digits.py'


def of_depth(config, depth, **changes):
    """The config with another backbone, and the neck that goes with it."""
    cfg = read_config(config)
    cfg.model.backbone.update(depth=depth, **changes)
    if depth == 18:
        cfg.model.neck.in_channels = [64, 128, 256, 512]
    return cfg


def saved(tmp_path, state, **more):
    torch.save({**more, 'state_dict': state} if more else state, tmp_path / 'classifier.pth')
    return tmp_path / 'classifier.pth'


def maps_of(start, x):
    with eval_mode(start.backbone), torch.no_grad():
        return list(start.backbone.double()(x))


@pytest.mark.parametrize('depth, init', [(18, 'paper'), (18, 'identity'), (50, 'paper')])
@pytest.mark.parametrize('kind', ['CBAM', 'BAM'])
def test_the_authors_networks_give_the_authors_maps(kind, depth, init, tmp_path):
    position = 'after_stage' if kind == 'BAM' else f'after_conv{2 if depth == 18 else 3}'
    rule = dict(gate=dict(type=f'mmattn.{kind}', init=init), position=position)
    if kind == 'BAM':
        rule['stages'] = (0, 1, 2)
    cfg = of_depth(PLAIN, depth, type='mmattn.AttentionResNet', attention=[rule])
    state = authors_state(depth, kind)
    as_saved = dict(epoch=90, arch='resnet50', best_prec1=torch.tensor(77.3), optimizer={})
    start = detector_start(cfg, saved(tmp_path, state, **as_saved))
    assert start.family == "the CBAM and BAM authors' ResNet" and start.notes == []
    assert start.report.fits
    x = torch.randn(1, 3, 64, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(maps_of(start, x), authors_maps(state, x), rtol=1e-9, atol=1e-9)


def test_a_torchvision_network_gives_its_maps(tmp_path):
    torch.manual_seed(0)
    net = randomise(torchvision.models.resnet18(weights=None)).double().eval()
    start = detector_start(of_depth(PLAIN, 18), saved(tmp_path, net.state_dict()))
    assert start.family == 'torchvision, timm or the like' and start.report.fits
    x = torch.rand(1, 3, 64, 64, dtype=torch.float64)
    stem = torch.nn.Sequential(net.conv1, net.bn1, net.relu, net.maxpool)
    last = net.layer4(net.layer3(net.layer2(net.layer1(stem(x)))))
    torch.testing.assert_close(maps_of(start, x)[-1], last, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize('name, method', [('seresnet50', 'se'), ('ecaresnet50t', 'eca')])
def test_a_timm_network_gives_its_maps(name, method, tmp_path):
    timm = pytest.importorskip('timm')
    torch.manual_seed(0)
    options = dict(stem_type='', stem_width=64, avg_down=False) if method == 'eca' else {}
    net = randomise(timm.create_model(name, **options)).double().eval()
    start = detector_start(
        read_config(f'{FOLDER}{method}_fpn_1x_coco.py'), saved(tmp_path, net.state_dict())
    )
    assert start.family == 'timm' and start.report.fits
    x = torch.rand(1, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(
            maps_of(start, x)[-1], net.forward_features(x), rtol=1e-9, atol=1e-9
        )


def test_a_classifier_of_mmpretrain_gives_its_maps(tmp_path):
    pytest.importorskip('mmpretrain')
    from mmpretrain.registry import MODELS

    cfg = Config.fromfile(CLASSIFIER)
    cfg.model.backbone.update(strides=(1, 2, 2, 2), dilations=(1, 1, 1, 1))
    torch.manual_seed(0)
    net = randomise(MODELS.build(cfg.model)).double().eval()
    meta = dict(cfg=cfg.pretty_text)
    file = saved(tmp_path, net.state_dict(), meta=meta)
    detector = read_config(DETECTOR)
    start = detector_start(detector, file)
    assert start.family == 'mmpretrain' and start.report.fits and start.notes == []
    x = torch.rand(1, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        expected = net.backbone(x)[-1]
    torch.testing.assert_close(maps_of(start, x)[-1], expected, rtol=0, atol=0)

    detector.model.data_preprocessor.bgr_to_rgb = False
    (note,) = detector_start(detector, file).notes
    assert 'data_preprocessor.bgr_to_rgb is False here and was True there' in note
    detector.model.data_preprocessor.update(bgr_to_rgb=True, mean=[1, 2, 3])
    (note,) = detector_start(detector, file).notes
    assert 'data_preprocessor.mean is [1, 2, 3] here and was ' in note


def test_new_gates_stay_new_and_trained_ones_without_a_place_are_named(tmp_path):
    state = authors_state(18, 'CBAM')
    start = detector_start(of_depth(PLAIN, 18), saved(tmp_path, state))
    (note,) = start.notes
    assert 'has no place for layer1.0.cbam.ChannelGate.mlp.1.bias' in note and '72 in all' in note
    plain = torchvision.models.resnet18(weights=None).state_dict()
    cfg = mmattn.add_attention(of_depth(PLAIN, 18), 'CBAM')
    start = detector_start(cfg, saved(tmp_path, plain))
    assert len(start.report.new) > 0 and not start.report.missing and start.notes == []
    assert not any('cbam' in key for key in start.checkpoint['state_dict'])


@pytest.mark.parametrize(
    'changes, note',
    [
        (dict(style='caffe'), 'backbone.style .* is caffe here and was pytorch there'),
        ({}, None),
    ],
    ids=['caffe', 'pytorch'],
)
def test_what_no_key_shows_is_said(changes, note, tmp_path):
    state = torchvision.models.resnet50(weights=None).state_dict()
    notes = detector_start(of_depth(PLAIN, 50, **changes), saved(tmp_path, state)).notes
    assert len(notes) == (note is not None)
    if note:
        assert re.search(note, notes[0])


@pytest.mark.parametrize('depth', [50, 101])
def test_another_depth_is_refused_with_the_keys_of_both_sides(depth, tmp_path):
    state = torchvision.models.resnet18(weights=None).state_dict()
    with pytest.raises(ValueError, match="does not fit the config's backbone ResNet: .*keys fit"):
        detector_start(of_depth(PLAIN, depth), saved(tmp_path, state))


def test_the_command_writes_a_start_and_its_config(tmp_path, capsys):
    tool = 'model_converters/classifier_to_detector.py'
    state = authors_state(50, 'CBAM')
    config, start, leaf = (
        f'{FOLDER}cbam_fpn_1x_coco.py',
        tmp_path / 'a/start.pth',
        tmp_path / 'mine.py',
    )
    assert run_command(tool, saved(tmp_path, state), config, start, '--out', leaf) == 0
    said = capsys.readouterr().out
    assert (
        "checkpoint of the CBAM and BAM authors' ResNet; backbone: 494 of the model's 494" in said
    )
    cfg = Config.fromfile(leaf)
    assert cfg.load_from == str(start) and cfg.model.backbone.init_cfg is None
    keys = torch.load(start)['state_dict']
    assert len(keys) == 494 and all(key.startswith('backbone.') for key in keys)
    assert run_command(tool, tmp_path / 'none.pth', config, start) == 2
    assert 'none.pth does not exist' in capsys.readouterr().err
    pytest.importorskip('mmpretrain')
    assert run_command(tool, saved(tmp_path, state), CLASSIFIER, start) == 2
    said = capsys.readouterr().err
    assert 'config must be of a detector, got' in said and 'of the classifier ImageClas' in said
