"""Which layer to read: what a forward pass visits, and the choice among it.

One image is passed through the network once to see which modules return a map, of what layout,
and how often they are called; :mod:`~mmattn.localization.probes` then tell the layer whose map
the classifier reads from what merely has the shape of one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from mmattn.core.modes import hooks
from mmattn.core.names import closest
from mmattn.localization.layouts import Layout, find_layouts, last_tensor
from mmattn.localization.probes import Forward, follows_input, is_read

__all__ = ['Visit', 'check_hooks', 'choose', 'read_layout', 'resolve', 'visit']

_NOT_A_SOURCE = ('Pool', 'Dropout', 'DropPath', 'Identity', 'Flatten')


@dataclass(frozen=True)
class Visit:
    """A module that returned what may be a map.

    Args:
        name: Its name in the network.
        kind: Its class.
        shape: Shape of what it returned, for one image.
        layouts: Layouts that this shape may have, the likeliest first.
        calls: How often it was called.
        plain: False where the map came inside a tuple or another container.
        inner: Whether the module around it returned the very same tensor, and nothing else.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    layouts: tuple[Layout, ...]
    calls: int
    plain: bool = True
    inner: bool = False

    @property
    def layout(self) -> Layout:
        """The likeliest layout."""
        return self.layouts[0]

    @property
    def channels(self) -> int:
        """Channels in the likeliest layout."""
        return self.shape[1 if self.layout.kind == 'nchw' else -1]


def check_hooks(model: nn.Module) -> None:
    """Refuse a network that hooks cannot look into.

    Raises:
        ValueError: It is TorchScript, or compiled.
    """
    if isinstance(model, torch.jit.ScriptModule):
        raise ValueError(
            'the network is TorchScript (scripted or traced), which has no hooks: give the '
            'nn.Module it was made from'
        )
    for name, module in model.named_modules():
        part = f'its part {name!r}' if name else 'it'
        if type(module).__name__ == 'OptimizedModule' and hasattr(module, '_orig_mod'):
            raise ValueError(
                f'the network is compiled ({part} by torch.compile), which leaves hooks out: give '
                'the network itself, _orig_mod of the compiled one'
            )
        if getattr(module, '_compiled_call_impl', None) is not None:
            raise ValueError(
                f'the network is compiled ({part} by its compile method), which leaves hooks out: '
                'give a network on which compile was not called'
            )


def visit(model: nn.Module, forward: Forward, x: Tensor) -> tuple[list[Visit], Any]:
    """Pass ``x`` once without gradient and list the modules that returned what may be a map.

    Args:
        model: The network.
        forward: ``forward(x) -> logits``.
        x: Images ``(N, 3, H, W)``.

    Returns:
        ``(visits, logits)``; visits are in the order of the modules' last calls.
    """
    found: dict[str, Visit] = {}
    calls: dict[str, int] = {}
    pooled: list[Tensor] = []
    before: tuple[str, Tensor] | None = None  # the last call, and what it returned
    names = {module: name for name, module in model.named_modules() if name}
    names = {m: n for m, n in names.items() if not isinstance(m, torch.jit.ScriptModule)}

    def hook(module: nn.Module, _: Any, output: Any) -> None:
        nonlocal before
        name, kind = names[module], type(module).__name__
        calls[name] = calls.get(name, 0) + 1
        tensor = last_tensor(output)
        found.pop(name, None)
        if tensor is None:
            return
        if 'Pool' in kind:
            pooled.append(tensor)
        if any(word in kind for word in _NOT_A_SOURCE):
            return
        if any(tensor is other for other in pooled):
            return  # a container that ends with a pooling layer
        same = tensor is output and before is not None and before[1] is tensor
        if same and before[0] in found:
            found[before[0]] = replace(found[before[0]], inner=True)
        before = name, tensor
        layouts = find_layouts(tensor.shape, x.shape[-2:])
        if layouts and tensor.shape[0] == x.shape[0]:
            plain, shape = tensor is output, tuple(tensor.shape)
            found[name] = Visit(name, kind, shape, tuple(layouts), calls[name], plain)

    with hooks(list(names), hook), torch.no_grad():
        logits = forward(x)
    return list(found.values()), logits


def choose(model: nn.Module, forward: Forward, x: Tensor, visits: Sequence[Visit]) -> Visit:
    """Choose the default target: the last map in call order that the pooled head sees.

    That is the last module, in whatever layout, whose output has one row for each image, whose
    positions receive a gradient from the scores, and which follows the input: it changes where
    the image is disturbed. An attention matrix fails the last test, a layer that works on windows
    the first, a token layer of which only the class token is read the second.

    Where a class token is read, the last map that passes is a projection of keys and values or the
    norm before it; the norm is taken.

    Args:
        model: The network.
        forward: ``forward(x) -> logits``.
        x: One image ``(1, 3, H, W)``.
        visits: What :func:`visit` found.

    Returns:
        The module, with the layout that passed first in its ``layouts``.

    Raises:
        ValueError: No module returns a map.
    """
    if not visits:
        raise ValueError('no layer of this network returns a map of the proportions of its input')
    outer = [v for v in visits if not v.inner]
    wide = [v for v in outer if v.channels > 1] or outer  # a map of one channel is a gate
    ordered = [v for v in wide if not v.plain] + [v for v in wide if v.plain]
    projection = None
    for candidate in reversed(ordered):
        found = read_layout(model, forward, x, candidate)
        if found is None:
            continue
        if found.layout.kind != 'tokens' or not found.kind.endswith('Linear'):
            return found
        projection = projection or found
    if projection is not None:
        return projection
    chosen = ordered[-1]
    print_log(
        f'layer {chosen.name} has the shape of a map, but the head does not read it or it does '
        'not follow the input: check the maps, or name the target layer',
        'current',
        30,
    )
    return chosen


def read_layout(model: nn.Module, forward: Forward, x: Tensor, candidate: Visit) -> Visit | None:
    """Find the layout in which a module's output is read and follows the input.

    Returns:
        The module with that layout alone; None where the classifier does not read it, or where it
        follows the input in no layout.
    """
    unsure = None
    for layout in candidate.layouts:
        if not is_read(model, forward, x, candidate.name, layout):
            continue
        follows = follows_input(model, forward, x, candidate.name, layout)
        if follows:
            return replace(candidate, layouts=(layout,))
        if follows is None:
            unsure = unsure or replace(candidate, layouts=(layout,))
    return unsure


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
            hint = 'it is not called, its output has no height and width, or no row for each image'
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
