"""Convolutional Block Attention Module."""

import torch
from torch import Tensor, nn

from mmattn.layers._gate import (
    Gate,
    ScalingGate,
    check_batch,
    check_channels,
    hidden_width,
    is_capturing,
)
from mmattn.layers._pooled import pool_channels, pool_positions, scale_both
from mmattn.registry import MODELS

__all__ = ['CBAM', 'SpatialGate']


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
    the spatial gate is 0.5 everywhere in the first step (in the autoencoder report's code it
    starts at 1); the maximum comes before the mean. With ``init='identity'`` that weight starts at
    1, or two zeros would hold the convolution still.

    Limits: in training the spatial gate's BatchNorm needs two values, so a single image with a
    1x1 map is refused.

    Args:
        in_channels: C.
        reduction: r; the MLP's hidden layer has ``max(C // r, 1)`` units.
        max_pool: whether the channel gate reads the maximum beside the average.
        spatial: whether the spatial gate follows.
        kernel_size: of the spatial gate's convolution, odd.
        bias: whether both layers of the MLP have a bias.
        init: ``'paper'`` or ``'identity'`` (:mod:`mmattn.core.identity`).

    Shape: ``(N, C, H, W) -> (N, C, H, W)``.

    Raises:
        ValueError: ``in_channels`` or ``reduction`` below 1, an even ``kernel_size``, unknown
            ``init``; in training, a single image with a 1x1 map.
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
        hidden = hidden_width(in_channels, reduction)
        self.max_pool = max_pool
        self.mlp = nn.Sequential(
            nn.Conv2d(in_channels, hidden, 1, bias=bias),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, in_channels, 1, bias=bias),
        )
        self.spatial = _spatial_logits(kernel_size) if spatial else None
        self.init_weights()

    def attend(self, x: Tensor) -> Tensor:
        peak = x.amax((2, 3), keepdim=True) if self.max_pool else None
        x = x * self._channel_factor(x.mean((2, 3), keepdim=True), peak)  # eq. 2
        return x if self.spatial is None else x * _position_factor(_pool(x), self.spatial)

    def forward(self, x: Tensor) -> Tensor:
        if self.spatial is None or is_capturing() or not torch.is_grad_enabled():
            return super().forward(x)
        mean, peak, x = pool_positions(x)
        channels = self._channel_factor(mean, peak if self.max_pool else None).to(x.dtype)
        pooled, scaled, x = pool_channels(x, channels)
        positions = _position_factor(pooled, self.spatial).to(x.dtype)
        return scale_both(x, scaled, channels, positions, self.gamma)

    def _channel_factor(self, mean: Tensor, peak: Tensor | None) -> Tensor:
        logits = self.mlp(mean)  # (N, C, 1, 1)
        return (logits if peak is None else logits + self.mlp(peak)).sigmoid()

    def init_weights(self) -> None:
        super().init_weights()
        if self.spatial is not None and self.gamma is None:
            nn.init.zeros_(self.spatial[1].weight)


@MODELS.register_module()
class SpatialGate(ScalingGate):
    """The second half of CBAM alone: scales positions by a gate from pooled channels.

    ``out = x * sigmoid(BN(conv7x7([max_c x; mean_c x])))``.

    Paper: CBAM: Convolutional Block Attention Module, arXiv 1807.06521, equation 3. With ECA in
    front (``mmattn.Sequence``) it is the "CBAM Spatial + ECA" row of the autoencoder report.

    Differs from the paper: as :class:`CBAM`.

    Limits: as :class:`CBAM`: training refuses a single image with a 1x1 map.

    Args:
        in_channels: C; the gate works for any, hosts pass it.
        kernel_size: of the convolution, odd.
        init: ``'paper'`` or ``'identity'`` (:mod:`mmattn.core.identity`).

    Shape: ``(N, C, H, W) -> (N, C, H, W)``.

    Raises:
        ValueError: ``in_channels`` below 1, an even ``kernel_size``, unknown ``init``; in
            training, a single image with a 1x1 map.
    """

    _abbr_ = 'spatial_gate'

    def __init__(self, in_channels: int, kernel_size: int = 7, init: str = 'paper') -> None:
        super().__init__(init)
        check_channels(in_channels)
        self.spatial = _spatial_logits(kernel_size)
        self.init_weights()

    def factor(self, x: Tensor) -> Tensor:
        return _position_factor(_pool(x), self.spatial)

    def init_weights(self) -> None:
        super().init_weights()
        if self.gamma is None:
            nn.init.zeros_(self.spatial[1].weight)


def _spatial_logits(kernel_size: int) -> nn.Sequential:
    """Return the logits of the spatial gate, ``(N, 2, H, W) -> (N, 1, H, W)``."""
    if kernel_size < 1 or kernel_size % 2 == 0:
        raise ValueError(f'kernel_size must be odd and >= 1, got {kernel_size}')
    return nn.Sequential(
        nn.Conv2d(2, 1, kernel_size, padding=kernel_size // 2, bias=False),
        nn.BatchNorm2d(1, momentum=0.01),
    )


def _pool(x: Tensor) -> Tensor:
    return torch.cat((x.amax(1, keepdim=True), x.mean(1, keepdim=True)), 1)  # (N, 2, H, W)


def _position_factor(pooled: Tensor, logits: nn.Module) -> Tensor:
    refused = "CBAM's spatial gate cannot train on one image with a 1x1 map"
    check_batch(logits[1], pooled[:, 0].numel(), refused)
    return logits(pooled).sigmoid()  # (N, 1, H, W), eq. 3
