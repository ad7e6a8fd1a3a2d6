"""Position and channel attention of the dual attention network."""

import torch
from torch import Tensor, nn

from mmattn.layers._attention import attention, plain_attention
from mmattn.layers._gate import (
    Gate,
    at_least_float32,
    check_channels,
    full_precision,
    hidden_width,
)
from mmattn.registry import MODELS

__all__ = ['ChannelAttention', 'DualAttention', 'PositionAttention']


@MODELS.register_module()
class PositionAttention(Gate):
    """Adds to every position a mean of all positions, weighted by their similarity to it.

    ``out = x + alpha * V softmax(Q^T K)``, alpha a learned scalar.

    Paper: Dual Attention Network for Scene Segmentation, arXiv 1809.02983, equations 1 and 2.

    Differs from the paper: nothing. alpha starts at 0; with ``init='identity'``, where gamma does
    that, at 1, or two zeros would never move. Large maps are computed in blocks of positions,
    which changes no value and needs no (positions x positions) matrix.

    Limits: ``key``'s bias gets no gradient: a softmax does not see a constant. A recorded graph
    (trace, ONNX, ``torch.compile``) holds the whole matrix.

    Args:
        in_channels: C.
        reduction: queries and keys have ``max(C // reduction, 1)`` channels.
        init: ``'paper'`` or ``'identity'`` (:mod:`mmattn.core.identity`).

    Shape: ``(N, C, H, W) -> (N, C, H, W)``.

    Raises:
        ValueError: ``in_channels`` or ``reduction`` below 1, unknown ``init``.
    """

    _abbr_ = 'pam'

    def __init__(self, in_channels: int, reduction: int = 8, init: str = 'paper') -> None:
        super().__init__(init)
        hidden = hidden_width(in_channels, reduction)
        self.query = nn.Conv2d(in_channels, hidden, 1)
        self.key = nn.Conv2d(in_channels, hidden, 1)
        self.value = nn.Conv2d(in_channels, in_channels, 1)
        self.alpha = nn.Parameter(torch.zeros(()))
        self.init_weights()

    def attend(self, x: Tensor) -> Tensor:
        return x + self.weigh(x)  # eq. 2

    def weigh(self, x: Tensor) -> Tensor:
        """Return the attended map alone, times alpha."""
        maps = self.query(x), self.key(x), self.value(x)
        query, key, value = [
            m.flatten(2).transpose(1, 2) for m in maps
        ]  # (N, positions, channels)
        out = attention(query, key, value)  # eq. 1
        return self.alpha * out.transpose(1, 2).unflatten(2, x.shape[2:])

    def init_weights(self) -> None:
        super().init_weights()
        nn.init.constant_(self.alpha, 0 if self.gamma is None else 1)


@MODELS.register_module()
class ChannelAttention(Gate):
    """Adds to every channel a mean of all channels, weighted by their dissimilarity to it.

    ``out = x + beta * softmax(max_j E - E) X`` with ``E = X X^T``, beta a learned scalar.

    Paper: Dual Attention Network for Scene Segmentation, arXiv 1809.02983, equations 3 and 4.

    Differs from the paper: equation 3 is a softmax of E; the authors' code, and ours, takes
    ``max_j E - E``, which gives dissimilar channels the weight. beta starts at 0; with
    ``init='identity'``, where gamma does that, at 1, or two zeros would never move. E is computed
    in float32 under autocast: it grows with the map and would overflow.

    Args:
        in_channels: C; there are no convolutions, hosts pass it.
        init: ``'paper'`` or ``'identity'`` (:mod:`mmattn.core.identity`).

    Shape: ``(N, C, H, W) -> (N, C, H, W)``.

    Raises:
        ValueError: ``in_channels`` below 1, unknown ``init``.
    """

    _abbr_ = 'cam'

    def __init__(self, in_channels: int, init: str = 'paper') -> None:
        super().__init__(init)
        check_channels(in_channels)
        self.beta = nn.Parameter(torch.zeros(()))
        self.init_weights()

    def attend(self, x: Tensor) -> Tensor:
        return x + self.weigh(x)  # eq. 4

    def weigh(self, x: Tensor) -> Tensor:
        """Return the attended map alone, times beta."""
        with full_precision(x):
            rows = at_least_float32(x.flatten(2))  # (N, C, positions)
            # fused kernels, which keep no (C, C) matrix, are the slower ones for long rows
            compute = attention if rows.shape[2] * 4 <= rows.shape[1] else plain_attention
            out = compute(-rows, rows, rows)  # eq. 3: a softmax does not see max_j E
        return self.beta * out.to(x.dtype).unflatten(2, x.shape[2:])

    def init_weights(self) -> None:
        super().init_weights()
        nn.init.constant_(self.beta, 0 if self.gamma is None else 1)


@MODELS.register_module()
class DualAttention(Gate):
    """Adds to a map what position attention and channel attention make of it.

    ``out = x + alpha * P(x) + beta * C(x)``: the sum of :class:`PositionAttention` and
    :class:`ChannelAttention` over one shortcut.

    Paper: Dual Attention Network for Scene Segmentation, arXiv 1809.02983, section 3.4.

    Differs from the paper: its head has 3x3 convolutions before and after each branch, which
    change the width, and no shortcut around them; a gate keeps the width, so the two branches
    read x and share one shortcut. Both scalars start at 0, at 1 with ``init='identity'``.

    Limits: as :class:`PositionAttention`: ``key``'s bias gets no gradient, a recorded graph holds
    the whole matrix.

    Args:
        in_channels: C.
        reduction: of the position branch, as :class:`PositionAttention`.
        init: ``'paper'`` or ``'identity'`` (:mod:`mmattn.core.identity`).

    Shape: ``(N, C, H, W) -> (N, C, H, W)``.

    Raises:
        ValueError: ``in_channels`` or ``reduction`` below 1, unknown ``init``.
    """

    _abbr_ = 'dual_attention'

    def __init__(self, in_channels: int, reduction: int = 8, init: str = 'paper') -> None:
        super().__init__(init)
        self.position = PositionAttention(in_channels, reduction)
        self.channel = ChannelAttention(in_channels)
        self.init_weights()

    def attend(self, x: Tensor) -> Tensor:
        return x + self.position.weigh(x) + self.channel.weigh(x)

    def init_weights(self) -> None:
        super().init_weights()
        if self.gamma is not None:
            nn.init.ones_(self.position.alpha)
            nn.init.ones_(self.channel.beta)
