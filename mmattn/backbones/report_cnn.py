"""The small CIFAR network of the autoencoder report."""

from collections import OrderedDict

from mmengine.model import BaseModule
from torch import Tensor, nn

from mmattn.registry import MODELS

__all__ = ['ReportCNN', 'report_stage']


@MODELS.register_module()
class ReportCNN(BaseModule):
    """Four 3x3 convolutions in two stages and a hidden layer, for 32 x 32 pictures.

    Paper: Attention Mechanisms for Image Classification (course report, 2023), "CNN". Attention
    comes by :class:`Attend`, behind a convolution and before its ReLU and norm:
    ``dict(gate=dict(type='mmattn.ECA', kernel_size=3), after=r'stage\\d\\.conv\\d')``.

    Differs from the paper: no ReLU behind the last layer (a head adds that layer and the softmax;
    the report's code has ReLU and softmax in front of a loss that applies softmax again).

    Args:
        init_cfg: default: normal weights after Kaiming, biases 0, as the report.

    Shape: ``(N, 3, 32, 32)`` -> tuple of one ``(N, 512)`` vector.

    Raises:
        ValueError: a picture that is not 32 x 32.
    """

    def __init__(self, init_cfg: dict | list | None = None) -> None:
        rule = dict(type='Kaiming', layer=['Conv2d', 'Linear'], mode='fan_in')
        super().__init__(init_cfg or rule)
        self.stage1 = report_stage(3, 64)
        self.stage2 = report_stage(64, 128)
        self.hidden = nn.Sequential(nn.Flatten(), nn.Linear(4608, 512), nn.ReLU(), nn.Dropout(0.5))

    def forward(self, x: Tensor) -> tuple[Tensor]:
        if x.shape[2:] != (32, 32):
            raise ValueError(f'x must be pictures of 32 x 32, got {tuple(x.shape[2:])}')
        return (self.hidden(self.stage2(self.stage1(x))),)


def report_stage(in_channels: int, out_channels: int) -> nn.Sequential:
    """convolution - ReLU - norm twice (the second without padding), pooling, dropout."""
    layers = OrderedDict(
        conv1=nn.Conv2d(in_channels, out_channels, 3, padding=1),
        relu1=nn.ReLU(),
        norm1=nn.BatchNorm2d(out_channels),
        conv2=nn.Conv2d(out_channels, out_channels, 3),
        relu2=nn.ReLU(),
        norm2=nn.BatchNorm2d(out_channels),
        pool=nn.MaxPool2d(2),
        dropout=nn.Dropout2d(0.25),
    )
    return nn.Sequential(layers)
