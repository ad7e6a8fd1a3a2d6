"""Ways to convolve with weights that attention scales picture by picture.

All compute ``conv2d(x[n], weight + attn[n] * weight)`` (equations 4 to 6 of arXiv 2108.08205)
and differ in what they touch. Shapes: ``x`` (N, C1, H, W); ``weight`` (C2, C1/groups, h, w);
``attn`` (N, C2, G, h, w), where G divides C1/groups and neighbouring input channels share a
value (equation 8); result (N, C2, Ho, Wo).
"""

import itertools

import torch.nn.functional as F
from torch import Tensor

from mmattn.layers._gate import at_least_float32, is_capturing

__all__ = ['aw_conv2d', 'output_gate', 'per_sample', 'per_tap']

Pair = tuple[int, int]


def aw_conv2d(
    x: Tensor,
    weight: Tensor,
    attn: Tensor,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
) -> Tensor:
    """Pick the cheapest exact form for this call.

    1x1 kernels become a gate on the output. The weight form moves ``2 * C1 / groups * C2 * h * w``
    numbers a picture, the tap form ``2 * h * w * C2 * Ho * Wo``: small maps take the taps. While
    a graph is captured for another batch size, only the tap form is right, since the weight
    form bakes the batch size into ``groups``.
    """
    args = (x, weight, attn, stride, padding, dilation, groups)
    if attn.shape[2] == 1 and weight.shape[2:] == (1, 1):
        return output_gate(*args)
    if is_capturing() or x.shape[0] == 0:  # no pictures are no groups either
        return per_tap(*args)
    positions = (x.shape[2] // stride[0]) * (x.shape[3] // stride[1])
    if attn.shape[2] == 1 and x.shape[0] > 1 and positions <= weight.shape[1]:
        return per_tap(*args)
    return per_sample(*args)


def output_gate(
    x: Tensor,
    weight: Tensor,
    attn: Tensor,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
) -> Tensor:
    """1x1 kernels, attention shared by all input channels: ``(1 + attn) * conv2d(x, weight)``."""
    out = F.conv2d(x, weight, None, stride, padding, dilation, groups)
    return out * (1 + attn[:, :, 0])  # (N, C2, Ho, Wo) * (N, C2, 1, 1)


def per_sample(
    x: Tensor,
    weight: Tensor,
    attn: Tensor,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
) -> Tensor:
    """One grouped convolution, a group for each picture; holds N scaled copies of the weight."""
    num, c1, height, width = x.shape
    c2, per_group, kh, kw = weight.shape
    shared = attn.repeat_interleave(per_group // attn.shape[2], 2)  # (N, C2, C1/groups, h, w)
    scaled = (weight + shared * weight).reshape(num * c2, per_group, kh, kw)
    merged = x.reshape(1, num * c1, height, width)
    out = F.conv2d(merged, scaled.to(x.dtype), None, stride, padding, dilation, num * groups)
    return out.reshape(num, c2, *out.shape[2:])


def per_tap(
    x: Tensor,
    weight: Tensor,
    attn: Tensor,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
) -> Tensor:
    """One 1x1 convolution for each kernel position (and input block), scaled and summed.

    No weight is copied per picture. Lower precisions are summed in float32.
    """
    x = F.pad(x, (padding[1], padding[1], padding[0], padding[0]))
    kh, kw = weight.shape[2:]
    rows = x.shape[2] - dilation[0] * (kh - 1)  # where a tap may start, before the stride
    cols = x.shape[3] - dilation[1] * (kw - 1)
    blocks = attn.shape[2]
    width = weight.shape[1] // blocks  # input channels of a block
    total = None
    for i, j, block in itertools.product(range(kh), range(kw), range(blocks)):
        top, left, first = i * dilation[0], j * dilation[1], block * width
        window = x[:, :, top : top + rows : stride[0], left : left + cols : stride[1]]
        if blocks > 1:  # this block's channels of every convolution group
            window = window.unflatten(1, (groups, -1))[:, :, first : first + width].flatten(1, 2)
        kernel = weight[:, first : first + width, i : i + 1, j : j + 1]
        tap = F.conv2d(window, kernel, groups=groups)  # (N, C2, Ho, Wo)
        term = (1 + attn[:, :, block, i, j, None, None]) * at_least_float32(tap)
        total = term if total is None else total + term
    return total.to(tap.dtype)
