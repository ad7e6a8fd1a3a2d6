"""ResNets with top-down attention (TDAM)."""

import copy
from collections.abc import Sequence

from mmdet.models.backbones.resnet import BasicBlock, Bottleneck, ResNet
from torch import Tensor, nn

from mmattn.backbones.top_down import (
    TopDown,
    TopDownNet,
    choose_blocks,
    choose_preset,
    is_pointwise,
    move_to_end,
)
from mmattn.registry import MODELS

__all__ = ['PRESETS', 'TDBasicBlock', 'TDBottleneck', 'TDResNet']

# the paper's networks; what is left out here has the default of TDResNet
_STAGE_4 = [[], [], [], None]
PRESETS = {
    # rows of the paper's table 1
    'r50-joint-t2m1': dict(depth=50, attention='joint', distance=1),
    'r50-top-t2m1': dict(depth=50, attention='top', distance=1),
    # its printed cost needs one stride-1 block of stage 3 left out (which one is our choice)
    'r50-top-t2m3': dict(
        depth=50, attention='top', distance=3, blocks=[[], [], [0, 1, 2, 3, 4], None]
    ),
    'r50-top-t2m3-all': dict(depth=50, attention='top', distance=3),  # as the text says
    # the text says 10 blocks of stage 3; 7 give the printed cost (the authors' ids that exist)
    'r101-joint-t2m1': dict(
        depth=101,
        attention='joint',
        distance=1,
        blocks=[[], [], [0, 1, 2, 8, 13, 18, 22], None],
    ),
    # the text's 10 alternating ones
    'r101-joint-t2m1-10': dict(
        depth=101,
        attention='joint',
        distance=1,
        blocks=[[], [], [*range(0, 20, 2)], None],
    ),
    'r101-joint-t2m1-l4': dict(depth=101, attention='joint', distance=1, blocks=_STAGE_4),
    # from the authors' logs and released checkpoints
    'r18-top-t2m1': dict(depth=18, attention='top', distance=1),
    'r18-joint-t2m2': dict(depth=18, attention='joint', distance=2),
    'r34-joint-t2m1': dict(depth=34, attention='joint', distance=1),
    'r34-joint-t2m2': dict(depth=34, attention='joint', distance=2),
}


class _TDResBlock(TopDown):
    """What the two blocks of a ResNet share."""

    @classmethod
    def convert(cls, block: nn.Module, **options) -> nn.Module:
        """Make a built block of the host a top-down block, with all its weights and names."""
        block.__class__ = cls
        block.init_cfg = copy.deepcopy(block.init_cfg)  # the host shares one among all blocks
        block.add_steps(block.widths(), **options)
        block.zero_init_last_step()
        return block

    def widths(self) -> list:
        convs = [getattr(self, f'conv{index}') for index in range(1, self.links + 1)]
        return [convs[0].in_channels, *(conv.out_channels for conv in convs)]

    def zero_init_last_step(self) -> None:
        """Direct the host's rule for ``zero_init_residual`` to the last step's norm.

        The norm of the first step makes the first top. Were its weight and bias zero, the
        searchlight's pooled input would be zero, and with it every gradient that could change
        that, for ever.
        """
        cfg, last = self.init_cfg, f'norm{self.links}'
        if self.steps == 1 or not isinstance(cfg, dict) or 'override' not in cfg:
            return
        if cfg['override'].get('name') == last:
            if self.distance == 0:  # one norm makes the top of all steps
                self.init_cfg = None
            else:
                name = f'{getattr(self, f"{last}_name")}_{self.steps - 1}'
                cfg['override'] = dict(cfg['override'], name=name)

    def link_norm(self, index: int) -> tuple:
        return self, getattr(self, f'norm{index}_name')

    def protect_from_fusing(self) -> None:
        for index in self.repeated:
            move_to_end(self, f'conv{index}')

    def run_link(self, index: int, x: Tensor, step: int) -> Tensor:
        out = self.norm_of(index, step)(getattr(self, f'conv{index}')(x))
        if index < self.links:
            out = self.relu(out)  # in place, on the norm's own output
        if getattr(self, 'with_plugins', False):
            out = self.forward_plugin(out, getattr(self, f'after_conv{index}_plugin_names'))
        return out

    def keeps_means(self, step: int) -> bool:
        last = self.links
        plugins = getattr(self, 'with_plugins', False) and self.after_conv3_plugin_names
        pointwise = is_pointwise(getattr(self, f'conv{last}'), self.norm_of(last, step))
        return self.distance == 1 and pointwise and not plugins

    def finish(self, x: Tensor, out: Tensor) -> Tensor:
        return out + (x if self.downsample is None else self.downsample(x))

    def activate(self, out: Tensor) -> Tensor:
        return self.relu(out)


