"""MobileNetV1 and WideResNet, plain and with attention by rules."""

import pytest
import torch
from mmdet.registry import MODELS
from torch import nn

from mmattn.analysis.complexity import measure_complexity
from mmattn.backbones import MobileNetV1, WideResNet


def classifier(cfg, width, classes):
    """Backbone, average pooling and a linear layer on the meta device: for counting only."""

    class Classifier(nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone = MODELS.build(cfg)
            self.fc = nn.Linear(width, classes)

        def forward(self, x):
            return self.fc(self.backbone(x)[-1].mean((2, 3)))

    return Classifier().to('meta')


def attend(wrapped, attention, **options):
    return dict(type='mmattn.Attend', wrapped=wrapped, attention=attention, **options)


AW = dict(conv=dict(type='mmattn.AWConv2d'), replace=r'.*pointwise_conv\.conv')


def gates(**gate):
    return dict(gate=gate, after=r'stage.*(depthwise|pointwise)_conv')


SE = gates(type='mmattn.SE')
CBAM = gates(type='mmattn.CBAM')
CBAM_SPATIAL = gates(type='mmattn.CBAM', max_pool=False)


# COSTS.md, AW paper Table 1: parameters (M) and GMACs in convention A
@pytest.mark.parametrize(
    'rules, params, gmacs',
    [
        ([], '4.2320', '0.5687'),
        ([SE], '5.0721', '0.5696'),
        ([AW, SE], '5.5209', '0.5731'),
        ([CBAM], '5.0747', '0.5746'),
        ([AW, CBAM_SPATIAL], '5.5235', '0.5774'),
    ],
    ids=['plain', 'SE', 'AW-SE', 'CBAM', 'AW-CBAM (Spatial)'],
)
def test_mobilenet_rows(rules, params, gmacs):
    model = classifier(attend('mmattn.MobileNetV1', rules), 1024, 1000)
    counted = measure_complexity(model, torch.zeros(1, 3, 224, 224, device='meta'))
    assert (f'{counted.params / 1e6:.4f}', f'{counted.macs / 1e9:.4f}') == (params, gmacs)


def augmented(aw='none', *more):
    """AA-Wide-ResNet: the first 3x3 of every block."""
    return [
        dict(
            conv=dict(type='mmattn.AAConv2d', map_size=(size, size), aw=aw),
            replace=rf'layer{stage}.*conv1',
        )
        for stage, size in ((1, 32), (2, 16), (3, 8))
    ] + list(more)


# COSTS.md, AW paper Table 2, the rows "as stated" (WRN-28-10, kappa 0.2, upsilon 0.1, 8 heads)
@pytest.mark.parametrize(
    'rules, params',
    [
        (augmented(), '36.3127'),
        (
            augmented('none', dict(conv=dict(type='mmattn.AWConv2d'), replace='layer.*conv2')),
            '36.5910',
        ),
        (augmented('conv'), '36.5354'),
        (augmented('qkv'), '36.5067'),
        (augmented('out'), '36.3163'),
    ],
    ids=['AA', 'AW-AA-0', 'AW-AA-1', 'AW-AA-2', 'AW-AA-3'],
)
def test_wide_resnet_rows(rules, params):
    model = classifier(attend('mmattn.WideResNet', rules), 640, 100)
    assert f'{sum(p.numel() for p in model.parameters()) / 1e6:.4f}' == params


def test_mobilenet_maps():
    net = MobileNetV1(widen_factor=0.25, out_indices=(0, 1, 2, 3, 4))
    outs = net(torch.randn(2, 3, 64, 96))
    assert [tuple(out.shape[1:]) for out in outs] == [
        (16, 32, 48),
        (32, 16, 24),
        (64, 8, 12),
        (128, 4, 6),
        (256, 2, 3),
    ]


def test_mobilenet_frozen_stages_and_norm_eval():
    net = MobileNetV1(widen_factor=0.25, frozen_stages=2, norm_eval=True).train()
    frozen = {name.split('.')[0] for name, p in net.named_parameters() if not p.requires_grad}
    assert frozen == {'conv1', 'stage1', 'stage2'}
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    assert not any(norm.training for norm in norms)
    assert net.stage3.training


def test_mobilenet_checkpointing_changes_nothing():
    torch.manual_seed(0)
    plain = MobileNetV1(widen_factor=0.25).eval()
    cheap = MobileNetV1(widen_factor=0.25, with_cp=True).eval()
    cheap.load_state_dict(plain.state_dict())
    x = torch.randn(1, 3, 32, 32, requires_grad=True)
    grads = []
    for net in (plain, cheap):
        net(x)[-1].sum().backward()
        grads.append([p.grad for p in net.parameters()])
    torch.testing.assert_close(grads[0], grads[1])


def test_wide_resnet_values():
    """One block by hand; its shortcut starts after the first ReLU."""
    torch.manual_seed(0)
    net = WideResNet(depth=10, widen_factor=1, out_indices=(0, 1, 2)).eval()
    x = torch.randn(2, 3, 8, 12)
    outs = net(x)
    assert [tuple(out.shape) for out in outs] == [(2, 16, 8, 12), (2, 32, 4, 6), (2, 64, 2, 3)]
    block = net.layer2[0]
    activated = torch.relu(block.norm1(outs[0]))
    out = block.conv2(torch.relu(block.norm2(block.conv1(activated))))
    torch.testing.assert_close(outs[1], out + block.shortcut(activated))
    assert net.layer1[0].shortcut is None
    assert outs[2].min() >= 0


@pytest.mark.parametrize(
    'kind, options, message',
    [
        (MobileNetV1, dict(widen_factor=0), 'widen_factor must be above 0 and finite, got 0'),
        (MobileNetV1, dict(out_indices=(5,)), r'out_indices must be from 0 to 4, got \(5,\)'),
        (MobileNetV1, dict(frozen_stages=6), 'frozen_stages must be from -1 to 5, got 6'),
        (WideResNet, dict(depth=30), r'depth must be 6 n \+ 4 with n >= 1, got 30'),
        (WideResNet, dict(widen_factor=0), 'widen_factor must be >= 1, got 0'),
        (WideResNet, dict(out_indices=(3,)), r'out_indices must be of 0, 1, 2, got \(3,\)'),
    ],
)
def test_bad_options(kind, options, message):
    with pytest.raises(ValueError, match=message):
        kind(**options)
