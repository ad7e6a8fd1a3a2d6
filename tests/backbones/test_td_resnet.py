"""TDResNet and its blocks: values, counts, steps, freezing, loading, the zero-init trap."""

import copy
import pickle

import pytest
import torch
from mmcv.cnn import fuse_conv_bn
from mmdet.models.backbones import ResNet
from mmdet.models.backbones.resnet import BasicBlock, Bottleneck
from mmdet.registry import MODELS
from mmengine.runner import load_checkpoint
from torch import nn

from mmattn.backbones import TDResNet
from mmattn.backbones.td_resnet import PRESETS, TDBasicBlock, TDBottleneck
from tests.backbones.networks import shake
from tests.backbones.top_down_cases import (
    Classifier,
    count_gmacs,
    count_parameters,
    gradients,
    make_block,
)
from tests.reference import tdam
from tests.values import check_values, image


def net(depth=18, base_channels=8, seed=0, **options):
    torch.manual_seed(seed)
    options = dict(reduction=4, norm_eval=False, **options)
    return TDResNet(depth, base_channels=base_channels, **options)


def plain(depth=18, base_channels=8, **options):
    torch.manual_seed(1)
    return shake(ResNet(depth, base_channels=base_channels, **{'norm_eval': False, **options}))


def x(size=40, batch=2):
    return torch.randn(batch, 3, size, size + 8, generator=torch.Generator().manual_seed(5))


def downsample(inplanes, planes, stride):
    return nn.Sequential(
        nn.Conv2d(inplanes, planes, 1, stride, bias=False), nn.BatchNorm2d(planes)
    )


# ---------------------------------------------------------------- values


@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize(
    'distance, options',
    [
        pytest.param(1, {}, id='m1'),
        pytest.param(2, dict(attention='top'), id='m2-top'),
        pytest.param(3, {}, id='m3'),
        pytest.param(0, {}, id='m0'),
        pytest.param(1, dict(steps=3), id='m1-t3'),
        pytest.param(1, dict(init='identity'), id='m1-identity'),
        pytest.param(3, dict(steps=3, init='identity', stride=2), id='m3-t3-stride-identity'),
        pytest.param(2, dict(operation='spatial-channel'), id='m2-other-order'),
        pytest.param(3, dict(operation='recurrent', stride=2), id='m3-recurrent-stride'),
    ],
)
def test_bottleneck_values(distance, options, training):
    stride = options.get('stride', 1)
    block = make_block(
        TDBottleneck,
        4,
        2,
        distance=distance,
        reduction=2,
        downsample=downsample(4, 8, stride),
        **options,
    )

    def reference(v, p):
        operation = options.get('operation', 'channel-spatial')
        steps = options.get('steps', 2)
        layout = (1, stride, 1), (0, 1, 0)
        return tdam.residual_block(v, p, training, steps, distance, *layout, operation)

    check_values(block, reference, (image(2, 4, 3, 4),), training)


@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize(
    'distance, options',
    [
        pytest.param(1, {}, id='m1'),
        pytest.param(2, dict(stride=2), id='m2-stride'),
        pytest.param(0, dict(steps=3), id='m0-t3'),
        pytest.param(2, dict(attention='top', steps=3, init='identity'), id='m2-top-t3-identity'),
    ],
)
def test_basic_block_values(distance, options, training):
    stride = options.get('stride', 1)
    block = make_block(
        TDBasicBlock,
        4,
        4,
        distance=distance,
        reduction=2,
        downsample=downsample(4, 4, stride),
        **options,
    )

    def reference(v, p):
        steps, layout = options.get('steps', 2), ((stride, 1), (1, 1))
        return tdam.residual_block(v, p, training, steps, distance, *layout, 'channel-spatial')

    check_values(block, reference, (image(2, 4, 3, 4),), training)


