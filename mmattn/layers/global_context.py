"""Global context block."""

import torch
from torch import Tensor, nn

from mmattn.core.hosts import require_host
from mmattn.layers._gate import Gate, hidden_width
from mmattn.registry import MODELS

__all__ = ['GlobalContext']


@MODELS.register_module()
class GlobalContext(Gate):
    """Adds to every position one vector made from an attention-weighted mean of all positions.

    ``out = x + W2 ReLU(LN(W1 context))``, ``context = sum_p softmax_p(w x_p) x_p``.

    Paper: GCNet: Non-local Networks Meet Squeeze-Excitation Networks and Beyond, arXiv
    1904.11492, equation 5. The computation is mmcv's ``ContextBlock``.

    Differs from the paper: nothing. W2 starts at 0, so the paper's block starts as the identity;
    with ``init='identity'``, where gamma does that, W2 starts at random, or two zeros would
    never move.

    Limits: ``conv_mask.bias`` (mmcv's) gets no gradient: a softmax does not see a constant.

    Args:
        in_channels: C.
        reduction: r; the hidden layer has ``C // r`` units, at least 2 (the LayerNorm makes a
            single one constant).
        init: ``'paper'`` or ``'identity'`` (:mod:`mmattn.core.identity`).

    Shape: ``(N, C, H, W) -> (N, C, H, W)``.

    Raises:
        ImportError: mmcv is missing or too old.
        ValueError: ``in_channels`` or ``reduction`` below 1, fewer than 2 hidden units, unknown
            ``init``.
    """

    _abbr_ = 'gc'

    def __init__(self, in_channels: int, reduction: int = 16, init: str = 'paper') -> None:
        super().__init__(init)
        hidden = hidden_width(in_channels, reduction)
        if hidden < 2:
            raise ValueError(
                f'reduction must leave at least 2 of {in_channels} channels, got {reduction}'
            )
        require_host('mmcv')
        from mmcv.cnn import ContextBlock

        # mmcv truncates in_channels * ratio; half a channel more keeps rounding errors away
        self.block = ContextBlock(in_channels, ratio=(hidden + 0.5) / in_channels)
        self.init_weights()

    def attend(self, x: Tensor) -> Tensor:
        if not x.is_contiguous(memory_format=torch.channels_last):  # mmcv takes views of it
            x = x.contiguous()
        return self.block(x)

    def init_weights(self) -> None:
        super().init_weights()
        if self.gamma is not None:
            self.block.channel_add_conv[-1].reset_parameters()
        else:
            nn.init.zeros_(self.block.channel_add_conv[-1].weight)
