"""The small CIFAR network of the autoencoder report."""

from collections import OrderedDict

from mmengine.model import BaseModule
from torch import Tensor, nn

from mmattn.registry import MODELS

__all__ = ['ReportCNN']

_HIDDEN = {2: 128 * 6 * 6, 3: 256 * 2 * 2}  # values that leave the last stage, by stages


@MODELS.register_module()
class ReportCNN(BaseModule):
    r"""Two 3x3 convolutions a stage, two or three stages and a hidden layer, for 32 x 32 images.

    Paper: Attention Mechanisms for Image Classification (course report, 2023), "CNN" and "CNN
    with three hidden layers" (``stages=3``). Attention comes by :class:`Attend` with
    ``sample=(3, 32, 32)``, after a convolution and before its ReLU and norm:
    ``dict(gate=dict(type='mmattn.ECA', kernel_size=3), after=r'stage\d\.conv\d')``. Every row
    of the report is in configs/autoencoder_report.

    Differs from the paper: nothing with ``idle_stage``. The published code builds the third stage
    of "three hidden layers" and never runs it: ``stages=2, idle_stage=True`` is that network, with
    the parameters the report prints.

    Args:
        stages: 2 or 3; the stages are 64, 128 and 256 wide.
        idle_stage: hold the parameters of one more stage that never runs.
        init_cfg: default: normal weights after Kaiming, biases 0, as the report.

    Shape: ``(N, 3, 32, 32)`` -> tuple of one ``(N, 512)`` vector.

    Raises:
        ValueError: an image that is not 32 x 32, ``stages`` not 2 or 3.
    """

    def __init__(
        self, stages: int = 2, idle_stage: bool = False, init_cfg: dict | list[dict] | None = None
    ) -> None:
        rules = [
            dict(type='Kaiming', layer=['Conv2d', 'Linear'], mode='fan_in'),
            dict(type='Constant', layer='BatchNorm2d', val=1),
        ]
        super().__init__(init_cfg or rules)
        if stages not in _HIDDEN:
            raise ValueError(f'stages must be 2 or 3, got {stages!r}')
        widths = (3, 64, 128, 256, 512)
        for stage in range(1, stages + 1 + idle_stage):
            setattr(self, f'stage{stage}', _stage(*widths[stage - 1 : stage + 1]))
        self.stages = stages
        self.hidden = nn.Sequential(
            nn.Flatten(), nn.Linear(_HIDDEN[stages], 512), nn.ReLU(), nn.Dropout(0.5)
        )

    def forward(self, x: Tensor) -> tuple[Tensor]:
        if x.shape[2:] != (32, 32):
            raise ValueError(f'x must be images of 32 x 32, got {tuple(x.shape[2:])}')
        for stage in range(1, self.stages + 1):
            x = getattr(self, f'stage{stage}')(x)
        return (self.hidden(x),)


def _stage(in_channels: int, out_channels: int) -> nn.Sequential:
    """Build convolution - ReLU - norm twice (then without padding), pooling, dropout."""
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
