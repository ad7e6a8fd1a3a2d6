"""Interaction-aware pyramid attention, our reading: top positions ask all levels' grids."""

import torch

from tests.reference.ops import conv2d, softmax, window_mean


def pyramid(maps, p, training, grid_size):
    x = maps[-1]
    num, channels, height, width = x.shape
    query = conv2d(x, p['query.weight'], p['query.bias'])
    keys, values = [], []  # of every cell of every level: (N, hidden), (N, C)
    for index, level in enumerate(maps):
        weight, bias = p[f'levels.{index}.weight'], p[f'levels.{index}.bias']
        cells = conv2d(window_mean(level, (grid_size, grid_size)), weight, bias)
        key = conv2d(cells, p['key.weight'], p['key.bias'])
        value = conv2d(cells, p['value.weight'], p['value.bias'])
        for i in range(grid_size):
            for j in range(grid_size):
                keys.append(key[:, :, i, j])
                values.append(value[:, :, i, j])
    images = []
    for n in range(num):
        columns = []
        for i in range(height):
            for j in range(width):
                scores = softmax([(query[n, :, i, j] * key[n]).sum() for key in keys])
                columns.append(sum(s * value[n] for s, value in zip(scores, values)))
        images.append(torch.stack(columns, 1).reshape(channels, height, width))
    return x + p['alpha'] * torch.stack(images)
