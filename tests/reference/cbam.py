"""Convolutional Block Attention Module (arXiv 1807.06521, equations 1 to 3)."""

import torch

from tests.reference.ops import (
    batch_norm,
    conv2d,
    global_max,
    global_mean,
    linear,
    norm_of,
    relu,
    sigmoid,
)


def cbam(x, p, training, max_pool=True, spatial=True, kernel_size=7):
    def mlp(v):
        hidden = relu(linear(v, p['mlp.0.weight'], p.get('mlp.0.bias')))
        return linear(hidden, p['mlp.2.weight'], p.get('mlp.2.bias'))

    channel = mlp(global_mean(x))
    if max_pool:
        channel = channel + mlp(global_max(x))
    x = x * sigmoid(channel)[:, :, None, None]
    return spatial_gate(x, p, training, kernel_size) if spatial else x


def spatial_gate(x, p, training, kernel_size=7):
    num, channels, height, width = x.shape
    highest = x[:, 0]
    total = x[:, 0]
    for c in range(1, channels):
        highest = torch.where(x[:, c] > highest, x[:, c], highest)
        total = total + x[:, c]
    pooled = torch.stack((highest, total / channels), 1)
    logits = conv2d(pooled, p['spatial.0.weight'], padding=kernel_size // 2)
    logits = batch_norm(logits, *norm_of(p, 'spatial.1'), training)
    return x * sigmoid(logits)
