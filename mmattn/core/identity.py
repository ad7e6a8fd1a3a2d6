"""The one definition of ``init='identity'``: a method that starts as a no-op.

``out = plain + gamma * (attended - plain)`` with one learned scalar ``gamma`` per module, 0 at
the start, so that a pretrained network gives its old output at step 0 and learns how much of
the method it wants. With ``init='paper'`` there is no gamma and the method is the paper's.
"""

import torch
from torch import Tensor, nn

__all__ = ['INITS', 'blend', 'blend_factor', 'make_gamma']

INITS = ('paper', 'identity')


def make_gamma(
    init: str, device: torch.device | None = None, dtype: torch.dtype | None = None
) -> nn.Parameter | None:
    """Return the blend's scalar: ``None`` for ``init='paper'``, a zero for ``init='identity'``.

    Raises:
        ValueError: ``init`` is neither.
    """
    if init not in INITS:
        raise ValueError(f'init must be one of {INITS}, got {init!r}')
    return (
        nn.Parameter(torch.zeros((), device=device, dtype=dtype)) if init == 'identity' else None
    )


def blend(plain: Tensor, attended: Tensor, gamma: Tensor | None) -> Tensor:
    """``plain + gamma * (attended - plain)``, or just ``attended`` without a gamma.

    Shape: ``plain`` and ``attended`` alike, any shape; ``gamma`` a scalar.
    """
    if gamma is None:
        return attended
    if plain.dtype != attended.dtype:  # autocast: the sum decides
        return plain + gamma * (attended - plain)
    return torch.lerp(plain, attended, gamma.to(plain.dtype))


def blend_factor(factor: Tensor, gamma: Tensor | None) -> Tensor:
    """Return what the blend of ``x`` and ``x * factor`` multiplies ``x`` with: the cheaper way.

    Shape: ``factor`` any shape; ``gamma`` a scalar; returns the shape of ``factor``.
    """
    # 1 + gamma * (factor - 1), since torch's ONNX exporter (dynamo) has no scalar minus a tensor
    return factor if gamma is None else gamma * (factor - 1) + 1
