"""What attention a config has: every place, its map, its parameters and its GMACs."""

import re
from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from mmengine.config import Config, ConfigDict
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mmattn.analysis.complexity import measure_complexity
from mmattn.backbones._insert import AddedParts
from mmattn.backbones.top_down import TopDown
from mmattn.convs import AAConv2d, AWConv2d
from mmattn.core.modes import hooks
from mmattn.insertion.networks import Network, Traced
from mmattn.layers._gate import Gate

__all__ = ['NOT_PLAIN', 'Place', 'Report', 'attach', 'report']

# method and the network it is added to -> why init='identity' does not start as the plain network
NOT_PLAIN = {
    ('LearnToPayHead', 'ConvNeXt'): (
        "init='identity' does not start as the plain network here: ConvNeXt normalises the "
        'average of its last map, the head averages the normalised map'
    ),
    ('TDAM', 'MobileNetV3'): (
        "init='identity' starts as the plain network without the SE of the last three blocks, "
        'whose place TDAM takes'
    ),
}


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
        """Return a table, blocks of a stage in one row."""
        height, width = self.image_size
        lines = [
            f'{", ".join(self.methods)}: init={self.init}, {self.reason}'
            if self.get('methods')
            else 'attention:',
            *(_table([_row(group) for group in _groups(self.places)]) if self.rows else ()),
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
    """Return what attention a config has: the report it carries, or else a measured one.

    Args:
        cfg: a config, from :func:`mmattn.add_attention` or written by hand.
    """
    carried = cfg.get('mmattn')
    if isinstance(carried, Report):
        return carried
    if isinstance(carried, dict) and 'rows' in carried:
        return Report(carried)
    return Report(_measure(cfg))


def attach(cfg: Config, methods: list[str], init: str, reason: str) -> None:
    """Measure what a config has and put the report into its entry ``mmattn``.

    Args:
        cfg: the config; a report it has already is continued.
        methods: what was added now.
        init: how it starts.
        reason: why it does.

    Raises:
        ValueError: a part with attention cannot be built.
    """
    before = cfg.get('mmattn') or {}
    found = dict(methods=[*before.get('methods', ()), *methods], init=init, reason=reason)
    # cfg.mmattn = ... would make it a ConfigDict
    dict.__setitem__(cfg._cfg_dict, 'mmattn', Report({**found, **_measure(cfg)}))


def _measure(cfg: Config) -> dict:
    network = Network(cfg)
    rows, notes = [], []
    for where in network.names():
        part = network.part(where)
        if not _is_ours(part):
            continue
        traced = network.trace(where)
        found = _places(traced)
        rows += [tuple(p._replace(name=f'{where}.{p.name}'.rstrip('.'))) for p in found]
        if traced.problem and found:
            notes.append(f'{where}: its maps are unknown, it does not run here ({traced.problem})')
        elif where.startswith('roi_head.') and found:
            notes.append(f'{where}: the GMACs of one region')
    notes += _start_notes(network) + _ssia_notes(cfg.model)
    return dict(image_size=network.size, rows=rows, notes=notes)


def _is_ours(part: Any) -> bool:
    """Whether a config names one of our types."""
    if isinstance(part, dict):
        part = list(part.values())
    if isinstance(part, list | tuple):
        return any(map(_is_ours, part))
    return isinstance(part, str) and part.startswith('mmattn.')


def _start_notes(network: Network) -> list[str]:
    backbone, head = network.part('backbone'), network.part('head') or {}
    kinds = {part.get('init'): part['type'] for part in (backbone, head) if 'type' in part}
    name = network.kind('backbone').__name__
    if kinds.get('identity') == 'mmattn.TDMobileNetV3':
        return [NOT_PLAIN['TDAM', 'MobileNetV3']]
    if kinds.get('identity') == 'mmattn.LearnToPayHead' and 'ConvNeXt' in name:
        return [NOT_PLAIN['LearnToPayHead', 'ConvNeXt']]
    return []


def _ssia_notes(model: dict) -> list[str]:
    if model.get('type') != 'mmattn.SSIA':
        return []
    taps = ', '.join(map(str, model['taps']))
    weights = model.get('lambdas') or range(1, len(model['taps']))
    return [
        f'SSIA: in training losses between the taps {taps}, of weights '
        f'{", ".join(map(str, weights))}; the deployed model is the plain one'
    ]


def _places(traced: Traced) -> list[Place]:
    """Return the modules of a part that a plain network lacks."""
    net, macs = traced.net, {}
    found = _added_modules(net)
    if found and not traced.problem:
        counted = measure_complexity(net, traced.inputs).added
        macs = {name: cost.macs for name, cost in counted.items()}
        others = {name: module for name, module in found.items() if name not in macs}
        macs.update(_others_macs(net, traced.inputs, others, found))
    return [
        Place(
            _kind(module),
            name,
            traced.shapes.get(name),
            _params(module),
            macs[name] / 1e9 if name in macs else None,
        )
        for name, module in found.items()
    ]


def _kind(module: nn.Module) -> str:
    kind = type(module)
    while '_front_class' in vars(kind):  # AW-convolution over a framework's own
        kind = kind._front_class
    return 'AWConv2d' if issubclass(kind, AWConv2d) else kind.__name__


def _added_modules(net: nn.Module) -> dict:
    """By name: gates, drop-in convolutions, top-down blocks, and new modules of other kinds."""
    found: dict = {}
    for name, module in net.named_modules():
        outer = {other for other, its in found.items() if not _is_top_down(its)}
        ours = isinstance(module, (Gate, AWConv2d, AAConv2d)) and not _is_inside(name, outer)
        if ours or _is_top_down(module) or type(module).__name__ == 'LearnToPayHead':
            found[name] = module
    new = net._added if isinstance(net, AddedParts) else ()
    old = {name for name, _ in net.named_modules()} - set(new)
    for name, module in net.named_modules():
        outermost = name != 'attend' and name.rpartition('.')[0] in ('attend', *old)
        if name in new and outermost and name not in found and not _is_inside(name, found):
            found[name] = module
    return found


def _is_inside(name: str, others: Iterable) -> bool:
    return any(name.startswith(f'{other}.') for other in others if other)


def _is_top_down(module: nn.Module) -> bool:
    return isinstance(module, TopDown) and module.steps > 1


def _params(module: nn.Module) -> int:
    """Parameters of a module that the plain network lacks."""
    sizes = {name: p.numel() for name, p in module.named_parameters()}
    if isinstance(module, nn.Conv2d):
        bias = module.out_channels if module.bias is not None else 0
        return sum(sizes.values()) - module.out_channels * module.weight[0].numel() - bias
    if _is_top_down(module):
        new = ('searchlight.', *(f'{norm}.' for norm in module.step_norms()))
        return sum(size for name, size in sizes.items() if name.startswith(new))
    if type(module).__name__ == 'LearnToPayHead':
        classes, widths = module.classifier.weight.shape
        last = widths // len(module.attention)
        return sum(sizes.values()) - classes * (last + 1)  # the plain head's
    return sum(sizes.values())


def _others_macs(net: nn.Module, inputs: Any, others: dict, found: dict) -> dict:
    """Return what top-down blocks compute beyond their first step, and foreign modules in all.

    What else was added inside a top-down block has a row of its own, with all its steps.
    """
    if not others:
        return {}
    blocks = {name: module for name, module in others.items() if _is_top_down(module)}
    inner = {name: module for name, module in found.items() if _is_inside(name, blocks)}
    whole = _counted(net, inputs, {**others, **inner})
    if blocks:
        with hooks(blocks.values(), _stop_at_once, pre=True, with_kwargs=True):
            first = _counted(net, inputs, {**blocks, **inner})
        later = {name: whole[name] - first[name] for name in first}
        for name in blocks:
            own = later[name] - sum(later[n] for n in inner if _is_inside(n, [name]))
            whole[name] = own
    return {name: macs for name, macs in whole.items() if name in others}


def _stop_at_once(block: nn.Module, inputs: tuple, options: dict) -> tuple:
    return inputs, {**options, 'steps': 1}


def _counted(net: nn.Module, inputs: Any, modules: dict) -> dict:
    """Return the multiply-accumulates of some modules in one run."""
    counter = FlopCounterMode(display=False)
    found: dict = {}

    def enter(name: str, module: nn.Module, args: tuple) -> None:
        found[name] = found.get(name, 0) - counter.get_total_flops()

    def leave(name: str, module: nn.Module, args: tuple, out: Any) -> None:
        found[name] += counter.get_total_flops()

    convs = [m for m in net.modules() if isinstance(m, nn.Conv2d)]
    with (
        hooks(convs, _watch),  # what is watched computes all of its output, as papers count
        hooks(modules, enter, pre=True),
        hooks(modules, leave),
        torch.no_grad(),
        counter,
    ):
        net(inputs)
    return {name: flops // 2 for name, flops in found.items()}


def _watch(module: nn.Module, inputs: tuple, out: Any) -> None:
    """Do nothing, as a hook."""
