"""What a layer's output is, seen from how it behaves and not from its name or shape.

Each probe runs the network with hooks on one layer: does what follows read it, does it follow the
input place by place, is all that follows it average pooling and one linear layer.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from mmattn.core.modes import hooks
from mmattn.localization.layouts import Layout, last_tensor, replace_last

__all__ = ['Forward', 'RecordEverything', 'follows_input', 'is_read', 'linear_tail']

Forward = Callable[[Tensor], Any]
_PLACES = 8
# How much more a place answers to its own part of the image than to any: 2 and more in real maps
# of every family, up to 100; 0.9 to 1 where untrained weights mix everything; below 0.5 in the
# entries of an attention matrix.
_CLEAR, _ABSENT = 1.3, 0.5


class RecordEverything(TorchFunctionMode):
    """Operators record for autograd inside ``torch.no_grad`` too; no flag outlives one of them."""

    def __torch_function__(
        self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        with torch.enable_grad():
            return func(*args, **(kwargs or {}))


def is_read(model: nn.Module, forward: Forward, x: Tensor, name: str, layout: Layout) -> bool:
    """Whether the classifier reads a layer's map: its positions receive a gradient.

    Of a token layer only the patches count: after the last attention layer many networks read
    the class token alone. The gradient is that of the best score and of what the last linear layer
    is given, since an untrained head of zeros hands none on.

    Args:
        model: The network.
        forward: ``forward(x) -> logits``.
        x: Images ``(N, 3, H, W)``.
        name: The layer.
        layout: Layout of its output.
    """
    leaves, read = [], []

    def cut(_: nn.Module, __: Any, output: Any) -> Any:
        leaf = last_tensor(output).detach().requires_grad_()
        leaves.append(leaf)
        return replace_last(output, leaf.clone())

    def keep(_: nn.Module, inputs: tuple) -> None:
        read[:] = inputs[:1]

    linear = [module for module in model.modules() if isinstance(module, nn.Linear)]
    try:
        with (
            hooks([model.get_submodule(name)], cut),
            hooks(linear, keep, pre=True),
            torch.enable_grad(),
            RecordEverything(),
        ):
            score = forward(x).float().amax(1).sum()
            if read:
                score = score + read[0].float().abs().sum()
        if not score.requires_grad:
            return False
        grad = torch.autograd.grad(score, leaves[-1], allow_unused=True)[0]
    except RuntimeError:  # no gradient through this network: that is the engine's to say
        return True
    return grad is not None and bool(layout.to_maps(grad).abs().sum() > 0)


def follows_input(
    model: nn.Module, forward: Forward, x: Tensor, name: str, layout: Layout
) -> bool | None:
    """Whether a layer's map changes where the input does.

    The image is disturbed at some places, one at a time. A map changes most at that place. An
    attention matrix, which is square where the input is, changes in the row of the token that
    holds it: its axes are not those of the image.

    Args:
        model: The network.
        forward: ``forward(x) -> logits``.
        x: Images ``(N, 3, H, W)``; the first one is used.
        name: The layer.
        layout: Layout to read its output in.

    Returns:
        False where it does not have one row for each image, or changes elsewhere; None where it
        changes alike everywhere, so that it cannot be known: a coarse map of a small image, or
        untrained weights that mix everything.
    """
    outputs = []

    def keep(_: nn.Module, __: Any, output: Any) -> None:
        outputs[:] = [last_tensor(output)]

    h, w = layout.size
    generator = torch.Generator().manual_seed(0)
    places = [divmod(i, w) for i in torch.randperm(h * w, generator=generator)[:_PLACES].tolist()]
    variants = _disturb(x[:1], places, (h, w), generator)
    with hooks([model.get_submodule(name)], keep), torch.no_grad():
        forward(variants)
    if outputs[0].shape[0] != len(variants):
        return False
    maps = layout.to_maps(outputs[0]).double()
    change = (maps[1:] - maps[:1]).abs().sum(1)  # (places, h, w)
    own = _share([c[y, x] for c, (y, x) in zip(change, places)], change)
    rows, columns = _grid_of(h, x.shape[-2:])
    of_token = 0.0
    if h == w >= 4 and rows * columns == h:
        tokens = [y * rows // h * columns + x * columns // w for y, x in places]
        of_token = _share([c[token].mean() for c, token in zip(change, tokens)], change)
    if own >= _CLEAR:
        return True
    if own < _ABSENT or (of_token >= _CLEAR and of_token > own * 1.5):
        return False
    return None


def _disturb(
    x: Tensor, places: list[tuple[int, int]], size: tuple[int, int], generator: torch.Generator
) -> Tensor:
    """Return the image, then with noise in one cell of a grid each, ``(1 + places, 3, H, W)``."""
    (h, w), (in_h, in_w) = size, x.shape[-2:]
    spread = float(x.float().std()) or 1.0
    noise = torch.randn(x.shape, generator=generator).to(x) * (spread / 2)
    variants = [x]
    for row, column in places:
        top, left = row * in_h // h, column * in_w // w
        bottom = max(-(-(row + 1) * in_h // h), top + 1)
        right = max(-(-(column + 1) * in_w // w), left + 1)
        other = x.clone()
        other[..., top:bottom, left:right] += noise[..., top:bottom, left:right]
        variants.append(other)
    return torch.cat(variants)


def _share(values: list[Tensor], change: Tensor) -> float:
    """Median of some changes as multiples of the mean over the map; 1 where nothing changed."""
    means = [c.mean() for c in change]
    ratios = [float(value / mean) for value, mean in zip(values, means) if mean > 0]
    return statistics.median(ratios) if ratios else 1.0


def _grid_of(count: int, input_size: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of so many tokens in the proportions of the input."""
    rows = max(round((count * input_size[0] / input_size[1]) ** 0.5), 1)
    return rows, count // rows


def linear_tail(
    model: nn.Module, forward: Forward, x: Tensor, name: str, layout: Layout
) -> Tensor | None:
    """Find the classifier's weight, if all after a layer is global average pooling and one linear.

    Checked by behaviour, not by name: the layer's output is replaced by signed random numbers
    and the logits must equal ``W mean(map) + b`` for a linear layer of the network. Any ReLU,
    norm, other pooling or second branch fails the check.

    Args:
        model: The network.
        forward: ``forward(x) -> logits``.
        x: Images ``(N, 3, H, W)``.
        name: The layer.
        layout: Layout of its output.

    Returns:
        Weight ``(classes, C)``, or None.
    """
    noise = {}

    def hook(_: nn.Module, __: Any, output: Any) -> Any:
        tensor = last_tensor(output)
        generator = torch.Generator().manual_seed(tensor.shape[1])
        scale = float(tensor.float().std()) or 1.0
        random = torch.randn(tensor.shape, generator=generator).to(tensor) * scale
        noise['map'] = random
        return replace_last(output, random.clone())

    with hooks([model.get_submodule(name)], hook), torch.no_grad():
        logits = forward(x).float()
    maps = layout.to_maps(noise['map']).float()
    pooled = maps.mean((2, 3))
    for module in model.modules():
        if isinstance(module, nn.Linear) and tuple(module.weight.shape) == (
            logits.shape[1],
            pooled.shape[1],
        ):
            bias = None if module.bias is None else module.bias.float()
            expected = F.linear(pooled, module.weight.float(), bias)
            spread = float(expected.abs().max()) or 1.0
            if float((expected - logits).abs().max()) <= 1e-4 * spread:
                return module.weight.detach()
    return None
