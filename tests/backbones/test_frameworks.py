"""What the frameworks' networks do that attention must respect: one test for each kind."""

import copy
import importlib
import pickle

import pytest
import torch
from mmdet.models.dense_heads import SSDHead
from mmdet.registry import MODELS
from mmengine.registry import DefaultScope
from torch import nn
from torch.nn import functional as F

from mmattn.backbones import Attend
from mmattn.convs import AWConv2d
from tests.backbones.networks import build, distance, gate, image, loss, pair, run, shake

AW = dict(type='mmattn.AWConv2d')
AW_IDENTITY = dict(AW, init='identity')
SHORT = dict(
    depth=50, base_channels=8, num_stages=2, strides=(1, 2), dilations=(1, 1), out_indices=(0, 1)
)


def attend(host, attention, **options):
    torch.manual_seed(0)
    return build('mmattn.Attend', wrapped=host, attention=attention, **options)


def plain(host, **options):
    torch.manual_seed(0)
    return build(host, **options)


def maps(*shapes, batch=2):
    generator = torch.Generator().manual_seed(1)
    return tuple(torch.randn(batch, *shape, generator=generator) for shape in shapes)


def count(module):
    return sum(p.numel() for p in module.parameters())


# ---------------------------------------------------------------- convolutions of several names

POINTS = dict(type='MlvlPointGenerator', offset=0, strides=[8, 16, 32])
ANCHORS = dict(
    type='AnchorGenerator', octave_base_scale=4, scales_per_octave=1, ratios=[1], strides=[8, 16]
)
SHARING = {
    'RTMDetSepBNHead': dict(
        num_classes=3,
        in_channels=8,
        feat_channels=8,
        stacked_convs=2,
        anchor_generator=POINTS,
        with_objectness=False,
        bbox_coder=dict(type='DistancePointBBoxCoder'),
    ),
    'RetinaSepBNHead': dict(
        num_classes=3,
        num_ins=2,
        in_channels=8,
        feat_channels=8,
        stacked_convs=2,
        anchor_generator=ANCHORS,
        norm_cfg=dict(type='BN'),
    ),
}


def flat(outs) -> list:
    return [outs] if isinstance(outs, torch.Tensor) else [x for out in outs for x in flat(out)]


@pytest.mark.parametrize('host', SHARING)
@pytest.mark.parametrize('level', [r'\d', '0', '1'], ids=['all', 'first', 'second'])
def test_a_shared_convolution_stays_one(host, level):
    """Whichever of its names a pattern matches."""
    options = SHARING[host]
    levels = len(options['anchor_generator']['strides'])
    head = plain(host, **options)
    rule = dict(conv=AW_IDENTITY, replace=rf'(cls|reg)_convs\.{level}\.\d\.conv')
    ours = attend(host, [rule], **options)
    found = {m for m in ours.modules() if isinstance(m, AWConv2d)}
    assert len(found) == 4  # two in each of two towers
    for tower in (ours.cls_convs, ours.reg_convs):
        for index in range(2):
            convs = [tower[i][index].conv for i in range(levels)]
            assert all(conv is convs[0] for conv in convs)
    added = sum(count(conv.branch) + 1 for conv in found)
    assert count(ours) == count(head) + added
    assert added == sum(p.numel() for p in ours.added_parameters().values())
    ours.load_state_dict(head.state_dict(), strict=False)
    x = maps((8, 8, 10), (8, 4, 5), (8, 2, 3))[:levels]
    with torch.no_grad():
        for mine, theirs in zip(flat(ours(x)), flat(head(x)), strict=True):
            torch.testing.assert_close(mine, theirs)


def test_a_gate_after_a_shared_module_is_one():
    options = SHARING['RetinaSepBNHead']
    ours = attend(
        'RetinaSepBNHead', [dict(gate=gate(), after=r'cls_convs\.1\.0\.conv')], **options
    )
    assert list(ours.attend) == ['cls_convs_0_0_conv_se']
    assert len(ours.cls_convs[1][0].conv._forward_hooks) == 1


