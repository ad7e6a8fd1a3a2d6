"""MobileNetV3 with top-down attention (TDAM)."""

from collections.abc import Sequence

from mmpretrain.models.backbones.mobilenet_v3 import MobileNetV3
from mmpretrain.models.utils.inverted_residual import InvertedResidual
from torch import Tensor, nn

from mmattn.backbones.top_down import (
    TopDown,
    TopDownNet,
    choose_blocks,
    is_pointwise,
    move_to_end,
)
from mmattn.registry import MODELS

__all__ = ['TDInvertedResidual', 'TDMobileNetV3']


class TDInvertedResidual(TopDown, InvertedResidual):
    """Inverted residual with top-down attention in the place of its SE.

    The bottom is the activated output of the depthwise convolution, the top the norm's output
    after the linear projection, which is the layer that runs in every step.

    Paper: TDAM, ECCV 2022, arXiv 2111.13470, names this network and says that the module replaces
    SE in the last three blocks; equations: :class:`mmattn.backbones.top_down.TopDown`.

    Differs from the paper: bottom, top, distance, reduction and the norms of the steps are our
    reading; neither the paper nor the authors' code gives them. The paper speaks of 15 % fewer
    parameters, this has 19.5 % fewer.

    Made by :meth:`convert` of a block of mmpretrain; its options are those of
    :class:`TDMobileNetV3`, ``distance`` is 1.

    Shape: ``(N, in_channels, H, W) -> (N, out_channels, H / stride, W / stride)``.
    """

    links = 1
    distances = (1,)

    @classmethod
    def convert(cls, block: nn.Module, **options) -> nn.Module:
        """Make a built block of the host a top-down block without SE; ``steps=1`` keeps SE."""
        conv = block.linear_conv.conv
        block.__class__ = cls
        block.add_steps([conv.in_channels, conv.out_channels], **options)
        if block.steps > 1 and block.with_se:
            del block.se
            block.with_se = False
        return block

    def start(self, x: Tensor) -> Tensor:
        if self.with_expand_conv:
            x = self.expand_conv(x)
        return self.depthwise_conv(x)

    def run_link(self, index: int, x: Tensor, step: int) -> Tensor:
        return self.norm_of(index, step)(self.linear_conv.conv(x))

    def keeps_means(self, step: int) -> bool:
        return is_pointwise(self.linear_conv.conv, self.norm_of(1, step))

    def finish(self, x: Tensor, out: Tensor) -> Tensor:
        return x + self.drop_path(out) if self.with_res_shortcut else out

    def link_norm(self, index: int) -> tuple:
        return self.linear_conv, self.linear_conv.norm_name

    def protect_from_fusing(self) -> None:
        move_to_end(self.linear_conv, 'conv')


@MODELS.register_module()
class TDMobileNetV3(TopDownNet, MobileNetV3):
    """mmpretrain's MobileNetV3 with top-down attention in the place of its last SE layers.

    Paper: TDAM: Top-Down Attention Module for Contextually Guided Feature Selection in CNNs,
    ECCV 2022, arXiv 2111.13470.

    Differs from the paper: the block is our reading (:class:`TDInvertedResidual`).

    A checkpoint of the plain network loads with the searchlights missing and the SE layers of the
    replaced blocks unused; since these are gone, ``init='identity'`` gives the plain network
    without them, not the plain network.

    Args:
        arch: ``'large'`` (the paper's), ``'small'``, ``'small_075'`` or ``'small_050'``.
        steps: t. 1 is the plain network, SE included.
        attention: ``'joint'`` or ``'top'``.
        blocks: indices of the inverted residuals, from 0 or from the end.
        reduction: r of the searchlight.
        operation: of the searchlight (:class:`mmattn.layers.searchlight.Searchlight`).
        init: ``'paper'``, or ``'identity'`` (:mod:`mmattn.core.identity`).
        kwargs: every other argument of mmpretrain's MobileNetV3. ``out_indices`` counts layers:
            a detector with the large network takes ``(3, 6, 12, 16)``.

    Shape: ``(N, 3, H, W)`` -> tuple of ``(N, C_i, H_i, W_i)``, one for each of ``out_indices``.

    Raises:
        ValueError: unknown ``arch``; ``norm_cfg=None``; a bad ``blocks``, ``steps``,
            ``attention``, ``reduction``, ``operation`` or ``init``.
    """

    def __init__(
        self,
        arch: str = 'large',
        steps: int = 2,
        attention: str = 'joint',
        blocks: Sequence = (-3, -2, -1),
        reduction: int = 16,
        operation: str = 'channel-spatial',
        init: str = 'paper',
        **kwargs,
    ) -> None:
        if arch not in self.arch_settings:
            raise ValueError(f'arch must be one of {tuple(self.arch_settings)}, got {arch!r}')
        if kwargs.get('norm_cfg', ...) is None:
            raise ValueError("norm_cfg must be a norm such as dict(type='BN'), got None")
        super().__init__(arch, **kwargs)
        options = dict(attention=attention, reduction=reduction, operation=operation, init=init)
        for index in choose_blocks([blocks], [len(self.arch_settings[arch])], default=())[0]:
            block = getattr(self, self.layers[index + 1])  # layer 0 is the stem
            TDInvertedResidual.convert(block, steps=steps, distance=1, **options)
        self.settle()

    @staticmethod
    def stage_of(name: str) -> int:
        """Return 0: the replaced blocks count as one stage."""
        return 0
