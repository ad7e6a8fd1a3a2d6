"""Efficient Channel Attention."""

import math

from torch import Tensor, nn

from mmattn.layers._gate import ScalingGate, check_channels
from mmattn.registry import MODELS

__all__ = ['ECA']


@MODELS.register_module()
class ECA(ScalingGate):
    """Scales every channel by a gate from the global averages of its neighbouring channels.

    ``out = x * sigmoid(conv1d_k(gap(x)))``, the convolution running along the channels.

    Paper: ECA-Net: Efficient Channel Attention for Deep Convolutional Neural Networks, arXiv
    1910.03151, equations 7 (the gate), 9 and 12 (k from C, with gamma = 2 and b = 1).

    Differs from the paper: nothing. The authors' released ResNet-50 does not follow equation 12
    but has k = 3, 5, 5, 7 in its four stages (``kernel_size``); equation 12 gives 5, 5, 5, 7 for
    256 to 2048 channels. Channels beyond the ends count as zero, as in the authors' code.
    The autoencoder report has k = 3 everywhere, also for 128 channels (``kernel_size=3``).

    Args:
        in_channels: C.
        kernel_size: k, odd; ``None``: ``psi(C)``, the integer part of ``(log2(C) + 1) / 2``, plus
            one where that is even.
        init: ``'paper'`` or ``'identity'`` (:mod:`mmattn.core.identity`).

    Shape: ``(N, C, H, W) -> (N, C, H, W)``.

    Raises:
        ValueError: ``in_channels`` below 1, ``kernel_size`` even or below 1, unknown ``init``.
    """

    _abbr_ = 'eca'

    def __init__(
        self, in_channels: int, kernel_size: int | None = None, init: str = 'paper'
    ) -> None:
        super().__init__(init)
        check_channels(in_channels)
        if kernel_size is None:
            kernel_size = psi(in_channels)
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f'kernel_size must be odd and >= 1, got {kernel_size}')
        self.conv = nn.Conv1d(1, 1, kernel_size, padding=kernel_size // 2, bias=False)
        self.init_weights()

    def factor(self, x: Tensor) -> Tensor:
        context = x.mean((2, 3)).unsqueeze(1)  # (N, 1, C)
        gate = self.conv(context).sigmoid().transpose(1, 2)  # (N, C, 1), eq. 7
        return gate.unsqueeze(3)


def psi(in_channels: int) -> int:
    """Return the paper's kernel size for a width, equation 12."""
    size = int((math.log2(in_channels) + 1) / 2)
    return size if size % 2 else size + 1
