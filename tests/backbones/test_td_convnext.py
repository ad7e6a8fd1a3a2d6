"""TDConvNeXt: values, counts, layouts, loading."""

import copy

import pytest
import torch

pytest.importorskip('mmpretrain')

from mmpretrain.models.backbones import ConvNeXt
from mmpretrain.models.backbones.convnext import ConvNeXtBlock
from mmpretrain.registry import MODELS
from torch import nn

from mmattn.backbones import TDConvNeXt
from mmattn.backbones.td_convnext import PRESETS, TDConvNeXtBlock
from tests.backbones.top_down_cases import count_gmacs, count_parameters, gradients, make_block
from tests.reference import tdam
from tests.values import check_values, image

ARCH = dict(depths=[1, 1, 2, 1], channels=[8, 8, 16, 16])
MAPS = dict(out_indices=[0, 1, 2, 3], gap_before_final_norm=False)


def net(host=TDConvNeXt, seed=0, **options):
    torch.manual_seed(seed)
    extra = dict(reduction=4) if host is TDConvNeXt else {}
    return host(ARCH, **{**MAPS, 'layer_scale_init_value': 0.5, **extra, **options})


def x(size=64):
    return torch.randn(2, 3, size, size + 32, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize('linear', [True, False], ids=['linear', 'conv'])
@pytest.mark.parametrize(
    'distance, options',
    [
        pytest.param(1, {}, id='m1'),
        pytest.param(2, dict(attention='top', steps=3), id='m2-top-t3'),
        pytest.param(1, dict(init='identity'), id='m1-identity'),
    ],
)
def test_block_values(distance, options, linear):
    block = make_block(
        TDConvNeXtBlock, 4, distance=distance, reduction=2, linear_pw_conv=linear, **options
    )

    def reference(v, p):
        if not linear:
            p = {
                k: w.flatten(1) if 'pointwise' in k and 'weight' in k else w for k, w in p.items()
            }
        return tdam.convnext_block(v, p, options.get('steps', 2), distance)

    check_values(block, reference, (image(2, 4, 3, 4),), training=False)


class _NoInit(torch.overrides.TorchFunctionMode):
    """Large networks are only counted here: leave out their initial values."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if getattr(func, '__module__', '') == 'torch.nn.init':
            return (kwargs or {}).get('tensor', args[0] if args else None)
        return func(*args, **(kwargs or {}))


# COSTS.md for tiny; small and base: the host's count plus our searchlights, worked out below
@pytest.mark.parametrize(
    'arch, parameters, gmacs',
    [
        pytest.param('tiny', 31105096, 5.845, id='tiny'),
        pytest.param('small', None, None, id='small'),
        pytest.param('base', None, None, id='base'),
    ],
)
def test_costs(arch, parameters, gmacs):
    with _NoInit():
        model = nn.Sequential(
            TDConvNeXt(preset=f'{arch}-joint-t2m1'), _Last(), nn.Linear(_width(arch), 1000)
        )
    if parameters is None:
        with _NoInit():
            plain = nn.Sequential(ConvNeXt(arch), nn.Linear(_width(arch), 1000))
        new = 0
        for c, blocks in ((_width(arch) // 2, 11), (_width(arch), 3)):
            hidden = c // 16
            new += blocks * hidden * (c + 4 * c + 2 * 4 * c)
        parameters = count_parameters(plain) + new
    assert count_parameters(model) == parameters
    if gmacs is not None:
        assert count_gmacs(model.to('meta'), only_macs=True) == pytest.approx(gmacs, abs=6e-4)


class _Last(nn.Module):
    def forward(self, outs):
        return outs[-1]


def _width(arch):
    return ConvNeXt.arch_settings[arch]['channels'][-1]


def test_every_preset_is_counted():
    assert set(PRESETS) == {f'{arch}-joint-t2m1' for arch in ('tiny', 'small', 'base')}


@pytest.mark.parametrize('linear', [True, False])
@pytest.mark.parametrize('distance', [1, 2])
def test_maps_gradients_and_checkpointing(distance, linear):
    model = net(distance=distance, linear_pw_conv=linear, drop_path_rate=0.0)
    model.init_weights()
    for block in model.modules():  # the rule's 0.02 gives gradients too small to compare
        if isinstance(block, nn.Conv2d | nn.Linear):
            nn.init.normal_(block.weight, std=0.2)
    model.train()
    sizes = [tuple(out.shape[1:]) for out in model(x())]
    assert sizes == [(8, 16, 24), (8, 8, 12), (16, 4, 6), (16, 2, 3)]
    other = copy.deepcopy(model)
    for block in other.modules():
        if isinstance(block, ConvNeXtBlock):
            block.with_cp = True
    once, twice = gradients(model, x()), gradients(other, x())
    for name, grad in once.items():
        assert grad.isfinite().all() and grad.abs().max() > 0, name
        torch.testing.assert_close(twice[name], grad, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize('options', [dict(steps=1), dict(init='identity', steps=3, distance=2)])
def test_plain_checkpoint_plain_network(options):
    host, ours = net(ConvNeXt, seed=1), net(**options)
    result = ours.load_state_dict(host.state_dict(), strict=False)
    assert not result.unexpected_keys
    assert all('searchlight' in key for key in result.missing_keys)
    assert bool(result.missing_keys) == ('init' in options)
    for a, b in zip(host(x()), ours(x())):
        assert torch.equal(a, b)


def test_the_searchlight_starts_by_the_hosts_rule():
    """As in the authors' code: a truncated normal of 0.02 for every convolution."""
    model = net()
    model.init_weights()
    weights = torch.cat([p.flatten() for n, p in model.named_parameters() if 'searchlight' in n])
    assert 0.018 < weights.std() < 0.022


def test_stochastic_depth_drops_the_branch():
    ours = net(drop_path_rate=0.9)
    block = ours.stages[-1][-1]
    assert isinstance(block, TDConvNeXtBlock)
    y = torch.randn(8, 16, 4, 4)
    block.train()
    torch.manual_seed(0)
    dropped = (block(y) == y).flatten(1).all(1)
    assert 0 < dropped.sum() <= 8
    assert not (block.eval()(y) == y).flatten(1).all(1).any()


def test_frozen_stages_leave_the_searchlights():
    model = net(frozen_stages=3)
    model.train()
    assert model.stages[2][0].searchlight.top.weight.requires_grad
    assert not model.stages[2][0].pointwise_conv1.weight.requires_grad


def test_from_a_config_with_grn():
    model = MODELS.build(
        dict(
            type='mmattn.TDConvNeXt',
            arch=ARCH,
            use_grn=True,
            layer_scale_init_value=0.0,
            blocks=[[], [], [-1], []],
            reduction=4,
        )
    )
    assert list(model.top_down_blocks()) == ['stages.2.1']
    assert model(x())[-1].shape == (2, 16)


@pytest.mark.parametrize(
    'options, text',
    [
        (dict(arch='micro'), "arch must be one of .*'tiny'.* got 'micro'"),
        (dict(preset='t'), "preset must be one of .*'tiny-joint-t2m1'.* got 't'"),
        (dict(preset='tiny-joint-t2m1', arch='base'), "arch must be 'tiny' .* got 'base'"),
        (dict(arch=ARCH, distance=3), r'distance must be one of \(1, 2\) .* got 3'),
        (dict(arch=ARCH, blocks=[[], [], [2], []]), 'blocks of stage 2 must be from 0 to 1'),
    ],
)
def test_errors(options, text):
    with pytest.raises(ValueError, match=text):
        TDConvNeXt(**options)
