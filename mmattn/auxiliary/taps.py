"""Where SSIA reads a network: names and indices of taps, and the maps they give."""

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from mmattn.auxiliary.ssia import Pooled, pool
from mmattn.core.modes import eval_mode, hooks
from mmattn.core.names import listed

__all__ = ['image_sizes', 'resolve', 'stage_names', 'trial', 'watch']

# a backbone's list of its stages, as modules or as names of its children
_LISTS = ('res_layers', 'cr_blocks', 'transitions', 'layers', 'stages', 'out_convs')
_NUMBERED = ('layer', 'stage', 'blocks')  # layer1, layer2, ... where there is no list
_CLOSING = (nn.modules.batchnorm._BatchNorm, nn.GroupNorm, nn.LayerNorm, nn.Identity)


def resolve(net: nn.Module, taps: Sequence) -> list[str]:
    """Taps as names: indices become the modules that end the backbone's stages.

    Args:
        net: The wrapped model.
        taps: Names of modules, ``'neck[0]'`` being the first map of one that gives several, and
            indices of the backbone's stages.

    Raises:
        ValueError: A module or stage that is not there.
    """
    return [_resolve(net, tap) for tap in taps]


def _resolve(net: nn.Module, tap: int | str) -> str:
    kind = net._host_class.__name__
    if isinstance(tap, int):
        if hasattr(net, 'student'):
            raise ValueError(
                f'taps of {kind} must name modules, got {tap}: it holds two detectors. Put SSIA '
                "around its detector instead: detector=dict(type='mmattn.SSIA', ...)"
            )
        backbone = getattr(net, 'backbone', None)
        stages = stage_names(backbone) if backbone is not None else []
        if tap not in range(len(stages)) or isinstance(tap, bool):
            allowed = (
                f'0 to {len(stages) - 1}'
                if stages
                else f'names of modules, as {type(backbone).__name__} has no list of stages'
            )
            raise ValueError(f'taps of {kind} must be {allowed}, got {tap}')
        return f'backbone.{stages[tap]}'
    names = [name for name, _ in net.named_modules() if name]
    if _split(tap)[0] not in names:
        raise ValueError(
            f'taps must name modules of {kind}, got {tap!r}; there are '
            f'{listed(tap, names, limit=10)}'
        )
    return tap


def _split(tap: str) -> tuple[str, int | None]:
    """``'neck[1]'`` -> ``('neck', 1)``; ``'backbone.layer1'`` -> ``('backbone.layer1', None)``."""
    match = re.fullmatch(r'(.+)\[(\d+)\]', str(tap))
    return (match[1], int(match[2])) if match else (str(tap), None)


def stage_names(backbone: nn.Module) -> list[str]:
    """Return what ends the stages of a backbone, in the order in which ``out_indices`` counts
    them; nothing where it has no list of them.
    """
    if hasattr(backbone, 'range_sub_modules'):  # VGG
        return [f'{backbone.module_name}.{end - 1}' for _, end in backbone.range_sub_modules]
    if hasattr(backbone, 'transition1'):  # HRNet: the branch that is new in each stage
        return ['layer1', *(f'stage{n}[{n - 1}]' for n in (2, 3, 4))]
    for kind in _LISTS:
        stages = getattr(backbone, kind, ())
        if isinstance(stages, (list, tuple, nn.ModuleList, nn.Sequential)) and len(stages):
            names = [s if isinstance(s, str) else f'{kind}.{n}' for n, s in enumerate(stages)]
            return [_last_block(backbone, name) for name in names]
    for kind in _NUMBERED:
        names = [
            name for name, _ in backbone.named_children() if re.fullmatch(rf'{kind}\d+', name)
        ]
        if names:
            lists = (nn.ModuleList, nn.Sequential)
            return [_last_block(backbone, name, lists) for name in names]
    return []


def _last_block(backbone: nn.Module, name: str, lists: tuple = (nn.ModuleList,)) -> str:
    """Return a stage itself, or the last block of one that is a mere list of blocks.

    A closing norm does not count: after a LayerNorm the mean over the channels is the same
    everywhere, which leaves no spatial signal.
    """
    stage = backbone.get_submodule(name)
    if type(stage) not in lists and not isinstance(stage, nn.ModuleList):
        return name
    blocks = [key for key, block in stage.named_children() if not isinstance(block, _CLOSING)]
    return _last_block(backbone, f'{name}.{blocks[-1]}', lists)


