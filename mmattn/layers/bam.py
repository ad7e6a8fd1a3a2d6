"""Bottleneck Attention Module."""

from torch import Tensor, nn

from mmattn.layers._gate import ScalingGate, check_batch, hidden_width
from mmattn.registry import MODELS

__all__ = ['BAM']

DILATION = 4


@MODELS.register_module()
class BAM(ScalingGate):
    """Scales every value of a map by one plus a gate from its channel and its position.

    ``out = x * (1 + sigmoid(Mc(x) * Ms(x)))``; Mc is a bottleneck MLP on the global average, Ms a
    1x1, two dilated 3x3 and a 1x1 convolution.

    Paper: BAM: Bottleneck Attention Module, arXiv 1807.06514, equations 1 to 4. Its place is
    between the stages of a network.

    Differs from the paper: equation 2 adds Mc and Ms, the authors' code multiplies them, and so
    do we. As in that code all layers have biases, and a BatchNorm follows every layer but the
    last of each branch. The authors' pooling is right for square maps only; ours for all.

    Limits: in training a BatchNorm needs two values, so a single image is refused. The biases
    in front of a BatchNorm get no gradient in training: the norm removes them.

    Args:
        in_channels: C.
        reduction: r; both branches have ``max(C // r, 1)`` hidden channels.
        init: ``'paper'`` or ``'identity'`` (:mod:`mmattn.core.identity`).

    Shape: ``(N, C, H, W) -> (N, C, H, W)``.

    Raises:
        ValueError: ``in_channels`` or ``reduction`` below 1, unknown ``init``; in training, a
            single image (unless the norm was converted to SyncBatchNorm or is in eval mode).
    """

    _abbr_ = 'bam'

    def __init__(self, in_channels: int, reduction: int = 16, init: str = 'paper') -> None:
        super().__init__(init)
        hidden = hidden_width(in_channels, reduction)
        self.channel = nn.Sequential(
            *_layer(in_channels, hidden),
            nn.Conv2d(hidden, in_channels, 1),
        )
        self.spatial = nn.Sequential(
            *_layer(in_channels, hidden),
            *_layer(hidden, hidden, dilation=DILATION),
            *_layer(hidden, hidden, dilation=DILATION),
            nn.Conv2d(hidden, 1, 1),
        )
        self.init_weights()

    def factor(self, x: Tensor) -> Tensor:
        check_batch(self.channel[1], x.shape[0], 'BAM cannot train on one image')
        channel = self.channel(x.mean((2, 3), keepdim=True))  # (N, C, 1, 1), eq. 3
        spatial = self.spatial(x)  # (N, 1, H, W), eq. 4
        return 1 + (channel * spatial).sigmoid()  # eq. 1 and 2


def _layer(in_channels: int, out_channels: int, dilation: int = 0) -> tuple[nn.Module, ...]:
    """Convolution (1x1, or 3x3 with a dilation), norm and activation."""
    conv = (
        nn.Conv2d(in_channels, out_channels, 3, padding=dilation, dilation=dilation)
        if dilation
        else nn.Conv2d(in_channels, out_channels, 1)
    )
    return conv, nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True)
