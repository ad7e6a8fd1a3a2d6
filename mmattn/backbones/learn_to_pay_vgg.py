"""VGG whose maps are those before its poolings, as learn-to-pay attention reads them."""

from collections.abc import Sequence

from mmcv.cnn import ConvModule
from mmpretrain.models.backbones import VGG
from torch import Tensor, nn

from mmattn.registry import MODELS

__all__ = ['LearnToPayVGG']


@MODELS.register_module()
class LearnToPayVGG(VGG):
    """mmpretrain's VGG, giving the maps of its last convolutions before the poolings.

    With the default ``taps`` of VGG-16 these are convolutions 7, 10 and 13; the last map, after
    them, is what ``mmattn.LearnToPayHead`` takes its global vector from.

    Paper: Learn to Pay Attention, arXiv 1804.02391, section 3.3 and figure 2.

    Differs from the paper: nothing with ``late_pooling``, as far as its public re-implementation
    in PyTorch shows it: the first two poolings come after two more convolutions at the end, so
    that an image of 32 pixels still has maps of 32, 16 and 8; a 1x1 convolution with bias makes
    the global vector. Without it, poolings and checkpoint names are mmpretrain's.

    Args:
        depth: 11, 13, 16 or 19.
        taps: stages, from 0, whose map before the pooling is given.
        late_pooling: see above.
        norm_cfg: config of a norm after each convolution, or None.
        init_cfg: as mmpretrain's; default: that of its ``VGG``.

    Shape: ``(N, 3, H, W)`` -> one map ``(N, C_i, H_i, W_i)`` for each of ``taps`` and the last
    one, ``(N, 512, H / 32, W / 32)``.

    Raises:
        ValueError: unknown ``depth``, or ``taps`` that are no different stages in ascending order.
    """

    def __init__(
        self,
        depth: int = 16,
        taps: Sequence[int] = (2, 3, 4),
        late_pooling: bool = True,
        norm_cfg: dict | None = None,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        if depth not in self.arch_settings:
            raise ValueError(f'depth must be one of {sorted(self.arch_settings)}, got {depth}')
        start = {} if init_cfg is None else dict(init_cfg=init_cfg)
        super().__init__(depth, norm_cfg=norm_cfg, **start)
        if not taps or list(taps) != sorted(set(taps) & set(range(5))):
            raise ValueError(f'taps must be ascending stages from 0 to 4, got {tuple(taps)}')
        self.taps = tuple(taps)
        ends = [end - 1 for _, end in self.range_sub_modules]
        self._tapped = {ends[stage] for stage in taps}  # indices of poolings
        self.late = nn.Sequential()
        if late_pooling:
            for end in ends[:2]:
                self.features[end] = nn.Identity()
            width = self.in_channels
            norm = dict(norm_cfg=norm_cfg)
            for _ in range(2):
                self.late.append(ConvModule(width, width, 3, padding=1, bias=True, **norm))
                self.late.append(nn.MaxPool2d(2))
            self.late.append(nn.Conv2d(width, width, 1))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Run the network."""
        maps = []
        for index, layer in enumerate(self.features):
            if index in self._tapped:
                maps.append(x)
            x = layer(x)
        return (*maps, self.late(x))
