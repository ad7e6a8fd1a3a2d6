"""ConvNeXts with top-down attention (TDAM)."""

from collections.abc import Sequence

from mmpretrain.models.backbones.convnext import ConvNeXt, ConvNeXtBlock
from torch import Tensor, nn

from mmattn.backbones.top_down import TopDown, TopDownNet, choose_blocks, choose_preset
from mmattn.registry import MODELS

__all__ = ['TDConvNeXt', 'TDConvNeXtBlock']

# the block lists of the authors' code: all 9 blocks of stage 3 in T, the first 11 of 27 in S, B
_FIRST_11 = [[], [], list(range(11)), None]
PRESETS = {
    'tiny-joint-t2m1': dict(arch='tiny', attention='joint', distance=1),
    'small-joint-t2m1': dict(arch='small', attention='joint', distance=1, blocks=_FIRST_11),
    'base-joint-t2m1': dict(arch='base', attention='joint', distance=1, blocks=_FIRST_11),
}


class TDConvNeXtBlock(TopDown, ConvNeXtBlock):
    """ConvNeXt block with top-down attention.

    The top is the output of the second pointwise layer, before layer scale and drop path, which
    run once, after the last step. The bottom is that layer's input (``distance=1``, four times
    as wide) or the input of the first pointwise layer, the layer norm's output (2).

    Paper, ``Differs from the paper``: :class:`mmattn.backbones.top_down.TopDown`; there is no
    norm after the bottom, so none of the steps has its own.

    Made by :meth:`convert` of a block of mmpretrain; its options are those of
    :class:`TDConvNeXt`.

    Shape: ``(N, C, H, W) -> (N, C, H, W)``.
    """

    links = 2
    distances = (1, 2)

    @classmethod
    def convert(cls, block: nn.Module, **options) -> nn.Module:
        """Make a built block of the host a top-down block, with all its weights and names."""
        width = block.depthwise_conv.out_channels
        wide = block.pointwise_conv1.weight.shape[0]
        block.__class__ = cls
        block.add_steps([width, wide, width], **options)
        return block

    def start(self, x: Tensor) -> Tensor:
        x = self.depthwise_conv(x)
        if self.linear_pw_conv:  # channels last from here to finish()
            return self.norm(x.permute(0, 2, 3, 1), data_format='channel_last')
        return self.norm(x, data_format='channel_first')

    def run_link(self, index: int, x: Tensor, step: int) -> Tensor:
        if index == 2:
            return self.pointwise_conv2(x)
        x = self.act(self.pointwise_conv1(x))
        if self.grn is None:
            return x
        layout = 'channel_last' if self.linear_pw_conv else 'channel_first'
        return self.grn(x, data_format=layout)

    def attend(self, bottom: Tensor, top: Tensor) -> Tensor:
        if not self.linear_pw_conv:
            return self.searchlight(bottom, top)
        out = self.searchlight(bottom.permute(0, 3, 1, 2), top.permute(0, 3, 1, 2))
        return out.permute(0, 2, 3, 1)

    def finish(self, x: Tensor, out: Tensor) -> Tensor:
        if self.linear_pw_conv:
            out = out.permute(0, 3, 1, 2)
        if self.gamma is not None:  # layer scale
            out = out * self.gamma[:, None, None]
        return x + self.drop_path(out)


@MODELS.register_module()
class TDConvNeXt(TopDownNet, ConvNeXt):
    """mmpretrain's ConvNeXt with top-down blocks in its deep stages.

    Paper: TDAM: Top-Down Attention Module for Contextually Guided Feature Selection in CNNs,
    ECCV 2022, arXiv 2111.13470.

    Differs from the paper: nothing known; its block list for S and B is that of the authors'
    code (presets), while the default here is all blocks of the last two stages.

    Args:
        arch: ``'tiny'``, ``'small'``, ``'base'`` or any other of the host; default ``'tiny'``.
        preset: ``'tiny-joint-t2m1'``, ``'small-joint-t2m1'`` or ``'base-joint-t2m1'``. The
            arguments below that are given as well replace the preset's.
        steps: t; default 2. 1 is the plain network.
        distance: m, 1 or 2; default 1.
        attention: ``'joint'`` or ``'top'``; default ``'joint'``.
        blocks: for each stage the indices of its top-down blocks, or None for all; default
            ``[[], [], None, None]``.
        reduction: r of the searchlight.
        operation: of the searchlight (:class:`mmattn.layers.searchlight.Searchlight`).
        init: ``'paper'``, or ``'identity'`` (:mod:`mmattn.core.identity`).
        kwargs: every other argument of mmpretrain's ConvNeXt. A detector needs
            ``out_indices=[0, 1, 2, 3]`` and ``gap_before_final_norm=False``.

    Shape: as the host: ``(N, in_channels, H, W)`` -> tuple, for each of ``out_indices``
    ``(N, C_i, H_i, W_i)``, or ``(N, C_i)`` with ``gap_before_final_norm``.

    Raises:
        ValueError: unknown ``arch`` or ``preset``, or two that differ; a bad ``blocks``,
            ``steps``, ``distance``, ``attention``, ``reduction``, ``operation`` or ``init``.
    """

    def __init__(
        self,
        arch: str | dict | None = None,
        preset: str | None = None,
        steps: int | None = None,
        distance: int | None = None,
        attention: str | None = None,
        blocks: Sequence | None = None,
        reduction: int = 16,
        operation: str = 'channel-spatial',
        init: str = 'paper',
        **kwargs,
    ) -> None:
        given = dict(steps=steps, distance=distance, attention=attention, blocks=blocks)
        known, chosen = choose_preset(PRESETS, preset, 'arch', arch, **given)
        known = known or 'tiny'
        if isinstance(known, str) and known not in self.arch_settings:
            raise ValueError(f'arch must be one of {tuple(self.arch_settings)}, got {known!r}')
        super().__init__(known, **kwargs)
        last_two = (self.num_stages - 2, self.num_stages - 1)
        where = choose_blocks(chosen.pop('blocks', None), self.depths, default=last_two)
        options = dict(chosen, reduction=reduction, operation=operation, init=init)
        for stage, indices in zip(self.stages, where):
            for index in indices:
                TDConvNeXtBlock.convert(stage[index], **options)
        self.settle()

    @staticmethod
    def stage_of(name: str) -> int:
        """Return the stage, from 0, that the block of this name is in."""
        return int(name.split('.')[1])
