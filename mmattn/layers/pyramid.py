"""Interaction-aware pyramid attention (our reading)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmattn.core.identity import blend
from mmattn.layers._attention import attention
from mmattn.layers._gate import Gate, check_positive, hidden_width
from mmattn.layers._pool import adaptive_avg_pool2d
from mmattn.registry import MODELS

__all__ = ['PyramidAttention']


@MODELS.register_module()
class PyramidAttention(Gate):
    """Adds to every position of the top map a mean over positions of all levels of a pyramid.

    ``out = x + alpha * V softmax(Q^T K)``: queries from the top map x, keys and values from every
    level, pooled to one grid and brought to C channels by a 1x1 convolution of its own; alpha is a
    learned scalar.

    Paper: Interaction-aware Spatio-temporal Pyramid Attention Networks for Action Classification,
    ECCV 2018.

    Differs from the paper: this is our reading. Neither its text nor code could be had; what is
    known is the idea: maps of several layers brought to one size, attention from the interactions
    among their positions. Its PCA-guided loss is left out.

    As a plugin it gets one map. With several ``in_channels`` it takes and returns a tuple, last
    map attended, the others untouched, and serves as a neck:
    ``neck=[dict(type='mmattn.PyramidAttention', in_channels=[256, 512]), dict(type='FPN', ...)]``.

    alpha starts at 0; with ``init='identity'``, where gamma does that, at 1, or two zeros would
    never move.

    Limits: ``key``'s bias gets no gradient: a softmax does not see a constant.

    Args:
        in_channels: C, or the widths of the levels, the last being the top's C.
        grid_size: every level is pooled to ``grid_size x grid_size``.
        reduction: queries and keys have ``max(C // reduction, 1)`` channels.
        init: ``'paper'`` or ``'identity'`` (:mod:`mmattn.core.identity`).

    Shape: ``(N, C, H, W) -> (N, C, H, W)``, or a tuple of ``(N, in_channels[i], H_i, W_i)`` -> the
    same.

    Raises:
        ValueError: a width, ``grid_size`` or ``reduction`` below 1, no level, unknown ``init``;
            in the forward pass, another number of maps than ``in_channels`` has.
    """

    _abbr_ = 'pyramid'

    def __init__(
        self,
        in_channels: int | Sequence[int],
        grid_size: int = 7,
        reduction: int = 8,
        init: str = 'paper',
    ) -> None:
        super().__init__(init)
        widths = [in_channels] if isinstance(in_channels, int) else list(in_channels)
        if not widths or min(widths) < 1:
            raise ValueError(f'in_channels must be widths >= 1, got {in_channels}')
        check_positive('grid_size', grid_size)
        self.grid_size = grid_size
        channels = widths[-1]
        hidden = hidden_width(channels, reduction)
        self.levels = nn.ModuleList(nn.Conv2d(width, channels, 1) for width in widths)
        self.query = nn.Conv2d(channels, hidden, 1)
        self.key = nn.Conv2d(channels, hidden, 1)
        self.value = nn.Conv2d(channels, channels, 1)
        self.alpha = nn.Parameter(torch.zeros(()))
        self.init_weights()

    def attend(self, maps: Sequence[Tensor]) -> Tensor:
        x = maps[-1]
        grid = (self.grid_size, self.grid_size)
        pooled = [
            level(adaptive_avg_pool2d(m, grid)).flatten(2) for level, m in zip(self.levels, maps)
        ]
        source = torch.cat(pooled, 2).unsqueeze(3)  # (N, C, levels * grid ** 2, 1)
        features = self.query(x), self.key(source), self.value(source)
        query, key, value = [
            m.flatten(2).transpose(1, 2) for m in features
        ]  # (N, positions, channels)
        out = attention(query, key, value)
        return x + self.alpha * out.transpose(1, 2).reshape(x.shape)

    def forward(self, x: Tensor | Sequence[Tensor]) -> Tensor | tuple[Tensor, ...]:
        maps = (x,) if isinstance(x, Tensor) else tuple(x)
        if len(maps) != len(self.levels):
            raise ValueError(f'in_channels has {len(self.levels)} levels, got {len(maps)} maps')
        out = blend(maps[-1], self.attend(maps), self.gamma)
        return out if isinstance(x, Tensor) else (*maps[:-1], out)

    def init_weights(self) -> None:
        super().init_weights()
        nn.init.constant_(self.alpha, 0 if self.gamma is None else 1)
