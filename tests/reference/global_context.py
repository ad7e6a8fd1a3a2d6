"""Global context block (arXiv 1904.11492, equation 5)."""

import torch

from tests.reference.ops import linear, relu, softmax, tensor


def global_context(x, p, training, eps=1e-5):
    num, channels, height, width = x.shape
    positions = [(i, j) for i in range(height) for j in range(width)]
    mask, bias = p['block.conv_mask.weight'].flatten(), p['block.conv_mask.bias'][0]
    contexts = []
    for n in range(num):
        logits = [(mask * x[n, :, i, j]).sum() + bias for i, j in positions]
        weights = softmax(logits)
        contexts.append(sum(a * x[n, :, i, j] for a, (i, j) in zip(weights, positions)))
    name = 'block.channel_add_conv'
    hidden = linear(tensor(contexts), p[f'{name}.0.weight'], p[f'{name}.0.bias'])
    normed = []
    for row in hidden:
        mean = row.sum() / len(row)
        spread = ((row - mean) ** 2).sum() / len(row)
        normed.append((row - mean) / torch.sqrt(spread + eps))
    scale, shift = p[f'{name}.1.weight'].flatten(), p[f'{name}.1.bias'].flatten()
    hidden = relu(tensor(normed) * scale + shift)
    added = linear(hidden, p[f'{name}.3.weight'], p[f'{name}.3.bias'])
    return x + added[:, :, None, None]