class Tied(nn.Module):
    """Two convolutions with one weight."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 3, 3, padding=1)
        self.second = nn.Conv2d(3, 3, 3, padding=1)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.second(self.first(x))


def test_tied_weights_stay_tied():
    MODELS.register_module(name='Tied', module=Tied)
    try:
        ours = attend('Tied', [dict(conv=AW, replace='second')])
    finally:
        MODELS.module_dict.pop('Tied')
    assert isinstance(ours.second, AWConv2d)
    assert ours.second.weight is ours.first.weight
    assert ours.second.bias is not ours.first.bias


# ---------------------------------------------------------------- convolutions of other classes


def standardised(weight, eps):
    flat = weight.flatten(1)
    mean, std = (v[:, None, None, None] for v in (flat.mean(1), flat.std(1)))
    return (weight - mean) / (std + eps)


@pytest.mark.parametrize('kind', ['attention resnet', 'attend'])
def test_weight_standardisation_is_kept(kind):
    """Its attention acts on the standardised weights, and identity is the plain network."""
    options = dict(SHORT, conv_cfg=dict(type='ConvWS'))

    def with_conv(conv):
        if kind == 'attend':
            return attend('ResNet', [dict(conv=conv, replace=r'.*conv2')], **options)
        torch.manual_seed(0)
        return build('mmattn.AttentionResNet', conv2=conv, **options)

    host, ours = plain('ResNet', **options), with_conv(AW_IDENTITY)
    missing = pair(host, ours)
    assert missing == set(ours.added_parameters()) | {k for k in missing if 'running' in k}
    with torch.no_grad():
        assert distance(run(ours), run(host)) < 1e-5
    conv = shake(with_conv(AW)).eval().layer1[0].conv2
    assert isinstance(conv, AWConv2d) and type(conv).__name__.endswith('ConvWS2d')
    (x,) = maps((8, 9, 11))
    attn = conv.attention(x)
    kernel = standardised(conv.weight, conv.eps)
    for n in range(2):
        expected = F.conv2d(x[n : n + 1], kernel * (1 + attn[n]), None, 1, 1)
        torch.testing.assert_close(conv(x)[n : n + 1], expected, rtol=1e-4, atol=1e-5)
    twin = pickle.loads(pickle.dumps(copy.deepcopy(conv)))
    torch.testing.assert_close(twin(x), conv(x))


DETECTORS_RESNET = dict(
    depth=50,
    base_channels=8,
    num_stages=2,
    strides=(1, 2),
    dilations=(1, 1),
    out_indices=(0, 1),
    conv_cfg=dict(type='ConvAWS'),
)


def test_adaptive_weight_standardisation_is_kept():
    host = plain('DetectoRS_ResNet', **DETECTORS_RESNET)
    for module in host.modules():
        if hasattr(module, 'weight_gamma'):  # statistics, as of a checkpoint
            nn.init.uniform_(module.weight_gamma, 0.5, 1.5)
            nn.init.normal_(module.weight_beta, std=0.1)
    ours = attend(
        'DetectoRS_ResNet', [dict(conv=AW_IDENTITY, replace=r'.*conv2')], **DETECTORS_RESNET
    )
    pair(host, ours)
    with torch.no_grad():
        assert distance(run(ours), run(host)) < 1e-5
    loss(run(ours, True)).backward()
    assert all(p.grad is not None for p in ours.added_parameters().values())


@pytest.mark.parametrize('size', [(48, 64), (45, 63)])
def test_adaptive_padding_is_kept(size):
    """EfficientNet pads by TensorFlow's rule, which needs the size of the map."""
    options = dict(arch='b0', out_indices=(3,))
    host = plain('EfficientNet', **options)
    rule = dict(conv=AW_IDENTITY, replace=r'layers\.[123]\..*depthwise_conv\.conv')
    ours = attend('EfficientNet', [rule], **options)
    kinds = [m for m in ours.modules() if isinstance(m, AWConv2d)]
    assert {m.stride for m in kinds} == {(1, 1), (2, 2)} and all(m.groups > 1 for m in kinds)
    pair(host, ours)
    with torch.no_grad():
        x = image(size=size)
        assert distance(run(ours, x=x), run(host, x=x)) < 1e-6


