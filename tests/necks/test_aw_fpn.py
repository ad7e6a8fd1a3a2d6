import copy

import pytest
import torch
from mmdet.models.necks import FPN
from mmdet.registry import MODELS
from torch import nn

from mmattn.convs import AWConv2d
from mmattn.layers import CBAM, SE

WIDTHS = [256, 512, 1024, 2048]
SMALL = [8, 16, 32]
GATES = {'se': dict(type='mmattn.SE'), 'cbam': dict(type='mmattn.CBAM')}


def build(widths=SMALL, out_channels=16, num_outs=4, **options):
    cfg = dict(in_channels=widths, out_channels=out_channels, num_outs=num_outs, **options)
    return MODELS.build(dict(type='mmattn.AWFPN', **cfg))


def maps(widths=SMALL, batch=2):
    torch.manual_seed(1)
    return [torch.randn(batch, c, 16 >> i, 20 >> i) for i, c in enumerate(widths)]


def count(module):
    return sum(p.numel() for p in module.parameters())


def reference(neck, inputs):
    """FPN with a gate before each convolution, written out."""

    def layer(module, x):
        return module.conv(module.gate(x) if hasattr(module, 'gate') else x)

    laterals = [layer(m, x) for m, x in zip(neck.lateral_convs, inputs)]
    for i in range(len(laterals) - 1, 0, -1):
        size = laterals[i - 1].shape[2:]
        laterals[i - 1] = laterals[i - 1] + nn.functional.interpolate(laterals[i], size=size)
    outs = [layer(m, x) for m, x in zip(neck.fpn_convs, laterals)]
    return [*outs, outs[-1][:, :, ::2, ::2]]


# COSTS.md, "Own reference numbers": ResNet widths to 256
@pytest.mark.parametrize(
    'options, expected',
    [
        (dict(conv_cfg=None), 3344384),
        (dict(), 3459328),
        (dict(conv_cfg=None, gate_cfg=GATES['se']), 3344384 + 700400 + 33856),
        (dict(gate_cfg=GATES['se']), 3459328 + 700400 + 33856),
        (dict(conv_cfg=None, gate_cfg=GATES['cbam']), 3344384 + 700800 + 34256),
        (dict(gate_cfg=GATES['cbam']), 3459328 + 700800 + 34256),
    ],
    ids=['fpn', 'aw-fpn', 'se-fpn', 'aw-se-fpn', 'cbam-fpn', 'aw-cbam-fpn'],
)
def test_parameters_of_the_six_rows(options, expected):
    assert count(build(WIDTHS, 256, 5, **options)) == expected


@pytest.mark.parametrize('gate', [None, 'se', 'cbam'])
@pytest.mark.parametrize('aw', [True, False], ids=['aw', 'plain'])
def test_values(aw, gate):
    options = {} if aw else dict(conv_cfg=None)
    neck = build(gate_cfg=GATES.get(gate), **options).eval()
    for module in neck.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight)
            nn.init.uniform_(module.running_var, 0.5, 2)
    outs = neck(maps())
    assert len(outs) == 4
    for ours, theirs in zip(outs, reference(neck, maps())):
        torch.testing.assert_close(ours, theirs)
    convs = [m for m in neck.modules() if isinstance(m, AWConv2d)]
    assert len(convs) == (6 if aw else 0)


@pytest.mark.parametrize('gate, kind', [('se', SE), ('cbam', CBAM)])
def test_a_gate_before_every_convolution(gate, kind):
    neck = build(gate_cfg=GATES[gate])
    widths = [
        layer.gate.mlp[0].in_channels if kind is CBAM else layer.gate.fc1.in_channels
        for layer in (*neck.lateral_convs, *neck.fpn_convs)
    ]
    assert widths == [8, 16, 32, 16, 16, 16]
    sum(out.sum() for out in neck(maps())).backward()
    assert all(layer.gate is not None for layer in neck.lateral_convs)
    ungraded = [n for n, p in neck.named_parameters() if p.grad is None]
    assert not ungraded


@pytest.mark.parametrize('gate', [None, 'se', 'cbam'])
def test_plain_checkpoint_loads(gate):
    plain = FPN(SMALL, 16, 4)
    neck = build(gate_cfg=GATES.get(gate))
    missing, unexpected = neck.load_state_dict(plain.state_dict(), strict=False)
    assert not unexpected
    new = ('.gate.', '.conv.branch.')
    assert missing and all(any(part in name for part in new) for name in missing)


