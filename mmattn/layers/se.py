"""Squeeze-and-Excitation."""

from torch import Tensor, nn

from mmattn.layers._gate import ScalingGate, hidden_width
from mmattn.registry import MODELS

__all__ = ['SE']


@MODELS.register_module()
class SE(ScalingGate):
    """Scales every channel by a gate computed from all channels' global averages.

    ``out = x * sigmoid(W2 ReLU(W1 gap(x)))``.

    Paper: Squeeze-and-Excitation Networks, arXiv 1709.01507, equations 2 to 4.

    Differs from the paper: nothing. The equations are written without a bias, the authors'
    Caffe layers have one (28.09 M parameters for ResNet-50, the figure most papers print);
    ``bias=False`` gives the 28.07 M form.

    Args:
        in_channels: C.
        reduction: r; the hidden layer has ``max(C // r, 1)`` units.
        bias: whether both layers have a bias.
        init: ``'paper'`` or ``'identity'`` (:mod:`mmattn.core.identity`).

    Shape: ``(N, C, H, W) -> (N, C, H, W)``.

    Raises:
        ValueError: ``in_channels`` or ``reduction`` below 1, unknown ``init``.
    """

    _abbr_ = 'se'

    def __init__(
        self, in_channels: int, reduction: int = 16, bias: bool = True, init: str = 'paper'
    ) -> None:
        super().__init__(init)
        hidden = hidden_width(in_channels, reduction)
        self.fc1 = nn.Conv2d(in_channels, hidden, 1, bias=bias)
        self.fc2 = nn.Conv2d(hidden, in_channels, 1, bias=bias)
        self.init_weights()

    def factor(self, x: Tensor) -> Tensor:
        context = x.mean((2, 3), keepdim=True)  # (N, C, 1, 1), eq. 2
        return self.fc2(self.fc1(context).relu()).sigmoid()  # eq. 3; times x is eq. 4
