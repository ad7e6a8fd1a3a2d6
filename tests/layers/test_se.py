import pytest
import torch
from torch import nn

from mmattn.layers import SE
from tests.reference.se import se
from tests.values import check_gate, image


@pytest.mark.parametrize('training', [True, False], ids=['train', 'eval'])
@pytest.mark.parametrize('bias', [True, False], ids=['bias', 'no bias'])
def test_values(bias, training):
    check_gate(
        lambda init: SE(6, reduction=2, bias=bias, init=init),
        lambda x, p: se(x, p, training),
        image(2, 6, 3, 4),
        training,
    )


@pytest.mark.parametrize(
    'channels, reduction, hidden',
    [(64, 16, 4), (8, 16, 1), (40, 16, 2)],
    ids=['divisible', 'never below 1', 'rounds down'],
)
def test_hidden_width(channels, reduction, hidden):
    gate = SE(channels, reduction)
    assert gate.fc1.weight.shape == (hidden, channels, 1, 1)
    assert gate.fc2.weight.shape == (channels, hidden, 1, 1)


def test_worked_example():
    gate = SE(2, reduction=2, bias=False)
    nn.init.constant_(gate.fc1.weight, 1.0)
    gate.fc2.weight.data = torch.tensor([1.0, -1.0]).reshape(2, 1, 1, 1)
    x = torch.tensor([[[[0.0, 2.0]], [[3.0, 1.0]]]])  # means 1 and 2, hidden 3
    up = 1 / (1 + torch.exp(torch.tensor(-3.0)))
    expected = torch.tensor([[[[0.0, 2 * up]], [[3 * (1 - up), 1 - up]]]])
    torch.testing.assert_close(gate(x), expected)


@pytest.mark.parametrize(
    'options, match',
    [
        (dict(in_channels=0), 'in_channels must be >= 1, got 0'),
        (dict(in_channels=4, reduction=0), 'reduction must be >= 1, got 0'),
        (dict(in_channels=4, init='zero'), "init must be one of .* got 'zero'"),
    ],
    ids=['no channels', 'no reduction', 'unknown init'],
)
def test_bad_options(options, match):
    with pytest.raises(ValueError, match=match):
        SE(**options)
