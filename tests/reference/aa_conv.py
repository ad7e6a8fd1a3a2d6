"""Attention-augmented convolution (arXiv 1904.09925, equations 1 to 5), position by position."""

import torch


def self_attention(queries, keys, values, num_heads, rel_h=None, rel_w=None):
    """Every head's attention over all positions, concatenated along the channels.

    ``queries``, ``keys`` (N, dk, H, W), ``values`` (N, dv, H, W); ``rel_h`` (2H-1, dk/heads),
    ``rel_w`` (2W-1, dk/heads), entry [j - i + size - 1] for key j seen from query i.
    """
    num, dk, height, width = queries.shape
    d, dv = dk // num_heads, values.shape[1] // num_heads
    out = values.new_zeros(num, num_heads * dv, height, width)
    places = [(y, x) for y in range(height) for x in range(width)]
    for n in range(num):
        for head in range(num_heads):
            first, first_v = head * d, head * dv
            for y, x in places:
                query = queries[n, first : first + d, y, x]
                logits = []
                for ky, kx in places:
                    key = keys[n, first : first + d, ky, kx]
                    if rel_h is not None:
                        key = key + rel_h[ky - y + height - 1] + rel_w[kx - x + width - 1]
                    logits.append(sum(query[c] * key[c] for c in range(d)) / d**0.5)
                weights = torch.softmax(torch.stack(logits), 0)
                for c in range(dv):
                    out[n, first_v + c, y, x] = sum(
                        w * values[n, first_v + c, ky, kx] for w, (ky, kx) in zip(weights, places)
                    )
    return out
