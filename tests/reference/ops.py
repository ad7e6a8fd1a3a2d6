"""The few operations the papers take for granted, written out with loops.

torch supplies numbers and their gradients; no layer of torch is used.
"""

import math

import torch


def zeros(*shape):
    """A nested list of zeros, filled number by number and joined by :func:`tensor`."""
    return [zeros(*shape[1:]) for _ in range(shape[0])] if shape else torch.zeros(())


def tensor(nested):
    """A nested list of scalars as one tensor, gradients kept."""
    if isinstance(nested, torch.Tensor):
        return nested
    return torch.stack([tensor(part) for part in nested])


def sigmoid(v):
    return 1 / (1 + torch.exp(-v))


def relu(v):
    return (v + v.abs()) / 2


def softmax(values):
    """Of a list of scalars."""
    top = max(float(v.detach()) for v in values)
    powers = [torch.exp(v - top) for v in values]
    total = sum(powers)
    return [p / total for p in powers]


def global_mean(x):
    """``(N, C, H, W) -> (N, C)``."""
    num, channels, height, width = x.shape
    rows = []
    for n in range(num):
        row = []
        for c in range(channels):
            total = 0
            for i in range(height):
                for j in range(width):
                    total = total + x[n, c, i, j]
            row.append(total / (height * width))
        rows.append(row)
    return tensor(rows)


def global_max(x):
    """``(N, C, H, W) -> (N, C)``."""
    rows = []
    for image in x:
        row = []
        for channel in image:
            best = channel[0, 0]
            for v in channel.flatten():
                if v > best:
                    best = v
            row.append(best)
        rows.append(row)
    return tensor(rows)


def linear(x, weight, bias=None):
    """``(N, in) -> (N, out)``; a 1x1 convolution's weight (out, in, 1, 1) will do."""
    weight = weight.reshape(weight.shape[0], -1)
    rows = []
    for row in x:
        out = [(row * weight[o]).sum() for o in range(len(weight))]
        rows.append([v if bias is None else v + bias[o] for o, v in enumerate(out)])
    return tensor(rows)


def conv2d(x, weight, bias=None, stride=1, padding=0, dilation=1):
    """Position by position and tap by tap; only the sum over channels is a product."""
    num, _, height, width = x.shape
    c2, _, kh, kw = weight.shape
    out_h = (height + 2 * padding - dilation * (kh - 1) - 1) // stride + 1
    out_w = (width + 2 * padding - dilation * (kw - 1) - 1) // stride + 1
    out = zeros(num, out_h, out_w)
    for n in range(num):
        for i in range(out_h):
            for j in range(out_w):
                total = torch.zeros(c2, dtype=x.dtype) if bias is None else bias
                for a in range(kh):
                    for b in range(kw):
                        row = i * stride - padding + a * dilation
                        col = j * stride - padding + b * dilation
                        if 0 <= row < height and 0 <= col < width:
                            total = total + weight[:, :, a, b] @ x[n, :, row, col]
                out[n][i][j] = total
    return tensor(out).permute(0, 3, 1, 2)


def deconv2d(x, weight, bias, stride, padding, output_padding):
    """Transposed convolution: every input position paints its kernel; weight (C1, C2, h, w)."""
    num, _, height, width = x.shape
    kh, kw = weight.shape[2:]
    out_h = (height - 1) * stride - 2 * padding + kh + output_padding
    out_w = (width - 1) * stride - 2 * padding + kw + output_padding
    out = [[[bias for _ in range(out_w)] for _ in range(out_h)] for _ in range(num)]
    for n in range(num):
        for i in range(height):
            for j in range(width):
                for a in range(kh):
                    for b in range(kw):
                        row, col = i * stride - padding + a, j * stride - padding + b
                        if 0 <= row < out_h and 0 <= col < out_w:
                            painted = x[n, :, i, j] @ weight[:, :, a, b]
                            out[n][row][col] = out[n][row][col] + painted
    return tensor(out).permute(0, 3, 1, 2)


def batch_norm(x, weight, bias, mean, var, training, eps=1e-5):
    """Over every axis but the second; batch statistics in training, stored ones otherwise."""
    channels = []
    for c in range(x.shape[1]):
        part = x[:, c]
        if training:
            centre = part.sum() / part.numel()
            spread = ((part - centre) ** 2).sum() / part.numel()
        else:
            centre, spread = mean[c], var[c]
        channels.append((part - centre) / torch.sqrt(spread + eps) * weight[c] + bias[c])
    return torch.stack(channels, 1)


def norm_of(params, name):
    """The five tensors of a BatchNorm from a flat dict."""
    keys = ('weight', 'bias', 'running_mean', 'running_var')
    return [params[f'{name}.{key}'] for key in keys]


def resize(x, height, width):
    """Bilinear, half-pixel centres, edges repeated."""
    num, channels, h, w = x.shape
    out = zeros(height, width)
    for i in range(height):
        top, below, down = _neighbours(i, height, h)
        for j in range(width):
            left, right, across = _neighbours(j, width, w)
            upper = x[:, :, top, left] * (1 - across) + x[:, :, top, right] * across
            lower = x[:, :, below, left] * (1 - across) + x[:, :, below, right] * across
            out[i][j] = upper * (1 - down) + lower * down  # (N, C)
    return tensor(out).permute(2, 3, 0, 1)


def _neighbours(index, new, old):
    place = max((index + 0.5) * old / new - 0.5, 0.0)
    first = min(math.floor(place), old - 1)
    return first, min(first + 1, old - 1), place - first


def window_mean(x, size):
    """Adaptive average pooling of ``(N, C, H, W)`` to ``size``, window by window."""
    height, width = x.shape[2:]
    out = zeros(*size)
    for i in range(size[0]):
        rows = range(i * height // size[0], math.ceil((i + 1) * height / size[0]))
        for j in range(size[1]):
            cols = range(j * width // size[1], math.ceil((j + 1) * width / size[1]))
            total = sum(x[:, :, a, b] for a in rows for b in cols)
            out[i][j] = total / (len(rows) * len(cols))  # (N, C)
    return tensor(out).permute(2, 3, 0, 1)
