"""The default target on small networks of many families: the map that the pooled head sees."""

import pytest
import torch
from torch import nn

from mmattn.core.modes import hooks
from mmattn.localization.cam import ScoreMaps
from mmattn.localization.layouts import find_layouts, last_tensor
from mmattn.localization.probes import follows_input, is_read

SIZE, CLASSES = 64, 5


def timm(name, **options):
    create = pytest.importorskip('timm', reason='timm is not installed').create_model
    options = dict(num_classes=CLASSES, **options)
    return create(name, **options)


def tv(name, *args, **options):
    models = pytest.importorskip('torchvision').models
    return getattr(models, name)(*args, num_classes=CLASSES, **options)


class Tensors(nn.Module):
    """An mmpretrain classifier that returns its scores."""

    def __init__(self, backbone, channels, neck=True, head='LinearClsHead'):
        super().__init__()
        pytest.importorskip('mmpretrain', reason='mmpretrain is not installed')
        from mmengine.registry import DefaultScope
        from mmpretrain.registry import MODELS

        neck = dict(type='GlobalAveragePooling') if neck else None
        head = dict(type=head, num_classes=CLASSES, in_channels=channels)
        model = dict(type='ImageClassifier', backbone=backbone, neck=neck, head=head)
        with DefaultScope.overwrite_default_scope('mmpretrain'):
            self.net = MODELS.build(model)

    def forward(self, x):
        return self.net(x, mode='tensor')


def mm(kind, channels, neck=True, head='LinearClsHead', **options):
    return Tensors(dict(type=kind, **options), channels, neck, head)


SWIN = dict(img_size=SIZE, embed_dim=24, depths=(2, 2), num_heads=(2, 4))
MM_SWIN = dict(img_size=SIZE, out_indices=(1,))
MM_SWIN['arch'] = dict(embed_dims=24, depths=[2, 2], num_heads=[2, 4])
VIT = dict(img_size=SIZE, patch_size=8, depth=2, embed_dim=32, num_heads=2)
TINY_VIT = dict(embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=64)
FOUR = dict(depths=(1, 1, 1, 1), dims=(8, 16, 24, 32))
SEQUENCER = dict(layers=(1,) * 4, embed_dims=(32,) * 4, hidden_sizes=(8,) * 4)
LEVIT = dict(embed_dim=(32, 48), key_dim=16, num_heads=(2, 3), depth=(1, 1))
ZOO = {
    'timm-resnet': (lambda: timm('test_resnet'), 'layer4'),
    'timm-efficientnet': (lambda: timm('test_efficientnet'), 'bn2'),
    'timm-nfnet': (lambda: timm('test_nfnet'), 'final_act'),
    'timm-swin': (lambda: timm('swin_tiny_patch4_window7_224', window_size=8, **SWIN), 'norm'),
    'timm-swin-windows': (
        lambda: timm('swin_tiny_patch4_window7_224', window_size=4, **SWIN),
        'norm',
    ),
    'timm-swinv2': (lambda: timm('swinv2_tiny_window8_256', window_size=4, **SWIN), 'norm'),
    'timm-sequencer': (lambda: timm('sequencer2d_s', img_size=SIZE, **SEQUENCER), 'norm'),
    'timm-mambaout': (lambda: timm('mambaout_femto', **FOUR), 'stages'),
    'timm-levit': (lambda: timm('levit_128s', img_size=SIZE, **LEVIT), 'stages'),
    'timm-vitamin': (lambda: timm('vitamin_small_224', img_size=SIZE, depth=1), 'blocks'),
    'timm-convnext': (lambda: timm('convnext_atto', **FOUR), 'stages'),
    'timm-vit': (lambda: timm('vit_tiny_patch16_224', **VIT), 'blocks.1.norm1'),
    'timm-vit-average': (
        lambda: timm('vit_tiny_patch16_224', global_pool='avg', class_token=False, **VIT),
        'blocks',
    ),
    'timm-vit-attention-pool': (lambda: timm('vit_base_patch16_siglip_224', **VIT), 'norm'),
    'torchvision-resnet': (lambda: tv('resnet18'), 'layer4'),
    'torchvision-swin': (
        lambda: tv('SwinTransformer', [4, 4], 8, [1, 1], [2, 2], [4, 4]),
        'permute',
    ),
    'torchvision-vit': (
        lambda: tv('VisionTransformer', SIZE, 8, 2, 2, 16, 32),  # its head starts at zero
        'encoder.layers.encoder_layer_1.ln_1',
    ),
    'mmpretrain-resnet': (
        lambda: mm('ResNet', 64, depth=18, stem_channels=8, base_channels=8),
        'net.backbone.layer4',
    ),
    'mmpretrain-swin': (
        lambda: mm('SwinTransformer', 48, window_size=4, **MM_SWIN),
        'net.backbone.norm1',
    ),
    'mmpretrain-convnext': (
        lambda: mm('ConvNeXt', 32, False, arch=dict(depths=[1] * 4, channels=[8, 16, 24, 32])),
        'net.backbone.stages.3',
    ),
    'mmpretrain-vit': (
        lambda: mm(
            'VisionTransformer',
            32,
            False,
            'VisionTransformerClsHead',
            img_size=SIZE,
            patch_size=8,
            arch=TINY_VIT,
        ),
        'net.backbone.layers.1.ln1',
    ),
}


