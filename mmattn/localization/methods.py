"""How each method weighs the channels of a layer's output.

Every method sums the channels of the target layer's output ``A`` with weights made of the
gradient ``g = d score / d A``:

=============  =====================================================  ==========================
``cam``        linear layer's weights, signed map                     Zhou et al., CVPR 2016
``gradcam``    mean over positions of g, then ReLU                    Selvaraju et al., ICCV 2017
``gradcam++``  sum of alpha ReLU(g), then ReLU                        Chattopadhay, WACV 2018
``layercam``   ReLU(g) at every position, then ReLU                   Jiang et al., TIP 2021
``hirescam``   g at every position, then ReLU                         Draelos & Carin, 2020
=============  =====================================================  ==========================
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ['METHODS', 'weigh']


def _gradcam(grad: Tensor, act: Tensor) -> Tensor:
    return grad.mean((-2, -1))


def _gradcam_plus_plus(grad: Tensor, act: Tensor) -> Tensor:
    """eq. 19 with the exponential's positive factor left out, which a box does not feel."""
    area = act.sum((-2, -1))[:, None, :, None, None]  # (N, 1, C, 1, 1)
    bottom = 2 * grad.square() + area * grad.pow(3)
    alpha = torch.where(bottom == 0, torch.zeros_like(grad), grad.square() / bottom)
    weights = alpha * grad.clamp(min=0)
    if grad.shape[-1] == grad.shape[-2] == 1:  # constant gradient: the sum over all positions
        weights = weights * (act.shape[-2] * act.shape[-1])
    return weights.sum((-2, -1))


def _layercam(grad: Tensor, act: Tensor) -> Tensor:
    return grad.clamp(min=0)


def _hirescam(grad: Tensor, act: Tensor) -> Tensor:
    return grad


_WEIGHTS = {
    'cam': _gradcam,
    'gradcam': _gradcam,
    'gradcam++': _gradcam_plus_plus,
    'layercam': _layercam,
    'hirescam': _hirescam,
}
METHODS = tuple(_WEIGHTS)


def weigh(method: str, grad: Tensor, act: Tensor) -> Tensor:
    """Sum an activation's channels with a method's weights.

    Args:
        method: One of :data:`METHODS`.
        grad: ``d score / d act`` for K classes, ``(N, K, C, h, w)``; ``(N, K, C, 1, 1)`` where it
            is the same at every position.
        act: ``(N, C, h, w)``.

    Shape: returns ``(N, K, h, w)``.
    """
    weights = _WEIGHTS[method](grad, act)
    if weights.dim() == 5 and weights.shape[-2:] == (1, 1):
        weights = weights[..., 0, 0]
    if weights.dim() == 3:  # (N, K, C) x (N, C, hw)
        maps = torch.bmm(weights, act.flatten(2)).unflatten(2, act.shape[-2:])
    else:
        maps = torch.einsum('nkchw,nchw->nkhw', weights, act)
    return maps if method == 'cam' else maps.clamp(min=0)
