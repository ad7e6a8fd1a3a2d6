import pytest
import torch
import torch.nn.functional as F
from mmcv.cnn import ConvModule
from torch import nn

from mmattn.convs import AAConv2d, AWConv2d
from mmattn.layers import _attention
from tests.reference import aa_conv as reference

OPTIONS = dict(in_channels=3, out_channels=8, kernel_size=3, padding=1, dk=6, dv=4, num_heads=2)


def make(**options):
    torch.manual_seed(0)
    conv = AAConv2d(**{**OPTIONS, **options}).double()
    for module in conv.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return conv


def expected_output(conv, x):
    """The concatenation of both halves, attention by the loops."""
    q, k, v = conv.qkv(x).split((conv.dk, conv.dk, conv.dv), 1)
    heads = reference.self_attention(q, k, v, conv.num_heads, conv.rel_h, conv.rel_w)
    attended = conv.mix(heads)
    weight, bias = conv.weight, conv.bias
    if conv.branch is not None:  # scaled weights, image by image
        attn = conv.branch(x)
        convolved = torch.cat(
            [
                F.conv2d(x[n : n + 1], weight + attn[n] * weight, bias, conv.stride, 1)
                for n in range(len(x))
            ]
        )
    else:
        convolved = F.conv2d(x, weight, bias, conv.stride, 1)
    return torch.cat((convolved, attended), 1)


@pytest.mark.parametrize(
    'options',
    [
        dict(),
        dict(map_size=(4, 3)),
        dict(stride=2, map_size=(2, 2)),
        dict(aw='conv', reduction=2),
        dict(aw='qkv', reduction=2, map_size=(4, 3)),
        dict(aw='out', reduction=2),
    ],
    ids=['plain', 'relative', 'stride', 'AW-AA-1', 'AW-AA-2', 'AW-AA-3'],
)
@pytest.mark.parametrize('training', [True, False], ids=['train', 'eval'])
def test_equals_the_loops(options, training):
    conv = make(**options).train(training)
    x = torch.randn(2, 3, 4, 3, dtype=torch.float64, requires_grad=True)
    expected, out = expected_output(conv, x), conv(x)
    torch.testing.assert_close(out, expected, rtol=1e-9, atol=1e-9)
    torch.manual_seed(1)
    direction = torch.randn_like(out)
    params = [x, *conv.parameters()]
    ours = torch.autograd.grad((out * direction).sum(), params)
    theirs = torch.autograd.grad((expected * direction).sum(), params)
    for a, b in zip(ours, theirs):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-9)


def test_aw_places():
    assert isinstance(make(aw='qkv').qkv, AWConv2d)
    assert isinstance(make(aw='out').mix, AWConv2d)
    assert make(aw='conv').branch.pw2.out_channels == 4  # C2 - dv filters, one value each
    plain = make()
    assert plain.branch is None
    assert not any(isinstance(m, AWConv2d) for m in plain.modules())


def test_embeddings_are_interpolated_to_other_sizes():
    conv = make(map_size=(3, 2))
    x = torch.randn(1, 3, 5, 4, dtype=torch.float64)
    other = make(map_size=(5, 4))
    other.load_state_dict(
        {k: v for k, v in conv.state_dict().items() if 'rel' not in k}, strict=False
    )
    with torch.no_grad():
        for name, size in (('rel_h', 5), ('rel_w', 4)):
            small = getattr(conv, name)
            steps = torch.linspace(0, len(small) - 1, 2 * size - 1, dtype=torch.float64)
            low = steps.floor().long().clamp(max=len(small) - 2)
            share = (steps - low)[:, None]
            getattr(other, name).copy_(small[low] * (1 - share) + small[low + 1] * share)
    torch.testing.assert_close(conv(x), other(x))


def test_without_relative_encoding_positions_do_not_matter():
    conv = make()
    x = torch.randn(1, 3, 4, 3, dtype=torch.float64)
    flipped = conv(x.flip(3))[:, 4:].flip(3)
    torch.testing.assert_close(conv(x)[:, 4:], flipped)
    relative = make(map_size=(4, 3))
    assert (relative(x.flip(3))[:, 4:].flip(3) - relative(x)[:, 4:]).abs().max() > 1e-3


