"""Spatial weights (arXiv 1611.08860), with its backward rule: the weights' gradient over C."""

import torch

from tests.reference.ops import conv2d, relu


class _DividedGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, weights, channels):
        ctx.channels = channels
        return weights.clone()

    @staticmethod
    def backward(ctx, grad):
        return grad / ctx.channels, None


def spatial_weights(x, p, training):
    maps = x
    for name in ('conv1', 'conv2', 'conv3'):
        maps = relu(conv2d(maps, p[f'{name}.weight'], p[f'{name}.bias']))
    weights = _DividedGradient.apply(maps, x.shape[1])
    return torch.stack([x[:, c] * weights[:, 0] for c in range(x.shape[1])], 1)