def test_an_early_top_is_not_computed_where_its_mean_is_enough():
    block, sizes = make_block(TDBottleneck, 16, 4, reduction=4, steps=3).eval(), []
    shake(block)
    v = torch.randn(2, 16, 5, 6)
    block.conv3.register_forward_hook(lambda m, args, out: None)
    watched = block(v)  # a hook is to see whole maps
    block.conv3._forward_hooks.clear()
    forward = block.conv3.forward
    block.conv3.forward = lambda x: (sizes.append(tuple(x.shape[2:])), forward(x))[1]
    torch.testing.assert_close(block(v), watched)
    assert sizes == [(1, 1), (1, 1), (5, 6)]
    sizes.clear()
    block.train()(v)
    block.eval().forward_steps(v)
    assert sizes == [(5, 6)] * 6


# ---------------------------------------------------------------- counts

# COSTS.md: parameters and GMACs with a classifier for 1000 classes, 224 x 224
ROWS = [
    ('r50-joint-t2m1', 2048, 27645992, 4.5913),
    ('r50-top-t2m1', 2048, 27056168, 4.5903),
    ('r50-top-t2m3', 2048, 27655208, 5.9802),
    ('r50-top-t2m3-all', 2048, 27789352, 6.1996),
    ('r101-joint-t2m1', 2048, 46754856, 8.3710),
    ('r101-joint-t2m1-10', 2048, 47105064, 8.5275),
    ('r101-joint-t2m1-l4', 2048, 45937704, 8.0060),
    ('r18-top-t2m1', 512, 11774504, 2.2851),
    ('r18-joint-t2m2', 512, 11828776, 2.633),
    ('r34-joint-t2m1', 512, 22098728, 4.7179),
    ('r34-joint-t2m2', 512, 22074152, 5.6439),
]


@pytest.mark.parametrize('preset, channels, parameters, gmacs', ROWS)
def test_the_papers_costs(preset, channels, parameters, gmacs):
    with torch.device('meta'):
        model = Classifier(TDResNet(preset=preset), channels)
    assert count_parameters(model) == parameters
    assert count_gmacs(model) == pytest.approx(gmacs, abs=6e-4 if gmacs == 2.633 else 6e-5)


def test_every_preset_is_counted():
    assert {row[0] for row in ROWS} == set(PRESETS)


def test_plain_resnet50_costs_what_the_paper_says():
    with torch.device('meta'):
        model = Classifier(TDResNet(50, steps=1), 2048)
    assert count_parameters(model) == 25557032
    assert count_gmacs(model) == pytest.approx(4.1219, abs=6e-5)


# ---------------------------------------------------------------- as a backbone


@pytest.mark.parametrize(
    'depth, options',
    [
        pytest.param(18, dict(distance=2), id='18-m2'),
        pytest.param(50, dict(distance=3, attention='top'), id='50-top-m3'),
        pytest.param(50, dict(distance=0, steps=3), id='50-m0-t3'),
        pytest.param(50, dict(norm_cfg=dict(type='GN', num_groups=4)), id='50-gn'),
        pytest.param(50, dict(style='caffe', avg_down=True, deep_stem=True), id='50-caffe-d'),
    ],
)
def test_all_maps_and_all_gradients(depth, options):
    model = net(depth, zero_init_residual=False, **options)
    model.init_weights()
    model.train()
    sizes = [tuple(out.shape[1:]) for out in model(x())]
    wide = 1 if depth == 18 else 4
    assert sizes == [(8 * wide, 10, 12), (16 * wide, 5, 6), (32 * wide, 3, 3), (64 * wide, 2, 2)]
    for name, grad in gradients(model, x(size=64)).items():
        assert grad is not None and grad.isfinite().all() and grad.abs().max() > 0, name


def test_the_names_of_the_host_stay():
    host = set(ResNet(50, base_channels=8).state_dict())
    ours = set(net(50, distance=2, steps=3).state_dict())
    assert host <= ours
    new = {key for key in ours - host if 'num_batches' not in key}
    assert {key for key in new if key.startswith('layer3.0.')} == {
        *(f'layer3.0.searchlight.{part}.weight' for part in ('top', 'bottom', 'out')),
        *(
            f'layer3.0.bn{i}_{k}.{part}'
            for i in (2, 3)
            for k in (1, 2)
            for part in ('weight', 'bias', 'running_mean', 'running_var')
        ),
    }
    assert {key.split('.')[0] for key in new} == {'layer3', 'layer4'}


