"""LearnToPayVGG beside mmpretrain's VGG, its maps traced by hand."""

import pytest
import torch
from torch import nn

pytest.importorskip('mmpretrain')

from mmpretrain.registry import MODELS

from mmattn.backbones import LearnToPayVGG
from tests.reference.learn_to_pay import learn_to_pay_head


def fixed(net):
    """In eval mode; the host's ``train`` returns nothing."""
    net.eval()
    return net


def trace(net, x):
    """The output of every convolution with its ReLU, in order."""
    outs = []
    for layer in net.features:
        x = layer(x)
        if not isinstance(layer, nn.MaxPool2d | nn.Identity):
            outs.append(x)
    return outs, x


def test_maps_are_those_of_convolutions_7_10_and_13_before_pooling():
    net = fixed(LearnToPayVGG(late_pooling=False))
    x = torch.randn(2, 3, 64, 96)
    convolutions, last = trace(net, x)
    *maps, end = net(x)
    assert len(convolutions) == 13
    for found, number in zip(maps, (7, 10, 13)):
        torch.testing.assert_close(found, convolutions[number - 1], rtol=0, atol=0)
    torch.testing.assert_close(end, last, rtol=0, atol=0)
    assert [tuple(m.shape[1:]) for m in (*maps, end)] == [
        (256, 16, 24),
        (512, 8, 12),
        (512, 4, 6),
        (512, 2, 3),
    ]


def test_without_late_pooling_it_is_mmpretrains_network():
    plain = fixed(MODELS.build(dict(type='VGG', depth=16, norm_cfg=dict(type='BN'))))
    net = fixed(LearnToPayVGG(norm_cfg=dict(type='BN'), late_pooling=False))
    net.load_state_dict(plain.state_dict())
    x = torch.randn(1, 3, 32, 32)
    torch.testing.assert_close(net(x)[-1], plain(x)[0], rtol=0, atol=0)


def test_late_pooling_keeps_the_maps_large():
    net = fixed(LearnToPayVGG(norm_cfg=dict(type='BN')))
    x = torch.randn(2, 3, 32, 32)
    maps = net(x)
    assert [m.shape[2] for m in maps] == [32, 16, 8, 1]
    convolutions, end = trace(net, x)
    for found, number in zip(maps, (7, 10, 13)):
        torch.testing.assert_close(found, convolutions[number - 1], rtol=0, atol=0)
    first, pool, second, _, last = net.late
    torch.testing.assert_close(maps[3], last(pool(second(pool(first(end))))), rtol=0, atol=0)
    assert sum(isinstance(m, nn.MaxPool2d) for m in net.modules()) == 5


@pytest.mark.parametrize('compatibility', ['learned', 'dot'])
def test_the_classifier_sees_the_three_sums(compatibility):
    net = fixed(LearnToPayVGG(depth=11, taps=(2, 3, 4)).double())
    head = MODELS.build(
        dict(
            type='mmattn.LearnToPayHead',
            num_classes=5,
            in_channels=[256, 512, 512, 512],
            compatibility=compatibility,
        )
    ).double()
    maps = net(torch.randn(1, 3, 32, 32).double())
    expected = learn_to_pay_head(maps, head.state_dict())
    assert head.classifier.in_features == 3 * 512
    torch.testing.assert_close(head(maps), expected)


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(taps=(5,)), r'taps must be ascending stages from 0 to 4, got \(5,\)'),
        (dict(taps=(4, 2)), r'got \(4, 2\)'),
        (dict(taps=()), r'got \(\)'),
        (dict(depth=12), r'depth must be one of \[11, 13, 16, 19\], got 12'),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        LearnToPayVGG(**options)
