"""The maps that attention computes inside a network, one run each.

A's of AW-convolutions, the weights of learn-to-pay attention, and TDAM's searchlights; what gates
do from outside is in :mod:`mmattn.analysis.gains`.
"""

import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from mmattn.convs.aw_conv import AWConv2d
from mmattn.core.modes import hooks
from mmattn.layers.learn_to_pay import LearnToPay, LearnToPayGate
from mmattn.layers.searchlight import Searchlight
from mmattn.localization.classifiers import Classifier

__all__ = ['Seen', 'at_each_step', 'position_maps', 'searchlights', 'weight_maps']


class Seen(NamedTuple):
    """What a searchlight did to the first image.

    Args:
        channels: its gate of every channel, ``(C,)``; None where it has none.
        positions: its gate of every position, ``(H, W)``; None where it has none.
    """

    channels: np.ndarray | None
    positions: np.ndarray | None


def weight_maps(model: nn.Module, *inputs: Any, **options: Any) -> dict[str, np.ndarray]:
    """Run a network once and return the map A of every AW-convolution for the first image.

    Args:
        model: the network.
        inputs, options: what it is called with.

    Returns:
        ``{name: A}`` in the order of the calls, each the mean over the input channels that do not
        share a value.

    Shape: values ``(C2, h, w)``, from 0 to 1.

    Raises:
        ValueError: it has no AW-convolution.
    """
    found = _of_type(model, AWConv2d)
    branches = {name: module.branch for name, module in found.items()}
    return _watch(model, branches, lambda module, inputs, out: out[0].mean(1), inputs, options)


def position_maps(model: nn.Module, *inputs: Any, **options: Any) -> dict[str, np.ndarray]:
    """Run a network once and return the weights of positions of learn-to-pay attention.

    Args:
        model: the network; ``mmattn.LearnToPayHead`` has one map a depth.
        inputs, options: what it is called with.

    Returns:
        ``{name: weights}`` for the first image, which sum to 1.

    Shape: values ``(H, W)``.

    Raises:
        ValueError: it has no learn-to-pay attention.
    """

    def read(module: nn.Module, inputs: tuple, out: Tensor) -> Tensor:
        if isinstance(module, LearnToPayGate):
            x = inputs[0]
            return module.weigh.attention(x, x.mean((2, 3)))[0, 0]
        return module.attention(*inputs)[0, 0]

    return _watch(model, _of_type(model, LearnToPay, LearnToPayGate), read, inputs, options)


def searchlights(model: nn.Module, *inputs: Any, **options: Any) -> dict[str, Seen]:
    """Run a network once and return what TDAM's searchlights select in the first image.

    Args:
        model: the network.
        inputs, options: what it is called with.

    Returns:
        ``{name: gates of channels and positions}`` in the order of the calls, a later call as
        ``name (2)``.

    Raises:
        ValueError: it has no searchlight.
    """

    def read(module: Searchlight, inputs: tuple, out: Tensor) -> Seen:
        channels, positions = module.gates(*(x[:1] for x in inputs))
        return Seen(
            None if channels is None else _array(channels[0, :, 0, 0]),
            None if positions is None else _array(positions[0, 0]),
        )

    return _watch(model, _of_type(model, Searchlight), read, inputs, options)


def at_each_step(classifier: Classifier) -> list[Classifier]:
    """Make one classifier for each step of a top-down network, none for any other network.

    Args:
        classifier: the whole network.
    """
    if 'mmattn.backbones.top_down' not in sys.modules:  # so the network has no such block
        return []
    from mmattn.backbones.top_down import at_step, count_steps

    def stopped(step: int, model: nn.Module, x: Tensor) -> Tensor:
        with at_step(model, step):
            return replace(classifier, model=model)(x)

    count = count_steps(classifier.model)
    return [
        replace(classifier, name=f'{classifier.name}, step {step}', forward=partial(stopped, step))
        for step in range(1, count + 1)
        if count > 1
    ]


def _of_type(model: nn.Module, *kinds: type) -> dict[str, nn.Module]:
    """Return the modules of some classes by name."""
    found = {name: m for name, m in model.named_modules() if isinstance(m, kinds)}
    if not found:
        wanted = ' or '.join(kind.__name__ for kind in kinds)
        raise ValueError(f'model must have {wanted}, got {type(model).__name__} with none')
    return found


def _watch(
    model: nn.Module, modules: Mapping[str, nn.Module], read: Callable, inputs: Any, options: Any
) -> dict[str, Any]:
    """Run a network once and read every call of some modules."""
    seen: dict[str, Any] = {}

    def note(name: str, module: nn.Module, inputs: tuple, out: Tensor) -> None:
        calls = sum(key.split(' (')[0] == name for key in seen) + 1
        value = read(module, inputs, out)
        seen[name if calls == 1 else f'{name} ({calls})'] = (
            _array(value) if isinstance(value, Tensor) else value
        )

    with hooks(modules, note), torch.no_grad():
        model(*inputs, **options)
    return seen


def _array(x: Tensor) -> np.ndarray:
    return x.detach().double().cpu().numpy()
