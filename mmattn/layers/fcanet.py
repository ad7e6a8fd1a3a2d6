"""Frequency channel attention."""

import math

import torch
from torch import Tensor, nn

from mmattn.layers._gate import ScalingGate, at_least_float32, hidden_width
from mmattn.layers._pool import pool_matrix
from mmattn.registry import MODELS

__all__ = ['FcaNet']

# The 16 best single frequencies of the two-step search, (row, column) on a 7 x 7 grid.
ROWS = (0, 0, 6, 0, 0, 1, 1, 4, 5, 1, 3, 0, 0, 0, 3, 2)
COLS = (0, 1, 0, 5, 2, 0, 2, 0, 0, 6, 0, 4, 6, 3, 5, 2)
GRID = 7
# The authors' map sizes, by the width of a bottleneck ResNet's stage.
SIZES = {256: 56, 512: 28, 1024: 14, 2048: 7}


@MODELS.register_module()
class FcaNet(ScalingGate):
    """Scales every channel by a gate from one DCT coefficient of each channel.

    ``out = x * sigmoid(W2 ReLU(W1 z))`` with ``z_c = sum_hw x_chw B_g(c)hw``: 16 groups of
    neighbouring channels, each with one of the 16 frequencies of the two-step selection (TS).

    Paper: FcaNet: Frequency Channel Attention Networks, arXiv 2012.11879, equations 6 to 8 with
    the two-step criterion. The basis is orthonormal, as in the authors' code:
    ``cos(pi f (p + 1/2) / L) / sqrt(L)``, times sqrt(2) for f > 0.

    Differs from the paper: nothing at the map size the basis is made for. Other sizes are pooled
    to it for the coefficients (adaptive average pooling, as the authors' code does); we move that
    pooling onto the basis, which is the same sum. The basis is not in the checkpoint.

    Args:
        in_channels: C, divisible by 16.
        size: height and width, at least 7, the basis is made for; ``None``: 56, 28, 14 and 7 for
            256, 512, 1024 and 2048 channels (the authors' ResNet), 7 for all others.
        reduction: r; the hidden layer has ``max(C // r, 1)`` units, no layer has a bias.
        init: ``'paper'`` or ``'identity'`` (:mod:`mmattn.core.identity`).

    Shape: ``(N, C, H, W) -> (N, C, H, W)``.

    Raises:
        ValueError: ``in_channels`` not divisible by 16, ``size`` below 7, ``reduction`` below 1,
            unknown ``init``.
    """

    _abbr_ = 'fca'

    def __init__(
        self,
        in_channels: int,
        size: int | None = None,
        reduction: int = 16,
        init: str = 'paper',
    ) -> None:
        super().__init__(init)
        hidden = hidden_width(in_channels, reduction)
        if in_channels % len(ROWS):
            raise ValueError(f'in_channels must be divisible by {len(ROWS)}, got {in_channels}')
        self.size = SIZES.get(in_channels, GRID) if size is None else size
        if self.size < GRID:
            raise ValueError(f'size must be >= {GRID}, got {size}')
        scale = self.size // GRID
        self.register_buffer('rows', _basis([f * scale for f in ROWS], self.size), False)
        self.register_buffer('cols', _basis([f * scale for f in COLS], self.size), False)
        self.fc1 = nn.Conv2d(in_channels, hidden, 1, bias=False)
        self.fc2 = nn.Conv2d(hidden, in_channels, 1, bias=False)
        self.init_weights()

    def factor(self, x: Tensor) -> Tensor:
        return self.fc2(self.fc1(self._coefficients(x)).relu()).sigmoid()  # eq. 8

    def _coefficients(self, x: Tensor) -> Tensor:
        """``(N, C, H, W) -> (N, C, 1, 1)``, eq. 6 and 7."""
        wide = at_least_float32(x)
        rows = self.rows.to(wide.dtype) @ pool_matrix(self.size, x.shape[2], wide)  # (16, H)
        cols = self.cols.to(wide.dtype) @ pool_matrix(self.size, x.shape[3], wide)  # (16, W)
        basis = rows.unsqueeze(2) * cols.unsqueeze(1)  # (16, H, W)
        groups = wide.unflatten(1, (len(ROWS), -1)).flatten(3)  # (N, 16, C / 16, H * W)
        freq = groups @ basis.flatten(1).unsqueeze(2)  # (N, 16, C / 16, 1)
        return freq.flatten(1, 2).unsqueeze(3).to(x.dtype)

    def extra_repr(self) -> str:
        return f'size={self.size}'


def _basis(frequencies: list[int], size: int) -> Tensor:
    """One orthonormal DCT-II row for each frequency, ``(len(frequencies), size)``."""
    freq = torch.tensor(frequencies, dtype=torch.float64)[:, None]
    position = torch.arange(size, dtype=torch.float64) + 0.5
    basis = (math.pi * freq * position / size).cos() / math.sqrt(size)
    return (basis * torch.where(freq > 0, math.sqrt(2), 1.0)).float()
