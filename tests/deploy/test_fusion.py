"""Fused networks give the plain ones' outputs, with fewer norms."""

import copy

import pytest
import torch
from mmcv.cnn import ConvModule
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import nn

from mmattn.convs import AAConv2d, AWConv2d
from mmattn.convs.aw_engine import _pack
from mmattn.deploy import fuse
from mmattn.testing import randomise

AW = dict(type='mmattn.AWConv2d', reduction=4)
BACKBONES = {
    'aw': dict(
        type='mmattn.AttentionResNet', depth=50, base_channels=8, stem_channels=8, conv2=AW
    ),
    'aw, identity': dict(
        type='mmattn.AttentionResNet',
        depth=18,
        base_channels=8,
        stem_channels=8,
        conv2=dict(AW, init='identity'),
    ),
    'aw, se, cbam, bam': dict(
        type='mmattn.AttentionResNet',
        depth=50,
        base_channels=8,
        stem_channels=8,
        deep_stem=True,
        conv2=AW,
        attention=[
            dict(gate=dict(type='mmattn.SE'), position='after_conv3'),
            dict(gate=dict(type='mmattn.CBAM'), position='after_conv3'),
            dict(gate=dict(type='mmattn.BAM'), position='after_stage', stages=(0, 1)),
            dict(gate=dict(type='mmattn.SimAM'), position='before_norm2'),
        ],
    ),
    'aa': dict(
        type='mmattn.AttentionResNet',
        depth=18,
        base_channels=16,
        stem_channels=16,
        conv2=dict(type='mmattn.AAConv2d', dk=8, dv=8, num_heads=2, aw='conv', init='identity'),
    ),
    'top-down': dict(type='mmattn.TDResNet', preset='r18-joint-t2m2', base_channels=8),
    'wide': dict(type='mmattn.WideResNet', depth=10, widen_factor=1),
    'mobilenet': dict(type='mmattn.MobileNetV1', widen_factor=0.25),
    'plain, of the host': dict(type='ResNet', depth=18, base_channels=8, stem_channels=8),
    'csp': dict(type='CSPNeXt', arch='P5', deepen_factor=0.33, widen_factor=0.125),
}


def norms(net):
    return [m for m in net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]


def check(net, *inputs, **options):
    """Fuse a copy; both outputs, as a flat list."""
    randomise(net.double()).train(False)  # the hosts' own eval() returns nothing
    fused = fuse(copy.deepcopy(net), **options)
    with torch.no_grad():
        return flat(fused(*inputs)), flat(net(*inputs)), fused


def flat(outputs):
    if isinstance(outputs, torch.Tensor):
        return [outputs]
    return [tensor for part in outputs for tensor in flat(part)]


def image(*size):
    torch.manual_seed(0)
    return torch.randn(*size, dtype=torch.float64)


@pytest.mark.parametrize('channels_last', [False, True])
@pytest.mark.parametrize('name', BACKBONES)
def test_backbones(name, channels_last):
    init_default_scope('mmdet')
    net = MODELS.build(dict(BACKBONES[name]))
    found, wanted, fused = check(net, image(2, 3, 64, 96), channels_last=channels_last)
    assert len(found) == len(wanted)
    for a, b in zip(found, wanted):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-8 * float(b.abs().max()))
    assert len(norms(fused)) < len(norms(net)) / 2 or name in ('top-down', 'wide', 'aa')
    assert not fused.training


def test_every_norm_of_aw_resnet_is_folded():
    net = MODELS.build(dict(BACKBONES['aw']))
    assert len(norms(net)) == 53 + 2 * 16
    assert not norms(fuse(net))


def test_norms_that_must_stay():
    init_default_scope('mmdet')
    assert norms(fuse(MODELS.build(dict(BACKBONES['top-down']))))
    aa = nn.Sequential(AAConv2d(8, 8, 3, padding=1, dk=4, dv=4, num_heads=2), nn.BatchNorm2d(8))
    found, wanted, fused = check(aa, image(2, 8, 5, 5))
    torch.testing.assert_close(found, wanted)
    assert len(norms(fused)) == 1


