"""Wide residual network for small images."""

from collections.abc import Sequence

from mmengine.model import BaseModule
from torch import Tensor, nn

from mmattn.registry import MODELS

__all__ = ['WideResNet']


@MODELS.register_module()
class WideResNet(BaseModule):
    """Three stages of pre-activation blocks after a 3x3 convolution, for 32 x 32 images.

    Paper: Wide Residual Networks, arXiv 1605.07146, Table 1; WRN-28-10 is the default.
    Attention comes by :class:`Attend`. The attention-augmented network of arXiv 1904.09925 and
    2108.08205 has an :class:`AAConv2d` as the first 3x3 of every block:
    ``dict(conv=dict(type='mmattn.AAConv2d', map_size=(32, 32)), replace='layer1.*conv1')`` (16 and
    8 in the other stages); AW-AA-0 further has ``mmattn.AWConv2d`` for ``r'layer.*conv2'``.

    Differs from the paper: nothing; dropout is off, as in its main table.

    Args:
        depth: 6 n + 4 layers, n blocks a stage.
        widen_factor: k; the stages are 16 k, 32 k and 64 k wide.
        out_indices: stages to return, of 0, 1, 2.
        init_cfg: as in every ``BaseModule``.

    Shape: ``(N, 3, H, W)`` -> tuple of ``(N, 16 k 2^i, H / 2^i, W / 2^i)``; the last stage's map
    is after the closing norm and ReLU.

    Raises:
        ValueError: an option out of range.
    """

    def __init__(
        self,
        depth: int = 28,
        widen_factor: int = 10,
        out_indices: Sequence[int] = (2,),
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        rules = [
            dict(type='Kaiming', layer='Conv2d'),
            dict(type='Constant', layer='BatchNorm2d', val=1),
        ]
        super().__init__(init_cfg or rules)
        if depth < 10 or (depth - 4) % 6:
            raise ValueError(f'depth must be 6 n + 4 with n >= 1, got {depth}')
        if widen_factor < 1:
            raise ValueError(f'widen_factor must be >= 1, got {widen_factor}')
        if not out_indices or not set(out_indices) <= {0, 1, 2}:
            raise ValueError(f'out_indices must be of 0, 1, 2, got {out_indices}')
        self.out_indices = tuple(out_indices)
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        width = 16
        for stage in range(3):
            blocks = []
            for index in range((depth - 4) // 6):
                out = 16 * widen_factor * 2**stage
                blocks.append(_Block(width, out, 2 if stage and not index else 1))
                width = out
            self.add_module(f'layer{stage + 1}', nn.Sequential(*blocks))
        self.norm = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        x = self.conv1(x)
        outs = []
        for stage in range(3):
            x = getattr(self, f'layer{stage + 1}')(x)
            if stage in self.out_indices:
                outs.append(self.norm(x).relu() if stage == 2 else x)
        return tuple(outs)


class _Block(nn.Module):
    """norm-ReLU-3x3 twice; the shortcut is a 1x1 where width or size change."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.shortcut = None
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        activated = self.norm1(x).relu()
        identity = x if self.shortcut is None else self.shortcut(activated)
        out = self.conv1(activated)
        return identity + self.conv2(self.norm2(out).relu())
