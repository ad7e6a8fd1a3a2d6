"""What the tests of this folder share: small networks with statistics as after training."""

import inspect

import torch
from mmdet.registry import MODELS
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

import mmattn.layers
from mmattn.registry import MODELS as MMATTN_MODELS

# torch 2.1 cannot capture a graph through a hook made by functools.partial
HOOKS_BREAK_GRAPHS = tuple(map(int, torch.__version__.split('.')[:2])) < (2, 2)


def build(type, **options):  # noqa: A002
    return MODELS.build(dict(type=type, **options))


def gate(name='SE', **options):
    return dict(type=f'mmattn.{name}', **options)


# what a gate needs beside its width
NEEDS = {'Sequence': dict(gates=[gate('ECA'), gate('SpatialGate')])}


def gates() -> list:
    """Every registered gate that takes a width and an ``init``."""
    assert mmattn.layers.__all__
    return sorted(
        name
        for name, cls in MMATTN_MODELS.module_dict.items()
        if cls.__module__.startswith('mmattn.layers') and {'in_channels', 'init'} <= options(cls)
    )


def options(cls: type) -> set:
    return set(inspect.signature(cls.__init__).parameters)


def any_gate(name: str, **given) -> dict:
    """A config of the gate that works on 16 channels, hidden layers not so thin that they die."""
    small = {'reduction': 2} if 'reduction' in options(MMATTN_MODELS.get(name)) else {}
    return gate(name, **{**small, **NEEDS.get(name, {}), **given})


def missing_keys(attended: nn.Module, plain: nn.Module) -> set:
    """What a strict load of the plain checkpoint would miss (torch fills batch counters in)."""
    new = set(attended.state_dict()) - set(plain.state_dict())
    return {key for key in new if not key.endswith('num_batches_tracked')}


def shake(net: nn.Module, seed: int = 0, spare=()) -> nn.Module:
    """Random statistics and affine values in every norm, as a trained network has.

    ``spare`` names parameters whose norms keep their values.
    """
    generator = torch.Generator().manual_seed(seed)
    for name, module in net.named_modules():
        if isinstance(module, _BatchNorm) and f'{name}.weight' not in spare:
            for tensor, low, high in (
                (module.weight, 0.5, 1.5),
                (module.bias, -0.3, 0.3),
                (module.running_mean, -0.3, 0.3),
                (module.running_var, 0.5, 2.0),
            ):
                tensor.data.uniform_(low, high, generator=generator)
    return net


def pair(plain: nn.Module, attended: nn.Module) -> tuple:
    """Both with the same trained values; returns what the checkpoint did not hold."""
    shake(plain)
    result = attended.load_state_dict(plain.state_dict(), strict=False)
    assert result.unexpected_keys == []
    return set(result.missing_keys)


def distance(outs, expected) -> float:
    """The largest relative L2 distance of the maps."""
    return max(((a - b).norm() / b.norm()).item() for a, b in zip(outs, expected))


def image(batch=2, size=(48, 64), seed=1):
    return torch.randn(batch, 3, *size, generator=torch.Generator().manual_seed(seed))


def run(net: nn.Module, training: bool = False, x=None) -> tuple:
    """The outputs in one mode (``train()`` of some hosts returns nothing)."""
    net.train(training)
    return net(image() if x is None else x)


def loss(outs):
    """A number that depends on every value of every map, and not by their sum alone."""
    generator = torch.Generator().manual_seed(2)
    return sum((o * torch.randn(o.shape, generator=generator)).sum() for o in outs)
