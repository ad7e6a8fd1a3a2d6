"""Non-local block, embedded Gaussian (arXiv 1711.07971, equations 1, 4 and 6)."""

import math

import torch

from tests.reference.ops import batch_norm, conv2d, norm_of, softmax


def non_local(x, p, training, use_scale=False, sub_sample=False, norm=False):
    def layer(name):
        inner = f'block.{name}.0.conv' if sub_sample and name != 'theta' else f'block.{name}.conv'
        out = conv2d(x, p[f'{inner}.weight'], p[f'{inner}.bias'])
        return half(out) if sub_sample and name != 'theta' else out

    theta, phi, g = layer('theta'), layer('phi'), layer('g')
    num, inner, height, width = theta.shape
    sources = [(a, b) for a in range(phi.shape[2]) for b in range(phi.shape[3])]
    y = torch.zeros_like(theta).tolist()
    for n in range(num):
        for i in range(height):
            for j in range(width):
                scores = [(theta[n, :, i, j] * phi[n, :, a, b]).sum() for a, b in sources]
                if use_scale:
                    scores = [s / math.sqrt(inner) for s in scores]
                mean = sum(f * g[n, :, a, b] for f, (a, b) in zip(softmax(scores), sources))
                for c in range(inner):
                    y[n][c][i][j] = mean[c]
    y = torch.stack(
        [
            torch.stack([torch.stack([torch.stack(row) for row in plane]) for plane in image])
            for image in y
        ]
    )
    out = conv2d(y, p['block.conv_out.conv.weight'], p.get('block.conv_out.conv.bias'))
    if norm:
        out = batch_norm(out, *norm_of(p, 'block.conv_out.bn'), training)
    return x + out


def half(x):
    """Max over 2x2 windows; a last odd row or column is dropped."""
    rows = []
    for i in range(x.shape[2] // 2):
        row = []
        for j in range(x.shape[3] // 2):
            window = [x[:, :, 2 * i + a, 2 * j + b] for a in (0, 1) for b in (0, 1)]
            best = window[0]
            for other in window[1:]:
                best = torch.where(other > best, other, best)
            row.append(best)
        rows.append(torch.stack(row, 2))
    return torch.stack(rows, 2)
