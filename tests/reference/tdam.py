"""Top-down attention (TDAM, arXiv 2111.13470), written from equations 1 to 8.

Every network is a list of layers that run in every step, between a bottom and a top.
"""

import torch

from tests.reference.ops import batch_norm, conv2d, global_mean, linear, norm_of, relu, sigmoid


def searchlight(bottom, top, p, operation='channel-spatial'):
    """``p`` holds ``top.weight``, ``bottom.weight`` (joint only) and ``out.weight``."""
    if operation == 'recurrent':
        return conv2d(_nearest(top, *bottom.shape[2:]), p['top.weight'])
    hidden = [relu(linear(global_mean(top), p['top.weight']))]
    if 'bottom.weight' in p:
        hidden.append(relu(linear(global_mean(bottom), p['bottom.weight'])))
    s = linear(torch.cat(hidden, 1), p['out.weight'])
    if operation == 'channel-spatial':
        return _positions(_channels(bottom, s), s)
    if operation == 'spatial-channel':
        return _channels(_positions(bottom, s), s)
    if operation == 'parallel':
        return (_channels(bottom, s) + _positions(bottom, s)) / 2
    return {'channel': _channels, 'spatial': _positions}[operation](bottom, s)


def _channels(x, s):
    """Equation 6."""
    return torch.stack([x[:, c] * sigmoid(s[:, c])[:, None, None] for c in range(x.shape[1])], 1)


def _positions(x, s):
    """Equations 7 and 8, the searchlight as it is."""
    weighed = sum(x[:, c] * s[:, c][:, None, None] for c in range(x.shape[1]))
    return x * sigmoid(weighed)[:, None]


def _nearest(x, height, width):
    rows = [i * x.shape[2] // height for i in range(height)]
    cols = [j * x.shape[3] // width for j in range(width)]
    return x[:, :, rows][:, :, :, cols]


def part(p, name):
    """The entries of a flat dict below ``name``."""
    return {key[len(name) + 1 :]: value for key, value in p.items() if key.startswith(f'{name}.')}


def steps(bottom, f, p, number, operation='channel-spatial'):
    """``f(x, k)`` is what runs in step k = 1, 2, ...; gives all ``Y_k``."""
    tops = [f(bottom, 1)]
    for k in range(2, number + 1):
        bottom = searchlight(bottom, tops[-1], part(p, 'searchlight'), operation)
        tops.append(f(bottom, k))
    return tops


def mixed(tops, p):
    """The last step, or its blend with the first."""
    gamma = p.get('searchlight.gamma')
    return tops[-1] if gamma is None else (1 - gamma) * tops[0] + gamma * tops[-1]


def residual_block(x, p, training, number, distance, strides, paddings, operation):
    """Bottleneck (three convolutions) or basic block (two)."""
    count = len(strides)

    def norm(v, i, k):
        name = f'bn{i}' if k == 1 else f'bn{i}_{k - 1}'
        return batch_norm(v, *norm_of(p, name), training)

    def layer(v, i, k):
        v = conv2d(v, p[f'conv{i}.weight'], stride=strides[i - 1], padding=paddings[i - 1])
        v = norm(v, i, k)
        return v if i == count else relu(v)

    def repeated(v, k):
        for i in range(count - distance + 1, count + 1):
            v = layer(v, i, k)
        return v

    bottom = x
    for i in range(1, count - distance + 1):
        bottom = layer(bottom, i, 1)
    if distance:
        tops = steps(bottom, repeated, p, number, operation)
    else:  # the searchlight on itself, once a step
        tops = [bottom]
        for _ in range(number):
            tops.append(searchlight(tops[-1], tops[-1], part(p, 'searchlight'), operation))
    out = mixed(tops, p)
    if 'downsample.0.weight' in p:
        x = conv2d(x, p['downsample.0.weight'], stride=max(strides))
        x = batch_norm(x, *norm_of(p, 'downsample.1'), training)
    return relu(x + out)


def layer_norm(x, weight, bias, eps=1e-6):
    """Over the channels of (N, C, H, W)."""
    centre = sum(x[:, c] for c in range(x.shape[1])) / x.shape[1]
    spread = sum((x[:, c] - centre) ** 2 for c in range(x.shape[1])) / x.shape[1]
    scaled = [(x[:, c] - centre) / torch.sqrt(spread + eps) for c in range(x.shape[1])]
    return torch.stack([v * weight[c] + bias[c] for c, v in enumerate(scaled)], 1)


def gelu(x):
    return x * (1 + torch.erf(x / 2**0.5)) / 2


def convnext_block(x, p, number, distance):
    """The pointwise layers as 1x1 convolutions; layer scale after the last step."""

    def pointwise(v, name):
        return conv2d(v, p[f'{name}.weight'][..., None, None], p[f'{name}.bias'])

    depthwise = [
        conv2d(x[:, c : c + 1], p['depthwise_conv.weight'][c : c + 1], padding=3)
        + p['depthwise_conv.bias'][c]
        for c in range(x.shape[1])
    ]
    bottom = layer_norm(torch.cat(depthwise, 1), p['norm.weight'], p['norm.bias'])
    if distance == 2:
        tops = steps(
            bottom,
            lambda v, k: pointwise(gelu(pointwise(v, 'pointwise_conv1')), 'pointwise_conv2'),
            p,
            number,
        )
    else:
        bottom = gelu(pointwise(bottom, 'pointwise_conv1'))
        tops = steps(bottom, lambda v, k: pointwise(v, 'pointwise_conv2'), p, number)
    return x + mixed(tops, p) * p['gamma'][:, None, None]


def inverted_residual(x, p, training, number, padding, eps):
    """Expansion, depthwise convolution, and the projection in every step; ReLU."""

    def bn(v, name):
        return batch_norm(v, *norm_of(p, name), training, eps)

    out = relu(bn(conv2d(x, p['expand_conv.conv.weight']), 'expand_conv.bn'))
    depthwise = [
        conv2d(out[:, c : c + 1], p['depthwise_conv.conv.weight'][c : c + 1], padding=padding)
        for c in range(out.shape[1])
    ]
    bottom = relu(bn(torch.cat(depthwise, 1), 'depthwise_conv.bn'))

    def project(v, k):
        name = 'linear_conv.bn' if k == 1 else f'linear_conv.bn_{k - 1}'
        return bn(conv2d(v, p['linear_conv.conv.weight']), name)

    return x + mixed(steps(bottom, project, p, number), p)