class TDBottleneck(_TDResBlock, Bottleneck):
    """Bottleneck block with top-down attention.

    The top is the output of the last norm, before the addition. The bottom is the input of the
    last convolution (``distance=1``), of the last two (2), the block's input (3), or the top
    itself (0).

    Paper, ``Differs from the paper``: :class:`mmattn.backbones.top_down.TopDown`.

    Made by :meth:`convert` of a block of mmdet; its options are those of :class:`TDResNet`.

    Shape: ``(N, inplanes, H, W) -> (N, 4 planes, H / stride, W / stride)``.
    """

    links = 3
    distances = (0, 1, 2, 3)


class TDBasicBlock(_TDResBlock, BasicBlock):
    """Basic block with top-down attention.

    The top is the output of the second norm, before the addition. The bottom is the input of the
    second convolution (``distance=1``), the block's input (2), or the top itself (0).

    Paper, ``Differs from the paper``: :class:`mmattn.backbones.top_down.TopDown`.

    Made by :meth:`convert` of a block of mmdet; its options are those of :class:`TDResNet`.

    Shape: ``(N, inplanes, H, W) -> (N, planes, H / stride, W / stride)``.
    """

    links = 2
    distances = (0, 1, 2)


_BLOCKS = {BasicBlock: TDBasicBlock, Bottleneck: TDBottleneck}


@MODELS.register_module()
class TDResNet(TopDownNet, ResNet):
    """mmdet's ResNet with top-down blocks in its deep stages.

    ``Y_1 = f(X_1)``, ``X_{k+1} = S(X_k, Y_k)``, ``Y_{k+1} = f(X_{k+1})``: f is the last m
    convolutions of a block, which continues with ``Y_t``. The searchlight ``S(X, Y) =
    sigmoid(sum_c s_c X'_c) * X'`` with ``X' = sigmoid(s) * X`` scales channels, then positions,
    by ``s = W3 [ReLU(W1 gap(Y)); ReLU(W2 gap(X))]``.

    Paper: TDAM: Top-Down Attention Module for Contextually Guided Feature Selection in CNNs,
    ECCV 2022, arXiv 2111.13470.

    Differs from the paper: nothing in the blocks (:class:`mmattn.backbones.top_down.TopDown`).
    ``zero_init_residual`` zero-initialises the norm of the last step only, so that the top MLP
    gets its first gradient one step later than that norm, as any layer in front of a zero does;
    the authors' training code zeroes the norm of the first step, which switches the searchlight
    off for good.

    A checkpoint of the plain network loads with exactly the searchlights missing: the norms of
    the later steps become copies, which is logged. With ``init='identity'`` the network then
    gives the plain one's output. A checkpoint with fewer steps loads in the same way.

    Args:
        depth: 18, 34, 50, 101 or 152; may be left out with ``preset``.
        preset: one of :data:`PRESETS`, the paper's networks by name (``'r50-joint-t2m1'``). The
            arguments below that are given as well replace the preset's.
        steps: t, how often the last convolutions of a block run; default 2. 1 is the plain
            network.
        distance: m, how many convolutions lie between bottom and top: 0 to 3, in a basic block
            0 to 2; default 1.
        attention: ``'joint'`` (top and bottom make the searchlight) or ``'top'``; default
            ``'joint'``.
        blocks: for each stage the indices of its top-down blocks, or None for all; default all
            blocks of stages 3 and 4, ``[[], [], None, None]``.
        reduction: r of the searchlight.
        operation: of the searchlight (:class:`mmattn.layers.searchlight.Searchlight`).
        init: ``'paper'``, or ``'identity'``: every block gives ``Y_1 + gamma * (Y_t - Y_1)``
            (:mod:`mmattn.core.identity`).
        kwargs: every other argument of mmdet's ResNet. Its ``norm_eval`` is True by default,
            which is for detection: say ``norm_eval=False`` to train from scratch.

    Shape: ``(N, in_channels, H, W)`` -> tuple of ``(N, C_i, H_i, W_i)``, one for each entry of
    ``out_indices``.

    Raises:
        ValueError: unknown ``depth`` or ``preset``, or two that differ; a bad ``blocks``,
            ``steps``, ``distance``, ``attention``, ``reduction``, ``operation`` or ``init``.
    """

    def __init__(
        self,
        depth: int | None = None,
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
        known, chosen = choose_preset(PRESETS, preset, 'depth', depth, **given)
        if known not in self.arch_settings:
            raise ValueError(f'depth must be one of {sorted(self.arch_settings)}, got {known!r}')
        super().__init__(known, **kwargs)
        where = choose_blocks(chosen.pop('blocks', None), self.stage_blocks, default=(2, 3))
        options = dict(chosen, reduction=reduction, operation=operation, init=init)
        plain = _BLOCKS[self.block]
        for name, indices in zip(self.res_layers, where):
            for index in indices:
                plain.convert(getattr(self, name)[index], **options)
        self.settle()

    @staticmethod
    def stage_of(name: str) -> int:
        """Return the stage, from 0, that the block of this name is in."""
        return int(name.partition('.')[0][len('layer') :]) - 1