def test_one_step_is_the_plain_network():
    host, ours = plain(), net(steps=1)
    ours.load_state_dict(host.state_dict())  # strict
    for mode in (True, False):
        host.train(mode)  # returns nothing
        ours.train(mode)
        for a, b in zip(host(x()), ours(x())):
            assert torch.equal(a, b)


@pytest.mark.parametrize('host, td', [(Bottleneck, TDBottleneck), (BasicBlock, TDBasicBlock)])
def test_one_step_is_the_plain_block(host, td):
    torch.manual_seed(0)
    a, b = host(4 * host.expansion, 4), make_block(td, 4 * host.expansion, 4, steps=1)
    b.load_state_dict(a.state_dict())
    v = torch.randn(2, 4 * host.expansion, 5, 5)
    assert torch.equal(a(v), b(v))
    assert torch.equal(b.forward_steps(v)[0], b(v))


@pytest.mark.parametrize('distance', [1, 2, 3])
def test_checkpointing_changes_nothing(distance):
    a, b = (net(50, distance=distance, with_cp=cp).double() for cp in (False, True))
    b.load_state_dict(a.state_dict())
    assert all(block.with_cp for block in b.top_down_blocks().values())
    grads = gradients(a.train(), x().double()), gradients(b.train(), x().double())
    for name in grads[0]:
        torch.testing.assert_close(grads[0][name], grads[1][name])


def test_neither_input_nor_bottom_is_changed():
    block = make_block(TDBottleneck, 16, 4, distance=3, reduction=4).eval()
    v = torch.randn(1, 16, 4, 4)
    before = v.clone()
    with torch.no_grad():
        first = block(v)
        assert torch.equal(block(v), first)
    assert torch.equal(v, before)
    seen = []
    block = make_block(TDBottleneck, 16, 4, distance=1, reduction=4).eval()
    block.searchlight.register_forward_pre_hook(
        lambda m, args: seen.append((args[0].clone(), args[0]))
    )
    with torch.no_grad():
        block(v)
    assert torch.equal(*seen[0])


def test_copies_pickles_and_traces():
    model = net(50, distance=2).eval()
    outs = model(x())
    traced = torch.jit.trace(model, x(size=32))
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), traced):
        for a, b in zip(outs, other(x())):
            torch.testing.assert_close(a, b)


@pytest.mark.parametrize('depth, distance', [(18, 1), (18, 2), (50, 0), (50, 1), (50, 2), (50, 3)])
def test_fusing_norms_changes_nothing(depth, distance):
    """The host fuses by the order of children; a convolution with several norms must be left."""
    model = shake(net(depth, distance=distance)).eval()
    outs = model(x())
    fused = fuse_conv_bn(copy.deepcopy(model))
    assert isinstance(fused.layer1[0].bn1, nn.Identity)
    for a, b in zip(outs, fused(x())):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


def test_plugins_of_the_host_run_in_every_step():
    calls = []
    plugins = [
        dict(cfg=dict(type='mmattn.SE', reduction=2, postfix=str(i)), position=f'after_conv{i}')
        for i in (1, 2, 3)
    ]
    block = make_block(TDBottleneck, 16, 4, reduction=4, distance=2, steps=3, plugins=plugins)
    for i in (1, 2, 3):
        getattr(block, f'se{i}').register_forward_hook(lambda *_, i=i: calls.append(i))
    block(torch.randn(2, 16, 4, 4))
    assert calls == [1, 2, 3, 2, 3, 2, 3]


# ---------------------------------------------------------------- freezing


def test_searchlights_are_never_frozen_and_norm_copies_go_with_their_norm():
    model = net(50, frozen_stages=3, steps=3, distance=2, init='identity')
    for again in (False, True):
        if again:
            model.train()
        frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
        for name, _ in model.named_parameters():
            assert (name in frozen) == (
                'searchlight' not in name and not name.startswith('layer4')
            ), name
    assert not model.layer3[0].bn3_2.training and model.layer3[0].searchlight.training
    assert model.layer4[0].bn3_2.training


def test_norm_eval_keeps_the_statistics_of_all_steps():
    model = net(50, steps=3)
    model.norm_eval = True
    model.train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    model(x())
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


