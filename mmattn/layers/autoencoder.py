"""Autoencoder-inspired attention."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmattn.layers._gate import (
    ScalingGate,
    at_least_float32,
    check_channels,
    check_positive,
    full_precision,
    is_capturing,
)
from mmattn.registry import MODELS

__all__ = ['ConvAutoencoderAttention', 'LinearAutoencoderAttention']

# Last deconvolution of the report's network (kernel, stride, padding, output padding) by the side
# of its maps; it brings each back to its own size.
LAST = {32: (3, 2, 1, 1), 30: (3, 3, 3, 0), 15: (3, 4, 1, 2), 13: (2, 4, 1, 1)}
ANY_SIZE = (4, 2, 1, 0)
SMALLEST = 8  # three halvings
CHUNK = 4096  # rows; 128 values each are 2 MiB


class _Autoencoder(ScalingGate):
    """Shared initial values: normal weights after Kaiming, biases 0."""

    def init_weights(self) -> None:
        super().init_weights()
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
                nn.init.kaiming_normal_(module.weight)
                nn.init.zeros_(module.bias)


@MODELS.register_module()
class ConvAutoencoderAttention(_Autoencoder):
    """Scales every value of a map by a gate that a convolutional autoencoder makes of the map.

    ``out = x * sigmoid(D(E(x)))``; E: three 4x4 convolutions with stride 2 to 12, 24 and 48
    channels, D: three deconvolutions back to 24, 12 and C; a ReLU after each but the last.

    Paper: Attention Mechanisms for Image Classification (course report, 2023), section
    "Autoencoder-inspired attention". Its place is after a convolution, before ReLU and BatchNorm.

    Differs from the paper: it knows maps of 32, 30, 15 and 13 only, each with a last deconvolution
    of its own (``size``). For any other size we resample: logits bilinearly to the map, and maps
    with a side below 8 bilinearly to 8 before the encoder.

    Limits: a graph traced or exported from a map of at least 8 x 8 is right for maps of at least
    8 x 8, one from a smaller map for that size only.

    Args:
        in_channels: C.
        size: 32, 30, 15 or 13, to have the report's last deconvolution for maps of that size;
            ``None``: 4x4 with stride 2.
        init: ``'paper'`` or ``'identity'`` (:mod:`mmattn.core.identity`).

    Shape: ``(N, C, H, W) -> (N, C, H, W)``.

    Raises:
        ValueError: ``in_channels`` below 1, unknown ``size`` or ``init``.
    """

    _abbr_ = 'conv_autoencoder'

    def __init__(self, in_channels: int, size: int | None = None, init: str = 'paper') -> None:
        super().__init__(init)
        check_channels(in_channels)
        if size is not None and size not in LAST:
            raise ValueError(f'size must be one of {tuple(LAST)} or None, got {size}')
        self.encoder = nn.Sequential(
            *(nn.Conv2d(in_channels, 12, 4, 2, 1), nn.ReLU()),
            *(nn.Conv2d(12, 24, 4, 2, 1), nn.ReLU()),
            *(nn.Conv2d(24, 48, 4, 2, 1), nn.ReLU()),
        )
        self.decoder = nn.Sequential(
            *(nn.ConvTranspose2d(48, 24, 4, 2, 1), nn.ReLU()),
            *(nn.ConvTranspose2d(24, 12, 4, 2, 1), nn.ReLU()),
            nn.ConvTranspose2d(12, in_channels, *LAST.get(size, ANY_SIZE)),
        )
        self.init_weights()

    def factor(self, x: Tensor) -> Tensor:
        size = x.shape[2:]
        coded = x
        if min(size) < SMALLEST:
            coded = _resize(x, (max(size[0], SMALLEST), max(size[1], SMALLEST)))
        logits = self.decoder(self.encoder(coded))
        if torch.jit.is_tracing() or logits.shape[2:] != size:
            logits = _resize(logits, size)
        return logits.sigmoid()


@MODELS.register_module()
class LinearAutoencoderAttention(_Autoencoder):
    """Scales every value of a map by a gate that an MLP makes of its row.

    ``out = x * sigmoid(MLP(x))``, the MLP running along the width: W-128-64-12-64-128-W with a
    ReLU after each layer but the innermost and the last. All rows share it.

    Paper: Attention Mechanisms for Image Classification (course report, 2023), section
    "Autoencoder-inspired attention". Its place is after a convolution, before ReLU and BatchNorm.

    Differs from the paper: it knows one width. Maps of any other width are resampled along their
    rows (linearly) to ``width``, and the logits back.

    Limits: the weights belong to one width; positions of other widths share or skip them.

    Args:
        in_channels: C; the gate works for any, hosts pass it.
        width: of the maps the MLP is made for.
        init: ``'paper'`` or ``'identity'`` (:mod:`mmattn.core.identity`).

    Shape: ``(N, C, H, W) -> (N, C, H, W)``.

    Raises:
        ValueError: ``in_channels`` or ``width`` below 1, unknown ``init``.
    """

    _abbr_ = 'linear_autoencoder'

    def __init__(self, in_channels: int, width: int = 32, init: str = 'paper') -> None:
        super().__init__(init)
        check_channels(in_channels)
        check_positive('width', width)
        self.width = width
        self.mlp = nn.Sequential(
            *(nn.Linear(width, 128), nn.ReLU()),
            *(nn.Linear(128, 64), nn.ReLU()),
            nn.Linear(64, 12),
            *(nn.Linear(12, 64), nn.ReLU()),
            *(nn.Linear(64, 128), nn.ReLU()),
            nn.Linear(128, width),
        )
        self.init_weights()

    def factor(self, x: Tensor) -> Tensor:
        size = x.shape[2:]
        resize = torch.jit.is_tracing() or size[1] != self.width
        rows = _resize(x, (size[0], self.width)) if resize else x
        logits = self._code(rows)  # (N, C, H, width)
        if resize:
            logits = _resize(logits, size)
        return logits.sigmoid().to(x.dtype)

    def _code(self, x: Tensor) -> Tensor:
        """Run the MLP along the rows, at least in float32: sums over a row overflow float16.

        On a CPU it runs on some thousand rows at a time: their hidden layers stay in the cache,
        those of all rows would go to memory and back at every layer.
        """
        with full_precision(x):
            x = at_least_float32(x)
            if x.device.type != 'cpu' or is_capturing():
                return self._run(x)
            rows = x.reshape(-1, self.width)
            return torch.cat([self._run(chunk) for chunk in rows.split(CHUNK)]).view(x.shape)

    def _run(self, rows: Tensor) -> Tensor:
        for layer in self.mlp:
            if isinstance(layer, nn.Linear):
                weight, bias = layer.weight.to(rows.dtype), layer.bias.to(rows.dtype)
                rows = F.linear(rows, weight, bias)
            else:
                rows = layer(rows)
        return rows


def _resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(x, size, mode='bilinear', align_corners=False)