@pytest.mark.parametrize('gate', [None, 'se', 'cbam'])
def test_identity_equals_the_plain_neck(gate):
    plain = FPN(SMALL, 16, 4)
    gate_cfg = dict(GATES[gate], init='identity') if gate else None
    neck = build(conv_cfg=dict(type='mmattn.AWConv2d', init='identity'), gate_cfg=gate_cfg)
    neck.load_state_dict(plain.state_dict(), strict=False)
    for ours, theirs in zip(neck(maps()), plain(maps())):
        torch.testing.assert_close(ours, theirs)


def test_initial_values_survive_the_host():
    neck = build(gate_cfg=GATES['cbam'])
    for layer in neck.lateral_convs:
        nn.init.ones_(layer.gate.spatial[1].weight)
        nn.init.ones_(layer.gate.mlp[0].bias)
    neck.init_weights()
    for layer in (*neck.lateral_convs, *neck.fpn_convs):
        assert layer.gate.spatial[1].weight == 0  # CBAM's own start
        bound = layer.gate.mlp[0].in_channels ** -0.5
        assert layer.gate.mlp[0].bias.abs().max() <= bound
        # the host's Xavier rule reaches the attended convolutions themselves
        fan = layer.conv.weight[0].numel() + layer.conv.weight[:, 0].numel()
        assert (6 / fan) ** 0.5 * 0.8 < layer.conv.weight.abs().max() <= (6 / fan) ** 0.5


def test_extra_convs_are_attended_too():
    neck = build(num_outs=5, add_extra_convs='on_output', gate_cfg=GATES['se'])
    assert len(neck.fpn_convs) == 5
    assert all(isinstance(layer.conv, AWConv2d) for layer in neck.fpn_convs)
    assert [out.shape[1] for out in neck(maps())] == [16] * 5


def test_deep_copy_is_independent():
    neck = build(gate_cfg=GATES['se']).eval()
    twin = copy.deepcopy(neck)
    before = twin(maps())[0]
    with torch.no_grad():
        neck.lateral_convs[0].gate.fc2.bias.add_(5)
    torch.testing.assert_close(twin(maps())[0], before)
    assert (neck(maps())[0] - before).abs().max() > 1e-3


def test_the_config_is_left_as_it_was():
    gate = dict(GATES['se'])
    build(gate_cfg=gate)
    assert gate == GATES['se']


def test_weight_standardisation_of_the_neck_is_kept():
    """A config's own conv_cfg comes along when only the type is exchanged."""
    cfg = dict(conv_cfg=dict(type='ConvWS'))
    plain = FPN(SMALL, 16, 4, **cfg)
    neck = build(over_cfg=dict(init='identity'), **cfg)
    missing, unexpected = neck.load_state_dict(plain.state_dict(), strict=False)
    assert not unexpected and all('.conv.branch.' in k or k.endswith('gamma') for k in missing)
    x = [m.double() for m in maps()]  # standardised weights are large
    for ours, theirs in zip(neck.double()(x), plain.double()(x), strict=True):
        torch.testing.assert_close(ours, theirs)
    paper = build(**cfg)
    convs = [m for m in paper.modules() if isinstance(m, AWConv2d)]
    assert len(convs) == 6 and all(conv.gamma is None for conv in convs)
    paper.load_state_dict(plain.state_dict(), strict=False)
    assert (paper.double()(x)[0] - plain(x)[0]).abs().max() > 1e-2


def test_bad_options():
    with pytest.raises(ValueError, match=r"conv_cfg must be None, an attention .*'DCNv2'"):
        build(conv_cfg=dict(type='DCNv2'))
    with pytest.raises(ValueError, match='reduction must be >= 1, got 0'):
        build(conv_cfg=dict(type='mmattn.AWConv2d', reduction=0))
    with pytest.raises(ValueError, match='reduction must be >= 1, got 0'):
        build(gate_cfg=dict(type='mmattn.SE', reduction=0))
    with pytest.raises(
        ValueError, match=r'r_c1 must be a divisor of in_channels / groups \(8\), got 3'
    ):
        build(conv_cfg=dict(type='mmattn.AWConv2d', r_c1=3))


def test_pretrained_gates_are_kept(tmp_path):
    trained = build(gate_cfg=GATES['cbam'])
    file = tmp_path / 'neck.pth'
    torch.save(trained.state_dict(), file)
    init_cfg = dict(type='Pretrained', checkpoint=str(file))
    neck = build(gate_cfg=GATES['cbam'], init_cfg=init_cfg)
    neck.init_weights()
    torch.testing.assert_close(dict(neck.state_dict()), dict(trained.state_dict()))


def test_a_second_call_changes_nothing():
    neck = build(gate_cfg=GATES['se'])
    neck.init_weights()
    before = {name: value.clone() for name, value in neck.state_dict().items()}
    neck.init_weights()
    torch.testing.assert_close(dict(neck.state_dict()), before)
