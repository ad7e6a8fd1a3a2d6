import copy
import math
import pickle

import pytest
import torch

from mmattn.layers.searchlight import OPERATIONS, Searchlight
from tests.reference import tdam
from tests.values import check_values, image


class Pair(torch.nn.Module):
    """Gives the searchlight's parameters their names in a block."""

    def __init__(self, **options):
        super().__init__()
        self.searchlight = Searchlight(4, 8, reduction=4, **options)

    def forward(self, bottom, top):
        return self.searchlight(bottom, top)


@pytest.mark.parametrize('attention', ['joint', 'top'])
@pytest.mark.parametrize('operation', OPERATIONS)
def test_values(attention, operation):
    used = operation != 'recurrent'  # whether the bottom matters
    inputs = (image(2, 4, 5, 6, grad=used), image(2, 8, 3, 3, seed=4))

    def reference(bottom, top, p):
        return tdam.searchlight(bottom, top, tdam.part(p, 'searchlight'), operation)

    check_values(Pair(attention=attention, operation=operation), reference, inputs, training=True)


def test_by_hand():
    """One channel each, r = 1: every number can be followed on paper."""
    light = Searchlight(1, 1, attention='top', reduction=1)
    with torch.no_grad():
        light.top.weight.fill_(2.0)
        light.out.weight.fill_(0.5)
    bottom = torch.tensor([[[[1.0, -2.0]]]])
    top = torch.tensor([[[[3.0, 1.0]]]])  # mean 2, hidden 4, s = 2
    gate = 1 / (1 + math.exp(-2))
    expected = [gate * x / (1 + math.exp(-2 * gate * x)) for x in (1.0, -2.0)]
    torch.testing.assert_close(light(bottom, top), torch.tensor([[[expected]]]))


def test_a_zero_top_switches_joint_attention_half_off():
    """Fact 1 in small: no gradient reaches the top's layer when the top is zero."""
    light = Searchlight(4, 8, reduction=1)
    light(torch.randn(2, 4, 3, 3), torch.zeros(2, 8, 3, 3)).sum().backward()
    assert light.top.weight.grad.abs().max() == 0
    assert light.bottom.weight.grad.abs().max() > 0


@pytest.mark.parametrize(
    'options, count',
    [
        pytest.param({}, 64 * 16 + 32 * 16 + 32 * 32, id='joint'),
        pytest.param(dict(attention='top'), 64 * 16 + 16 * 32, id='top'),
        pytest.param(dict(operation='recurrent'), 64 * 32, id='recurrent'),
        pytest.param(dict(init='identity'), 64 * 16 + 32 * 16 + 32 * 32 + 1, id='identity'),
    ],
)
def test_parameters(options, count):
    light = Searchlight(32, 64, reduction=4, **options)
    assert sum(p.numel() for p in light.parameters()) == count


def test_neither_input_is_changed():
    bottom, top = torch.randn(2, 4, 3, 3), torch.randn(2, 8, 3, 3)
    before = bottom.clone(), top.clone()
    Searchlight(4, 8, reduction=2)(bottom, top)
    assert torch.equal(bottom, before[0]) and torch.equal(top, before[1])


def test_copies_traces_and_autocasts():
    light = Searchlight(4, 8, reduction=2)
    inputs = torch.randn(2, 4, 5, 3), torch.randn(2, 8, 2, 2)
    out = light(*inputs)
    for other in (
        copy.deepcopy(light),
        pickle.loads(pickle.dumps(light)),
        torch.jit.trace(light, inputs),
        torch.jit.trace(light, [torch.randn(1, 4, 7, 7), torch.randn(1, 8, 3, 4)]),
    ):
        torch.testing.assert_close(other(*inputs), out)
    with torch.autocast('cpu', torch.bfloat16):
        assert light(*inputs).isfinite().all()


@pytest.mark.parametrize(
    'options, text',
    [
        (dict(attention='bottom'), "attention must be one of .*'joint', 'top'.* got 'bottom'"),
        (dict(operation='space'), "operation must be one of .*'parallel'.* got 'space'"),
        (dict(reduction=0), 'reduction must be >= 1, got 0'),
        (dict(init='zero'), "init must be one of .* got 'zero'"),
        (dict(bottom_channels=0), 'bottom_channels must be >= 1, got 0'),
        (dict(top_channels=0), 'top_channels must be >= 1, got 0'),
    ],
)
def test_errors(options, text):
    with pytest.raises(ValueError, match=text):
        Searchlight(**{'bottom_channels': 4, 'top_channels': 8, **options})
