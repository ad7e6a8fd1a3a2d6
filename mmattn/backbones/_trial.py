"""One run of a network on zeros, to learn which widths its modules and outputs have."""

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmattn.core.front import Front
from mmattn.core.modes import eval_mode, hooks

__all__ = ['Trial', 'sample_inputs', 'stand_ins', 'try_out']


class Trial(NamedTuple):
    """What a trial run found.

    ``widths`` of the maps after the named modules (a set each), ``outputs`` of the network, in
    both anything but an ``(N, C, H, W)`` map being described by a string; ``passed`` are the
    indices of outputs that are an input, unchanged; ``read`` the names of the convolutions whose
    weight was read although they were not called.
    """

    widths: dict
    outputs: list
    passed: set
    read: set


def sample_inputs(net: nn.Module, cfg: Mapping) -> list:
    """Return inputs the network may take, the likeliest first, from its ``in_channels``.

    Each is one shape ``(channels, height, width)``, or a list of them where the network takes
    several maps.
    """
    channels = cfg.get('in_channels')
    own = getattr(net, 'in_channels', None)
    if channels is None and isinstance(own, Sequence):  # a number may be a counter (MobileNetV2)
        channels = own
    sizes = (64, 256)  # some networks need larger maps
    if isinstance(channels, Sequence):  # also such as count from the deepest (YOLOv3)
        orders = (list(channels), list(channels)[::-1])
        found = [_pyramid(order, size) for size in sizes for order in orders]
        # a recursive pyramid (DetectoRS) takes the image as well
        return [*found, *([(3, 4 * size, 4 * size), *_pyramid(orders[0], size)] for size in sizes)]
    if channels is None or channels <= 4:
        return [(channels or 3, size, size) for size in sizes]
    region = getattr(net, 'roi_feat_size', None)
    if region is not None:  # a head of regions, which has fully connected layers of one size
        region = (region, region) if isinstance(region, int) else tuple(region)
        return [(channels, *region), (channels, 14, 14)]
    maps = [_pyramid([channels] * number, size) for size in sizes for number in (5, 4, 3, 1)]
    if hasattr(net, 'loss'):  # a head of maps
        maps.insert(0, _pyramid([channels], 64))
    return [*maps, (channels, 64, 64)]


def _pyramid(channels: Sequence, size: int) -> list:
    return [(c, max(size >> i, 1), max(size >> i, 1)) for i, c in enumerate(channels)]


def try_out(net: nn.Module, samples: Sequence, after: Iterable, convs: Mapping) -> Trial:
    """Run the network on the first sample that it takes, without a trace in it.

    Args:
        net: the network.
        samples: inputs, as :func:`sample_inputs` gives them.
        after: names of modules whose widths are asked for.
        convs: ``{name: convolution}``, those about to be exchanged.

    Raises:
        ValueError: it takes none of the samples.
    """
    first = None
    for sample in samples:
        try:
            return _run(net, sample, set(after), convs)
        except Exception as error:
            first = first or error
    kind, reason = type(net).__name__, str(first).strip().split('\n')[0]
    if isinstance(net, Front):
        kind = net._host_class.__name__
    if 'implementation for device' in reason or 'not compiled with GPU' in reason:
        raise ValueError(
            f'{kind} runs an operator that this device lacks, so its widths cannot be found: '
            f'{reason}'
        ) from first
    raise ValueError(
        f'sample must be an input {kind} can take, got {samples[0]}: {reason}'
    ) from first


def _run(net: nn.Module, sample: object, after: set, convs: Mapping) -> Trial:
    like = next(net.parameters(), torch.zeros(()))
    single = isinstance(sample[0], int)
    maps = [
        torch.zeros(1, *shape, device=like.device, dtype=like.dtype)
        for shape in ([sample] if single else sample)
    ]
    widths = {name: set() for name in after}
    watched = {name: net.get_submodule(name) for name in after}
    with ExitStack() as stack:
        read = stack.enter_context(_weights_read(convs))
        stack.enter_context(eval_mode(net))
        stack.enter_context(hooks(watched, partial(_note_width, widths)))
        stack.enter_context(torch.no_grad())
        if like.device.type == 'cpu':
            stack.enter_context(stand_ins())
        outs = net(maps[0] if single else tuple(maps))
    outs = [outs] if isinstance(outs, Tensor) else list(outs)
    passed = {i for i, out in enumerate(outs) if any(out is x for x in maps)}
    return Trial(widths, [_width(out) for out in outs], passed, read)


def _note_width(widths: dict, name: str, module: nn.Module, inputs: tuple, output: object) -> None:
    widths[name].add(_width(output))


def _width(output: object):
    if isinstance(output, Tensor):
        return output.shape[1] if output.dim() == 4 else f'a {tuple(output.shape)} tensor'
    return f'a {type(output).__name__}'


class _Watched(Front):
    """In front of a convolution's class while its weight is watched."""

    def __getattr__(self, name: str):
        if name == 'weight':
            self.__dict__['_weight_was_read'] = True
        return super().__getattr__(name)


@contextmanager
def _weights_read(convs: Mapping) -> Iterator[set]:
    """Yield a set that at the end holds the names of those read but never called."""
    read, called = set(), set()
    with hooks(convs, lambda name, *_: called.add(name)):
        for conv in convs.values():
            _Watched.in_front_of(conv)
        try:
            yield read
        finally:
            for name, conv in convs.items():
                conv.__class__ = conv._host_class
                if conv.__dict__.pop('_weight_was_read', False) and name not in called:
                    read.add(name)


def _upsampled(
    features: Tensor, masks: Tensor, kernel_size: int, group_size: int = 1, scale_factor: int = 1
) -> Tensor:
    weight = masks.square().sum(1, keepdim=True)  # so that the masks get a gradient
    return F.interpolate(features, scale_factor=scale_factor) * weight


def _unmasked(
    features: Tensor,
    mask: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    padding: object = 0,
    stride: object = 1,
) -> Tensor:
    return F.conv2d(features, weight, bias, stride, padding)


# operators of mmcv for CUDA alone -> one on the CPU that gives maps of the same shape
_CUDA_ONLY = {
    ('mmcv.ops.carafe', 'carafe'): _upsampled,
    ('mmcv.ops.carafe', 'carafe_naive'): _upsampled,
    ('mmcv.ops.masked_conv', 'masked_conv2d'): _unmasked,
}


@contextmanager
def stand_ins() -> Iterator[None]:
    """Inside, operators that mmcv has for CUDA alone are others of the same output shape."""
    own = {
        (sys.modules[module], name): getattr(sys.modules[module], name)
        for module, name in _CUDA_ONLY
        if hasattr(sys.modules.get(module), name)
    }
    try:
        for module, name in own:
            setattr(module, name, _CUDA_ONLY[module.__name__, name])
        yield
    finally:
        for (module, name), operator in own.items():
            setattr(module, name, operator)