def test_what_attention_would_lose_is_refused():
    sac = dict(
        DETECTORS_RESNET, sac=dict(type='SAC', use_deform=True), stage_with_sac=(False, True)
    )
    message = r'replace must name plain convolutions, got .*: attention .* a SAConv2d does'
    with pytest.raises(ValueError, match=message):
        attend('DetectoRS_ResNet', [dict(conv=AW, replace=r'layer2\.\d\.conv2')], **sac)
    attend('DetectoRS_ResNet', [dict(conv=AW, replace=r'layer1\.\d\.conv2')], **sac)
    with pytest.raises(ValueError, match=r'must be an mmattn.AWConv2d where .* a ConvWS2d'):
        build(
            'mmattn.AttentionResNet',
            conv2=dict(type='mmattn.AAConv2d'),
            conv_cfg=dict(type='ConvWS'),
            **SHORT,
        )
    with pytest.raises(ValueError, match=r"conv2 must replace plain .* 'conv1': .* ModulatedD"):
        build(
            'mmattn.AttentionResNet',
            conv2=AW,
            conv_cfg=dict(type='DCNv2'),
            depth=18,
            base_channels=8,
        )


def test_a_convolution_whose_weight_its_head_reads_is_refused():
    """TOOD multiplies by the weight of reduction_conv and never calls it."""
    options = dict(
        num_classes=3,
        in_channels=8,
        feat_channels=8,
        stacked_convs=2,
        num_dcn=0,
        anchor_type='anchor_free',
        anchor_generator=ANCHORS,
        norm_cfg=dict(type='GN', num_groups=4),
    )
    message = (
        r"replace must name convolutions that are called, got 'cls_decomp\.reduction_conv\.conv': "
        'TOODHead computes with its weight alone'
    )
    with pytest.raises(ValueError, match=message):
        attend('TOODHead', [dict(conv=AW, replace=r'.*conv')], **options)
    ours = attend('TOODHead', [dict(conv=AW, replace=r'inter_convs\..*')], **options)
    assert sum(isinstance(m, AWConv2d) for m in ours.modules()) == 2


# ---------------------------------------------------------------- slots of the framework


@pytest.mark.parametrize('kind', ['attention resnet', 'attend'])
def test_attention_from_a_slot_is_not_frozen(kind):
    plugins = [dict(cfg=gate('CBAM'), position='after_conv2')]
    options = dict(SHORT, frozen_stages=1, conv_cfg=AW, plugins=plugins)
    if kind == 'attend':
        ours = attend('ResNet', [], **options)
    else:
        ours = build('mmattn.AttentionResNet', **options)
    ours.train()
    new = {name for name, _ in ours.named_parameters() if '.branch.' in name or 'cbam' in name}
    assert new == set(ours.added_parameters()) and len(new) > 40
    frozen = {name for name, p in ours.named_parameters() if not p.requires_grad}
    assert not frozen & new
    assert {'conv1.weight', 'layer1.0.conv2.weight'} <= frozen
    assert ours.layer1[0].conv2.branch.norm1.training and not ours.layer1[0].bn2.training


