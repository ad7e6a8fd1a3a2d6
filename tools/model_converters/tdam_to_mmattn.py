"""Turn a checkpoint of TDAM's authors into one for TDResNet with mmpretrain's linear head.

    python tools/model_converters/tdam_to_mmattn.py TD_RNet50.pth.tar tdam_r50.pth

Reads the timm-style and the torchvision-style networks of the authors' repository (ResNet-18, 34,
50, 101; t, m, joint or top, and the blocks are read from the keys) and prints the backbone's
config. Every key and shape must fit; else nothing is written and the keys are listed. A file
with more than tensors in it is a pickle, which can run code: it is only read with --trust. Exit
code: 0 written, 2 refused.
"""

import argparse
import re
import sys
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from mmattn.backbones import TDResNet
from mmattn.cli.failures import end_run
from mmattn.core.checkpoint import find_state, load_checkpoint

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


def read_options(state: Mapping, distance: int | None = None, steps: int | None = None) -> dict:
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
        raise ValueError(f'no key like layer1.0.conv1.weight: {_list(state)}')
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


def _block_options(state: dict, place: object, links: object, distance: int, steps: int) -> dict:
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


def convert(checkpoint: object, distance: int | None = None, steps: int | None = None) -> tuple:
    """Return a checkpoint of the authors as ``(state dict, arguments of TDResNet)``.

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
        text = '; '.join(f'{kind}: {_list(keys)}' for kind, keys in problems.items() if keys)
        raise ValueError(f'the checkpoint does not fit {options}: {text}')
    for key in counters - set(renamed):
        renamed[key] = torch.zeros((), dtype=torch.long)
    return renamed, options


def _list(keys: object) -> str:
    keys = list(keys)
    more = f', ... ({len(keys)} in all)' if len(keys) > SHOWN else ''
    return ', '.join(keys[:SHOWN]) + more


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('source', help="the authors' checkpoint")
    parser.add_argument('target', help='file to write')
    parser.add_argument('--distance', type=int, help='m, only where no norm tells it')
    parser.add_argument('--steps', type=int, help='t, only where no norm tells it')
    parser.add_argument('--trust', action='store_true', help='read a pickle that may run code')
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    try:
        state, options = convert(
            load_checkpoint(args.source, args.trust), args.distance, args.steps
        )
        Path(args.target).parent.mkdir(parents=True, exist_ok=True)
        with open(args.target, 'wb') as file:
            torch.save({'state_dict': state, 'meta': {'backbone': options}}, file)
    except (Exception, KeyboardInterrupt) as error:
        return end_run('tdam_to_mmattn', error, code=2)
    config = ', '.join(f'{name}={value!r}' for name, value in options.items())
    print(f"{len(state)} tensors written to {args.target}\ndict(type='mmattn.TDResNet', {config})")
    return 0


if __name__ == '__main__':
    sys.exit(main())
