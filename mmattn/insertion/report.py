"""What attention a config has: every place, its map, its parameters and its GMACs."""

import re
from collections.abc import Sequence
from typing import NamedTuple

import torch
from mmengine.config import Config, ConfigDict
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mmattn.analysis.complexity import measure_complexity
from mmattn.backbones._insert import AddedParts
from mmattn.backbones.top_down import TopDown
from mmattn.convs import AAConv2d, AWConv2d
from mmattn.insertion.networks import Network, Traced
from mmattn.layers._gate import Gate

__all__ = ['Place', 'Report', 'attach', 'describe', 'report']


class Place(NamedTuple):
    """A module that was added.

    Args:
        method: its class.
        name: its name in the model, as ``named_modules()`` gives it.
        map_size: ``(channels, height, width)`` of the map it gives; ``None`` where that is not
            known (the part does not run without a GPU, or the module gives no map).
        params: parameters that it adds.
        gmacs: multiply-accumulates that it adds for one image, in 10^9; ``None`` as above.
    """

    method: str
    name: str
    map_size: tuple | None
    params: int
    gmacs: float | None


class Report(ConfigDict):
    """What :func:`mmattn.add_attention` did; ``print`` shows it as a table.

    Plain data, so that a config that carries it can be written and read: ``methods``, ``init``,
    ``reason``, ``image_size`` (height, width) and the rows of ``places``.
    """

    @property
    def places(self) -> list[Place]:
        """Every place."""
        return [Place(*row) for row in self.rows]

    @property
    def params(self) -> int:
        """Parameters added in all."""
        return sum(place.params for place in self.places)

    @property
    def gmacs(self) -> float:
        """Multiply-accumulates added for one image, in 10^9, as far as they are known."""
        return sum(place.gmacs or 0.0 for place in self.places)

    def __str__(self) -> str:
        """A table, blocks of a stage in one row."""
        height, width = self.image_size
        lines = [
            f'{", ".join(self.methods)}: init={self.init}, {self.reason}'
            if self.get('methods')
            else 'attention:',
            *_table([_row(group) for group in _groups(self.places)]),
            f'total: +{self.params:,} parameters, +{self.gmacs:.3f} GMACs for an image of '
            f'{height} x {width}',
            *self.get('notes', ()),
        ]
        return '\n'.join(lines)


def _groups(places: list) -> list[list]:
    """Places that differ in one number of their name and have one size of map, together."""
    groups: list = []
    for place in places:
        like = next((group for group in groups if _alike(group, place)), None)
        if like is None:
            groups.append([place])
        else:
            like.append(place)
    return groups


def _alike(group: list, place: Place) -> bool:
    first = group[0]
    if (first.method, first.map_size) != (place.method, place.map_size):
        return False
    if re.split(r'\d+', first.name) != re.split(r'\d+', place.name):
        return False
    names = [re.findall(r'\d+', one.name) for one in (*group, place)]
    return sum(len(set(column)) > 1 for column in zip(*names)) <= 1


def _row(group: list) -> tuple:
    columns = zip(*(map(int, re.findall(r'\d+', place.name)) for place in group))
    numbers = [_span(sorted(set(column))) for column in columns]
    words = re.split(r'\d+', group[0].name)
    size = group[0].map_size
    gmacs = [place.gmacs for place in group]
    return (
        group[0].method,
        ''.join(word + number for word, number in zip(words, [*numbers, ''])),
        'unknown' if size is None else ' x '.join(map(str, size)),
        f'+{sum(place.params for place in group):,}',
        'unknown' if None in gmacs else f'+{sum(gmacs):.3f}',
    )


def _span(numbers: list) -> str:
    """``[0, 1, 2]`` -> ``{0-2}``."""
    if len(numbers) == 1:
        return str(numbers[0])
    if numbers == list(range(numbers[0], numbers[-1] + 1)):
        return f'{{{numbers[0]}-{numbers[-1]}}}'
    return f'{{{",".join(map(str, numbers))}}}'


def _table(rows: list) -> list[str]:
    rows = [('method', 'place', 'map (C x H x W)', 'parameters', 'GMACs'), *rows]
    widths = [max(len(row[i]) for row in rows) for i in range(5)]
    return [
        '  '.join(
            cell.ljust(width) if i < 3 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths))
        ).rstrip()
        for row in rows
    ]


def report(cfg: Config) -> Report:
    """What attention a config has: the report it carries, or else a measured one.

    Args:
        cfg: a config, from :func:`mmattn.add_attention` or written by hand.
    """
    carried = cfg.get('mmattn')
    if isinstance(carried, Report):
        return carried
    if isinstance(carried, dict) and 'rows' in carried:
        return Report(carried)
    return Report(_measure(cfg))


def describe(methods: Sequence) -> list[str]:
    """The names of methods, for the report."""
    return [one if isinstance(one, str) else str(one.get('type')) for one in methods]


def attach(cfg: Config, methods: list[str], init: str, reason: str) -> None:
    """Measure what a config has and put the report into its entry ``mmattn``."""
    before = cfg.get('mmattn') or {}
    found = dict(methods=[*before.get('methods', ()), *methods], init=init, reason=reason)
    # not cfg.mmattn = ..., which would make it a ConfigDict
    dict.__setitem__(cfg._cfg_dict, 'mmattn', Report({**found, **_measure(cfg)}))