def test_plugins_stay():
    """GCNet's and other configs have plugins of their own."""
    plugins = [
        dict(cfg=dict(type='ContextBlock', ratio=0.25), position='after_conv3'),
        dict(cfg=gate('SE'), position='after_conv2', stages=(False, True)),
    ]
    host = plain('ResNet', **SHORT, plugins=plugins)
    rules = [
        dict(gate=gate('CBAM', init='identity'), position=f'after_conv{i}') for i in (1, 2, 3)
    ]
    torch.manual_seed(0)
    ours = build('mmattn.AttentionResNet', **SHORT, plugins=plugins, attention=rules)
    pair(host, ours)
    with torch.no_grad():
        assert distance(run(ours), run(host)) < 1e-5
    block = ours.layer2[0]
    assert block.after_conv2_plugin_names == ['se', 'cbam_2']
    assert block.after_conv3_plugin_names == ['context_block', 'cbam_3']
    loss(run(ours, True)).backward()
    assert all(p.grad is not None for p in ours.added_parameters().values())
    with pytest.raises(ValueError, match='plugins must be left out at depth 18, whose basic'):
        build('mmattn.AttentionResNet', depth=18, plugins=plugins)


# ---------------------------------------------------------------- initial values

WALKERS = {
    'CTResNetNeck': dict(
        in_channels=8,
        num_deconv_filters=(8, 8),
        num_deconv_kernels=(4, 4),
        use_dcn=False,
    ),
    'DetectoRS_ResNet': DETECTORS_RESNET,
    'PyramidVisionTransformerV2': dict(embed_dims=8, num_layers=[1, 1, 1, 1]),
    'HourglassNet': dict(
        downsample_times=2,
        num_stacks=1,
        stage_channels=(8, 8, 8),
        stage_blocks=(1, 1, 1),
        feat_channel=8,
    ),
}


@pytest.mark.parametrize('host', WALKERS)
def test_gates_keep_their_start_where_a_network_walks_over_all_modules(host):
    rules = [dict(gate=gate(name), levels=(0,)) for name in ('CBAM', 'NonLocal', 'GlobalContext')]
    ours = attend(
        host,
        [dict(rule, gate=dict(rule['gate'], reduction=2)) for rule in rules],
        **WALKERS[host],
    )
    ours.init_weights()
    cbam, non_local, context = ours.attend.values()
    assert cbam.spatial[1].weight == 0
    assert non_local.block.conv_out.conv.weight.abs().max() == 0
    assert context.block.channel_add_conv[-1].weight.abs().max() == 0
    bound = cbam.mlp[0].in_channels ** -0.5
    assert cbam.mlp[0].bias.abs().max() > 0  # the walkers set biases to 0, or leave them
    assert 0.3 * bound < cbam.mlp[0].weight.abs().max() <= bound


def test_gates_of_a_checkpoint_are_kept_by_a_network_that_walks(tmp_path):
    options = dict(WALKERS['DetectoRS_ResNet'], pretrained=str(tmp_path / 'net.pth'))
    rules = [dict(gate=gate('CBAM'), levels=(0,))]
    saved = attend('DetectoRS_ResNet', rules, **WALKERS['DetectoRS_ResNet'])
    nn.init.constant_(saved.attend['level0_cbam'].spatial[1].weight, 0.7)
    torch.save(saved.state_dict(), tmp_path / 'net.pth')
    ours = attend('DetectoRS_ResNet', rules, **options)
    ours.init_weights()
    for key, value in saved.attend.state_dict().items():
        torch.testing.assert_close(ours.attend.state_dict()[key], value)


# ---------------------------------------------------------------- inputs of the trial run