@pytest.mark.parametrize('aw', ['none', 'conv', 'qkv', 'out'])
def test_identity_starts_as_the_plain_conv(aw):
    conv = make(init='identity', aw=aw, map_size=(5, 6), reduction=2)
    plain = nn.Conv2d(3, 8, 3, padding=1).double()
    conv.load_state_dict(plain.state_dict(), strict=False)
    x = torch.randn(2, 3, 5, 6, dtype=torch.float64)
    torch.testing.assert_close(conv(x), plain(x))
    conv(x).square().sum().backward()
    assert conv.gamma.grad != 0
    with torch.no_grad():
        conv.gamma.fill_(0.5)
    conv.zero_grad()
    conv(x).square().sum().backward()
    without = [n for n, p in conv.named_parameters() if p.grad is None or not p.grad.any()]
    assert not without


def test_plain_checkpoint_gives_its_first_filters():
    plain, conv = nn.Conv2d(3, 8, 3, padding=1).double(), make()
    missing, unexpected = conv.load_state_dict(plain.state_dict(), strict=False)
    assert not unexpected
    assert {name.split('.')[0] for name in missing} == {'qkv', 'mix'}
    torch.testing.assert_close(conv.weight, plain.weight[:4])
    torch.testing.assert_close(conv.bias, plain.bias[:4])
    conv.load_state_dict(conv.state_dict())  # its own loads as it is


def test_fractions_are_the_papers_kappa_and_upsilon():
    conv = AAConv2d(16, 160, 3, padding=1)  # kappa 0.2, upsilon 0.1, 8 heads
    assert (conv.dk, conv.dv) == (160, 16)  # at least 20 key channels a head
    conv = AAConv2d(16, 1600, 3, padding=1)
    assert (conv.dk, conv.dv) == (320, 160)


def test_host_initialisation_leaves_the_embeddings():
    layer = ConvModule(
        8, 16, 3, padding=1, conv_cfg=dict(type='mmattn.AAConv2d', num_heads=2, map_size=(9, 9))
    )
    std = layer.conv.rel_h.std()
    assert 0.7 < std / (layer.conv.num_heads / layer.conv.dk) ** 0.5 < 1.3
    assert layer(torch.randn(2, 8, 5, 7)).shape == (2, 16, 5, 7)


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(dk=5), r'dk must be a multiple of num_heads \(2\), got 5'),
        (dict(dv=3), r'dv must be a multiple of num_heads \(2\), got 3'),
        (dict(dv=8), r'dv must be below out_channels \(8\), got 8'),
        (dict(dk=1.5), r'dk as a fraction must be in \(0, 1\], got 1.5'),
        (dict(num_heads=0), 'num_heads must be >= 1, got 0'),
        (dict(groups=3, in_channels=3), 'groups must be 1, got 3'),
        (dict(padding=0), r'padding must keep the size \(1 for kernel_size 3 .* got 0'),
        (dict(aw='both'), r"aw must be one of \('none', 'conv', 'qkv', 'out'\), got 'both'"),
        (dict(map_size=(0, 7)), r'map_size must be .* got \(0, 7\)'),
        (dict(init='zero'), "init must be one of .*, got 'zero'"),
        (dict(aw='out', norm='LN'), "norm must be one of .*, got 'LN'"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        AAConv2d(**{**OPTIONS, **options})


@pytest.mark.parametrize('map_size', [None, (5, 4)])
def test_blocks_of_queries_change_nothing(map_size, monkeypatch):
    conv = make(map_size=map_size)
    x = torch.randn(2, 3, 5, 4, dtype=torch.float64, requires_grad=True)

    def run():
        out = conv(x)
        return out, torch.autograd.grad(out.square().sum(), [x, *conv.parameters()])

    expected = run()
    monkeypatch.setattr('mmattn.layers._attention.MAX_SCORES', 7 * 4 * 20)  # 7 of 20 queries
    blocks = []
    plain = _attention.plain_attention
    monkeypatch.setattr(
        _attention, 'plain_attention', lambda q, *a: blocks.append(q.shape[1]) or plain(q, *a)
    )
    torch.testing.assert_close(run(), expected, rtol=1e-9, atol=1e-9)
    assert blocks[:3] == [7, 7, 6]
