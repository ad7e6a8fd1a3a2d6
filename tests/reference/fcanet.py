"""FcaNet with the two-step criterion (arXiv 2012.11879, equations 6 to 8)."""

import math

from tests.reference.ops import linear, relu, sigmoid, tensor, window_mean, zeros

# (row, column) frequencies on a 7 x 7 grid, one for each sixteenth of the channels
PAIRS = [
    (0, 0), (0, 1), (6, 0), (0, 5), (0, 2), (1, 0), (1, 2), (4, 0),
    (5, 0), (1, 6), (3, 0), (0, 4), (0, 6), (0, 3), (3, 5), (2, 2),
]  # fmt: skip


def cosine(frequency, position, length):
    value = math.cos(math.pi * frequency * (position + 0.5) / length) / math.sqrt(length)
    return value * math.sqrt(2) if frequency > 0 else value


def fcanet(x, p, training, size=7):
    if x.shape[2:] != (size, size):
        pooled = window_mean(x, (size, size))
    else:
        pooled = x
    num, channels = x.shape[:2]
    coefficients = zeros(num, channels)
    for c in range(channels):
        row, col = PAIRS[c * 16 // channels]
        row, col = row * (size // 7), col * (size // 7)
        for n in range(num):
            total = 0
            for i in range(size):
                for j in range(size):
                    weight = cosine(row, i, size) * cosine(col, j, size)
                    total = total + pooled[n, c, i, j] * weight
            coefficients[n][c] = total
    hidden = relu(linear(tensor(coefficients), p['fc1.weight']))
    scale = sigmoid(linear(hidden, p['fc2.weight']))
    return x * scale[:, :, None, None]
