"""AW-convolution (arXiv 2108.08205, equations 4 to 8), one number at a time.

Everything is written out from the equations with plain loops; torch supplies the numbers and
their gradients only.
"""

import torch


def attention_map(x, params, kernel_size, r_c1, r_c2, r_hw, training, eps=1e-5):
    """A of one batch, expanded over everything: nested list [n][o][c][i][j] of scalars.

    ``params``: pw1 (hidden, C1), pw2 (M, hidden), and per norm (weight, bias, mean, var).
    """
    num, c1, height, width = x.shape
    kh, kw = kernel_size
    positions = (kh * kw) // r_hw
    gh, gw = _grid(kh, kw, r_hw)
    pooled = [
        [
            [_window_mean(x[n, c], p // gw, p % gw, gh, gw) for p in range(positions)]
            for c in range(c1)
        ]
        for n in range(num)
    ]
    hidden = _norm(_pointwise(pooled, params['pw1']), params['norm1'], training, eps)
    hidden = [[[torch.clamp(v, min=0) for v in row] for row in image] for image in hidden]
    logits = _norm(_pointwise(hidden, params['pw2']), params['norm2'], training, eps)
    values = [[[1 / (1 + torch.exp(-v)) for v in row] for row in image] for image in logits]

    c2 = len(values[0]) * r_c1 * r_c2 // params['c1_per_group']
    blocks = params['c1_per_group'] // r_c1
    return [
        [
            [
                [
                    [
                        values[n][(o // r_c2) * blocks + c // r_c1][(i * kw + j) // r_hw]
                        for j in range(kw)
                    ]
                    for i in range(kh)
                ]
                for c in range(params['c1_per_group'])
            ]
            for o in range(c2)
        ]
        for n in range(num)
    ]


def convolve(x, weight, bias, attn, stride, padding, dilation, groups):
    """``sum (K + A K) I`` with zero padding, as nested loops over every index."""
    num, _, height, width = x.shape
    c2, per_group, kh, kw = weight.shape
    out_h = (height + 2 * padding[0] - dilation[0] * (kh - 1) - 1) // stride[0] + 1
    out_w = (width + 2 * padding[1] - dilation[1] * (kw - 1) - 1) // stride[1] + 1
    rows = []
    for n in range(num):
        for o in range(c2):
            first = (o // (c2 // groups)) * per_group
            for y in range(out_h):
                for z in range(out_w):
                    total = x.new_zeros(())
                    for c in range(per_group):
                        for i in range(kh):
                            for j in range(kw):
                                row = y * stride[0] - padding[0] + i * dilation[0]
                                col = z * stride[1] - padding[1] + j * dilation[1]
                                if 0 <= row < height and 0 <= col < width:
                                    k = weight[o, c, i, j]
                                    total = (
                                        total
                                        + (k + attn[n][o][c][i][j] * k) * x[n, first + c, row, col]
                                    )
                    rows.append(total if bias is None else total + bias[o])
    return torch.stack(rows).reshape(num, c2, out_h, out_w)


def _grid(kh, kw, r_hw):
    """r_hw neighbours in row-major order: part of a row, or whole rows."""
    return (kh, kw // r_hw) if r_hw <= kw else (kh // (r_hw // kw), 1)


def _window_mean(plane, row, col, gh, gw):
    """Cell (row, col) of an adaptive average pool of an (H, W) plane to (gh, gw)."""
    height, width = plane.shape
    top, bottom = row * height // gh, -(-(row + 1) * height // gh)
    left, right = col * width // gw, -(-(col + 1) * width // gw)
    values = [plane[r, c] for r in range(top, bottom) for c in range(left, right)]
    return sum(values) / len(values)


def _pointwise(maps, weight):
    return [
        [
            [
                sum(weight[o, c] * image[c][p] for c in range(len(image)))
                for p in range(len(image[0]))
            ]
            for o in range(weight.shape[0])
        ]
        for image in maps
    ]


def _norm(maps, norm, training, eps):
    """BatchNorm over images and positions: the batch's statistics, or the running ones."""
    weight, bias, running_mean, running_var = norm
    out = [[[None] * len(maps[0][0]) for _ in maps[0]] for _ in maps]
    for c in range(len(maps[0])):
        values = [v for image in maps for v in image[c]]
        if training:
            mean = sum(values) / len(values)
            var = sum((v - mean) ** 2 for v in values) / len(values)
        else:
            mean, var = running_mean[c], running_var[c]
        for n, image in enumerate(maps):
            for p, v in enumerate(image[c]):
                out[n][c][p] = (v - mean) / torch.sqrt(var + eps) * weight[c] + bias[c]
    return out
