"""Attention-augmented convolution: some of the output channels come from self-attention."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmattn.convs.aw_conv import (
    AWConv2d,
    WeightAttention,
    check_conv,
    convolve_attended,
)
from mmattn.core.identity import blend, make_gamma
from mmattn.layers._attention import attention
from mmattn.layers._gate import is_capturing
from mmattn.registry import MODELS

__all__ = ['AAConv2d']

AW_PLACES = ('none', 'conv', 'qkv', 'out')
MIN_KEY_CHANNELS = 20  # per head, when dk is a fraction


@MODELS.register_module()
class AAConv2d(nn.Conv2d):
    """A convolution for the first channels and multi-head self-attention for the last dv.

    ``out = concat[conv(x), W_o MHA(x)]`` with C2 - dv and dv channels.

    Paper: Attention Augmented Convolutional Networks, arXiv 1904.09925, equations 1 to 5. ``aw``
    gives the combinations of arXiv 2108.08205 (section "AW-AA-Wide-ResNet"): ``'conv'`` is
    AW-AA-1, ``'qkv'`` AW-AA-2, ``'out'`` AW-AA-3. AW-AA-0 is ``aw='none'`` here and an
    :class:`AWConv2d` as the block's second 3x3. The paper finds 0 best and 3 below its baseline.

    Differs from the paper: a strided convolution strides the 1x1 that makes queries, keys and
    values (the paper pools). Relative embeddings learned for ``map_size`` are resized linearly
    to other map sizes, the outermost offsets staying the outermost; ``map_size=None`` is the
    form without relative encoding, which sees no positions at all.

    Large maps are computed in blocks of queries (again in the backward pass), so memory stays
    bounded where the square of the number of positions would not.

    Limits: torch's compiler (2.8) needs a graph for each map size,
    ``torch.compile(dynamic=False)``.

    Args:
        in_channels: C1.
        out_channels: C2, of which dv come from attention.
        kernel_size, stride, padding, dilation, bias, padding_mode, device, dtype: as
            ``nn.Conv2d``; the padding must keep the size ("same"), so that both halves fit;
            ``bias`` holds for the 1x1s of the attention as well.
        groups: 1, the paper knows no other.
        dk: channels of queries and keys; a float is the fraction of C2 (the paper's kappa),
            rounded to a multiple of ``num_heads`` with at least 20 channels a head: with 8 heads
            ``0.2`` of 1600 channels is 320, and of 160 channels it is 160, not 32.
        dv: channels of the values; a float is the fraction of C2 (the paper's upsilon), rounded
            to a multiple of ``num_heads``.
        num_heads: heads.
        map_size: (height, width) of the output map the relative embeddings are for, or ``None``.
        aw: which part is an AW-convolution: ``'none'``, ``'conv'``, ``'qkv'``, ``'out'``.
        reduction: r of that AW-convolution.
        norm: of that AW-convolution's branch (:class:`AWConv2d`).
        init: ``'paper'``, or ``'identity'``: all C2 channels are convolved and attention is
            blended in (:mod:`mmattn.core.identity`), so a plain checkpoint keeps its output.

    The weight has C2 - dv filters with ``init='paper'`` and C2 with ``'identity'``; from a plain
    checkpoint the former takes the first C2 - dv.

    Shape: ``(N, C1, H, W) -> (N, C2, ceil(H / stride), ceil(W / stride))``.

    Raises:
        ValueError: dk or dv not divisible by ``num_heads`` or out of range, ``groups`` other
            than 1, a padding that changes the size, ``map_size`` that is no pair, an unknown
            ``aw``, ``norm`` or ``init``.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | str | tuple[int, int] = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = 'zeros',
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
        *,
        dk: int | float = 0.2,
        dv: int | float = 0.1,
        num_heads: int = 8,
        map_size: tuple[int, int] | None = None,
        aw: str = 'none',
        reduction: int = 16,
        norm: str = 'BN',
        init: str = 'paper',
    ) -> None:
        kwargs = dict(device=device, dtype=dtype)
        if groups != 1:
            raise ValueError(f'groups must be 1, got {groups}')
        check_conv(
            in_channels, out_channels, kernel_size, stride, padding, dilation, groups, padding_mode
        )
        if aw not in AW_PLACES:
            raise ValueError(f'aw must be one of {AW_PLACES}, got {aw!r}')
        self_dk = _channels('dk', dk, out_channels, num_heads, MIN_KEY_CHANNELS)
        self_dv = _channels('dv', dv, out_channels, num_heads, 1)
        if self_dv >= out_channels:
            raise ValueError(f'dv must be below out_channels ({out_channels}), got {self_dv}')
        filters = out_channels if init == 'identity' else out_channels - self_dv
        super().__init__(
            in_channels,
            filters,
            kernel_size,
            stride,
            padding,
            dilation,
            groups,
            bias,
            padding_mode,
            **kwargs,
        )
        _check_same(self)
        self.out_channels = out_channels
        self.dk, self.dv, self.num_heads = self_dk, self_dv, num_heads
        self.gamma = make_gamma(init, **kwargs)

        def pointwise(place: object, c1: int, c2: int, **options):
            if aw == place:
                options.update(reduction=reduction, norm=norm)
                return AWConv2d(c1, c2, 1, bias=bias, **options, **kwargs)
            return nn.Conv2d(c1, c2, 1, bias=bias, **options, **kwargs)

        self.qkv = pointwise('qkv', in_channels, 2 * self_dk + self_dv, stride=self.stride)
        self.mix = pointwise('out', self_dv, self_dv)  # W_o
        self.branch = None
        if aw == 'conv':
            self.branch = WeightAttention(
                in_channels, filters, self.kernel_size, 1, reduction, norm=norm, **kwargs
            )
        self.rel_h = self.rel_w = None
        if map_size is not None:
            _check_map_size(map_size)
            self.rel_h, self.rel_w = (
                nn.Parameter(torch.empty(2 * size - 1, self_dk // num_heads, **kwargs))
                for size in map_size
            )
            for embedding in (self.rel_h, self.rel_w):
                nn.init.normal_(embedding, std=(num_heads / self_dk) ** 0.5)  # N(0, 1 / d)

    def forward(self, x: Tensor) -> Tensor:
        convolved = self._convolve(x)  # (N, C2 or C2 - dv, Ho, Wo)
        attended = self.mix(self._attend(x))  # (N, dv, Ho, Wo), eq. 2
        if self.gamma is not None:
            kept, replaced = convolved.split((self.out_channels - self.dv, self.dv), 1)
            convolved, attended = kept, blend(replaced, attended, self.gamma)
        return torch.cat((convolved, attended.to(convolved.dtype)), 1)  # eq. 5

    def _convolve(self, x: Tensor) -> Tensor:
        if self.branch is None:
            return self._conv_forward(x, self.weight, self.bias)
        attn = self.branch(x)
        if self.gamma is not None:
            attn = self.gamma * attn
        return convolve_attended(self, x, attn)

    def _attend(self, x: Tensor) -> Tensor:
        """Every head's ``softmax(Q K^T + S_H + S_W) V``, concatenated: (N, dv, Ho, Wo)."""
        qkv = self.qkv(x)
        height, width = qkv.shape[2:]
        q, k, v = [
            part.unflatten(1, (self.num_heads, -1)).flatten(0, 1).flatten(2).transpose(1, 2)
            for part in qkv.split((self.dk, self.dk, self.dv), 1)
        ]  # each (N * heads, Ho * Wo, channels per head)
        q = q * (self.num_heads / self.dk) ** 0.5
        relative = None
        if self.rel_h is not None:
            grid = q.unflatten(1, (height, width))  # (N * heads, Ho, Wo, d)
            rows = torch.einsum('nyxd,ysd->nyxs', grid, _offsets(self.rel_h, height, q))
            cols = torch.einsum('nyxd,xsd->nyxs', grid, _offsets(self.rel_w, width, q))
            relative = rows.flatten(1, 2), cols.flatten(1, 2)  # eq. 4
        out = attention(q, k, v, relative=relative)  # eq. 1, 3
        return out.transpose(1, 2).reshape(x.shape[0], self.dv, height, width)

    def added_keys(self) -> set[str]:
        """Return the keys that a checkpoint with a plain convolution lacks."""
        return set(self.state_dict()) - {'weight', 'bias'}

    def adapt_checkpoint(self, state_dict: dict, prefix: str) -> None:
        """Cut a plain convolution's filters, in place, to those that are convolved here."""
        for name, own in (('weight', self.weight), ('bias', self.bias)):
            value = state_dict.get(prefix + name)
            if value is not None and own is not None and len(value) == self.out_channels:
                state_dict[prefix + name] = value[: len(own)]

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args) -> None:
        self.adapt_checkpoint(state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def extra_repr(self) -> str:
        return f'{super().extra_repr()}, dk={self.dk}, dv={self.dv}, num_heads={self.num_heads}'


def _channels(name: str, value: int | float, out_channels: int, num_heads: int, least: int) -> int:
    """Return a number of channels, given as such or as a fraction, divisible by the heads."""
    if num_heads < 1:
        raise ValueError(f'num_heads must be >= 1, got {num_heads}')
    if isinstance(value, float):
        if not 0 < value <= 1:
            raise ValueError(f'{name} as a fraction must be in (0, 1], got {value}')
        return max(round(value * out_channels / num_heads), least) * num_heads
    if value < 1 or value % num_heads:
        raise ValueError(f'{name} must be a multiple of num_heads ({num_heads}), got {value}')
    return value


def _check_map_size(map_size: object) -> None:
    pair = isinstance(map_size, Sequence) and len(map_size) == 2
    if not pair or not all(isinstance(size, int) and size >= 1 for size in map_size):
        raise ValueError(f'map_size must be (height, width), both >= 1, or None, got {map_size!r}')


def _check_same(conv: nn.Conv2d) -> None:
    for size, dilation, padding in zip(conv.kernel_size, conv.dilation, _pair(conv.padding)):
        if padding != 'same' and 2 * padding != dilation * (size - 1):
            raise ValueError(
                f'padding must keep the size ({dilation * (size - 1) / 2:g} for kernel_size '
                f'{size} and dilation {dilation}), got {padding}'
            )


def _pair(padding: object) -> tuple:
    return (padding, padding) if isinstance(padding, str) else padding


def _offsets(embedding: Tensor, size: int, like: Tensor) -> Tensor:
    """Return the embedding of every pair of rows (or columns): [i, j] is that of offset j - i.

    Shape: ``(2 * map_size - 1, d) -> (size, size, d)``; another size is interpolated linearly.
    """
    if len(embedding) != 2 * size - 1 or is_capturing():
        resized = F.interpolate(
            embedding.t()[None], 2 * size - 1, mode='linear', align_corners=True
        )
        embedding = resized[0].t()
    at = torch.arange(size, device=like.device)
    return embedding[at - at[:, None] + size - 1].to(like.dtype)
