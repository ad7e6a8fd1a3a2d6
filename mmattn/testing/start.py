"""Initial values, alone and inside a network."""

import contextlib
import copy
import unittest.mock
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from mmattn.testing.case import Case, check_finite, close, demand, run

__all__ = [
    'check_backward',
    'check_inside',
    'in_resnet',
    'initialises',
    'seeded_init',
    'starts_as_identity',
    'works_inside',
]


def starts_as_identity(case: Case) -> None:
    if 'identity' not in case.inits:
        return
    module = case.build('identity')
    for training in (True, False):
        inputs = case.inputs(2, 5, 6)
        out, wanted = run(module.train(training), inputs), case.unchanged(module, inputs)
        close(out, wanted, case.identity_error)


@contextlib.contextmanager
def seeded_init(cls: type) -> Iterator[None]:
    """Inside, every ``init_weights`` of the class draws the same random numbers."""
    original = cls.init_weights

    def seeded(self: nn.Module) -> None:
        torch.manual_seed(5)
        original(self)

    with unittest.mock.patch.object(cls, 'init_weights', seeded):
        yield


def initialises(case: Case) -> None:
    demand(hasattr(case.cls, 'init_weights'), 'it must have an init_weights() without arguments')
    with seeded_init(case.cls):
        for init in case.inits:
            module, fresh = case.build(init), case.build(init)
            for parameter in module.parameters():
                nn.init.constant_(parameter, 7)
            module.init_weights()
            close(module.state_dict(), fresh.state_dict(), 0)


def in_resnet(case: Case, init: str, slot: str = 'plugin') -> tuple[nn.Module, tuple, int]:
    """Return a small ResNet with the method inside, a call, and how often it is there."""
    from mmdet.registry import MODELS

    cfg = dict(case.options, type=case.cls, **(dict(init=init) if len(case.inits) > 1 else {}))
    width = cfg.pop('in_channels')
    for key in ('out_channels', 'kernel_size', 'padding'):
        cfg.pop(key, None)
    slots = dict(
        plugin=dict(plugins=[dict(cfg=cfg, stages=(True,), position='after_conv3')]),
        conv=dict(conv_cfg=cfg),
    )
    backbone = dict(
        type='ResNet',
        depth=50,
        base_channels=width // 4,
        stem_channels=8,
        num_stages=1,
        strides=(1,),
        dilations=(1,),
        out_indices=(0,),
        **slots[slot],
    )
    count = 3 if slot == 'plugin' else 11  # blocks; all convolutions, as conv_cfg does
    return MODELS.build({**backbone, '_scope_': 'mmdet'}), (torch.randn(2, 3, 16, 20),), count


def check_inside(cls: type, host: nn.Module, inputs: tuple, count: int) -> None:
    """Check that initial values survive those of the network around it, which then trains."""
    inside = [m for m in host.modules() if type(m) is cls]
    demand(len(inside) == count, f'it must be in the network {count} times, got {len(inside)}')
    fresh = [copy.deepcopy(m.state_dict()) for m in inside]
    for parameter in (p for m in inside for p in m.parameters()):
        nn.init.constant_(parameter, 7)
    host.init_weights()
    for module, before in zip(inside, fresh):
        close(module.state_dict(), before, 0)
    check_backward(host, inputs)


def check_backward(host: nn.Module, inputs: tuple) -> None:
    """Check that a network gives finite outputs that can be trained on."""
    out = host(*inputs)
    out = out if isinstance(out, Tensor) else out[-1]
    out.sum().backward()
    check_finite(out, 'the output of the network')


def works_inside(case: Case) -> None:
    with seeded_init(case.cls):
        check_inside(case.cls, *in_resnet(case, 'paper'))
