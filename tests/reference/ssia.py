"""SSIA from the equations of arXiv 2206.07434, number by number."""

import torch

from tests.reference.ops import batch_norm, global_mean, linear, norm_of, relu, resize, tensor


def channel_mean(x):
    """``(N, C, H, W) -> (N, 1, H, W)``."""
    num, channels, height, width = x.shape
    return tensor(
        [
            [
                [
                    [sum(x[n, c, i, j] for c in range(channels)) / channels for j in range(width)]
                    for i in range(height)
                ]
            ]
            for n in range(num)
        ]
    )


def normalise(x, normaliser):
    """Each row of ``(N, K)`` to mean 0, divided by its standard deviation or variance."""
    rows = []
    for row in x:
        count = len(row)
        mean = sum(row) / count
        var = sum((v - mean) ** 2 for v in row) / count
        spread = torch.sqrt(var) if normaliser == 'std' else var
        rows.append([(v - mean) / spread for v in row])
    return tensor(rows)


def row_major(maps, size):
    """``(N, 1, h, w)`` resized to ``size`` and read row by row."""
    maps = resize(maps, *size)
    return tensor([[m[0, i, j] for i in range(size[0]) for j in range(size[1])] for m in maps])


def predict(x, params, name, training):
    """Linear, BN, ReLU, Linear."""
    x = linear(x, params[f'{name}.0.weight'], params[f'{name}.0.bias'])
    x = relu(batch_norm(x, *norm_of(params, f'{name}.1'), training))
    return linear(x, params[f'{name}.3.weight'], params[f'{name}.3.bias'])


def regression(predicted, signal, low, high):
    """eq. 7 and 8, mean over the images."""
    total = 0
    for f_row, g_row in zip(predicted, signal):
        above, below = 0.0, 1e-8
        for f, g in zip(f_row, g_row):
            if low < abs(float(g)) < high:
                above = above + (f - g) ** 2
                below += 1
        total = total + above / below
    return total / len(signal)


def ssia(
    x, y, params, sizes, training, lambdas=(1.0, 3.0), normaliser='std',
    thresholds=(0.5, 10.0), norm_input=False,
):  # fmt: skip
    """Both weighted losses of a low map x and a high map y."""
    low_size, high_size = sizes
    y = y.detach()
    signals = (row_major(channel_mean(y), high_size), global_mean(y))
    inputs = (row_major(channel_mean(x), low_size), global_mean(x))
    losses = []
    for name, weight, phi, signal in zip(('spatial', 'channel'), lambdas, inputs, signals):
        if not weight:
            continue
        phi = normalise(phi, normaliser) if norm_input else phi
        predicted = predict(phi, params, f'predictors.{name}', training)
        losses.append(weight * regression(predicted, normalise(signal, normaliser), *thresholds))
    return torch.stack([torch.as_tensor(v, dtype=x.dtype) for v in losses])