@pytest.mark.parametrize(
    'layer, left',
    [
        (ConvModule(4, 6, 3, norm_cfg=dict(type='BN')), 0),
        (ConvModule(4, 6, 3, conv_cfg=AW, norm_cfg=dict(type='BN')), 0),
        (ConvModule(4, 4, 3, norm_cfg=dict(type='BN'), order=('norm', 'conv', 'act')), 1),
        (ConvModule(4, 4, 3, norm_cfg=dict(type='BN'), order=('conv', 'act', 'norm')), 1),
        (ConvModule(4, 6, 3, conv_cfg=dict(type='ConvWS'), norm_cfg=dict(type='BN')), 1),
        (ConvModule(4, 6, 3, norm_cfg=dict(type='GN', num_groups=2)), 0),
        (nn.Sequential(nn.Conv2d(4, 4, 3), nn.ReLU(), nn.BatchNorm2d(4)), 1),
        (nn.Sequential(nn.Conv2d(4, 4, 3, bias=False), nn.BatchNorm2d(4, affine=False)), 0),
        (nn.Sequential(nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3)), 1),
    ],
    ids=str,
)
def test_layers(layer, left):
    found, wanted, fused = check(layer, image(2, 4, 7, 6))
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-9)
    assert len(norms(fused)) == left


def test_batch_statistics_stay():
    net = nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4, track_running_stats=False))
    assert norms(fuse(net))


def test_a_convolution_shared_by_several_norms():
    """Heads share one convolution among levels that have a norm each."""
    conv = AWConv2d(4, 4, 3, padding=1, reduction=2)
    net = nn.ModuleList(nn.Sequential(conv, nn.BatchNorm2d(4)) for _ in range(2))
    randomise(net.double()).eval()
    x = image(2, 4, 5, 5)
    wanted = [level(x) for level in net]
    assert not torch.allclose(*wanted)
    fuse(net)
    for level, expected in zip(net, wanted):
        torch.testing.assert_close(level(x), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize('images', [1, 3])
@pytest.mark.parametrize('size', [(3, 4), (9, 8)], ids=['small map', 'large map'])
@pytest.mark.parametrize(
    'options', [dict(), dict(stride=2), dict(groups=2), dict(r_c1=4)], ids=str
)
def test_packed_weights(options, size, images):
    net = nn.Sequential(AWConv2d(16, 16, 3, padding=1, **options), nn.BatchNorm2d(16))
    for channels_last in (False, True):
        found, wanted, _ = check(net, image(images, 16, *size), channels_last=channels_last)
        torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-9)


def test_packing_makes_no_copies():
    """The matrices of the kernel positions are the fused weight itself, not made at every call."""
    conv = fuse(AWConv2d(8, 6, 3))
    assert _pack(conv.weight, torch.float32).data_ptr() == conv.weight.data_ptr()
    assert _pack(AWConv2d(8, 6, 3).weight, torch.float32).data_ptr() != conv.weight.data_ptr()


@pytest.mark.parametrize('op', ['RoIAlign', 'DCN'])
def test_operators_that_need_contiguous_maps(op):
    """mmcv's operators read a channels-last map wrongly, without an error."""
    ops = pytest.importorskip('mmcv.ops')
    conv = nn.Conv2d(8, 8, 3, padding=1)
    if op == 'RoIAlign':
        layer, rest = ops.RoIAlign(4, 1.0, 0), [torch.tensor([[0, 1.0, 1, 6, 7], [1, 0, 2, 5, 5]])]
    else:
        layer, rest = ops.ModulatedDeformConv2dPack(8, 6, 3, padding=1), []
        nn.init.normal_(layer.conv_offset.weight, std=0.1)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.layer = conv, layer

        def forward(self, x):
            return self.layer(self.conv(x), *rest)

    net = Net()
    x = image(2, 8, 9, 10).float()
    with torch.no_grad():
        wanted = net(x)
        torch.testing.assert_close(fuse(net, channels_last=True)(x), wanted, rtol=1e-4, atol=1e-5)


def test_detector():
    init_default_scope('mmdet')
    cfg = Config.fromfile('configs/demo/faster-rcnn_r18_aw-fpn_350i_digits.py').model
    net = MODELS.build(cfg)
    x = image(1, 3, 64, 96)
    randomise(net.double())
    net.eval()
    fused = fuse(copy.deepcopy(net))
    with torch.no_grad():
        found, wanted = (flat(model.rpn_head(model.extract_feat(x))) for model in (fused, net))
    for a, b in zip(found, wanted):
        torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-7 * float(b.abs().max()))


@pytest.mark.parametrize('model', [None, 'resnet50', [nn.Conv2d(1, 1, 1)], nn.Conv2d])
def test_only_modules(model):
    with pytest.raises(TypeError, match='model must be a torch.nn.Module, got'):
        fuse(model)


def test_a_weight_made_by_a_hook_is_left_alone():
    conv = nn.utils.spectral_norm(nn.Conv2d(3, 4, 3))
    net = nn.Sequential(conv, nn.BatchNorm2d(4))
    fuse(net)
    assert net[0] is conv
    assert isinstance(net[1], nn.BatchNorm2d)
