"""What a gate does to a map, measured from outside."""

import numpy as np
import pytest
import torch
from torch import nn

from mmattn.analysis.gains import find_gates, gains, watch_gates
from mmattn.layers import SE

CHANNEL = torch.tensor([0.5, 0.2, 0.9, 1.5])
SPATIAL = torch.tensor([[0.1, 0.7, 0.3], [0.4, 0.2, 0.6]])


def test_gains_of_the_three_kinds_of_gates():
    torch.manual_seed(0)
    x = torch.randn(4, 2, 3)
    channel, spatial = gains(x, x * CHANNEL[:, None, None])
    torch.testing.assert_close(torch.tensor(channel), CHANNEL.double())
    assert spatial is None
    channel, spatial = gains(x, x * SPATIAL)
    torch.testing.assert_close(torch.tensor(spatial), SPATIAL.double())
    assert channel is None
    channel, spatial = gains(x, x * CHANNEL[:, None, None] * SPATIAL)
    assert channel.shape == (4,)
    assert spatial.shape == (2, 3)
    weight = x.abs().double()
    wanted = (weight * SPATIAL).sum((1, 2)) / weight.sum((1, 2)) * CHANNEL
    torch.testing.assert_close(torch.tensor(channel), wanted)


def test_gains_of_a_channel_that_is_zero():
    x = torch.ones(4, 2, 3)
    x[1] = 0
    channel, spatial = gains(x, x * CHANNEL[:, None, None])
    assert spatial is None
    assert np.isnan(channel[1])
    assert np.isfinite(channel[[0, 2, 3]]).all()


class Twice(nn.Module):
    """A network that calls its gate two times, the second time on the first one's output."""

    def __init__(self):
        super().__init__()
        self.gate = SE(4, reduction=2)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        return self.relu(self.gate(self.gate(x)))


def test_every_call_is_watched_and_the_hooks_are_removed():
    torch.manual_seed(0)
    model, x = Twice(), torch.randn(2, 4, 3, 5)
    found = watch_gates(model, find_gates(model), x)
    assert list(found) == ['gate', 'gate (2)']
    once = model.gate(x)
    for name, before in (('gate', x), ('gate (2)', once)):
        wanted = model.gate.factor(before)[0, :, 0, 0].detach().double()
        torch.testing.assert_close(torch.tensor(found[name][0]), wanted)
    assert not model.gate._forward_hooks and not model.gate._forward_pre_hooks


def test_an_in_place_module_is_compared_with_its_input():
    model = Twice()
    x = -torch.ones(1, 4, 2, 2)
    channel, _ = watch_gates(model, find_gates(model, 'relu'), x)['relu']
    np.testing.assert_array_equal(channel, np.zeros(4))


@pytest.mark.parametrize(
    'pattern, message',
    [
        ('gat', "gates must match the whole name of a module, got 'gat', did you mean 'gate'"),
        ('(', "gates must be a regular expression, got '\\('"),
    ],
)
def test_patterns(pattern, message):
    with pytest.raises(ValueError, match=message):
        find_gates(Twice(), pattern)


def test_modules_that_are_no_gates():
    with pytest.raises(ValueError, match=r"none of mmattn's"):
        find_gates(nn.ReLU())
    model = nn.Sequential(nn.MaxPool2d(2))
    with pytest.raises(ValueError, match='gates: 0 does not turn a map into one of its shape'):
        watch_gates(model, find_gates(model, '0'), torch.ones(1, 2, 4, 4))
