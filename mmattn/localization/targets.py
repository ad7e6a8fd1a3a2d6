"""Which layer to read: what a forward pass visits, and the choice among it.

One image is passed through the network once to see which modules return a map, of what layout,
how often they are called and whether everything after one of them is average pooling and one
linear layer (then score maps need no backward pass at all).
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmattn.core.modes import hooks
from mmattn.core.names import closest

__all__ = [
    'Layout',
    'Visit',
    'choose',
    'find_layout',
    'last_tensor',
    'linear_tail',
    'replace_last',
    'resolve',
    'visit',
]

Forward = Callable[[Tensor], Any]
_NOT_A_SOURCE = ('Pool', 'Dropout', 'DropPath', 'Identity', 'Flatten')


@dataclass(frozen=True)
class Layout:
    """Where the channels of a feature tensor are.

    Args:
        kind: ``'nchw'``, ``'nhwc'`` or ``'tokens'``.
        prefix: Number of tokens before the first patch (class and register tokens).
        size: ``(h, w)`` of the map.
    """

    kind: str
    prefix: int = 0
    size: tuple = ()

    def to_maps(self, x: Tensor) -> Tensor:
        """Brings a feature tensor into ``(N, C, h, w)``."""
        if self.kind == 'nchw':
            return x
        if self.kind == 'nhwc':
            return x.permute(0, 3, 1, 2)
        tokens = x[:, self.prefix :]
        return tokens.transpose(1, 2).reshape(x.shape[0], x.shape[2], *self.size)


@dataclass(frozen=True)
class Visit:
    """A module that returned a map: its name, layout, shape, and how often it was called.

    ``plain`` is False where the map came inside a tuple or list.
    """

    name: str
    kind: str
    shape: tuple
    layout: Layout
    calls: int
    plain: bool = True


def find_layout(
    shape: Sequence[int], input_size: Sequence[int], kind: str | None = None
) -> Layout | None:
    """Read the layout off a tensor shape; None where it is no map.

    A map must have the proportions of the input (within one cell), which tells ``(N, C, h, w)``
    from ``(N, h, w, C)`` and either from a stack of attention matrices.

    Args:
        shape: Shape of a module's output.
        input_size: ``(H, W)`` of the network's input.
        kind: Restrict the answer to this layout.
    """
    kinds = ('nchw', 'nhwc', 'tokens') if kind is None else (kind,)
    if len(shape) == 4:
        if 'nchw' in kinds and _fits(shape[2:], input_size):
            return Layout('nchw', size=tuple(shape[2:]))
        if 'nhwc' in kinds and _fits(shape[1:3], input_size):
            return Layout('nhwc', size=tuple(shape[1:3]))
    if len(shape) == 3 and 'tokens' in kinds:
        for prefix in range(9):
            size = _grid(shape[1] - prefix, input_size)
            if size:
                return Layout('tokens', prefix, size)
    return None


def _fits(size: Sequence[int], input_size: Sequence[int]) -> bool:
    """Whether a grid could be the input at one stride: one cell of rounding either way."""
    (h, w), (in_h, in_w) = size, input_size
    if min(h, w) < 1 or max(h, w) < 2 or h > in_h or w > in_w:
        return False
    stride_low = max(in_h / (h + 1), in_w / (w + 1))
    stride_high = min(in_h / max(h - 1, 0.5), in_w / max(w - 1, 0.5))
    return stride_low < stride_high


def _grid(count: int, input_size: Sequence[int]) -> tuple[int, int] | None:
    """Find the ``(h, w)`` with ``h * w == count`` and exactly the input's proportions, or None."""
    in_h, in_w = input_size
    if count < 2:
        return None
    h = round((count * in_h / in_w) ** 0.5)
    if h < 1 or count % h or h * in_w != (count // h) * in_h:
        return None
    return h, count // h


def last_tensor(output: Any) -> Tensor | None:
    """Find the tensor of a module's output, the last one of a sequence, dict or dataclass."""
    found = _last_place(output)
    return output if isinstance(output, torch.Tensor) else found and found[1]


def replace_last(output: Any, tensor: Tensor) -> Any:
    """Copy a module's output with ``tensor`` where :func:`last_tensor` found its own.

    Tuples, named tuples, lists, dicts and dataclasses keep their type and their other values.
    """
    if isinstance(output, torch.Tensor):
        return tensor
    place = _last_place(output)[0]
    if isinstance(output, (list, tuple)):
        items = list(output)
        items[place] = tensor
        make = getattr(type(output), '_make', type(output))  # a named tuple takes no list
        return make(items)
    changed = copy.copy(output)
    if isinstance(output, Mapping):
        changed[place] = tensor
    else:
        object.__setattr__(changed, place, tensor)  # frozen ones too
    return changed


def _last_place(output: Any) -> tuple[Any, Tensor] | None:
    """``(index, key or field; tensor)`` of the last tensor a container holds, or None."""
    if isinstance(output, (list, tuple)):
        items = enumerate(output)
    elif isinstance(output, Mapping):
        items = output.items()
    elif dataclasses.is_dataclass(output) and not isinstance(output, type):
        items = [(f.name, getattr(output, f.name, None)) for f in dataclasses.fields(output)]
    else:
        return None
    found = [(place, value) for place, value in items if isinstance(value, torch.Tensor)]
    return found[-1] if found else None


def visit(model: nn.Module, forward: Forward, x: Tensor) -> tuple[list[Visit], Any]:
    """Pass ``x`` once without gradient and list the modules that returned a map.

    Returns:
        ``(visits, logits)``; visits are in the order of the modules' last calls.
    """
    events, calls, pooled = [], {}, []
    names = {module: name for name, module in model.named_modules() if name}

    def hook(module: nn.Module, _: Any, output: Any) -> None:
        name = names[module]
        calls[name] = calls.get(name, 0) + 1
        tensor = last_tensor(output)
        if tensor is None:
            return
        kind = type(module).__name__
        if 'Pool' in kind:
            pooled.append(tensor)
        if any(word in kind for word in _NOT_A_SOURCE):
            return
        if any(tensor is other for other in pooled):
            return  # a container that ends with a pooling layer
        events.append((name, kind, tuple(tensor.shape), tensor is output))

    with hooks(list(names), hook), torch.no_grad():
        logits = forward(x)
    last = {}
    for name, kind, shape, plain in events:
        layout = find_layout(shape, x.shape[-2:])
        last.pop(name, None)
        if layout is not None:
            last[name] = Visit(name, kind, shape, layout, calls[name], plain)
    return list(last.values()), logits


def choose(model: nn.Module, forward: Forward, x: Tensor, visits: list[Visit]) -> str:
    """Choose the default target: the last module whose map the classifier still reads as a map.

    For a convolutional network that is the last map before the pooling. For a token network it
    is the last normalisation layer whose patch tokens receive a gradient from the best score
    (after the last attention layer only the class token does).

    Raises:
        ValueError: No module returns a map.
    """
    visits = [v for v in visits if v.plain] or visits
    if not visits:
        raise ValueError('no layer of this network returns a map of the proportions of its input')
    if visits[-1].layout.kind != 'tokens':
        maps = [v for v in visits if v.layout.kind == 'nchw' and v.shape[1] > 1]
        return (maps or visits)[-1].name
    norms = [v for v in visits if v.layout.kind == 'tokens' and 'Norm' in v.kind]
    for candidate in reversed(norms or visits):
        if _patch_gradient(model, forward, x, candidate) > 0:
            return candidate.name
    # an untrained head of zeros has no gradient: the norm before the last attention layer
    return (norms or visits)[-3:][0].name


def _patch_gradient(model: nn.Module, forward: Forward, x: Tensor, candidate: Visit) -> float:
    seen = []

    def hook(_: nn.Module, __: Any, output: Any) -> Any:
        leaf = output.detach().requires_grad_()
        seen.append(leaf)
        return leaf.clone()

    with hooks([model.get_submodule(candidate.name)], hook), torch.enable_grad():
        score = forward(x).amax(1).sum()
        if not score.requires_grad:
            return 0.0
        grad = torch.autograd.grad(score, seen[-1], allow_unused=True)[0]
    return 0.0 if grad is None else float(candidate.layout.to_maps(grad).abs().sum())


def resolve(model: nn.Module, target: Any, visits: list[Visit]) -> list[str]:
    """Turn what a user asked for into module names.

    Args:
        model: The network.
        target: A module, a name, a pattern as ``'layer4.*.conv3'``, or a list of these.
        visits: What :func:`visit` found, for the message.

    Raises:
        ValueError: A name or pattern matches no module that returns a map; lists the candidates.
        TypeError: Something else than a name, a module or a list of them.
    """
    if isinstance(target, (list, tuple)):
        names = [name for item in target for name in resolve(model, item, visits)]
        return list(dict.fromkeys(names))
    if isinstance(target, nn.Module):
        for name, module in model.named_modules():
            if module is target and name:
                return [_with_map(model, name, visits)]
        raise ValueError(f'the target layer {type(target).__name__} is no part of this network')
    if not isinstance(target, str):
        raise TypeError(
            f'target layer must be a name, a pattern or a module, got {type(target).__name__}'
        )
    if any(char in target for char in '*?['):
        names = [v.name for v in visits if fnmatchcase(v.name, target)]
        if names:
            return names
        raise ValueError(f'no layer with a map matches {target!r}; {_candidates(target, visits)}')
    return [_with_map(model, target, visits)]


def _with_map(model: nn.Module, name: str, visits: list[Visit]) -> str:
    if any(v.name == name for v in visits):
        return name
    if name in dict(model.named_modules()):
        module = model.get_submodule(name)
        pooled = any(word in type(module).__name__ for word in _NOT_A_SOURCE)
        if pooled or any(n.startswith(f'{name}.') for n, _ in model.named_modules()):
            hint = 'it ends in a pooling layer, is no feature map or is not called'
        else:
            hint = 'it is not called, or its output has no height and width'
        raise ValueError(
            f'target layer {name!r} gives no spatial map ({hint}); {_candidates(name, visits)}'
        )
    raise ValueError(f'this network has no layer {name!r}; {_candidates(name, visits)}')


def _candidates(name: str, visits: list[Visit], limit: int = 8) -> str:
    names = [v.name for v in visits]
    near = closest(name, names)
    late = [n for n in reversed(names) if n not in near][: limit - len(near)]
    shapes = {v.name: 'x'.join(map(str, v.layout.size)) for v in visits}
    return 'candidates: ' + ', '.join(f'{n} ({shapes[n]})' for n in near + late)


def linear_tail(
    model: nn.Module, forward: Forward, x: Tensor, name: str, layout: Layout
) -> Tensor | None:
    """Find the classifier's weight, if all after a layer is global average pooling and one linear.

    Checked by behaviour, not by name: the layer's output is replaced by signed random numbers
    and the logits must equal ``W mean(map) + b`` for a linear layer of the network. Any ReLU,
    norm, other pooling or second branch fails the check.

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
