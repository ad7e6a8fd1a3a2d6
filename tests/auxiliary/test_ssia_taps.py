"""Numbers of taps: the stages of every kind of backbone, as its ``out_indices`` counts them."""

import pytest
import torch
from mmengine.model import BaseModel
from mmengine.registry import MODELS, init_default_scope

from mmattn.auxiliary.ssia import pool
from mmattn.auxiliary.taps import watch

from .models import OPTIONS, TOY, batch, build


@MODELS.register_module(force=True)
class BackboneAlone(BaseModel):
    """A backbone, and the mean of its maps as a loss."""

    def __init__(self, backbone, data_preprocessor=None):
        super().__init__(data_preprocessor)
        self.backbone = MODELS.build(backbone)

    def extract_feat(self, inputs):
        return self.backbone(inputs)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        maps = self.extract_feat(inputs)
        return dict(loss=sum(m.mean() for m in maps)) if mode == 'loss' else maps


HRNET = {
    f'stage{n}': dict(
        num_modules=1,
        num_branches=n,
        block='BOTTLENECK' if n == 1 else 'BASIC',
        num_blocks=(1,) * n,
        num_channels=(8, 16, 32, 64)[:n],
    )
    for n in (1, 2, 3, 4)
}
DEPTHS = dict(depths=(1, 1, 1, 1), num_heads=(1, 1, 2, 2), embed_dims=12)
PVT = dict(embed_dims=8, num_layers=(1, 1, 1, 1), num_heads=(1, 1, 2, 2))
EVERY = dict(out_indices=(0, 1, 2, 3))
SIDES = (16, 8, 4, 2)  # of images of 64
# options, sides of the stages' maps, whether out_indices returns these maps as they are
BACKBONES = {
    'mmdet.ResNet': (dict(depth=18, base_channels=8, **EVERY), SIDES, True),
    'mmdet.CSPDarknet': (
        dict(widen_factor=0.125, deepen_factor=0.33, out_indices=range(5)),
        (32, *SIDES),
        True,
    ),
    'mmdet.MobileNetV2': (
        dict(widen_factor=0.25, out_indices=range(8)),
        (32, 16, 8, 4, 4, 2, 2, 2),
        True,
    ),
    'mmdet.HRNet': (dict(extra=HRNET), SIDES, False),
    'mmdet.SwinTransformer': (dict(window_size=2, **DEPTHS), SIDES, False),
    'mmdet.PyramidVisionTransformer': (PVT, SIDES, False),
    'mmdet.PyramidVisionTransformerV2': (PVT, SIDES, False),
    'mmdet.HourglassNet': (
        dict(
            downsample_times=1,
            num_stacks=2,
            stage_channels=(8, 8),
            stage_blocks=(1, 1),
            feat_channel=8,
        ),
        (16, 16),
        True,
    ),
    'mmpretrain.SwinTransformer': (
        dict(arch=DEPTHS, img_size=64, window_size=2, **EVERY),
        SIDES,
        False,
    ),
    'mmpretrain.ConvNeXt': (
        dict(
            arch=dict(depths=[1] * 4, channels=[8, 8, 16, 16]),
            gap_before_final_norm=False,
            **EVERY,
        ),
        SIDES,
        False,
    ),
    'mmattn.MobileNetV1': (
        dict(widen_factor=0.25, out_indices=range(5)),
        (32, *SIDES),
        True,
    ),
    'mmattn.WideResNet': (
        dict(depth=10, widen_factor=1, out_indices=(0, 1)),
        (64, 32, 16),
        True,
    ),
}
SLOW = {'mmdet.Darknet': (dict(depth=53, out_indices=range(6)), (64, 32, *SIDES), True)}


def alone(kind, options, **given):
    pytest.importorskip(kind.split('.')[0])
    init_default_scope(kind.split('.')[0].replace('mmattn', 'mmdet'))
    backbone = dict(type=kind, **options)
    model = dict(type='BackboneAlone', backbone=backbone)
    return MODELS.build({**OPTIONS, 'model': model, 'norm': 'LN', 'sample': (3, 64, 64), **given})


