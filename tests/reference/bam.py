"""Bottleneck Attention Module (arXiv 1807.06514), branches multiplied as in the authors' code."""

from tests.reference.ops import batch_norm, conv2d, global_mean, linear, norm_of, relu, sigmoid


def bam(x, p, training):
    hidden = linear(global_mean(x), p['channel.0.weight'], p['channel.0.bias'])
    hidden = relu(batch_norm(hidden, *norm_of(p, 'channel.1'), training))
    channel = linear(hidden, p['channel.3.weight'], p['channel.3.bias'])  # (N, C)

    maps = x
    for conv, norm, dilation in ((0, 1, 0), (3, 4, 4), (6, 7, 4)):
        weight, bias = p[f'spatial.{conv}.weight'], p[f'spatial.{conv}.bias']
        maps = conv2d(maps, weight, bias, padding=dilation, dilation=max(dilation, 1))
        maps = relu(batch_norm(maps, *norm_of(p, f'spatial.{norm}'), training))
    spatial = conv2d(maps, p['spatial.9.weight'], p['spatial.9.bias'])  # (N, 1, H, W)

    attention = sigmoid(channel[:, :, None, None] * spatial)
    return x + x * attention
