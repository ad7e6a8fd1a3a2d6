"""Where a feature tensor has its channels and positions, and a module's output its tensor."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

__all__ = ['KINDS', 'Layout', 'find_layouts', 'last_tensor', 'replace_last']

KINDS = ('nchw', 'nhwc', 'tokens')
_MOST_PREFIX = 8  # class and register tokens


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
        """Bring a feature tensor into ``(N, C, h, w)``."""
        if self.kind == 'nchw':
            return x
        if self.kind == 'nhwc':
            return x.permute(0, 3, 1, 2)
        tokens = x[:, self.prefix :]
        return tokens.transpose(1, 2).reshape(x.shape[0], x.shape[2], *self.size)


def find_layouts(
    shape: Sequence[int], input_size: Sequence[int], kind: str | None = None
) -> list[Layout]:
    """Read the layouts that a tensor of this shape may have; none where it is no map.

    A map must have the proportions of the input (within one cell). A shape alone may fit several
    layouts, and a square attention matrix looks like a map: what a module's output is shows in
    how it behaves (:func:`~mmattn.localization.targets.choose`).

    Args:
        shape: Shape of a module's output.
        input_size: ``(H, W)`` of the network's input.
        kind: Restrict the answer to this layout.
    """
    found = []
    if len(shape) == 4 and _fits(shape[2:], input_size):
        found.append(Layout('nchw', size=tuple(shape[2:])))
    if len(shape) == 4 and _fits(shape[1:3], input_size):
        found.append(Layout('nhwc', size=tuple(shape[1:3])))
    if len(shape) == 3:
        sizes = [_grid(shape[1] - prefix, input_size) for prefix in range(_MOST_PREFIX + 1)]
        found += [Layout('tokens', prefix, size) for prefix, size in enumerate(sizes) if size][:1]
    return [layout for layout in found if kind in (None, layout.kind)]


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
    if isinstance(output, Tensor):
        return output
    found = _last_place(output)
    return found and found[1]


def replace_last(output: Any, tensor: Tensor) -> Any:
    """Copy a module's output with ``tensor`` where :func:`last_tensor` found its own.

    Tuples, named tuples, lists, dicts and dataclasses keep their type and their other values.
    """
    if isinstance(output, Tensor):
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
    found = [(place, value) for place, value in items if isinstance(value, Tensor)]
    return found[-1] if found else None