# ---------------------------------------------------------------- loading


@pytest.mark.parametrize('depth, distance', [(18, 2), (50, 1), (50, 3)])
@pytest.mark.parametrize('steps', [2, 3])
def test_identity_start_is_the_plain_network(depth, distance, steps, tmp_path):
    """The checkpoint comes as from a whole detector, through the host's own loader."""
    host = plain(depth)
    ours = net(depth, distance=distance, steps=steps, init='identity')
    shake(ours, seed=9)  # what must be overwritten
    file = tmp_path / 'plain.pth'
    torch.save({'state_dict': {f'backbone.{k}': v for k, v in host.state_dict().items()}}, file)
    load_checkpoint(ours, str(file), map_location='cpu', revise_keys=[(r'^backbone\.', '')])
    for mode in (False, True):
        host.train(mode)  # returns nothing
        ours.train(mode)
        for a, b in zip(host(x()), ours(x())):
            assert torch.equal(a, b)


def test_every_norm_copy_has_the_plain_values_and_it_is_said():
    host, ours = plain(50), net(50, distance=2, steps=3)
    said = []
    import mmattn.backbones.top_down as module

    original, module.print_log = module.print_log, lambda text, logger: said.append(text)
    try:
        missing = ours.load_state_dict(host.state_dict(), strict=False).missing_keys
    finally:
        module.print_log = original
    assert all('searchlight' in key for key in missing)
    for key, value in ours.state_dict().items():
        if 'searchlight' not in key:
            source = key.replace('_1.', '.').replace('_2.', '.')
            assert torch.equal(value, host.state_dict()[source]), key
    assert len(said) == 1
    assert '36 norms are copies' in said[0] and 'layer3.0.bn2_1' in said[0]  # 9 blocks, 2 x 2


def test_loading_leaves_the_given_dict_alone():
    state = plain().state_dict()
    keys = list(state)
    net(18).load_state_dict(state, strict=False)
    assert list(state) == keys


def test_inside_a_detector():
    cfg = dict(type='mmattn.TDResNet', depth=18, base_channels=8, reduction=4, init='identity')

    class Detector(nn.Module):
        def __init__(self, backbone):
            super().__init__()
            self.backbone = backbone

    host, ours = Detector(plain()), Detector(MODELS.build(cfg))
    result = ours.load_state_dict(host.state_dict(), strict=False)
    assert all('searchlight' in key for key in result.missing_keys) and not result.unexpected_keys
    for a, b in zip(host.eval().backbone(x()), ours.eval().backbone(x())):
        assert torch.equal(a, b)


def test_a_checkpoint_of_fewer_or_more_steps():
    two, three = shake(net(50, steps=2)), net(50, steps=3)
    three.load_state_dict(two.state_dict())  # strict: bn3_2 is a copy of bn3_1
    assert torch.equal(three.layer4[0].bn3_2.running_mean, two.layer4[0].bn3_1.running_mean)
    one = net(50, steps=1)
    unused = one.load_state_dict(two.state_dict(), strict=False).unexpected_keys
    assert all('searchlight' in key or 'bn3_1' in key for key in unused)


# ---------------------------------------------------------------- the zero-init trap


@pytest.mark.parametrize('depth, distance', [(18, 1), (18, 2), (50, 1), (50, 3)])
@pytest.mark.parametrize('steps', [2, 3])
def test_zero_init_is_for_the_last_step_only(depth, distance, steps):
    model = net(depth, distance=distance, steps=steps)
    model.init_weights()
    last = 2 if depth == 18 else 3
    for name, block in model.named_modules():
        if isinstance(block, (BasicBlock, Bottleneck)):
            top_down = name.startswith(('layer3', 'layer4'))
            norms = [getattr(block, f'bn{last}')]
            norms += [getattr(block, f'bn{last}_{k}') for k in range(1, steps) if top_down]
            values = [float(norm.weight.detach().abs().max()) for norm in norms]
            assert values == [1.0] * (len(norms) - 1) + [0.0], name


def test_zero_init_of_distance_0_leaves_the_only_norm_alone():
    model = net(50, distance=0)
    model.init_weights()
    assert model.layer4[0].bn3.weight.min() == 1
    assert model.layer2[0].bn3.weight.max() == 0


