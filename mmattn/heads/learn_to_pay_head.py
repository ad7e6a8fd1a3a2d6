"""A classifier that sees an image only through attention-weighted sums of its maps."""

from collections.abc import Sequence

import torch
from mmengine.model import ModuleList
from mmpretrain.models.heads import ClsHead
from torch import Tensor, nn

from mmattn.core.identity import blend, make_gamma
from mmattn.layers.learn_to_pay import LearnToPay
from mmattn.registry import MODELS

__all__ = ['LearnToPayHead']


@MODELS.register_module()
class LearnToPayHead(ClsHead):
    """Classifies from the attended sums of several maps, one linear layer on all side by side.

    ``scores = W [g_1; ...; g_L] + b``; g_l is the sum of local map l, weighted by its
    compatibility with the global average of the last map (``mmattn.LearnToPay``).

    Paper: Learn to Pay Attention, arXiv 1804.02391, section 3.2 ("concat").

    Differs from the paper: its global vector is the output of a VGG's first fully connected
    layer; ours is the global average of the last map, which any backbone has.

    Use it without a neck: ``backbone=dict(type='ResNet', depth=50, out_indices=(1, 2, 3)),
    neck=None, head=dict(type='mmattn.LearnToPayHead', num_classes=1000, in_channels=[512, 1024,
    2048])``.

    With ``init='identity'`` a plain checkpoint gives the plain classifier's scores, exactly, where
    the plain head sees the global average of the last map. ConvNeXt normalises after that average
    (``gap_before_final_norm``), and here its maps are normalised before it, so its scores differ
    at the start.

    Limits: with the paper's learned compatibility the global vector cancels out
    (``mmattn.LearnToPay``), so the last map gets no gradient unless it is also among the local
    ones or ``compatibility='dot'``, or ``init='identity'`` gives it a classifier.

    Args:
        num_classes: number of classes.
        in_channels: widths of the backbone's maps; the last map gives the global vector, all
            others are local maps.
        compatibility: ``'learned'`` or ``'dot'`` (``mmattn.LearnToPay``).
        init: ``'paper'``, or ``'identity'``: ``fc(g) + gamma * (scores - fc(g))``, ``fc`` being
            the plain linear classifier of mmpretrain's ``LinearClsHead`` with its checkpoint
            name (:mod:`mmattn.core.identity`).
        init_cfg: as mmpretrain's; normal weights of 0.01 for the linear layers.
        kwargs: ``loss``, ``topk`` and ``cal_acc`` of mmpretrain's ``ClsHead``.

    Shape: tuple of ``(N, in_channels[i], H_i, W_i)`` -> ``(N, num_classes)``.

    Raises:
        ValueError: ``num_classes`` below 1, fewer than 2 widths, a width below 1, unknown
            ``compatibility`` or ``init``; in the forward pass, another number of maps than
            ``in_channels`` has.
        TypeError: a feature that is no map (the model has a pooling neck).
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: Sequence[int],
        compatibility: str = 'learned',
        init: str = 'paper',
        init_cfg: dict | None = dict(type='Normal', layer='Linear', std=0.01),  # noqa: B006
        **kwargs,
    ) -> None:
        super().__init__(init_cfg=init_cfg, **kwargs)
        if num_classes < 1:
            raise ValueError(f'num_classes must be >= 1, got {num_classes}')
        if isinstance(in_channels, int) or len(in_channels) < 2:
            raise ValueError(
                f'in_channels must name at least 2 maps (local and last), got {in_channels}'
            )
        *local, last = in_channels
        self.attention = ModuleList([LearnToPay(width, last, compatibility) for width in local])
        self.classifier = nn.Linear(len(local) * last, num_classes)
        self.gamma = make_gamma(init)
        self.fc = nn.Linear(last, num_classes) if init == 'identity' else None

    def pre_logits(self, feats: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """Return the global vector ``(N, C)`` and the local sums side by side ``(N, L * C)``."""
        if len(feats) != len(self.attention) + 1:
            raise ValueError(
                f'in_channels names {len(self.attention) + 1} maps, got {len(feats)}: set the '
                "backbone's out_indices"
            )
        for feat in feats:
            if not isinstance(feat, Tensor) or feat.ndim != 4:
                raise TypeError('LearnToPayHead needs maps (N, C, H, W): set neck=None')
        context = feats[-1].mean((2, 3))
        sums = [layer(feat, context) for layer, feat in zip(self.attention, feats)]
        return context, torch.cat(sums, 1)

    def forward(self, feats: tuple[Tensor, ...]) -> Tensor:
        context, sums = self.pre_logits(feats)
        scores = self.classifier(sums)
        return scores if self.fc is None else blend(self.fc(context), scores, self.gamma)
