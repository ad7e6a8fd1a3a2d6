import copy
import pickle

import pytest
import torch
from torch import nn

from mmattn.core.front import Front


class Doubles(Front):
    """Doubles what the host gives."""

    def forward(self, x):
        return 2 * super().forward(x)


class AddsOne(Front):
    def forward(self, x):
        return 1 + super().forward(x)


def test_the_object_is_both_and_keeps_its_parts():
    net = nn.Linear(2, 2)
    keys, weight = list(net.state_dict()), net.weight
    plain = net(torch.ones(1, 2))
    fronted = Doubles.in_front_of(net)
    assert fronted is net
    assert isinstance(net, Doubles) and isinstance(net, nn.Linear)
    assert type(net).__name__ == 'DoublesLinear' and type(net).__doc__ == Doubles.__doc__
    assert list(net.state_dict()) == keys and net.weight is weight
    torch.testing.assert_close(net(torch.ones(1, 2)), 2 * plain)


def test_the_joint_class_is_one():
    a, b = Doubles.in_front_of(nn.Linear(1, 1)), Doubles.in_front_of(nn.Linear(2, 2))
    assert type(a) is type(b)
    assert type(a) is not type(AddsOne.in_front_of(nn.Linear(1, 1)))


@pytest.mark.parametrize('again', [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
@pytest.mark.parametrize('fronts', [(Doubles,), (Doubles, AddsOne), (AddsOne, Doubles)])
def test_copied_and_pickled(again, fronts):
    net = nn.Linear(2, 2)
    for front in fronts:
        net = front.in_front_of(net)
    other = again(net)
    assert type(other) is type(net)
    x = torch.ones(1, 2)
    torch.testing.assert_close(other(x), net(x))
    with torch.no_grad():
        other.weight.zero_()
    assert net.weight.abs().sum() > 0
