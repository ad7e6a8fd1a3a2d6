"""Convolutional Block Attention Module."""

import torch
from torch import Tensor, nn

from mmattn.layers._gate import Gate, hidden_width
from mmattn.registry import MODELS

__all__ = ['CBAM']


@MODELS.register_module()
class CBAM(Gate):
    """Scales channels by a gate from pooled positions, then positions by one from pooled channels.

    ``x' = x * sigmoid(MLP(gap(x)) + MLP(gmp(x)))``, then
    ``out = x' * sigmoid(BN(conv7x7([max_c x'; mean_c x'])))``.

    Paper: CBAM: Convolutional Block Attention Module, arXiv 1807.06521, equations 1 to 3. The
    AW-convolution paper (arXiv 2108.08205) uses two halves of it: "MaxPool"
    (``max_pool=True, spatial=False``) and "Spatial" (``max_pool=False, spatial=True``).

    Differs from the paper: follows the authors' code where the paper is silent: the MLP has
    biases; the spatial gate has a BatchNorm (momentum 0.01) whose weight starts at 0, so that
    the spatial gate is 0.5 everywhere in the first step; the maximum comes before the mean.

    Args:
        in_channels: C.
        reduction: r; the MLP's hidden layer has ``max(C // r, 1)`` units.
        max_pool: whether the channel gate reads the maximum beside the average.
        spatial: whether the spatial gate follows.
        kernel_size: of the spatial gate's convolution, odd.
        bias: whether both layers of the MLP have a bias.
        init: ``'paper'`` or ``'identity'`` (:mod:`mmattn.identity`).

    Shape: ``(N, C, H, W) -> (N, C, H, W)``.

    Raises:
        ValueError: ``in_channels`` or ``reduction`` below 1, an even ``kernel_size``, unknown
            ``init``.
    """

    _abbr_ = 'cbam'

    def __init__(
        self,
        in_channels: int,
        reduction: int = 16,
        max_pool: bool = True,
        spatial: bool = True,
        kernel_size: int = 7,
        bias: bool = True,
        init: str = 'paper',
    ) -> None:
        super().__init__(init)
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f'kernel_size must be odd and >= 1, got {kernel_size}')
        hidden = hidden_width(in_channels, reduction)
        self.max_pool = max_pool
        self.mlp = nn.Sequential(
            nn.Conv2d(in_channels, hidden, 1, bias=bias),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, in_channels, 1, bias=bias),
        )
        self.spatial = spatial_gate(kernel_size) if spatial else None
        self.init_weights()

    def attend(self, x: Tensor) -> Tensor:
        logits = self.mlp(x.mean((2, 3), keepdim=True))  # (N, C, 1, 1)
        if self.max_pool:
            logits = logits + self.mlp(x.amax((2, 3), keepdim=True))
        x = x * logits.sigmoid()  # eq. 2
        if self.spatial is not None:
            pooled = torch.cat((x.amax(1, keepdim=True), x.mean(1, keepdim=True)), 1)
            x = x * self.spatial(pooled).sigmoid()  # (N, 2, H, W) -> (N, 1, H, W), eq. 3
        return x

    def init_weights(self) -> None:
        super().init_weights()
        if self.spatial is not None:
            nn.init.zeros_(self.spatial[1].weight)


def spatial_gate(kernel_size: int) -> nn.Sequential:
    """The logits of CBAM's spatial gate, ``(N, 2, H, W) -> (N, 1, H, W)``."""
    return nn.Sequential(
        nn.Conv2d(2, 1, kernel_size, padding=kernel_size // 2, bias=False),
        nn.BatchNorm2d(1, momentum=0.01),
    )
