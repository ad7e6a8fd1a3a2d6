"""AW-convolution: attention on the weights instead of the activations."""

import torch
import torch.nn.functional as F
from mmengine.dist import get_world_size
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmattn.convs.aw_engine import Where, aw_conv2d, per_tap
from mmattn.core.identity import make_gamma
from mmattn.layers._gate import check_positive
from mmattn.layers._pool import adaptive_avg_pool2d
from mmattn.registry import MODELS

__all__ = ['AWConv2d', 'WeightAttention', 'check_conv', 'convolve_attended']

NORMS = ('BN', 'GN', 'SyncBN', 'none')
PADDINGS = ('same', 'valid')
PADDING_MODES = ('zeros', 'reflect', 'replicate', 'circular')


@MODELS.register_module()
class AWConv2d(nn.Conv2d):
    """A convolution whose weights are scaled, image by image, by attention on its input.

    ``out = conv2d(x, K + A * K) + bias`` with ``A = sigmoid(F2(ReLU(F1(pool(x)))))``, where F1
    and F2 are a pointwise convolution with a norm each.

    Paper: An Attention Module for Convolutional Neural Networks, arXiv 2108.08205, equations 4
    to 8.

    Differs from the paper: nothing for ``groups=1``. The paper says nothing of groups: with
    them A covers the ``C1 / groups`` input channels a kernel has. It does not say how wide the
    hidden layer is: ``C2 / r`` is the reading that gives its MobileNet parameter count. Nor does
    it say how the branch starts: the norms start at (1, 0), hence A near 0.5. The order in
    which r_C2 and r_hw share values is ours (the paper keeps both at 1).

    The new parameters are in ``branch`` (and the scalar ``gamma``); weight and bias keep the
    names of ``nn.Conv2d``, so a plain checkpoint loads.

    Args:
        in_channels: C1.
        out_channels: C2.
        kernel_size: (h, w).
        stride, padding, dilation, groups, bias, padding_mode, device, dtype: as ``nn.Conv2d``;
            the bias is not attended.
        reduction: r; the hidden layer has ``max(C2 // r, 1)`` channels.
        r_c1: this many neighbouring input channels share a value of A (equation 8); ``None``:
            all of them.
        r_c2: this many neighbouring output channels share a value of A.
        r_hw: this many neighbouring kernel positions, in row-major order, share a value of A.
        norm: of the branch: ``'BN'`` (the paper), ``'GN'`` (groups of at least 8 channels),
            ``'SyncBN'``, ``'none'`` (the pointwise convolutions then have a bias).
        init: ``'paper'``, or ``'identity'``: ``conv(x) + gamma * (aw_out - conv(x))``
            (:mod:`mmattn.core.identity`).
        residual: convolve with ``K + A * K``; False: with ``A * K`` alone, the paper's ablation.
        recompute: train in less memory and more time: small maps then keep nothing of the size
            ``kernel positions * output`` for the backward pass but compute it again.

    Shape: ``(N, C1, H, W) -> (N, C2, Ho, Wo)`` as ``nn.Conv2d``, in batches only.

    Raises:
        TypeError: ``reduction``, ``r_c1`` or ``r_c2`` is no integer.
        ValueError: an option out of range or not a divisor; ``norm='GN'`` with one value to
            normalise; in training, ``norm='BN'`` with a single value per channel (a 1x1 kernel
            and one image).
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
        reduction: int = 16,
        r_c1: int | None = None,
        r_c2: int = 1,
        r_hw: int = 1,
        norm: str = 'BN',
        init: str = 'paper',
        residual: bool = True,
        recompute: bool = False,
    ) -> None:
        kwargs = dict(device=device, dtype=dtype)
        check_conv(
            in_channels, out_channels, kernel_size, stride, padding, dilation, groups, padding_mode
        )
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            groups,
            bias,
            padding_mode,
            **kwargs,
        )
        options = dict(reduction=reduction, r_c1=r_c1, r_c2=r_c2, r_hw=r_hw, norm=norm)
        self.branch = WeightAttention(
            in_channels, out_channels, self.kernel_size, groups, **options, **kwargs
        )
        self.gamma = make_gamma(init, **kwargs)
        self.residual = residual
        self.recompute = recompute

    def attention(self, x: Tensor) -> Tensor:
        """Return the map A in (0, 1), before its expansion along the input channels.

        Shape: ``(N, C1, H, W) -> (N, C2, C1 / groups / r_c1, h, w)``.
        """
        return self.branch(x)

    def forward(self, x: Tensor) -> Tensor:
        attn = self.attention(x)
        if not self.residual:
            attn = attn - 1  # what follows scales the weight by 1 + attn
        if self.gamma is not None:
            attn = self.gamma * attn  # K + gamma * A * K is the blend, weights being linear
        if not torch.jit.is_scripting():  # a branch that torch.jit.script leaves out
            return convolve_attended(self, x, attn, self.recompute)
        mode = 'constant' if self.padding_mode == 'zeros' else self.padding_mode
        x = F.pad(x, self._reversed_padding_repeated_twice, mode=mode)
        out = per_tap(x, self.weight, attn, Where(self.stride, (0, 0), self.dilation, self.groups))
        bias = self.bias
        return out if bias is None else out + bias[:, None, None]

    def added_keys(self) -> set[str]:
        """Return the keys that a checkpoint with a plain convolution lacks."""
        return set(self.state_dict()) - {'weight', 'bias'}


def convolve_attended(conv: nn.Conv2d, x: Tensor, attn: Tensor, recompute: bool = False) -> Tensor:
    """``conv`` with its weight scaled by ``1 + attn``; padding of every kind, bias unattended.

    Shape: ``attn`` (N, C2, G, h, w) as :func:`mmattn.convs.aw_engine.aw_conv2d`.
    """
    padding = conv.padding
    if conv.padding_mode != 'zeros' or isinstance(padding, str):
        mode = 'constant' if conv.padding_mode == 'zeros' else conv.padding_mode
        x = F.pad(x, conv._reversed_padding_repeated_twice, mode=mode)
        padding = (0, 0)
    where = Where(conv.stride, padding, conv.dilation, conv.groups)
    out = aw_conv2d(x, conv.weight, attn, where, recompute)
    if conv.bias is not None:
        out = out + conv.bias.to(out.dtype)[:, None, None]
    return out


def check_conv(
    in_channels: int,
    out_channels: int,
    kernel_size: int | tuple[int, int],
    stride: int | tuple[int, int],
    padding: int | str | tuple[int, int],
    dilation: int | tuple[int, int],
    groups: int,
    padding_mode: str,
) -> None:
    """Refuse a convolution that torch refuses late, or not at all.

    Args:
        in_channels, out_channels, kernel_size, stride, padding, dilation, groups, padding_mode:
            as ``nn.Conv2d``.

    Raises:
        ValueError: a size out of range, ``groups`` that do not divide the channels, an unknown
            padding.
    """
    for name, value in (
        ('in_channels', in_channels),
        ('out_channels', out_channels),
        ('groups', groups),
        ('kernel_size', kernel_size),
        ('stride', stride),
        ('dilation', dilation),
    ):
        for side in (value,) if isinstance(value, int) else value:
            check_positive(name, side)
    if isinstance(padding, str):
        if padding not in PADDINGS:
            raise ValueError(f'padding must be >= 0 or one of {PADDINGS}, got {padding!r}')
        if padding == 'same' and {*_pair(stride)} != {1}:
            raise ValueError(f"padding='same' needs stride 1, got stride={stride}")
    elif min(_pair(padding)) < 0:
        raise ValueError(f'padding must be >= 0 or one of {PADDINGS}, got {padding}')
    for name, channels in (('in_channels', in_channels), ('out_channels', out_channels)):
        if channels % groups:
            raise ValueError(f'groups must divide {name} ({channels}), got {groups}')
    if padding_mode not in PADDING_MODES:
        raise ValueError(f'padding_mode must be one of {PADDING_MODES}, got {padding_mode!r}')


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else tuple(value)


class WeightAttention(nn.Module):
    """Attention for the weights of a convolution, computed from its input (equations 4, 5, 8).

    Args:
        in_channels, out_channels, kernel_size, groups: of the convolution.
        reduction, r_c1, r_c2, r_hw, norm: see :class:`AWConv2d`.

    Shape: ``(N, C1, H, W) -> (N, C2, C1 / groups / r_c1, h, w)``, in (0, 1); along the input
    channels still to be expanded, each value being for ``r_c1`` neighbours.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: tuple[int, int],
        groups: int = 1,
        reduction: int = 16,
        r_c1: int | None = None,
        r_c2: int = 1,
        r_hw: int = 1,
        norm: str = 'BN',
        **kwargs,
    ) -> None:
        super().__init__()
        check_positive('reduction', reduction)
        per_group = in_channels // groups
        inputs = 'in_channels / groups'
        self.r_c1 = _divisor('r_c1', per_group if r_c1 is None else r_c1, inputs, per_group)
        self.r_c2 = _divisor('r_c2', r_c2, 'out_channels', out_channels)
        self.r_hw = r_hw
        self.kernel_size = kernel_size
        self.grid = _grid(r_hw, kernel_size)
        self.rows = out_channels // r_c2  # values along the output channels
        hidden = max(out_channels // reduction, 1)
        attended = self.rows * (per_group // self.r_c1)
        self.pw1 = nn.Conv2d(in_channels, hidden, 1, bias=norm == 'none', **kwargs)
        self.norm1 = _build_norm(norm, hidden, self.grid, **kwargs)
        self.pw2 = nn.Conv2d(hidden, attended, 1, bias=norm == 'none', **kwargs)
        self.norm2 = _build_norm(norm, attended, self.grid, **kwargs)

    def forward(self, x: Tensor) -> Tensor:
        if not torch.jit.is_scripting():
            self._check_batch(x)
        pooled = adaptive_avg_pool2d(x, self.grid)  # A0, (N, C1, gh, gw)
        hidden = self.norm1(self.pw1(pooled)).relu()  # A1, eq. 4
        attn = self.norm2(self.pw2(hidden)).sigmoid()  # A2, eq. 5
        attn = attn.unflatten(1, (self.rows, -1))  # (N, C2 / r_c2, C1 / groups / r_c1, gh, gw)
        if self.r_c2 > 1:
            attn = attn.repeat_interleave(self.r_c2, 1)
        attn = attn.flatten(3)
        if self.r_hw > 1:
            attn = attn.repeat_interleave(self.r_hw, 3)  # row-major kernel positions
        return attn.unflatten(3, self.kernel_size)

    def _check_batch(self, x: Tensor) -> None:
        norm = self.norm1
        if not isinstance(norm, _BatchNorm) or not norm.training:
            return
        if isinstance(norm, nn.SyncBatchNorm) and get_world_size() > 1:
            return
        if x.shape[0] * self.grid[0] * self.grid[1] == 1:
            raise ValueError(
                "norm='BN' cannot train on one image with a 1x1 kernel (one value per channel; "
                "in a single process norm='SyncBN' is the same): give each process at least 2 "
                "images, or use norm='GN' or 'none'"
            )

    def extra_repr(self) -> str:
        return f'r_c1={self.r_c1}, r_c2={self.r_c2}, r_hw={self.r_hw}'


def _divisor(name: str, value: int, of: str, whole: int) -> int:
    check_positive(name, value)
    if whole % value:
        raise ValueError(f'{name} must be a divisor of {of} ({whole}), got {value}')
    return value


def _grid(r_hw: int, kernel_size: tuple[int, int]) -> tuple[int, int]:
    """Size of the pooled input when ``r_hw`` row-major kernel positions share a value.

    They must fill part of a row evenly, or whole rows.
    """
    height, width = kernel_size
    allowed = {r: (height, width // r) for r in range(1, width + 1) if width % r == 0}
    allowed |= {width * r: (height // r, 1) for r in range(1, height + 1) if height % r == 0}
    if r_hw not in allowed:
        names = sorted(allowed)
        raise ValueError(f'r_hw must be one of {names} for kernel_size {kernel_size}, got {r_hw}')
    return allowed[r_hw]


def _build_norm(norm: str, channels: int, grid: tuple[int, int], **kwargs) -> nn.Module:
    if norm not in NORMS:
        raise ValueError(f'norm must be one of {NORMS}, got {norm!r}')
    if norm == 'none':
        return nn.Identity()
    if norm == 'BN':
        return nn.BatchNorm2d(channels, **kwargs)
    if norm == 'SyncBN':
        return nn.SyncBatchNorm(channels, **kwargs)
    if channels * grid[0] * grid[1] == 1:
        raise ValueError("norm='GN' has a single value to normalise: lower reduction")
    # at least 8 channels a group: a 1x1 kernel has one value per channel
    groups = next(g for g in range(max(channels // 8, 1), 0, -1) if channels % g == 0)
    return nn.GroupNorm(groups, channels, **kwargs)
