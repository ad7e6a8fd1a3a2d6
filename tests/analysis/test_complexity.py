import json

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from torch import nn

from mmattn.analysis.complexity import Cost, measure_complexity, measure_config, measure_model
from mmattn.backbones import AttentionResNet
from mmattn.convs import AAConv2d, AWConv2d
from mmattn.layers import CBAM, SE
from tests.commands import ROOT, printed_by, run_command


class Classifier(nn.Module):
    """A backbone, global average pooling and the 1000-class layer the papers count."""

    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone
        self.fc = nn.Linear(2048, 1000)

    def forward(self, x):
        return self.fc(self.backbone(x)[-1].mean((2, 3)))


def resnet50(**options):
    return Classifier(AttentionResNet(50, **options)).to('meta')


AW = dict(conv2=dict(type='mmattn.AWConv2d'))
SE_RULE = dict(attention=[dict(gate=dict(type='mmattn.SE'), position='after_conv3')])


# AW paper, Table 1, ResNet-50 rows in the caffe style: COSTS.md's recount (params M, GMACs "A")
@pytest.mark.parametrize(
    'options, params, gmacs',
    [
        (dict(), 25.5570, 3.8580),
        (AW, 25.7222, 3.8707),
        (SE_RULE, 28.0880, 3.8605),
        ({**AW, **SE_RULE}, 28.2532, 3.8732),
    ],
    ids=['plain', 'AW', 'SE', 'AW-SE'],
)
def test_rows_of_the_aw_paper(options, params, gmacs):
    image = torch.zeros(1, 3, 224, 224, device='meta')
    counted = measure_complexity(resnet50(style='caffe', **options), image)
    assert f'{counted.params / 1e6:.4f}' == f'{params:.4f}'
    assert f'{counted.macs / 1e9:.4f}' == f'{gmacs:.4f}'
    plain = measure_complexity(resnet50(style='caffe'), image)
    assert counted.params - plain.params == sum(c.params for c in counted.added.values())
    assert counted.macs - plain.macs == sum(c.macs for c in counted.added.values())


def test_by_hand():
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), SE(8, reduction=4), nn.ReLU())
    counted = measure_complexity(model, torch.randn(1, 3, 5, 6))
    se = 2 * 8 * 2
    assert counted.macs == 30 * 8 * 27 + se
    assert counted.added == {'1': Cost(se + 2 + 8, se)}
    assert counted.params == 8 * 27 + 8 + se + 10


@pytest.mark.parametrize('batch', [1, 2])
@pytest.mark.parametrize('size', [3, 40], ids=['small map', 'large map'])
@pytest.mark.parametrize('kernel_size', [1, 3])
def test_aw_conv_costs_the_same_on_every_path(batch, size, kernel_size):
    conv = AWConv2d(16, 8, kernel_size, padding=kernel_size // 2, reduction=2)
    counted = measure_complexity(conv, torch.randn(batch, 16, size, size))
    taps = kernel_size**2
    branch = taps * (16 * 4 + 4 * 8) + 16 * 8 * taps
    assert counted.added[''].macs == batch * branch
    assert counted.macs == batch * (size**2 * 16 * 8 * taps + branch)


def test_aa_conv_adds_what_the_plain_conv_does_not_have():
    options = dict(dk=8, dv=4, num_heads=2)
    conv = AAConv2d(8, 16, 3, padding=1, **options)
    counted = measure_complexity(conv, torch.randn(1, 8, 4, 4))
    plain = nn.Conv2d(8, 16, 3, padding=1)
    reference = measure_complexity(plain, torch.randn(1, 8, 4, 4))
    assert counted.added[''].params == counted.params - reference.params
    assert counted.added[''].macs == counted.macs - reference.macs
    attention = 16 * 16 * (8 + 4)  # Q K^T and A V over 16 positions
    assert counted.macs == 16 * (12 * 72 + 8 * 20 + 4 * 4) + attention


def test_nested_parts_are_counted_once_and_the_model_is_left_alone():
    model = nn.Sequential(AWConv2d(8, 8, 1), CBAM(8)).train()
    model[1].eval()
    counted = measure_complexity(model, torch.randn(1, 8, 4, 4))
    assert list(counted.added) == ['0', '1']
    assert model.training
    assert not model[1].training
    assert not model[0]._forward_hooks


DETECTORS = [f'faster-rcnn_r18_{neck}_350i_digits' for neck in ('aw-fpn', 'fpn')]


def test_the_difference_of_two_detectors_is_what_was_inserted():
    """Proposals are random: with the heads that look at them it was 168 times as large."""
    ours, plain = (
        measure_config(ROOT / f'configs/demo/{name}.py', (64, 96)) for name in DETECTORS
    )
    assert ours.left_out == 'roi_head'
    assert len(ours.added) == 8
    assert ours.minus(plain) == ours.all_added


def test_counted_before_the_proposals():
    """Backbone, neck and RPN: the count of these three alone."""
    plain = measure_config(ROOT / f'configs/demo/{DETECTORS[1]}.py', (64, 96))
    cfg = Config.fromfile(ROOT / f'configs/demo/{DETECTORS[1]}.py')
    parts = (MODELS.build(cfg.model[part]) for part in ('backbone', 'neck'))
    rpn = dict(cfg.model.rpn_head, train_cfg=cfg.model.train_cfg.rpn)
    rpn = MODELS.build(dict(rpn, test_cfg=cfg.model.test_cfg.rpn))
    net = nn.Sequential(*parts, rpn)
    assert plain.macs == measure_complexity(net, torch.zeros(1, 3, 64, 96)).macs


def test_one_stage_heads_are_counted():
    cfg = Config.fromfile(ROOT / 'configs/ssd/ssd300_aw-pred_coco.py')
    cfg.model.backbone.init_cfg = None
    init_default_scope('mmdet')
    counted = measure_model(MODELS.build(cfg.model), (300, 300))
    assert counted.left_out == ''
    inside = [name for name in counted.added if name.startswith('bbox_head')]
    assert len(inside) == 12 and all(counted.added[name].macs > 0 for name in inside)


def test_the_command(capsys):
    config, plain = (ROOT / f'configs/demo/{name}.py' for name in DETECTORS)
    tool = 'analysis_tools/attention_complexity.py'
    arguments = (config, '--against', plain, '--shape', '320', '320')
    found = json.loads(printed_by(tool, *arguments, '--format', 'json'))
    macs, params = (sum(c[key] for c in found['added'].values()) for key in ('macs', 'params'))
    assert found['difference'] == dict(params=params, macs=macs)
    lines = printed_by(tool, *arguments).splitlines()
    assert lines[-1].split() == ['difference', f'+{params:,}', f'+{macs / 1e9:.4f}']
    assert '(GMACs without roi_head)' in lines[-2]
    assert run_command(tool, 'none.py') == 1
    assert 'attention_complexity: config: none.py does not exist' in capsys.readouterr().err