PYRAMID = [(8, 64, 64), (8, 32, 32), (8, 16, 16), (8, 8, 8), (8, 4, 4)]
NECKS = {  # options, inputs, outputs
    'BFP': (dict(in_channels=8, num_levels=5, refine_level=2), PYRAMID, 5),
    'DyHead': (
        dict(in_channels=16, out_channels=16, num_blocks=1),
        [(16, *size) for _, *size in PYRAMID],
        5,
    ),
    'YOLOV3Neck': (
        dict(num_scales=3, in_channels=[32, 16, 8], out_channels=[16, 8, 4]),
        [(8, 16, 16), (16, 8, 8), (32, 4, 4)],
        3,
    ),
    'DilatedEncoder': (
        dict(in_channels=8, out_channels=8, block_mid_channels=4, num_residual_blocks=2)
        | dict(block_dilations=[2, 4]),
        [(8, 8, 10)],
        1,
    ),
    'CTResNetNeck': (WALKERS['CTResNetNeck'], [(8, 4, 5)], 1),
    'FPN_CARAFE': (
        dict(in_channels=[8, 16, 32], out_channels=8, num_outs=4),
        [(8, 16, 16), (16, 8, 8), (32, 4, 4)],
        4,
    ),
    'FPG': (
        dict(
            in_channels=[8, 16, 32, 64],
            out_channels=8,
            inter_channels=8,
            num_outs=5,
            stack_times=2,
            paths=['bu'] * 2,
            same_down_trans=None,
            same_up_trans=dict(type='conv', kernel_size=3, stride=2, padding=1),
            across_lateral_trans=dict(type='conv', kernel_size=1),
            across_down_trans=dict(type='interpolation_conv', mode='nearest', kernel_size=3),
            across_up_trans=None,
            across_skip_trans=dict(type='conv', kernel_size=1),
            skip_inds=[(0, 1), (0, 1), (0, 1), (0,), ()],
            output_trans=dict(type='last_conv', kernel_size=3),
        ),
        [(8, 64, 64), (16, 32, 32), (32, 16, 16), (64, 8, 8)],
        5,
    ),
}


@pytest.mark.parametrize('name', NECKS)
def test_necks_of_every_kind_take_gates(name):
    """One map, several of one width, the deepest first, without a parameter, for CUDA alone."""
    options, shapes, number = NECKS[name]
    torch.set_default_dtype(torch.float64)
    try:
        host = plain(name, **options)
        ours = attend(name, [dict(gate=gate('CBAM', init='identity'))], **options)
        assert len(ours.attend) == number
        host.init_weights()
        ours.init_weights()
        ours.load_state_dict(host.state_dict(), strict=False)
        if name == 'FPN_CARAFE':  # its operator needs a GPU
            return
        with torch.no_grad():
            x = maps(*shapes)
            outs, expected = ours.eval()(x), host.eval()(x)
            assert len(outs) == number
            for mine, theirs in zip(outs, expected):
                torch.testing.assert_close(mine, theirs)
    finally:
        torch.set_default_dtype(torch.float32)


def test_the_stand_ins_of_the_trial_are_taken_back():
    carafe = importlib.import_module('mmcv.ops.carafe')  # hidden by its function
    before = carafe.carafe
    attend('FPN_CARAFE', [dict(gate=gate())], **NECKS['FPN_CARAFE'][0])
    assert carafe.carafe is before


class NeedsGPU(nn.Module):
    def __init__(self, in_channels):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, 4, 1)

    def forward(self, x):
        raise RuntimeError('some_op_impl: implementation for device cpu:0 not found.')


def test_an_operator_without_a_kernel_is_not_blamed_on_the_sample():
    MODELS.register_module(name='NeedsGPU', module=NeedsGPU)
    try:
        message = 'NeedsGPU runs an operator that this device lacks, .* some_op_impl'
        with pytest.raises(ValueError, match=message):
            attend('NeedsGPU', [dict(gate=gate())], in_channels=3)
        assert isinstance(
            attend('NeedsGPU', [dict(conv=AW, replace='conv')], in_channels=3).conv, AWConv2d
        )
    finally:
        MODELS.module_dict.pop('NeedsGPU')


SAC = dict(
    DETECTORS_RESNET,
    sac=dict(type='SAC', use_deform=True),
    stage_with_sac=(False, True),
    output_img=True,
)


def test_switchable_atrous_convolution_and_an_image_among_the_outputs():
    """DetectoRS: its convolutions need larger maps, and its first output is the image."""
    ours = attend('DetectoRS_ResNet', [dict(gate=gate())], **SAC)
    assert list(ours.attend) == ['level1_se', 'level2_se']


def test_deformable_convolution():
    dcn = dict(dcn=dict(type='DCNv2', deform_groups=1), stage_with_dcn=(False, True))
    ours = attend('ResNet', [dict(gate=gate(), after=r'layer2\.\d')], **SHORT, **dcn)
    assert len(ours.attend) == 4


