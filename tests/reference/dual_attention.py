"""Position and channel attention (arXiv 1809.02983, equations 1 to 4)."""

import torch

from tests.reference.ops import conv2d, softmax, tensor


def position_attention(x, p, training):
    return x + _position(x, p)


def channel_attention(x, p, training):
    return x + _channel(x, p)


def dual_attention(x, p, training):
    position = {k.removeprefix('position.'): v for k, v in p.items()}
    channel = {k.removeprefix('channel.'): v for k, v in p.items()}
    return x + _position(x, position) + _channel(x, channel)


def _position(x, p):
    query, key, value = (
        conv2d(x, p[f'{name}.weight'], p[f'{name}.bias']) for name in ('query', 'key', 'value')
    )
    num, channels, height, width = x.shape
    positions = [(i, j) for i in range(height) for j in range(width)]
    images = []
    for n in range(num):
        columns = []
        for i, j in positions:  # s_ji: how much position i gives to position j
            scores = [(query[n, :, i, j] * key[n, :, a, b]).sum() for a, b in positions]
            weights = softmax(scores)
            columns.append(sum(s * value[n, :, a, b] for s, (a, b) in zip(weights, positions)))
        images.append(torch.stack(columns, 1).reshape(channels, height, width))
    return p['alpha'] * torch.stack(images)


def _channel(x, p):
    images = []
    for image in x:
        channels = len(image)
        rows = []
        for i in range(channels):
            energy = [(image[i] * image[j]).sum() for j in range(channels)]
            top = max(energy, key=lambda e: e.item())
            weights = softmax([top - e for e in energy])
            rows.append(sum(w * image[j] for j, w in enumerate(weights)))
        images.append(tensor(rows))
    return p['beta'] * torch.stack(images)
