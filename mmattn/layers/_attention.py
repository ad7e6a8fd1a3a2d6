"""Softmax attention between positions without a (positions x positions) matrix in memory."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from mmattn.layers._gate import at_least_float32, full_precision, is_capturing

__all__ = ['attention', 'plain_attention']

# Largest number of scores held at once; 2 ** 24 of them are 64 MiB in float32.
MAX_SCORES = 2**24


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    scale: float = 1.0,
    relative: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """``softmax(scale * Q K^T) V`` for maps of any size, equal to :func:`plain_attention`.

    Equal widths go to torch's fused kernels. Others are cut into blocks of queries of at most
    ``MAX_SCORES`` scores, which are computed again in the backward pass. A recorded graph (trace,
    ONNX, and for unequal widths ``torch.compile``) holds the plain form, right for every size.

    Args:
        query, key, value: what attends to what.
        scale: of the scores.
        relative: a query's further scores for every row and for every column of the keys, which
            are then a map of H x W positions.

    Shape: ``(N, L, D), (N, S, D), (N, S, V) -> (N, L, V)``; ``relative`` (N, L, H), (N, L, W)
    with S = H * W.
    """
    if torch.jit.is_tracing():
        return plain_attention(query, key, value, scale, relative)
    if query.shape[2] == value.shape[2] and relative is None:
        return _fused(query, key, value, scale)
    block = max(MAX_SCORES // max(query.shape[0] * key.shape[1], 1), 1)
    if is_capturing() or block >= query.shape[1]:
        return plain_attention(query, key, value, scale, relative)
    blocks = zip(query.split(block, 1), *(part.split(block, 1) for part in relative or ()))
    return torch.cat(
        [
            checkpoint(plain_attention, q, key, value, scale, extra or None, use_reentrant=False)
            for q, *extra in blocks
        ],
        1,
    )


def _fused(query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
    """As the fused kernels want it: a head axis, no strides, on CUDA a multiple of 8 channels.

    Without that torch quietly builds the whole matrix. Channels of zeros change nothing.
    """
    width = query.shape[2]
    query = query * scale  # as an argument, its gradient is NaN for scores beyond 1e15
    heads = [t.contiguous().unsqueeze(1) for t in (query, key, value)]  # (N, 1, L or S, D)
    if query.is_cuda and width % 8:
        heads = [F.pad(t, (0, -width % 8)) for t in heads]
    return F.scaled_dot_product_attention(*heads, scale=1.0).squeeze(1)[:, :, :width]


def plain_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    scale: float = 1.0,
    relative: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """``softmax(scale * Q K^T) V`` as written; the scores are at least float32."""
    with full_precision(query):  # unscaled scores overflow float16
        query, key = at_least_float32(query), at_least_float32(key)
        scores = query @ key.transpose(1, 2)  # (N, L, S)
        if scale != 1:
            scores = scores * scale
        if relative is not None:
            rows, cols = relative
            scores = scores.unflatten(2, (rows.shape[2], cols.shape[2]))  # (N, L, H, W)
            scores = (scores + rows[..., None] + cols[:, :, None]).flatten(2)
        return scores.softmax(2).to(value.dtype) @ value  # (N, L, V)
