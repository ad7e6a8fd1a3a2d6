from functools import partial

import pytest
import torch
from torch import nn

from mmattn.core.modes import eval_mode, hooks


class Freezes(nn.Sequential):
    """Like mmdet's backbones: its own train() freezes."""

    def train(self, mode=True):
        super().train(mode)
        self.weight_frozen = True
        return self


def network():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Sequential(nn.Dropout(0.5)))
    net[1].eval()  # a norm that is kept so, under a network that trains
    return net


@pytest.mark.parametrize('fails', [False, True])
def test_every_module_gets_its_own_mode_back(fails):
    net = network()
    before = [module.training for module in net.modules()]
    try:
        with eval_mode(net):
            assert not any(module.training for module in net.modules())
            if fails:
                raise RuntimeError
    except RuntimeError:
        assert fails
    assert [module.training for module in net.modules()] == before == [
        True, True, False, True, True,
    ]  # fmt: skip


def test_a_networks_own_train_is_not_called():
    net = Freezes(nn.Linear(1, 1))
    with eval_mode(net, nn.Linear(1, 1)):
        pass
    assert not hasattr(net, 'weight_frozen')


def test_hooks_see_and_replace_and_leave():
    net, seen = network(), []
    with hooks([net[0]], lambda module, inputs, out: seen.append(out) or out * 0):
        assert net[0](torch.ones(1, 3, 2, 2)).abs().max() == 0
    assert len(seen) == 1
    assert not net[0]._forward_hooks


def test_a_mapping_hands_over_the_name():
    net, seen = network(), []

    def note(store, name, module, inputs):
        store.append((name, module, inputs[0].shape[1]))

    with hooks({'a': net[0], 'b': net[1]}, partial(note, seen), pre=True):
        net(torch.ones(2, 3, 2, 2))
    assert seen == [('a', net[0], 3), ('b', net[1], 4)]


def test_keyword_arguments():
    net = nn.Module()
    net.forward = lambda x, scale=1: x * scale
    with hooks([net], lambda m, args, kwargs: (args, dict(scale=3)), pre=True, with_kwargs=True):
        assert net(torch.tensor(2.0), scale=1) == 6


@pytest.mark.parametrize('where', ['inside', 'while registering'])
def test_hooks_leave_after_an_error(where):
    net = network()
    modules = [net[0], net[1]] if where == 'inside' else [net[0], 'no module']
    with pytest.raises((RuntimeError, AttributeError), match='stop|register_forward'):  # noqa: SIM117
        with hooks(modules, lambda *_: None):
            raise RuntimeError('stop')
    assert not net[0]._forward_hooks
