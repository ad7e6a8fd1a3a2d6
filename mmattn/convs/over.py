"""AW-convolution over convolutions that do something of their own to weight or input.

A convolution of the framework that standardises its weight, or pads its input by its size, keeps
doing so: it stays the object that it is, gets the branch of :class:`mmattn.AWConv2d` and a class
in front of its own.
"""

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from mmattn.convs.aw_conv import AWConv2d, convolve_attended
from mmattn.core.front import Front

__all__ = ['attend_over', 'can_attend_over']


class _Conv(NamedTuple):
    """What :func:`convolve_attended` reads of a convolution."""

    weight: Tensor
    bias: Tensor | None
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int
    padding_mode: str = 'zeros'


class _AWOver(Front, AWConv2d):
    """Base: ``out = conv2d(pad(x), K' + A * K') + bias``, K' being what the host makes of K.

    A sees the input as it is, before the padding.
    """

    def forward(self, x: Tensor) -> Tensor:
        attn = self.attention(x)
        if self.gamma is not None:
            attn = self.gamma * attn
        own = self.stride, self.padding, self.dilation, self.groups
        conv = _Conv(self.own_weight(), self.bias, *own)
        return convolve_attended(conv, self.padded(x), attn, self.recompute)

    def own_weight(self) -> Tensor:
        """Return the weight the host would convolve with."""
        return self.weight

    def padded(self, x: Tensor) -> Tensor:
        """Return the input the host would convolve."""
        return x


class _AWOverStandardised(_AWOver):
    """In front of mmcv's ``ConvWS2d``: weight standardisation (arXiv 1903.10520)."""

    def own_weight(self) -> Tensor:
        flat = self.weight.flatten(1)
        mean, std = (value.view(-1, 1, 1, 1) for value in (flat.mean(dim=1), flat.std(dim=1)))
        return (self.weight - mean) / (std + self.eps)


class _AWOverAdaptive(_AWOver):
    """In front of mmcv's ``ConvAWS2d``: standardisation with kept statistics (DetectoRS)."""

    def own_weight(self) -> Tensor:
        return self._get_weight(self.weight)


class _AWOverPadding(_AWOver):
    """In front of mmcv's ``Conv2dAdaptivePadding``: TensorFlow's padding (EfficientNet)."""

    def padded(self, x: Tensor) -> Tensor:
        sides = []
        for i in (1, 0):  # the last axis comes first in F.pad
            size, stride = x.shape[2 + i], self.stride[i]
            outputs = -(-size // stride)
            reach = (outputs - 1) * stride + (self.kernel_size[i] - 1) * self.dilation[i] + 1
            missing = max(reach - size, 0)
            sides += [missing // 2, missing - missing // 2]
        return F.pad(x, sides)


# by name: mmcv may be absent
_FRONTS = {
    'mmcv.cnn.bricks.conv_ws.ConvWS2d': _AWOverStandardised,
    'mmcv.cnn.bricks.conv_ws.ConvAWS2d': _AWOverAdaptive,
    'mmcv.cnn.bricks.conv2d_adaptive_padding.Conv2dAdaptivePadding': _AWOverPadding,
}


def _front(conv: nn.Module) -> type | None:
    return _FRONTS.get(f'{type(conv).__module__}.{type(conv).__qualname__}')


def can_attend_over(conv: nn.Module) -> bool:
    """Whether :func:`attend_over` knows the class of a convolution."""
    return _front(conv) is not None


def attend_over(conv: nn.Conv2d, **options) -> None:
    """Give a convolution, in place, the attention of an AW-convolution.

    Args:
        conv: of a class that :func:`can_attend_over` accepts; it keeps its weight, its buffers
            and every name in a checkpoint.
        options: of :class:`mmattn.convs.AWConv2d`, ``reduction`` and what follows.

    Raises:
        ValueError: an option out of range.
    """
    like = dict(device=conv.weight.device, dtype=conv.weight.dtype)
    size = conv.in_channels, conv.out_channels, conv.kernel_size
    attended = AWConv2d(*size, groups=conv.groups, bias=False, **like, **options)
    conv.branch, conv.gamma, conv.recompute = attended.branch, attended.gamma, attended.recompute
    _front(conv).in_front_of(conv)
