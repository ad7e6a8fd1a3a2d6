"""The three passes of CBAM over a map, for training: less time and memory than plain operators.

Plain operators keep a map of each pass and add up a gradient of each; a maximum alone goes back
through four maps. Here every pass hands the map on beside its result, so that one gradient comes
back through all of them and is added to in place; maxima go back by their indices; x is all that
is kept. Where several values are the maximum, the first gets the gradient, as in torch's pooling.
"""

import torch
from torch import Tensor
from torch.autograd import Function

from mmattn.layers._gate import full_precision

__all__ = ['pool_channels', 'pool_positions', 'scale_both']


def pool_positions(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return mean and maximum of every channel, and ``x`` for the next pass.

    Shape: ``(N, C, H, W) -> (N, C, 1, 1), (N, C, 1, 1), (N, C, H, W)``.
    """
    mean, peak, _, x = _PoolPositions.apply(x)
    return mean, peak, x


def pool_channels(x: Tensor, scale: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return maximum and mean of ``x * scale`` over channels, that product, and ``x``.

    Both maps are for the next pass; the product is outside of autograd.

    Shape: ``(N, C, H, W), (N, C, 1, 1) -> (N, 2, H, W), (N, C, H, W), (N, C, H, W)``.
    """
    scaled = x.detach() * scale.detach()
    pooled, _, x = _PoolChannels.apply(x, scale, scaled)
    return pooled, scaled, x


def scale_both(
    x: Tensor, scaled: Tensor, channels: Tensor, positions: Tensor, gamma: Tensor | None
) -> Tensor:
    """Return the blend of ``x`` and ``x * channels * positions`` (:mod:`mmattn.core.identity`).

    ``scaled`` is ``x * channels``, and overwritten.

    Shape: maps ``(N, C, H, W)``, ``channels`` (N, C, 1, 1), ``positions`` (N, 1, H, W).
    """
    if gamma is None:
        return _ScaleBoth.apply(x, channels, positions, None, [scaled])
    gamma = gamma.to(x.dtype)
    return _ScaleBoth.apply(x, channels, positions * gamma, 1 - gamma, [scaled])


class _PoolPositions(Function):
    @staticmethod
    def forward(x: Tensor) -> tuple[Tensor, ...]:
        peak, index = x.flatten(2).max(2, keepdim=True)
        return x.mean((2, 3), keepdim=True), peak[..., None], index, x.view_as(x)

    @staticmethod
    def setup_context(ctx: Function, inputs: tuple, output: tuple) -> None:
        ctx.save_for_backward(output[2])
        ctx.mark_non_differentiable(output[2])

    @staticmethod
    def backward(ctx: Function, of_mean: Tensor, of_peak: Tensor, _: None, grad: Tensor) -> Tensor:
        (index,) = ctx.saved_tensors
        grad = grad.add_(of_mean / grad[0, 0].numel())
        flat = grad.flatten(2).scatter_add_(2, index, of_peak[..., 0])  # a copy for some strides
        return flat.view_as(grad)


class _PoolChannels(Function):
    @staticmethod
    def forward(x: Tensor, scale: Tensor, scaled: Tensor) -> tuple[Tensor, ...]:
        peak, index = scaled.max(1, keepdim=True)
        return torch.cat((peak, scaled.mean(1, keepdim=True)), 1), index, x.view_as(x)

    @staticmethod
    def setup_context(ctx: Function, inputs: tuple, output: tuple) -> None:
        ctx.save_for_backward(*inputs[:2], output[1])
        ctx.mark_non_differentiable(output[1])

    @staticmethod
    def backward(
        ctx: Function, of_pooled: Tensor, _: None, grad: Tensor
    ) -> tuple[Tensor, Tensor, None]:
        x, scale, index = ctx.saved_tensors
        of_peak, of_mean = of_pooled[:, :1], of_pooled[:, 1:] / x.shape[1]
        channel = index.flatten(1)  # (N, positions), of the maximum
        grad = grad.addcmul_(scale, of_mean)
        grad.scatter_add_(1, index, of_peak * scale.flatten(1).gather(1, channel).view_as(of_peak))
        of_scale = (x * of_mean).sum((2, 3))
        of_scale.scatter_add_(1, channel, (of_peak * x.gather(1, index)).flatten(1))
        return grad, of_scale.view_as(scale), None


class _ScaleBoth(Function):
    """``x * (channels * positions + rest)``; ``rest`` a scalar or None for 0.

    ``scaled`` is in a list so that autograd does not look at it.
    """

    @staticmethod
    def forward(
        x: Tensor, channels: Tensor, positions: Tensor, rest: Tensor | None, scaled: list[Tensor]
    ) -> Tensor:
        out = scaled.pop().mul_(positions)
        return out if rest is None else out.addcmul_(x, rest)

    @staticmethod
    def setup_context(ctx: Function, inputs: tuple, output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:4])

    @staticmethod
    def backward(ctx: Function, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, channels, positions, rest = ctx.saved_tensors
        of_x = (grad * channels).mul_(positions)
        product = grad * x
        with full_precision(x):
            of_positions = channels.flatten(2).transpose(1, 2) @ product.flatten(2)
        of_rest = None
        if rest is not None:
            of_x.addcmul_(grad, rest)
            of_rest = product.sum()
        multiply = Tensor.mul if torch.is_grad_enabled() else Tensor.mul_
        of_channels = multiply(product, positions).sum((2, 3), keepdim=True)
        return of_x, of_channels, of_positions.view_as(positions), of_rest, None