@pytest.mark.parametrize(
    'kind', [*BACKBONES, *(pytest.param(kind, marks=pytest.mark.slow) for kind in SLOW)]
)
def test_numbers_are_the_stages(kind):
    options, sides, as_they_are = {**BACKBONES, **SLOW}[kind]
    model = alone(kind, options, taps=tuple(range(len(sides))))
    grids = [*(block.low_size for block in model.ssia.blocks), model.ssia.blocks[-1].high_size]
    assert grids == [(side, side) for side in sides]
    inputs = torch.randn(2, 3, 64, 64)
    model.eval()
    with torch.no_grad(), watch(model, model.ssia.taps) as pooled:
        maps = model.extract_feat(inputs)
    names = [model.ssia.pairs[0][0], *(high for _, high in model.ssia.pairs)]
    for name, side in zip(names, sides):
        assert pooled[name].spatial.shape == (2, 1, side, side)
    for _, high in model.ssia.pairs:  # after a LayerNorm it would be flat
        assert pooled[high].spatial.std() > 1e-5 * pooled[high].channel.abs().mean(), high
    if as_they_are:
        for name, x in zip(names, maps):
            torch.testing.assert_close(pooled[name][:2], pool(x)[:2])
    losses = model.train()(inputs, mode='loss')
    assert len(losses) == 1 + 2 * (len(sides) - 1)
    sum(losses.values()).backward()
    assert all(p.grad is not None for p in model.ssia.parameters())


def test_a_map_among_several():
    """A name with a place in brackets; here a neck's."""
    model = alone('mmdet.HRNet', dict(extra=HRNET), taps=('backbone[0]', 'backbone[2]'))
    assert [block.high_size for block in model.ssia.blocks] == [(4, 4)]
    inputs = torch.randn(2, 3, 64, 64)
    with torch.no_grad(), watch(model.eval(), model.ssia.taps) as pooled:
        maps = model.extract_feat(inputs)
    torch.testing.assert_close(pooled['backbone[2]'][:2], pool(maps[2])[:2])
    for taps, words in (
        (('backbone[0]', 'backbone[4]'), r"tap 'backbone\[4\]' must give one .*, got list"),
        (
            ('backbone.layer1[1]', 'backbone[3]'),
            r"tap 'backbone.layer1\[1\]' must .*, got \(1, 32",
        ),
        (('neck[0]', 'backbone[3]'), r"taps must name modules of BackboneAlone, got 'neck\[0\]'"),
    ):
        with pytest.raises(ValueError, match=words):
            alone('mmdet.HRNet', dict(extra=HRNET), taps=taps)


VIT = dict(embed_dims=12, num_layers=2, num_heads=2, feedforward_channels=12)


@pytest.mark.parametrize(
    'kind, options, words',
    [
        (
            'mmpretrain.VisionTransformer',
            dict(arch=VIT, img_size=64, patch_size=16),
            r"tap 'backbone.layers.0' must give one \(N, C, H, W\) map, got \(1, 17, 12\)",
        ),
        (
            'mmpretrain.PoolFormer',
            dict(arch='s12'),
            'names of modules, as PoolFormer has no list of stages, got 0',
        ),
    ],
)
def test_a_backbone_without_stages(kind, options, words):
    with pytest.raises(ValueError, match=words):
        alone(kind, options, taps=(0, 1))


def test_a_flat_config_is_the_nested_one():
    flat = MODELS.build({**OPTIONS, 'wrapped': 'ToyClassifier', 'kernel_size': 2, 'hidden': 8})
    nested, _ = build(dict(TOY, kernel_size=2), hidden=8)
    assert type(flat) is type(nested)
    assert flat.ssia.blocks[0].predictors['channel'][0].out_features == 8
    flat.load_state_dict(nested.state_dict())
    flat.ssia.load_state_dict(nested.ssia.state_dict())
    inputs, labels = batch()
    expected = nested(inputs, labels, mode='loss')
    torch.testing.assert_close(flat(inputs, labels, mode='loss'), expected)