def _measure(cfg: Config) -> dict:
    network = Network(cfg)
    rows, notes = [], []
    for where in network.names():
        if where not in ('backbone', 'neck') and not _is_ours(network.part(where)):
            continue
        traced = network.trace(where)
        rows += [
            place._replace(name=f'{where}.{place.name}'.rstrip('.')) for place in _places(traced)
        ]
        if traced.problem and _is_ours(network.part(where)):
            notes.append(f'{where}: does not run here, so its maps are unknown ({traced.problem})')
    if 'mmattn.SSIA' in network.outer:
        notes.append(_ssia_note(cfg))
    return dict(image_size=network.size, rows=[tuple(row) for row in rows], notes=notes)


def _is_ours(part) -> bool:
    if isinstance(part, dict):
        part = list(part.values())
    if isinstance(part, list | tuple):
        return any(map(_is_ours, part))
    return isinstance(part, str) and part.startswith('mmattn.')


def _ssia_note(cfg: Config) -> str:
    from mmattn.auxiliary.wrapper import _Blocks  # noqa: F401

    taps = ', '.join(map(str, cfg.model.taps))
    return (
        f'SSIA: training only, losses between the taps {taps}; the deployed model has none of '
        'its parameters'
    )


def _places(traced: Traced) -> list[Place]:
    """The modules of a part that a plain network lacks."""
    net = traced.net
    found = _added_modules(net)
    if not found:
        return []
    macs: dict = {}
    if not traced.problem:
        macs = {
            name: cost.macs for name, cost in measure_complexity(net, traced.inputs).added.items()
        }
        macs.update(_block_macs(net, traced.inputs, found))
    rows = []
    for name, module in found.items():
        cost = macs.get(name)
        size = traced.shapes.get(name)
        kind = type(module).__name__
        rows.append(
            Place(kind, name, size, _params(net, name, module), cost and cost / 1e9 or 0.0)
            if not traced.problem
            else Place(kind, name, size, _params(net, name, module), None)
        )
    return rows


def _added_modules(net: nn.Module) -> dict:
    """By name: gates, drop-in convolutions, top-down blocks, and new modules of other kinds."""
    found: dict = {}
    for name, module in net.named_modules():
        inside = any(name.startswith(f'{outer}.') for outer in found if outer)
        ours = isinstance(module, (Gate, AWConv2d, AAConv2d)) and not inside
        if ours or _is_top_down(module) or type(module).__name__ == 'LearnToPayHead':
            found[name] = module
    if isinstance(net, AddedParts):
        for name, module in net.named_modules():
            new = name in net._added and name != 'attend'
            inside = any(name == o or name.startswith(f'{o}.') for o in found)
            if new and not inside and any(True for _ in module.parameters()):
                found[name] = module
    return found


def _is_top_down(module: nn.Module) -> bool:
    return isinstance(module, TopDown) and module.steps > 1


def _params(net: nn.Module, name: str, module: nn.Module) -> int:
    """Parameters of a module that the plain network lacks."""
    total = sum(p.numel() for p in module.parameters())
    if isinstance(module, nn.Conv2d):
        plain = module.out_channels * module.weight[0].numel()
        return total - plain - (module.out_channels if module.bias is not None else 0)
    if hasattr(module, 'searchlight'):
        norms = [
            p.numel()
            for key, p in module.named_parameters()
            if key.startswith('searchlight.') or any(key.startswith(f'{n}.') for n in _new(module))
        ]
        return sum(norms)
    return total


def _new(block: nn.Module) -> list:
    return list(block.step_norms())


def _block_macs(net: nn.Module, inputs, found: dict) -> dict:
    """What every top-down block computes beyond its first step."""
    blocks = {n: m for n, m in found.items() if hasattr(m, 'searchlight')}
    if not blocks:
        return {}
    whole = _counted(net, inputs, blocks)
    handles = [
        block.register_forward_pre_hook(_stop_at_once, with_kwargs=True)
        for block in blocks.values()
    ]
    try:
        first = _counted(net, inputs, blocks)
    finally:
        for handle in handles:
            handle.remove()
    return {name: whole[name] - first[name] for name in blocks}


def _stop_at_once(block: nn.Module, inputs: tuple, options: dict) -> tuple:
    return inputs, {**options, 'steps': 1}


def _counted(net: nn.Module, inputs, blocks: dict) -> dict:
    counter = FlopCounterMode(display=False)
    found: dict = {}
    handles = []
    for module in net.modules():  # what is watched computes all of its output, as papers count
        if isinstance(module, nn.Conv2d):
            handles.append(module.register_forward_hook(lambda module, args, out: None))
    for name, block in blocks.items():
        handles.append(
            block.register_forward_pre_hook(
                lambda module, args, name=name: found.update({name: -counter.get_total_flops()})
            )
        )
        handles.append(
            block.register_forward_hook(
                lambda module, args, out, name=name: found.update(
                    {name: found[name] + counter.get_total_flops()}
                )
            )
        )
    try:
        with torch.no_grad(), counter:
            net(inputs)
    finally:
        for handle in handles:
            handle.remove()
    return {name: flops // 2 for name, flops in found.items()}