def change(net, name, x, rows, columns):
    """Where a layer's map changes when a part of the image is shifted by noise, ``(h, w)``."""
    outputs = []
    other = x.clone()
    other[..., rows, columns] += torch.randn(other[..., rows, columns].shape)
    with (
        hooks([net.get_submodule(name)], lambda _, __, out: outputs.append(last_tensor(out))),
        torch.no_grad(),
    ):
        net(x)
        before = outputs[-1]
        net(other)
    layout = find_layouts(before.shape, x.shape[-2:])[0]
    return (layout.to_maps(outputs[-1]) - layout.to_maps(before)).abs().sum((0, 1))


@pytest.mark.parametrize('family', ZOO)
def test_the_map_that_the_head_sees(family):
    make, expected = ZOO[family]
    net = make().eval()
    x = torch.randn(2, 3, SIZE, SIZE)
    with ScoreMaps(net) as maps:
        out = maps(x, torch.tensor([[0, 1], [2, 3]]))
        assert maps.names == [expected]
    assert out.maps.shape[:2] == (2, 2) and min(out.maps.shape[-2:]) >= 2
    half = SIZE // 2
    quarters = [
        [
            change(net, expected, x[:1], rows, columns)
            for columns in (slice(half), slice(half, None))
        ]
        for rows in (slice(half), slice(half, None))
    ]
    h, w = out.maps.shape[-2:]
    for i in range(2):
        for j in range(2):  # each quarter of the map changes most with its quarter of the image
            own = [part[i * (h // 2) :, j * (w // 2) :] for row in quarters for part in row]
            own = [part[: h // 2, : w // 2].mean() for part in own]
            if min(h, w) > 2:
                assert int(torch.stack(own).argmax()) == 2 * i + j


def swin(window_size):
    return timm('swin_tiny_patch4_window7_224', window_size=window_size, **SWIN).eval()


def test_an_attention_matrix_is_no_map():
    """Its 64 x 64 query-key pairs look like a map of 64 x 64 pixels."""
    net, x = swin(8), torch.randn(1, 3, SIZE, SIZE)
    matrix, block = 'layers.1.blocks.1.attn.softmax', 'layers.1'
    shape = (1, 4, 64, 64)
    kept = []
    with hooks([net.get_submodule(matrix)], lambda _, __, out: kept.append(out)), torch.no_grad():
        net(x)
    assert kept[-1].shape == shape
    (layout,) = find_layouts(shape, (SIZE, SIZE))
    assert is_read(net, net, x, matrix, layout)
    assert follows_input(net, net, x, matrix, layout) is False
    (nhwc,) = find_layouts((1, 8, 8, 48), (SIZE, SIZE))
    assert follows_input(net, net, x, block, nhwc) is True


def test_a_layer_of_windows_is_no_map():
    net = swin(4)  # four windows in the last stage
    inside = 'layers.1.blocks.1.attn.softmax'
    with (
        ScoreMaps(net, target=inside) as maps,
        pytest.raises(ValueError, match='or no row for each image.*candidates: '),
    ):
        maps(torch.randn(2, 3, SIZE, SIZE), torch.tensor([0, 1]))
    own = dict(target=inside, reshape=lambda attn: attn.float())
    with (
        ScoreMaps(net, **own) as maps,
        pytest.raises(ValueError, match='gives 8 rows for 2 images'),
    ):
        maps(torch.randn(2, 3, SIZE, SIZE), torch.tensor([0, 1]))


def test_tokens_that_the_head_does_not_read():
    net, x = timm('vit_tiny_patch16_224', **VIT).eval(), torch.randn(1, 3, SIZE, SIZE)
    (layout,) = find_layouts((1, 65, 32), (SIZE, SIZE))
    read = [is_read(net, net, x, name, layout) for name in ('blocks.1.norm1', 'blocks.1', 'norm')]
    assert read == [True, False, False]


class Split(nn.Module):
    """A trunk, an idle branch that runs last, and a gate of one channel."""

    def __init__(self):
        super().__init__()
        self.trunk = nn.Conv2d(3, 6, 3, 4, 1)
        self.gate = nn.Conv2d(6, 1, 1)
        self.idle = nn.Conv2d(6, 6, 1)
        self.fc = nn.Linear(6, CLASSES)

    def forward(self, x):
        x = self.trunk(x)
        x = x * self.gate(x).sigmoid()
        self.idle(x)
        return self.fc(x.mean((2, 3)))


def test_idle_branches_and_gates_are_passed_over():
    with ScoreMaps(Split()) as maps:
        assert maps.prepare(torch.randn(1, 3, 32, 32)).names == ['trunk']


def test_channels_last_where_both_readings_fit():
    class Last(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.mix, self.fc = nn.Conv2d(3, 8, 4, 4), nn.Linear(8, 8), nn.Linear(8, 3)

        def forward(self, x):
            x = self.mix(self.conv(x).permute(0, 2, 3, 1))  # (N, 8, 8, 8)
            return self.fc(x.mean((1, 2)))

    net, x = Last().double(), torch.randn(2, 3, 32, 32, dtype=torch.float64)
    classes = torch.tensor([0, 2])
    expected = net.mix(net.conv(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    expected = torch.einsum('nc,nchw->nhw', net.fc.weight[classes] / 64, expected).clamp(min=0)
    for target in (None, 'mix'):
        with ScoreMaps(net, target=target) as maps:
            torch.testing.assert_close(maps(x, classes).maps[:, 0], expected)
            assert maps.names == ['mix']


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (torch.jit.script, r'TorchScript .* no hooks: give the nn.Module it was made from'),
        (lambda net: torch.jit.trace(net, torch.zeros(1, 3, 16, 16)), 'TorchScript'),
        (torch.compile, r'compiled \(it by torch.compile\).* give the network itself, _orig_mod'),
        (lambda net: nn.Sequential(torch.compile(net)), r"compiled \(its part '0' by torch.comp"),
        (lambda net: net.compile() or net, r'compiled \(it by its compile method\)'),
    ],
    ids=['scripted', 'traced', 'compiled', 'compiled-part', 'compiled-in-place'],
)
def test_networks_without_hooks(change, message):
    if message.endswith(r'method\)') and not hasattr(nn.Module, 'compile'):
        pytest.skip('this torch has no Module.compile')
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    with pytest.raises(ValueError, match=message):
        ScoreMaps(change(net.eval()))