def top_gradients(model):
    return [b.searchlight.top.weight.grad.abs().max() for b in model.top_down_blocks().values()]


@pytest.mark.parametrize('attention', ['joint', 'top'])
@pytest.mark.parametrize('start', ['as constructed', 'without zero-init'])
def test_the_top_mlp_has_a_gradient_in_the_first_step(attention, start):
    model = net(50, attention=attention, zero_init_residual=start == 'as constructed')
    if start == 'without zero-init':
        model.init_weights()
    gradients(model.train(), x(size=64))
    assert all(g > 0 for g in top_gradients(model))


@pytest.mark.parametrize('attention', ['joint', 'top'])
def test_zero_init_costs_the_top_mlp_one_step(attention):
    """A zero weight at the end of a branch stops the gradient there, whatever the branch is: the
    plain blocks' convolutions wait for one step as well. The trap waits for ever.
    """
    ours, trap = net(50, attention=attention), net(50, attention=attention)
    for each in (ours, trap):
        each.init_weights()
        each.train()
    for block in trap.top_down_blocks().values():
        nn.init.zeros_(block.bn3.weight)
        nn.init.ones_(block.bn3_1.weight)
    seen = {}
    for name, each in (('ours', ours), ('trap', trap)):
        optimizer = torch.optim.SGD(each.parameters(), lr=0.01)
        for step in (0, 1):
            gradients(each, x(size=64))
            seen[name, step] = top_gradients(each)
            if (name, step) == ('ours', 0):
                assert each.layer2[0].conv3.weight.grad.abs().max() == 0  # a plain block
                assert each.layer4[0].bn3_1.weight.grad.abs().max() > 0
            optimizer.step()
    assert all(g == 0 for g in seen['ours', 0])
    assert all(g > 0 for g in seen['ours', 1])
    assert all(g == 0 for g in seen['trap', 0] + seen['trap', 1])
    assert all(b.bn3.weight.abs().max() == 0 for b in trap.top_down_blocks().values())


# ---------------------------------------------------------------- choices and errors


def test_a_preset_with_something_else():
    model = TDResNet(
        50, preset='r50-top-t2m3', steps=3, distance=1, base_channels=8, blocks=[[], [0], [], [-1]]
    )
    blocks = model.top_down_blocks()
    assert list(blocks) == ['layer2.0', 'layer4.2']
    assert blocks['layer2.0'].steps == 3 and blocks['layer2.0'].searchlight.attention == 'top'


@pytest.mark.parametrize(
    'options, text',
    [
        (dict(depth=20), r'depth must be one of \[18, 34, 50, 101, 152\], got 20'),
        (dict(depth=None), 'depth must be one of .* got None'),
        (dict(preset='r50'), "preset must be one of .*'r50-joint-t2m1'.* got 'r50'"),
        (dict(preset='r50-top-t2m1'), r'depth must be 50 \(or left out\) with .* got 18'),
        (dict(steps=0), 'steps must be a whole number >= 1, got 0'),
        (dict(steps=1.5), 'steps must be an integer or None, got 1.5'),
        (dict(distance=3), r'distance must be one of \(0, 1, 2\) in a TDBasicBlock, got 3'),
        (dict(depth=50, distance=4), r'distance must be one of \(0, 1, 2, 3\) .* got 4'),
        (dict(attention='down'), "attention must be one of .* got 'down'"),
        (dict(reduction=0), 'reduction must be >= 1, got 0'),
        (
            dict(blocks=[[0]]),
            r'blocks must hold a list .* for each of the 4 stages, got \[\[0\]\]',
        ),
        (dict(blocks='last'), "blocks must be a list or None, got 'last'"),
        (dict(blocks=[[], [], [], [2]]), 'blocks of stage 3 must be from 0 to 1 .* got 2'),
        (dict(init='x', steps=1), "init must be one of .* got 'x'"),
    ],
)
def test_errors(options, text):
    with pytest.raises((ValueError, TypeError), match=text):
        TDResNet(**{'depth': 18, 'base_channels': 8, 'reduction': 4, **options})
