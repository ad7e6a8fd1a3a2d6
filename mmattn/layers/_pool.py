"""Adaptive average pooling as a product with matrices.

It is linear and separable, so it can be moved onto whatever the pooled map is multiplied with,
and a graph exported to ONNX with free sizes can hold it, which torch's own operator cannot.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ['adaptive_avg_pool2d', 'pool_matrix']


def pool_matrix(size: int, length: int, like: Tensor) -> Tensor:
    """Return the matrix that averages ``length`` entries into torch's ``size`` cells.

    Cell i covers the entries from ``floor(i * length / size)`` up to, but not including,
    ``ceil((i + 1) * length / size)``.

    Shape: ``(size, length)``, dtype and device of ``like``.
    """
    cells = torch.arange(size, device=like.device)[:, None]
    entries = torch.arange(length, device=like.device)
    start = torch.div(cells * length, size, rounding_mode='floor')
    stop = torch.div((cells + 1) * length + (size - 1), size, rounding_mode='floor')
    inside = (entries >= start) & (entries < stop)  # (size, length)
    return inside.to(like.dtype) / (stop - start).to(like.dtype)


def adaptive_avg_pool2d(x: Tensor, size: tuple[int, int]) -> Tensor:
    """``F.adaptive_avg_pool2d`` that an ONNX export with free sizes can hold as well.

    Shape: ``(N, C, H, W) -> (N, C, *size)``.
    """
    if not torch.jit.is_scripting():  # noqa: SIM102  a branch that torch.jit.script leaves out
        if size != (1, 1) and torch.onnx.is_in_onnx_export():
            rows = pool_matrix(size[0], x.shape[2], x)  # (h, H)
            cols = pool_matrix(size[1], x.shape[3], x)  # (w, W)
            return rows @ x @ cols.transpose(0, 1)  # (N, C, h, w)
    return F.adaptive_avg_pool2d(x, size)
