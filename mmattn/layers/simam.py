"""SimAM, attention without parameters."""

from torch import Tensor

from mmattn.layers._gate import ScalingGate, at_least_float32, check_channels
from mmattn.registry import MODELS

__all__ = ['SimAM']


@MODELS.register_module()
class SimAM(ScalingGate):
    """Scales every value of a map by how far it stands out from its channel.

    ``out = x * sigmoid(d / (4 (v + lambda)) + 0.5)`` with ``d = (x - mean)^2`` and ``v`` the
    channel's variance over its positions (divided by ``H * W - 1``).

    Paper: SimAM: A Simple, Parameter-Free Attention Module for Convolutional Neural Networks,
    ICML 2021, equations 5 and 6. Its place is after the second convolution of a block and before
    that convolution's BatchNorm.

    Differs from the paper: nothing. With one position (H = W = 1) there is no variance; we take 0,
    which gates by sigmoid(0.5). Half-precision maps are squared in float32.

    Limits: a graph traced or exported from a larger map is not right for a 1x1 map.

    Args:
        in_channels: C; the gate works for any, hosts pass it.
        lam: lambda, > 0; 1e-4 in the authors' module, 0.1 in their ImageNet and COCO runs.
        init: ``'paper'`` or ``'identity'`` (:mod:`mmattn.core.identity`).

    Shape: ``(N, C, H, W) -> (N, C, H, W)``.

    Raises:
        ValueError: ``in_channels`` below 1, ``lam`` not above 0, unknown ``init``.
    """

    _abbr_ = 'simam'

    def __init__(self, in_channels: int, lam: float = 1e-4, init: str = 'paper') -> None:
        super().__init__(init)
        check_channels(in_channels)
        if not lam > 0:
            raise ValueError(f'lam must be > 0, got {lam}')
        self.lam = lam

    def factor(self, x: Tensor) -> Tensor:
        wide = at_least_float32(x)
        distance = (wide - wide.mean((2, 3), keepdim=True)).square()  # d, (N, C, H, W)
        count = max(x.shape[2] * x.shape[3] - 1, 1)
        variance = distance.sum((2, 3), keepdim=True) / count  # v, (N, C, 1, 1)
        logits = distance / (4 * (variance + self.lam)) + 0.5  # the inverse of eq. 5
        return logits.sigmoid().to(x.dtype)  # eq. 6

    def extra_repr(self) -> str:
        return f'lam={self.lam}'
