"""Ways to convolve with weights that attention scales image by image.

All compute ``conv2d(x[n], weight + attn[n] * weight)`` (equations 4 to 6 of arXiv 2108.08205)
and differ in what they touch. Shapes: ``x`` (N, C1, H, W); ``weight`` (C2, C1/groups, h, w);
``attn`` (N, C2, G, h, w), where G divides C1/groups and neighbouring input channels share a
value (equation 8); result (N, C2, Ho, Wo).

====================  =========================================  ===========================
form                  when                                       values moved for an image
====================  =========================================  ===========================
:func:`output_gate`   1x1 kernels                                C2 Ho Wo
:func:`per_sample`    one image; convolution groups; G > 1     C1 C2 h w, kept for backward
:func:`rescaled`      output positions above half of C1          C1 C2 h w, nothing kept
:func:`gemm_taps`     else, stride and dilation 1                h w C2 H W
:func:`gather_taps`   else                                       h w C2 Ho Wo
:func:`per_tap`       while a graph is captured; no images     h w C2 Ho Wo
====================  =========================================  ===========================

``rescaled``, ``gemm_taps`` and ``gather_taps`` write their own backward pass. Their second
derivatives, and everything while a graph is captured, come from ``per_tap``: plain operators,
right at any batch size.
"""

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import FunctionCtx as Context

from mmattn.layers._gate import at_least_float32, is_capturing

__all__ = [
    'Where',
    'aw_conv2d',
    'gather_taps',
    'gemm_taps',
    'output_gate',
    'per_sample',
    'per_tap',
    'rescaled',
]

Pair = tuple[int, int]


class Where(NamedTuple):
    """Where kernels are put: the arguments of ``conv2d`` after the bias."""

    stride: Pair
    padding: Pair
    dilation: Pair
    groups: int = 1


def aw_conv2d(
    x: Tensor, weight: Tensor, attn: Tensor, where: Where, recompute: bool = False
) -> Tensor:
    """Pick the cheapest exact form for this call.

    Scaled weights move ``2 * C1 * C2 * h * w`` values an image and taps
    ``2 * h * w * C2 * Ho * Wo``: small maps take the taps. The border is at half of where the two
    are equal (docs/performance.md), since convolutions run faster than matrix products of their
    size and taps have to be kept for the backward pass.

    Args:
        recompute: compute the taps again in the backward pass instead of keeping them.
    """
    if attn.shape[2] == 1 and weight.shape[2:] == (1, 1):
        return output_gate(x, weight, attn, where)
    if is_capturing() or x.shape[0] == 0:  # no images are no groups either
        return per_tap(x, weight, attn, where)
    if x.shape[0] == 1 or where.groups > 1 or attn.shape[2] > 1:
        return per_sample(x, weight, attn, where)
    height, width = output_size(x, weight, where)
    if 2 * height * width > x.shape[1]:
        return rescaled(x, weight, attn, where)
    if where.stride == where.dilation == (1, 1):
        return gemm_taps(x, weight, attn, where, recompute)
    return gather_taps(x, weight, attn, where, recompute)


def output_gate(x: Tensor, weight: Tensor, attn: Tensor, where: Where) -> Tensor:
    """1x1 kernels, attention shared by all input channels: ``(1 + attn) * conv2d(x, weight)``."""
    out = F.conv2d(x, weight, None, *where)
    return out * (1 + attn[:, :, 0])  # (N, C2, Ho, Wo) * (N, C2, 1, 1)


