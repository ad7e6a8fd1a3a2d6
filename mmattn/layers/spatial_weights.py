"""Spatial weights of the full-face gaze network."""

from torch import Tensor, nn

from mmattn.layers._gate import ScalingGate, check_channels
from mmattn.registry import MODELS

__all__ = ['SpatialWeights']

STDS = (0.01, 0.01, 0.001)
BIASES = (0.1, 0.1, 1.0)


@MODELS.register_module()
class SpatialWeights(ScalingGate):
    """Scales every position by one weight, not bounded above, from three 1x1 convolutions.

    ``out = x * w`` with ``w = ReLU(c3 ReLU(c2 ReLU(c1 x)))``, one value for each position.

    Paper: It's Written All Over Your Face: Full-Face Appearance-Based Gaze Estimation, arXiv
    1611.08860, equations 1 to 3. Its place is after the last stage of a network.

    Differs from the paper: nothing. The gradient that reaches w is divided by C, as in the paper's
    backward rule; it is therefore not the gradient of the forward formula, and a numerical check
    (gradcheck) disagrees by design.

    Limits: no gradcheck, for that reason. A position whose w is 0 passes nothing on.

    Args:
        in_channels: C.
        init: ``'paper'`` or ``'identity'`` (:mod:`mmattn.core.identity`). The paper's own initial
            values (normal weights of 0.01, 0.01, 0.001, biases 0.1, 0.1, 1) start with w near 1.

    Shape: ``(N, C, H, W) -> (N, C, H, W)``.

    Raises:
        ValueError: ``in_channels`` below 1, unknown ``init``.
    """

    _abbr_ = 'spatial_weights'

    def __init__(self, in_channels: int, init: str = 'paper') -> None:
        super().__init__(init)
        check_channels(in_channels)
        self.conv1 = nn.Conv2d(in_channels, in_channels, 1)
        self.conv2 = nn.Conv2d(in_channels, in_channels, 1)
        self.conv3 = nn.Conv2d(in_channels, 1, 1)
        self.init_weights()

    def weights(self, x: Tensor) -> Tensor:
        """Return the map w, ``(N, C, H, W) -> (N, 1, H, W)``, eq. 1."""
        return self.conv3(self.conv2(self.conv1(x).relu()).relu()).relu()

    def factor(self, x: Tensor) -> Tensor:
        weights = self.weights(x)
        fixed = weights.detach()
        return fixed + (weights - fixed) / x.shape[1]  # the same value, its gradient / C, eq. 3

    def init_weights(self) -> None:
        super().init_weights()
        convs = (self.conv1, self.conv2, self.conv3)
        for conv, std, bias in zip(convs, STDS, BIASES):
            nn.init.normal_(conv.weight, std=std)
            nn.init.constant_(conv.bias, bias)
