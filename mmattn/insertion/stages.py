"""Stages, blocks and convolutions of a built part, and names of modules as one expression."""

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from torch import nn

from mmattn.backbones._insert import can_replace, convolutions
from mmattn.insertion.networks import Traced

__all__ = ['Stage', 'pattern_of', 'spatial_convs', 'stages_of']

# class of a residual block -> children of which the first that gives a map ends the branch
BLOCKS = {
    'DarknetBottleneck': ('conv2',),
    'CSPNeXtBlock': ('conv2',),
    'ResBlock': ('conv2',),  # Darknet
    'InvertedResidual': ('linear_conv', 'branch2'),
    'EdgeResidual': ('conv2',),
    'BasicBlock': ('drop_path',),
    'Bottleneck': ('drop_path',),
    'ConvNeXtBlock': ('drop_path',),
    'RepVGGBlock': (),
}
MANY_STAGES = 5  # a network with more groups of blocks is counted by the sizes of its maps


class Stage(NamedTuple):
    """A stage of a backbone.

    Args:
        end: name of the module that gives the stage's map; ``None`` where no module does.
        blocks: names of its residual blocks.
        branches: for each of them, the module that ends its residual branch, else the block.
        convs: for each block the names of its spatial convolutions that attention can stand for;
            one list where there are no blocks.
    """

    end: str | None
    blocks: list
    branches: list
    convs: list


def stages_of(traced: Traced) -> list[Stage]:
    """Return the stages of a backbone: residual blocks, or what lies between poolings."""
    modules = dict(traced.net.named_modules())
    blocks = [name for name in modules if _is_block(modules, name, traced.shapes)]
    if blocks:
        return _block_stages(blocks, modules, traced)
    return _pooled_stages(modules, traced)


def _block_kind(module: nn.Module) -> str | None:
    return next((kind.__name__ for kind in type(module).__mro__ if kind.__name__ in BLOCKS), None)


def _is_block(modules: dict, name: str, shapes: dict) -> bool:
    if _block_kind(modules[name]) is None or shapes.get(name) is None:
        return False
    words = name.split('.')
    parents = ('.'.join(words[:i]) for i in range(1, len(words)))
    return not any(_block_kind(modules[parent]) for parent in parents if parent in modules)


def _block_stages(blocks: list, modules: dict, traced: Traced) -> list[Stage]:
    groups: dict = {}
    for name in blocks:
        prefix = re.match(r'.*?\d+(?=\.|$)|.*', name)[0]  # 'layer1.0' -> 'layer1'
        groups.setdefault(prefix, []).append(name)
    merged = [([prefix], names) for prefix, names in groups.items()]
    if len(merged) > MANY_STAGES:
        merged = _merge_by_size(merged, traced.shapes)
    convs = spatial_convs(traced.net)
    found = []
    for prefixes, names in merged:
        end = prefixes[-1] if traced.shapes.get(prefixes[-1]) else None
        branches = [_branch(name, modules, traced.shapes) for name in names]
        inside = [[c for c in convs if c.startswith(f'{name}.')] for name in names]
        inside = [[c for c in block if 'downsample' not in c.split('.')] for block in inside]
        found.append(Stage(end, names, branches, inside))
    return found


def _merge_by_size(groups: list, shapes: dict) -> list:
    """Neighbours whose maps have one size are one stage."""
    merged: list = []
    for prefixes, names in groups:
        if merged and shapes[merged[-1][1][-1]][1:] == shapes[names[-1]][1:]:
            merged[-1][0].extend(prefixes)
            merged[-1][1].extend(names)
        else:
            merged.append((list(prefixes), list(names)))
    return merged


def _branch(name: str, modules: dict, shapes: dict) -> str:
    children = (f'{name}.{child}' for child in BLOCKS[_block_kind(modules[name])])
    return next((child for child in children if shapes.get(child)), name)


def spatial_convs(net: nn.Module, smallest: int = 2) -> list[str]:
    """Return the first names of the convolutions that attention can stand for, kernels from a size
    on.

    Those inside another convolution, which predict offsets or switches, are none.
    """
    outer = {name for name, module in net.named_modules() if 'weight' in module._parameters}
    return [
        names[0]
        for conv, names in convolutions(net).items()
        if can_replace(conv)
        and max(conv.kernel_size) >= smallest
        and names[0].rpartition('.')[0] not in outer
    ]


def _pooled_stages(modules: dict, traced: Traced) -> list[Stage]:
    """Return a chain of layers such as VGG: a stage is what lies between two poolings."""
    for name, module in modules.items():
        if isinstance(module, nn.Sequential) and name:
            pools = [i for i, layer in enumerate(module) if isinstance(layer, nn.MaxPool2d)]
            if len(pools) > 2:
                return _between(name, module, pools, traced)
    return []


def _between(name: str, chain: nn.Module, pools: list, traced: Traced) -> list[Stage]:
    convs = spatial_convs(traced.net)
    stages, start = [], 0
    for stop in [*pools, len(chain)]:
        layers = [f'{name}.{i}' for i in range(start, stop)]
        start = stop + 1
        if layers:
            inside = [c for c in convs if any(f'{c}.'.startswith(f'{layer}.') for layer in layers)]
            end = layers[-1] if traced.shapes.get(layers[-1]) else None
            stages.append(Stage(end, [], [], [inside]))
    return stages


# ---------------------------------------------------------------------- names as one expression


def pattern_of(names: Sequence, everything: Iterable) -> str | list:
    """Return a short regular expression that matches exactly these of all names; a list where
    needed.
    """
    groups: dict = {}
    for name in names:
        groups.setdefault(tuple(re.split(r'\d+', name)), []).append(name)
    everything = set(everything)
    patterns = [_pattern(words, group, everything) for words, group in groups.items()]
    return patterns[0] if len(patterns) == 1 else patterns


def _pattern(words: tuple, names: list, everything: set) -> str:
    columns = list(zip(*(map(int, re.findall(r'\d+', name)) for name in names)))
    several = [i for i, column in enumerate(columns) if len(set(column)) > 1]
    for exact in range(len(several) + 1):
        numbers = [
            _numbers(set(column)) if i not in several[exact:] else r'\d+'
            for i, column in enumerate(columns)
        ]
        pattern = ''.join(re.escape(word) + number for word, number in zip(words, [*numbers, '']))
        if {name for name in everything if re.fullmatch(pattern, name)} == set(names):
            return pattern
    return '|'.join(map(re.escape, names))


def _numbers(values: set) -> str:
    texts = [str(value) for value in sorted(values)]
    if len(texts) == 1:
        return texts[0]
    return f'[{"".join(texts)}]' if max(map(len, texts)) == 1 else f'({"|".join(texts)})'