def per_sample(x: Tensor, weight: Tensor, attn: Tensor, where: Where) -> Tensor:
    """One grouped convolution, a group for each image; holds N scaled copies of the weight."""
    num, c1, height, width = x.shape
    c2, per_group, kh, kw = weight.shape
    if attn.shape[2] > 1:
        attn = attn.repeat_interleave(per_group // attn.shape[2], 2)  # (N, C2, C1/groups, h, w)
    scaled = ((1 + attn) * weight).reshape(num * c2, per_group, kh, kw)
    merged = x.reshape(1, num * c1, height, width)
    groups = num * where.groups
    out = F.conv2d(merged, scaled.to(x.dtype), None, *where[:3], groups)
    return out.reshape(num, c2, *out.shape[2:])


def per_tap(x: Tensor, weight: Tensor, attn: Tensor, where: Where) -> Tensor:
    """One 1x1 convolution for each kernel position (and input block), scaled and summed.

    No weight is copied per image. Lower precisions are summed in float32.
    """
    stride, padding, dilation, groups = where
    x = F.pad(x, (padding[1], padding[1], padding[0], padding[0]))
    kh, kw = weight.shape[2:]
    rows = x.shape[2] - dilation[0] * (kh - 1)  # where a tap may start, before the stride
    cols = x.shape[3] - dilation[1] * (kw - 1)
    blocks = attn.shape[2]
    width = weight.shape[1] // blocks  # input channels of a block
    total = tap = x[:0]
    for i in range(kh):  # loops and no iterator: torch.jit.script reads them too
        for j in range(kw):
            top, left = i * dilation[0], j * dilation[1]
            shifted = x[:, :, top : top + rows : stride[0], left : left + cols : stride[1]]
            for block in range(blocks):
                window, first = shifted, block * width
                if blocks > 1:  # this block's channels of every convolution group
                    window = window.unflatten(1, (groups, -1))[:, :, first : first + width]
                    window = window.flatten(1, 2)
                kernel = weight[:, first : first + width, i : i + 1, j : j + 1]
                tap = F.conv2d(window, kernel, groups=groups)  # (N, C2, Ho, Wo)
                term = (1 + attn[:, :, block, i, j, None, None]) * at_least_float32(tap)
                total = total + term if i + j + block else term
    return total.to(tap.dtype)


def rescaled(x: Tensor, weight: Tensor, attn: Tensor, where: Where) -> Tensor:
    """Run a convolution for each image with weights scaled again in the backward pass.

    For ``groups=1`` and G = 1, as the two below.
    """
    return _Rescaled.apply(to_autocast(x), weight, 1 + attn, where)


def gemm_taps(
    x: Tensor, weight: Tensor, attn: Tensor, where: Where, recompute: bool = False
) -> Tensor:
    """All kernel positions in one matrix product, then scaled, shifted and summed.

    For stride and dilation 1.
    """
    return _GemmTaps.apply(to_autocast(x), weight, 1 + attn, where, recompute)


def gather_taps(
    x: Tensor, weight: Tensor, attn: Tensor, where: Where, recompute: bool = False
) -> Tensor:
    """Run a matrix product for each kernel position over the input positions it meets."""
    return _GatherTaps.apply(to_autocast(x), weight, 1 + attn, where, recompute)


def output_size(x: Tensor, weight: Tensor, where: Where) -> Pair:
    """Height and width of the convolution's output."""
    stride, padding, dilation, _ = where
    return tuple(
        (x.shape[2 + i] + 2 * padding[i] - dilation[i] * (weight.shape[2 + i] - 1) - 1)
        // stride[i]
        + 1
        for i in range(2)
    )


def to_autocast(x: Tensor) -> Tensor:
    """``x`` in the precision autocast would convolve it in."""
    kind = x.device.type
    if hasattr(torch, 'get_autocast_dtype'):
        enabled, dtype = torch.is_autocast_enabled(kind), torch.get_autocast_dtype
        return x.to(dtype(kind)) if enabled and x.dtype != torch.float64 else x
    if kind == 'cuda':  # torch before 2.4
        enabled, dtype = torch.is_autocast_enabled(), torch.get_autocast_gpu_dtype
    else:
        enabled, dtype = torch.is_autocast_cpu_enabled(), torch.get_autocast_cpu_dtype
    return x.to(dtype()) if enabled and x.dtype != torch.float64 else x


class _Rescaled(Function):
    """``scale`` is ``1 + attn``; see :func:`rescaled`."""

    @staticmethod
    def forward(ctx: Context, x: Tensor, weight: Tensor, scale: Tensor, where: Where) -> Tensor:
        ctx.save_for_backward(x, weight, scale)
        ctx.where = where
        size = (len(x), len(weight), *output_size(x, weight, where))
        like = dict(dtype=x.dtype, device=x.device)
        out = torch.empty(size, memory_format=_format(x, weight), **like)
        for n, factor in enumerate(scale):
            out[n] = F.conv2d(x[n : n + 1], (weight * factor).to(x.dtype), None, *where)[0]
        return out

    @staticmethod
    def backward(ctx: Context, grad: Tensor) -> tuple:
        x, weight, scale = ctx.saved_tensors
        if torch.is_grad_enabled():  # the gradient itself will be differentiated
            return *_by_taps(ctx, grad), None
        need_x, need_weight, need_scale, _ = ctx.needs_input_grad
        grad_x = torch.empty_like(x) if need_x else None
        grad_weight = torch.zeros_like(weight) if need_weight else None
        grad_scale = torch.empty_like(scale) if need_scale else None
        for n, factor in enumerate(scale):
            of_x, of_kernel, _ = torch.ops.aten.convolution_backward(
                grad[n : n + 1],
                x[n : n + 1],
                (weight * factor).to(x.dtype),
                None,
                *ctx.where[:3],
                False,
                (0, 0),
                1,
                (need_x, need_weight or need_scale, False),
            )
            if need_x:
                grad_x[n] = of_x[0]
            if need_weight:
                grad_weight.addcmul_(of_kernel.to(weight.dtype), factor)
            if need_scale:
                grad_scale[n] = (weight * of_kernel).sum(1, keepdim=True)
        return grad_x, grad_weight, grad_scale, None


class _GemmTaps(Function):
    """``scale`` is ``1 + attn``; see :func:`gemm_taps`. Maps are (N, H, W, C) inside."""

    @staticmethod
    def forward(
        ctx: Context, x: Tensor, weight: Tensor, scale: Tensor, where: Where, recompute: bool
    ) -> Tensor:
        taps = _all_taps(x, weight)
        ctx.save_for_backward(x, weight, scale, *(() if recompute else (taps,)))
        ctx.where = where
        out = _accumulator(x, weight, where)
        for t, (source, target) in enumerate(_shifts(x, out, weight, where.padding)):
            out[target].addcmul_(at_least_float32(taps[source][..., t, :]), _factor(scale, t, out))
        return _to_nchw(out, x)

    @staticmethod
    def backward(ctx: Context, grad: Tensor) -> tuple:
        x, weight, scale, *kept = ctx.saved_tensors
        if torch.is_grad_enabled():  # the gradient itself will be differentiated
            return *_by_taps(ctx, grad), None, None
        taps = kept[0] if kept else _all_taps(x, weight)
        of_taps = torch.empty_like(taps) if kept else taps  # a second copy is ours to overwrite
        of_scale = scale.new_empty(scale.shape)
        grad = _to_nhwc(grad)
        for t, (source, target) in enumerate(_shifts(x, grad, weight, ctx.where.padding)):
            part, tap = grad[target], taps[source][..., t, :]
            of_scale.flatten(2)[..., t] = (at_least_float32(part) * tap).sum((1, 2))
            of_taps[..., t, :] = 0
            of_taps[source][..., t, :] = part * _factor(scale, t, part)
        of_taps = of_taps.flatten(3).flatten(0, 2)  # (N * H * W, T * C2)
        of_x = _product(of_taps, _pack(weight, x.dtype).flatten(0, 1).t())
        of_x = of_x.unflatten(0, (len(x), *x.shape[2:]))
        of_weight = _product(_to_nhwc(x).flatten(0, 2).t(), of_taps.t()).t()  # (T * C2, C1)
        return _to_nchw(of_x, x), _unpack(of_weight, weight), of_scale, None, None


class _GatherTaps(Function):
    """``scale`` is ``1 + attn``; see :func:`gather_taps`. Maps are (N, H, W, C) inside."""

    @staticmethod
    def forward(
        ctx: Context, x: Tensor, weight: Tensor, scale: Tensor, where: Where, recompute: bool
    ) -> Tensor:
        out = _accumulator(x, weight, where)
        padded, kept = _pad_nhwc(x, where.padding), []
        kernels = _pack(weight, x.dtype)
        for t, window in enumerate(_windows(padded, out, weight, where)):
            tap = _product(window.flatten(0, 2), kernels[t]).view_as(out)
            out.addcmul_(at_least_float32(tap), _factor(scale, t, out))
            if not recompute:
                kept.append(tap)
        ctx.save_for_backward(x, weight, scale, *kept)
        ctx.where = where
        return _to_nchw(out, x)

    @staticmethod
    def backward(ctx: Context, grad: Tensor) -> tuple:
        x, weight, scale, *kept = ctx.saved_tensors
        if torch.is_grad_enabled():  # the gradient itself will be differentiated
            return *_by_taps(ctx, grad), None, None
        padded, grad = _pad_nhwc(x, ctx.where.padding), _to_nhwc(grad)
        kernels = _pack(weight, x.dtype)
        of_kernels, of_scale = torch.empty_like(kernels), scale.new_empty(scale.shape)
        of_padded = torch.zeros_like(padded)
        into = _windows(of_padded, grad, weight, ctx.where)
        for t, window in enumerate(_windows(padded, grad, weight, ctx.where)):
            window = window.flatten(0, 2)  # a copy (N * Ho * Wo, C1)
            tap = kept[t] if kept else _product(window, kernels[t]).view_as(grad)
            of_scale.flatten(2)[..., t] = (at_least_float32(grad) * tap).sum((1, 2))
            of_tap = (grad * _factor(scale, t, grad)).flatten(0, 2)
            of_kernels[t] = _product(window.t(), of_tap.t()).t()
            target = next(into)
            target += _product(of_tap, kernels[t].t()).view(target.shape)
        (top, left), (height, width) = ctx.where.padding, x.shape[2:]
        of_x = of_padded[:, top : top + height, left : left + width]
        return _to_nchw(of_x, x), _unpack(of_kernels, weight), of_scale, None, None


def _by_taps(ctx: Context, grad: Tensor) -> list[Tensor]:
    """Return the gradients of x, weight and scale, by operators to differentiate again."""
    inputs = [saved.view_as(saved) for saved in ctx.saved_tensors[:3]]  # scale depends on x
    x, weight, scale = inputs
    out = per_tap(x, weight, scale - 1, ctx.where)
    wanted = [i for i in range(3) if ctx.needs_input_grad[i]]
    found = torch.autograd.grad(out, [inputs[i] for i in wanted], grad, create_graph=True)
    grads = dict(zip(wanted, found))
    return [grads.get(i) for i in range(3)]


def _format(*tensors: Tensor) -> torch.memory_format:
    """Return the memory format of a convolution's output: channels last if an input has it."""
    for tensor in tensors:
        if tensor.is_contiguous(memory_format=torch.channels_last) and not tensor.is_contiguous():
            return torch.channels_last
    return torch.contiguous_format


def _to_nhwc(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1).contiguous()


def _to_nchw(out: Tensor, x: Tensor) -> Tensor:
    """(N, H, W, C) as (N, C, H, W) in the precision and memory format of ``x``."""
    return out.permute(0, 3, 1, 2).to(x.dtype).contiguous(memory_format=_format(x))


def _pack(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """(C2, C1, h, w) -> (T, C2, C1): a matrix for each of the T = h * w kernel positions."""
    return weight.permute(2, 3, 0, 1).flatten(0, 1).to(dtype).contiguous()


def _unpack(kernels: Tensor, weight: Tensor) -> Tensor:
    """Return the inverse of :func:`_pack`."""
    c2, c1, kh, kw = weight.shape
    return kernels.reshape(kh, kw, c2, c1).permute(2, 3, 0, 1).to(weight.dtype)


def _factor(scale: Tensor, t: int, like: Tensor) -> Tensor:
    """One position's scale (N, 1, 1, C2), to multiply maps with."""
    return scale.flatten(2)[:, None, None, :, t].to(like.dtype)


def _accumulator(x: Tensor, weight: Tensor, where: Where) -> Tensor:
    """Zeros (N, Ho, Wo, C2), to sum taps in."""
    dtype = torch.promote_types(x.dtype, torch.float32)
    size = output_size(x, weight, where)
    return x.new_zeros(len(x), *size, len(weight), dtype=dtype)


def _all_taps(x: Tensor, weight: Tensor) -> Tensor:
    """Return what every kernel position makes of every input position: (N, H, W, T, C2)."""
    kernels = _pack(weight, x.dtype)
    taps = _product(_to_nhwc(x).flatten(0, 2), kernels.flatten(0, 1))
    return taps.view(len(x), *x.shape[2:], *kernels.shape[:2])


def _product(a: Tensor, b: Tensor) -> Tensor:
    """Return ``a @ b.t()``, in float32 on a CPU by oneDNN, where torch's own takes MKL.

    On processors that are not Intel's, MKL reaches half of oneDNN's speed (benchmarks/README.md).
    Operands in rows or in columns only: others oneDNN multiplies by plain loops.
    """
    if a.device.type == 'cpu' and a.dtype == b.dtype == torch.float32 and _has_onednn():
        return torch.ops.mkldnn._linear_pointwise(a, b, None, 'none', [], '')
    return a @ b.t()


def _has_onednn() -> bool:
    """Whether torch was built with oneDNN's product, and it is not switched off."""
    return torch.backends.mkldnn.enabled and hasattr(torch.ops.mkldnn, '_linear_pointwise')


def _shifts(x: Tensor, out: Tensor, weight: Tensor, padding: Pair) -> Iterator[tuple]:
    """For each kernel position, where taps are taken from ``x``'s grid and go in ``out``'s."""
    for shift in itertools.product(*(range(size) for size in weight.shape[2:])):
        source, target = [slice(None)], [slice(None)]
        for i in range(2):
            offset = shift[i] - padding[i]  # out[y] meets x[y + offset]
            start = max(-offset, 0)
            stop = max(min(out.shape[1 + i], x.shape[2 + i] - offset), start)
            source.append(slice(start + offset, stop + offset))
            target.append(slice(start, stop))
        yield tuple(source), tuple(target)


def _pad_nhwc(x: Tensor, padding: Pair) -> Tensor:
    return F.pad(x.permute(0, 2, 3, 1), (0, 0, padding[1], padding[1], padding[0], padding[0]))


def _windows(padded: Tensor, out: Tensor, weight: Tensor, where: Where) -> Iterator[Tensor]:
    """For each kernel position, the view of ``padded`` that ``out`` meets: (N, Ho, Wo, C1)."""
    stride, _, dilation, _ = where
    for shift in itertools.product(*(range(size) for size in weight.shape[2:])):
        starts = [shift[i] * dilation[i] for i in range(2)]
        stops = [starts[i] + (out.shape[1 + i] - 1) * stride[i] + 1 for i in range(2)]
        yield padded[:, starts[0] : stops[0] : stride[0], starts[1] : stops[1] : stride[1]]