def trial(net: nn.Module, taps: list[str], sample: tuple) -> list[tuple[int, int, int]]:
    """Run the network once: ``(C, H, W)`` of the map of every tap.

    Raises:
        ValueError: A tap gives no map, or runs before the one in front of it; the network cannot
            take the sample.
    """
    kind = net._host_class.__name__
    like = next(net.parameters())
    try:
        x = torch.zeros(1, *sample, device=like.device, dtype=like.dtype)
    except (TypeError, RuntimeError) as error:
        raise ValueError(f'sample must be (channels, height, width), got {sample!r}') from error
    run = getattr(net, 'extract_feat', net)
    if all(tap.startswith('backbone.') for tap in taps):
        run = net.backbone  # a neck may need a GPU
    try:
        with eval_mode(net), torch.no_grad(), watch(net, taps) as pooled:
            run(x)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).split('\n')[0]
        raise ValueError(
            f'sample must be an image {kind} can take, got {sample!r}: {reason}'
        ) from error
    for tap in taps:
        if tap not in pooled:
            raise ValueError(f'taps must run in the backbone or neck, {tap!r} does not')
    order = [tap for tap in pooled if tap in taps]
    for tap, place in zip(taps, order):
        if tap != place:
            raise ValueError(f'taps must go from low to high, got {taps}, which run as {order}')
    return [(pooled[t].channel.shape[1], *pooled[t].spatial.shape[2:]) for t in taps]


@contextmanager
def watch(
    net: nn.Module, taps: Iterable[str], images: tuple | None = None
) -> Iterator[dict[str, Pooled]]:
    """Collect the summaries of the taps' maps while the context is open.

    They are taken at once, before a layer in place can change the map; and no hook is left for
    the second run of a checkpointed block, in the backward pass.

    Args:
        net: The wrapped model.
        taps: Names, as :func:`resolve` gives them.
        images: What :func:`image_sizes` says of the batch.

    Yields:
        The summaries by tap, in the order in which the taps ran last.
    """
    pooled: dict[str, Pooled] = {}
    modules = {tap: net.get_submodule(_split(tap)[0]) for tap in taps}
    with hooks(modules, partial(_note, pooled, images)):
        yield pooled


def _note(
    pooled: dict, images: object, tap: str, module: nn.Module, inputs: tuple, output: object
) -> None:
    found = _as_map(output, inputs, _split(tap)[1])
    if found is None:
        got = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise ValueError(f'tap {tap!r} must give one (N, C, H, W) map, got {got}')
    pooled.pop(tap, None)  # a later run takes the later place
    pooled[tap] = pool(found, None if images is None else _cells(found, *images))


def _as_map(output: object, inputs: tuple, index: int | None) -> Tensor | None:
    """Return the ``(N, C, H, W)`` map in what a module gives out, or ``None``."""
    if index is not None:
        several = isinstance(output, (tuple, list)) and index < len(output)
        output = output[index] if several else None
    if isinstance(output, (tuple, list)) and len(output) > 1:  # Swin's stage: tokens and size
        return _from_tokens(output[-2], output[-1])
    if isinstance(output, Tensor) and output.dim() == 4:
        return output
    return _from_tokens(output, inputs[1]) if len(inputs) > 1 else None  # PVT's block


def _from_tokens(tokens: Tensor, size: tuple[int, int]) -> Tensor | None:
    """``(N, H W, C)`` and ``(H, W)`` -> ``(N, C, H, W)``."""
    if not isinstance(tokens, Tensor) or tokens.dim() != 3:
        return None
    if not isinstance(size, (tuple, list)) or [type(side) for side in size] != [int, int]:
        return None
    if size[0] * size[1] != tokens.shape[1]:
        return None
    return tokens.transpose(1, 2).unflatten(2, tuple(size))


def image_sizes(inputs: Tensor, data_samples: object) -> tuple | None:
    """How much of each input is image, where images were padded to one size.

    Args:
        inputs: The batch ``(N, C, H, W)``.
        data_samples: What goes with it. A size counts only beside ``batch_input_shape``, which
            mmdet's preprocessor writes when it pads.

    Returns:
        ``((h, w) of every image, (H, W))``, or ``None`` where nothing is padded.
    """
    if not isinstance(data_samples, (list, tuple)) or not isinstance(inputs, Tensor):
        return None
    whole = tuple(inputs.shape[-2:])
    sizes = []
    for sample in data_samples:
        meta = getattr(sample, 'metainfo', {})
        if tuple(meta.get('batch_input_shape', ())) != whole:
            return None
        sizes.append(tuple(meta.get('img_shape', whole))[:2])
    return None if all(size == whole for size in sizes) else (sizes, whole)


def _cells(x: Tensor, sizes: list[tuple[int, int]], whole: tuple[int, int]) -> list:
    """Return the sizes of the images on a map, ``(h, w)`` for each of its N entries."""
    height, width = x.shape[2:]
    cells = [(_covered(h, whole[0], height), _covered(w, whole[1], width)) for h, w in sizes]
    return cells * (len(x) // len(cells))  # the branches of TridentNet, one after another


def _covered(length: int, whole: int, cells: int) -> int:
    """How many of a map's cells along one side an image covers.

    The stride is ``whole / cells``, or the power of two above it that gives as many cells: layers
    of stride 2 round up.
    """
    power = 1
    while power * cells < whole:
        power *= 2
    stride = power if -(-whole // power) == cells else whole / cells
    return min(max(int(-(-length // stride)), 1), cells)
