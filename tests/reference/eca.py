"""Efficient Channel Attention (arXiv 1910.03151)."""

import math

from tests.reference.ops import global_mean, sigmoid, tensor


def eca(x, p, training):
    means = global_mean(x)
    kernel = p['conv.weight'].flatten()
    reach = len(kernel) // 2
    channels = x.shape[1]
    rows = []
    for mean in means:
        row = []
        for c in range(channels):
            total = 0
            for k in range(len(kernel)):
                source = c + k - reach
                if 0 <= source < channels:
                    total = total + kernel[k] * mean[source]
            row.append(sigmoid(total))
        rows.append(row)
    return x * tensor(rows)[:, :, None, None]


def psi(channels, gamma=2, b=1):
    """Equation 12: |log2(C) / gamma + b / gamma|, cut to an integer, the next odd number."""
    size = int(abs(math.log2(channels) / gamma + b / gamma))
    while size % 2 == 0:
        size += 1
    return size
