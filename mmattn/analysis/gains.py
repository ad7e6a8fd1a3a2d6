"""What gates do to a map: measured from outside, so for gates of any kind."""

import re

import numpy as np
import torch
from torch import Tensor, nn

from mmattn.core.modes import hooks
from mmattn.core.names import did_you_mean
from mmattn.layers._gate import Gate

__all__ = ['find_gates', 'gains', 'watch_gates']

_OTHERS = {'AWConv2d': 'weights', 'LearnToPay': 'positions', 'Searchlight': 'searchlight'}
SAME = 1e-3  # a gain that rebuilds the output up to this share of it is all the gate does


def find_gates(model: nn.Module, pattern: str | None = None) -> dict[str, nn.Module]:
    """Modules to watch by name: mmattn's gates, or those a regular expression matches.

    Args:
        model: any network.
        pattern: must match the whole dotted name of a module; ``None`` for every gate.

    Raises:
        ValueError: there is none.
    """
    modules = {name: module for name, module in model.named_modules() if name}
    if pattern is None:
        found = {name: module for name, module in modules.items() if isinstance(module, Gate)}
        if not found:
            kinds = {type(module).__name__ for module in modules.values()}
            shown = [
                f"; {what} is shown by '{how}'" for what, how in _OTHERS.items() if what in kinds
            ]
            raise ValueError(
                "gates must be named by a pattern (--gates): the model has none of mmattn's"
                + ''.join(shown)
            )
        return found
    try:
        found = {name: module for name, module in modules.items() if re.fullmatch(pattern, name)}
    except re.error as error:
        raise ValueError(
            f'gates must be a regular expression, got {pattern!r}: {error}'
        ) from error
    if not found:
        raise ValueError(
            f'gates must match the whole name of a module, got {pattern!r}'
            f'{did_you_mean(pattern, modules)}'
        )
    return found


def gains(x: Tensor, out: Tensor) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Return what a gate does to a map: by how much every channel, and every position, is scaled.

    A gain is the sum of ``|out|`` over that of ``|x|``: for a gate that multiplies, its value
    (weighted by ``|x|`` where it also varies along the summed axes); for one that adds, such as
    global context, how much the map grew. It is NaN where ``x`` is zero.

    Args:
        x: the map before the gate.
        out: the map after it.

    Shape: two ``(C, H, W)`` -> ``(C,)`` or None, ``(H, W)`` or None. The one that explains nothing
    (positions of a pure channel gate, or the other way round) is None.
    """
    x, out = x.double(), out.double()
    channel = out.abs().sum((1, 2)) / x.abs().sum((1, 2))
    spatial = out.abs().sum(0) / x.abs().sum(0)
    enough = SAME * out.abs().sum()
    if (out - x * channel.nan_to_num()[:, None, None]).abs().sum() <= enough:
        return channel.numpy(), None
    if (out - x * spatial.nan_to_num()).abs().sum() <= enough:
        return None, spatial.numpy()
    return channel.numpy(), spatial.numpy()


def watch_gates(
    model: nn.Module, gates: dict[str, nn.Module], *inputs: object, **options: object
) -> dict[str, tuple]:
    """Run a network once and measure what its gates do to the first image.

    Args:
        model: the network.
        gates: modules of it by name (:func:`find_gates`).
        inputs, options: what ``model`` is called with.

    Returns:
        ``{name of a gate: gains}`` in the order of the calls, a later call as ``name (2)``.

    Raises:
        ValueError: a named module does not keep the shape of a map.
    """
    seen: dict[str, tuple] = {}

    before: list = []

    def keep(module: nn.Module, inputs: tuple) -> None:
        x = inputs[0] if inputs else None
        before.append(x.clone() if isinstance(x, Tensor) else x)  # it may be changed in place

    def note(name: str, module: nn.Module, inputs: tuple, out: object) -> None:
        x = before.pop()
        ok = all(isinstance(t, Tensor) and t.dim() == 4 for t in (x, out))
        if not ok or x.shape != out.shape:
            raise ValueError(f'gates: {name} does not turn a map into one of its shape')
        calls = sum(key.split(' (')[0] == name for key in seen) + 1
        seen[name if calls == 1 else f'{name} ({calls})'] = gains(x[0], out[0])

    with hooks(gates.values(), keep, pre=True), hooks(gates, note), torch.no_grad():
        model(*inputs, **options)
    return seen