# ---------------------------------------------------------------- heads


def test_what_a_detector_puts_beside_its_head():
    """A detector adds train_cfg and test_cfg to its head's config."""
    head = dict(type='RetinaHead', num_classes=3, in_channels=8, feat_channels=8)
    rule = dict(conv=AW, replace=r'cls_convs\.0\.conv')
    ours = build('mmattn.Attend', wrapped=head, attention=[rule], test_cfg=dict(nms_pre=7))
    assert ours.test_cfg == dict(nms_pre=7)


@pytest.mark.parametrize('region', [7, (7, 7)])
def test_a_head_of_regions(region):
    options = dict(in_channels=8, conv_out_channels=8, fc_out_channels=16, roi_feat_size=region)
    rule = dict(gate=gate(), after=r'shared_convs\.\d')
    ours = attend('Shared4Conv1FCBBoxHead', [rule], num_classes=3, **options)
    assert len(ours.attend) == 4


def test_a_roi_head():
    bbox = dict(type='Shared2FCBBoxHead', in_channels=8, fc_out_channels=16, num_classes=3)
    mask = dict(type='FCNMaskHead', in_channels=8, conv_out_channels=8, num_classes=3)
    extractor = dict(
        type='SingleRoIExtractor',
        roi_layer=dict(type='RoIAlign', output_size=7, sampling_ratio=0),
        out_channels=8,
        featmap_strides=[4],
    )
    rule = dict(conv=AW, replace=r'mask_head\.convs\.\d\.conv')
    options = dict(bbox_roi_extractor=extractor, mask_roi_extractor=extractor)
    ours = attend('StandardRoIHead', [rule], bbox_head=bbox, mask_head=mask, **options)
    assert sum(isinstance(m, AWConv2d) for m in ours.modules()) == 4
    rule = dict(gate=gate(), after=r'convs\.\d')
    options['mask_head'] = dict(type='mmattn.Attend', wrapped=mask, attention=[rule])
    inner = build('StandardRoIHead', bbox_head=bbox, **options)
    assert len(inner.mask_head.attend) == 4


def test_ssd_head_is_the_one_that_can_predict():
    options = dict(num_classes=3, in_channels=(8, 16, 16, 8, 8, 8))
    options['anchor_generator'] = dict(
        type='SSDAnchorGenerator',
        scale_major=False,
        input_size=300,
        strides=[8, 16, 32, 64, 100, 300],
        basesize_ratio_range=(0.15, 0.9),
        ratios=[[2], [2, 3], [2, 3], [2, 3], [2], [2]],
    )
    for kind in ('SSDHead', 'mmdet.SSDHead', SSDHead):
        ours = attend(kind, [dict(conv=AW, replace=r'cls_convs\..*')], **options)
        assert isinstance(ours, SSDHead)
        assert ours.loss_cls is None


# ---------------------------------------------------------------- names


def test_a_network_of_another_framework_needs_no_scope():
    pytest.importorskip('mmpretrain')
    options = dict(arch=dict(depths=[1, 1, 1, 1], channels=[8, 8, 8, 8]), out_indices=(0, 3))
    options['gap_before_final_norm'] = False
    for kind in ('ConvNeXt', 'mmpretrain.ConvNeXt'):
        ours = attend(kind, [dict(gate=gate())], **options)
        assert ours._host_class.__module__.startswith('mmpretrain.')
        assert isinstance(ours, Attend) and len(ours.attend) == 2
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        inner = attend('ResNet', [dict(gate=gate())], depth=18, stem_channels=8, base_channels=8)
    assert inner._host_class.__module__.startswith('mmpretrain.')
    assert attend('ResNet', [], **SHORT)._host_class.__module__.startswith('mmdet.')


def test_an_unknown_network():
    with pytest.raises(
        ValueError, match="wrapped must be the type of a registered .* got 'ConvNextt', did you"
    ):
        attend('ConvNextt', [])
