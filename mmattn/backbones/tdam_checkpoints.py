"""Checkpoints of TDAM's authors, as weights of TDResNet with mmpretrain's linear head.

The timm-style and the torchvision-style networks of their repository (ResNet-18, 34, 50, 101,
152); t, m, joint or top, and the blocks are read from the keys.
"""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mmattn.backbones import TDResNet
from mmattn.core.checkpoint import find_state
from mmattn.core.names import shorten

__all__ = ['convert', 'read_options', 'rename']

SHOWN = 12
DEPTHS = {  # (blocks of the four stages, convolutions of a block)
    ((2, 2, 2, 2), 2): 18,
    ((3, 4, 6, 3), 2): 34,
    ((3, 4, 6, 3), 3): 50,
    ((3, 4, 23, 3), 3): 101,
    ((3, 8, 36, 3), 3): 152,
}
# the authors' searchlight -> ours; both attentions have a module Ug_mlp
JOINT = {'Ug_top_mlp.0': 'top', 'Ug_bottom_mlp.0': 'bottom', 'Ug_mlp.0': 'out'}
TOP = {'Ug_mlp.0': 'top', 'Ug_mlp.2': 'out'}


def read_options(
    state: Mapping[str, Tensor], distance: int | None = None, steps: int | None = None
) -> dict[str, Any]:
    """Return the arguments of TDResNet that a state dict of the authors belongs to.

    Args:
        state: the authors' keys.
        distance, steps: needed only where no norm tells them (a network with m = 0).

    Raises:
        ValueError: no ResNet of the authors, or blocks that differ among each other.
    """
    found = [re.match(r'layer(\d)\.(\d+)\.conv(\d)\.weight$', key) for key in state]
    convs = [tuple(map(int, match.groups())) for match in found if match]
    if not convs:
        raise ValueError(f'no key like layer1.0.conv1.weight: {shorten(state, SHOWN)}')
    links = max(conv for _, _, conv in convs)
    depths = tuple(
        1 + max((block for s, block, _ in convs if s == stage), default=-1)
        for stage in range(1, 5)
    )
    if (depths, links) not in DEPTHS:
        raise ValueError(
            f'no ResNet-18, 34, 50, 101 or 152: it has {depths} blocks of {links} convolutions'
        )
    places = sorted({key.partition('.RA_block.')[0] for key in state if '.RA_block.' in key})
    if not places:
        raise ValueError('no top-down block (RA_block) in the checkpoint')
    options = [_block_options(state, place, links, distance, steps) for place in places]
    different = [place for place, each in zip(places, options) if each != options[0]]
    if different:
        raise ValueError(f'top-down blocks differ: {places[0]} and {", ".join(different)}')
    blocks = [
        sorted(int(place.split('.')[1]) for place in places if place.startswith(f'layer{stage}.'))
        for stage in range(1, 5)
    ]
    return dict(depth=DEPTHS[depths, links], **options[0], blocks=blocks)


def _block_options(
    state: Mapping[str, Tensor],
    place: str,
    links: int,
    distance: int | None,
    steps: int | None,
) -> dict[str, Any]:
    joint = f'{place}.RA_block.Ug_top_mlp.0.weight' in state
    top = state.get(f'{place}.RA_block.{"Ug_top_mlp" if joint else "Ug_mlp"}.0.weight')
    if top is None or top.dim() < 2 or not top.shape[0]:
        raise ValueError(f'{place}.RA_block has no layer for the top (Ug_top_mlp.0 or Ug_mlp.0)')
    later = [
        re.match(re.escape(place) + r'\.bn(\d)_(\d+)\.weight$', key)
        for key in state
        if key.startswith(f'{place}.bn')
    ]
    norms = [tuple(map(int, match.groups())) for match in later if match]
    if not norms and (steps is None or distance is None):
        raise ValueError(
            f'{place} has no norms of later steps, so its steps cannot be read: '
            'give --steps and --distance'
        )
    return dict(
        steps=1 + max((step for _, step in norms), default=steps and steps - 1),
        distance=links + 1 - min(norm for norm, _ in norms) if norms else distance,
        attention='joint' if joint else 'top',
        reduction=top.shape[1] // top.shape[0],
    )


def rename(key: str, attention: str) -> str:
    """One of the authors' keys in our words."""
    if key.startswith('fc.'):
        return f'head.{key}'
    block, inside, rest = key.partition('.RA_block.')
    if inside:
        layer, _, part = rest.rpartition('.')
        names = JOINT if attention == 'joint' else TOP
        rest = f'{names.get(layer, layer)}.{part}'
        return f'backbone.{block}.searchlight.{rest}'
    return f'backbone.{key}'


def convert(
    checkpoint: Mapping[str, Any], distance: int | None = None, steps: int | None = None
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return a checkpoint of the authors as ``(state dict, arguments of TDResNet)``.

    Args:
        checkpoint: what their file holds.
        distance, steps: see :func:`read_options`.

    Raises:
        ValueError: it holds no state dict, is no top-down ResNet, or has missing, unknown or
            misshapen keys, which are listed.
    """
    state = {re.sub(r'^module\.', '', k): v for k, v in find_state(checkpoint).items()}
    options = read_options(state, distance, steps)
    renamed = {rename(key, options['attention']): value for key, value in state.items()}
    with torch.device('meta'):
        model = nn.Module()
        model.backbone = TDResNet(**options)
        head = renamed.get('head.fc.weight')
        if head is not None and head.dim() == 2:
            classes, width = head.shape
            model.head = nn.Module()
            model.head.fc = nn.Linear(width, classes)
    wanted = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    given = {key: tuple(value.shape) for key, value in renamed.items()}
    counters = {key for key in wanted if key.endswith('num_batches_tracked')}
    problems = {
        'missing': [key for key in wanted if key not in given and key not in counters],
        'unknown': [key for key in given if key not in wanted],
        'of another shape': [
            f'{key} {given[key]} instead of {wanted[key]}'
            for key in wanted
            if given.get(key, wanted[key]) != wanted[key]
        ],
    }
    if any(problems.values()):
        text = '; '.join(
            f'{kind}: {shorten(keys, SHOWN)}' for kind, keys in problems.items() if keys
        )
        raise ValueError(f'the checkpoint does not fit {options}: {text}')
    for key in counters - set(renamed):
        renamed[key] = torch.zeros((), dtype=torch.long)
    return renamed, options
