"""MobileNet, the first: depthwise separable convolutions."""

import math
from collections.abc import Sequence

from mmcv.cnn import ConvModule, DepthwiseSeparableConvModule
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from mmattn.registry import MODELS

__all__ = ['MobileNetV1']

# (width, stride) of the 13 depthwise separable convolutions, by resolution
_STAGES = (
    ((64, 1),),
    ((128, 2), (128, 1)),
    ((256, 2), (256, 1)),
    ((512, 2), *(((512, 1),) * 5)),
    ((1024, 2), (1024, 1)),
)


@MODELS.register_module()
class MobileNetV1(BaseModule):
    """A 3x3 convolution and 13 depthwise separable ones, each followed by norm and ReLU.

    Paper: MobileNets, arXiv 1704.04861, Table 1. The hosts have the later versions only; the AW
    paper (arXiv 2108.08205) builds on this one. Attention comes by :class:`Attend`: its AW layers
    are ``dict(conv=dict(type='mmattn.AWConv2d'), replace=r'.*pointwise_conv\\.conv')``, its SE or
    CBAM gates ``dict(gate=..., after=r'stage.*(depthwise|pointwise)_conv')``.

    Differs from the paper: nothing in the network. The AW paper speaks of AW layers "in every two
    depthwise separable convolutions"; its printed count is that of all 13 pointwise convolutions,
    which the pattern above replaces.

    Args:
        widen_factor: multiplies every width (the paper's alpha).
        out_indices: resolutions to return, 0 (stride 2) to 4 (stride 32).
        frozen_stages: -1 freezes nothing, 0 the first convolution, i the stages up to i - 1 too.
        norm_cfg: of all norms.
        norm_eval: keep the norms in eval mode.
        with_cp: recompute activations in the backward pass.
        init_cfg: as in every ``BaseModule``.

    Shape: ``(N, 3, H, W)`` -> tuple of ``(N, C_i, H / 2^(i+1), W / 2^(i+1))``.

    Raises:
        ValueError: an option out of range.
    """

    def __init__(
        self,
        widen_factor: float = 1.0,
        out_indices: Sequence[int] = (1, 2, 3, 4),
        frozen_stages: int = -1,
        norm_cfg: dict = dict(type='BN'),  # noqa: B006 (never changed)
        norm_eval: bool = False,
        with_cp: bool = False,
        init_cfg: dict | list[dict] | None = (  # noqa: B006
            dict(type='Kaiming', layer='Conv2d'),
            dict(type='Constant', val=1, layer=['_BatchNorm', 'GroupNorm']),
        ),
    ) -> None:
        super().__init__(list(init_cfg) if isinstance(init_cfg, tuple) else init_cfg)
        levels = range(len(_STAGES))
        if not 0 < widen_factor < math.inf:
            raise ValueError(f'widen_factor must be above 0 and finite, got {widen_factor}')
        if not out_indices or not set(out_indices) <= set(levels):
            raise ValueError(f'out_indices must be from 0 to {levels[-1]}, got {out_indices}')
        if frozen_stages not in range(-1, len(_STAGES) + 1):
            raise ValueError(
                f'frozen_stages must be from -1 to {len(_STAGES)}, got {frozen_stages}'
            )
        self.out_indices = tuple(out_indices)
        self.frozen_stages, self.norm_eval, self.with_cp = frozen_stages, norm_eval, with_cp
        width = max(int(32 * widen_factor), 1)
        self.conv1 = ConvModule(3, width, 3, stride=2, padding=1, norm_cfg=norm_cfg)
        for i, layers in enumerate(_STAGES):
            stage = nn.Sequential()
            for out, stride in layers:
                out = max(int(out * widen_factor), 1)
                stage.append(
                    DepthwiseSeparableConvModule(
                        width, out, 3, stride=stride, padding=1, norm_cfg=norm_cfg
                    )
                )
                width = out
            self.add_module(f'stage{i + 1}', stage)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        x = self.conv1(x)
        outs = []
        for i in range(max(self.out_indices) + 1):
            for layer in getattr(self, f'stage{i + 1}'):
                if self.with_cp and x.requires_grad:
                    x = checkpoint(layer, x, use_reentrant=False)
                else:
                    x = layer(x)
            if i in self.out_indices:
                outs.append(x)
        return tuple(outs)

    def train(self, mode: bool = True) -> 'MobileNetV1':
        super().train(mode)
        if self.frozen_stages >= 0:
            frozen = [
                self.conv1,
                *(getattr(self, f'stage{i + 1}') for i in range(self.frozen_stages)),
            ]
            for module in frozen:
                module.eval()
                module.requires_grad_(False)
        if self.norm_eval:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self
