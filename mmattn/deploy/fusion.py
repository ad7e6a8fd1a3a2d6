"""Folding norms into convolutions for inference."""

import copy
from collections.abc import Iterator

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from mmattn.convs.aw_conv import AWConv2d

__all__ = ['fuse']


def fuse(model: nn.Module, channels_last: bool = False) -> nn.Module:
    """Make a network ready for inference: fewer operations, the same outputs.

    Every BatchNorm that stands right after a convolution, among the children of the same
    module, is folded into it: plain convolutions, :class:`~mmattn.convs.AWConv2d` (its attention
    scales output channels too, so the fold is exact) and the pointwise convolutions of its
    attention branch. What is not a linear map of its weight, such as
    :class:`~mmattn.convs.AAConv2d`, and what runs with several norms, such as the repeated
    convolutions of TDAM, keeps its norm, as does a convolution with a gate or another forward hook
    between it and the norm. AW-convolutions then keep their weight in the order in
    which small maps read it.

    As everywhere in this field the order of the children stands for the order of the calls: a
    module whose ``forward`` puts something between its convolution and the norm that follows it
    among the children, or uses the convolution's output twice, is changed by folding.

    The model is changed in place and left in eval mode. Its checkpoint no longer fits the plain
    network and it cannot be trained any further: fuse a copy of what is still needed.

    Args:
        model: any module, such as a detector of mmdet or a classifier of mmpretrain.
        channels_last: also keep the weights of convolutions in that memory format, which CPUs
            and tensor cores convolve faster. Maps then come in it too. mmcv's operators, such as
            RoIAlign, read them as if they were contiguous and give wrong figures without an
            error: its modules get contiguous copies here, calls of its functions do not.

    Returns:
        The model itself.

    Raises:
        TypeError: ``model`` is no module.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f'model must be a torch.nn.Module, got {type(model).__name__}')
    model.eval()
    for module in list(model.modules()):
        for conv_name, norm_name in list(_pairs(module)):
            conv, norm = module._modules[conv_name], module._modules[norm_name]
            module._modules[conv_name] = _fold(conv, norm)
            module._modules[norm_name] = nn.Identity()
    if channels_last:
        model.to(memory_format=torch.channels_last)
        for module in model.modules():
            if type(module).__module__.startswith('mmcv.ops'):
                module.to(memory_format=torch.contiguous_format)
                module.register_forward_pre_hook(_contiguous)
    for module in model.modules():
        if isinstance(module, AWConv2d):
            kernels = module.weight.detach().permute(2, 3, 0, 1).contiguous()  # (h, w, C2, C1)
            module.weight = nn.Parameter(kernels.permute(2, 3, 0, 1))
    return model


def _contiguous(module: nn.Module, inputs: tuple) -> tuple:
    return tuple(x.contiguous() if isinstance(x, torch.Tensor) else x for x in inputs)


def _pairs(module: nn.Module) -> Iterator[tuple[str, str]]:
    """Names of the children that are a convolution and, directly after it, its norm."""
    order = getattr(module, 'order', None)  # of mmcv's ConvModule
    if isinstance(order, tuple) and ('conv', 'norm') not in zip(order, order[1:]):
        return
    children = list(module._modules.items())
    for (conv_name, conv), (norm_name, norm) in zip(children, children[1:]):
        if not _is_linear(conv) or not _is_folding(norm):
            continue
        between = conv._forward_hooks or norm._forward_pre_hooks or norm._forward_hooks
        if not between and norm.num_features == conv.out_channels:
            yield conv_name, norm_name


def _is_linear(conv: nn.Module | None) -> bool:
    """Whether scaling the weight scales the output; a subclass may do anything with it."""
    host = (type(conv).__module__, type(conv).__name__) == ('mmcv.cnn.bricks.wrappers', 'Conv2d')
    known = type(conv) in (nn.Conv2d, AWConv2d) or host
    return known and 'weight' in conv._parameters  # not so under spectral_norm


def _is_folding(norm: nn.Module | None) -> bool:
    # a subclass may add an activation; the last is what mmengine makes of SyncBN in one process
    kinds = (nn.BatchNorm2d, nn.SyncBatchNorm)
    known = type(norm) in kinds or type(norm).__name__ == '_BatchNormXd'
    return known and norm.running_mean is not None


def _fold(conv: nn.Conv2d, norm: nn.Module) -> nn.Conv2d:
    """Return a new convolution, since heads share one among several norms."""
    folded = copy.copy(conv)
    folded._parameters = dict(conv._parameters)
    folded.weight, folded.bias = fuse_conv_bn_weights(
        *(conv.weight, conv.bias, norm.running_mean, norm.running_var),
        *(norm.eps, norm.weight, norm.bias),
    )
    return folded
