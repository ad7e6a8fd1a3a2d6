"""The papers' cost tables, recounted: parameters and operations in each table's own convention.

``cost_tables.yml`` holds what the papers print and the network of every row. Where a
count differs from the printed figure the row says so and why; nothing is bent to fit.
"""

from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
import yaml
from mmengine.registry import init_default_scope
from torch import Tensor, nn

from mmattn.analysis.complexity import measure_complexity
from mmattn.analysis.networks import build_network
from mmattn.core.modes import hooks
from mmattn.core.text import read_text
from mmattn.layers._gate import Gate

__all__ = ['CONVENTIONS', 'Count', 'Row', 'as_page', 'count', 'count_modules', 'read_rows']

TABLES = Path(__file__).with_name('cost_tables.yml')
CONVENTIONS = {
    'A': 'multiply-accumulates of convolutions, linear layers and matrix products, and the '
    'product A * K of AW-convolutions',
    'B': 'A and one operation for every value that a pooling reads or a gate scales (found by '
    'fitting the ResNet-50 rows)',
    'ptflops': 'multiply-accumulates and biases of convolutions and linear layers, 2 for a value '
    'after BatchNorm, 1 after ReLU, 1 for a value a pooling reads',
    'torchstat': 'as ptflops without adaptive pooling; of a module that is called several times '
    'only the last call',
}


@dataclass(frozen=True)
class Row:
    """One printed row.

    Args:
        table: title of its table.
        name: of the row.
        net: the network (:func:`mmattn.analysis.networks.build_network`).
        params: millions, as printed.
        gflops: as printed, ``'-'`` where the table has none.
        memory: MiB as printed, where the table has them.
        convention: a key of ``CONVENTIONS``.
        size: height and width of the image.
        derived: whether the stated settings alone must give the printed parameters.
        gflops_derived: likewise, the printed GFLOPs.
        note: on what differs.
        base: the network of which the row is printed as an increase.
    """

    table: str
    name: str
    net: dict[str, Any] = field(repr=False)
    params: str
    gflops: str = '-'
    memory: str = ''
    convention: str = 'A'
    size: int = 224
    derived: bool = True
    gflops_derived: bool = False
    note: str = ''
    base: dict[str, Any] | None = None

    def build(self) -> nn.Module:
        """Return the row's network."""
        return build_network(self.net)


@dataclass(frozen=True)
class Count:
    """A row and what we count for it: parameters, and operations in the row's convention.

    Args:
        row: what is printed.
        params: counted.
        operations: counted.
        elements: of the maps that the layers give out.
    """

    row: Row
    params: int
    operations: float
    elements: int = 0

    @property
    def params_match(self) -> bool:
        return _printed(self.params / 1e6, self.row.params) == self.row.params

    @property
    def gflops_match(self) -> bool:
        return _printed(self.operations / 1e9, self.row.gflops) == self.row.gflops

    @property
    def memory(self) -> float:
        """MiB of the layers' outputs in float32."""
        return self.elements * 4 / 2**20

    @property
    def memory_match(self) -> bool:
        return not self.row.memory or _printed(self.memory, self.row.memory) == self.row.memory

    def minus(self, other: 'Count') -> 'Count':
        """Return what this row has more than another."""
        names = ('params', 'operations', 'elements')
        return Count(self.row, *(getattr(self, n) - getattr(other, n) for n in names))


def _printed(value: float, like: str) -> str:
    """``value`` with as many decimals as the paper prints."""
    return f'{value:.{len(like.partition(".")[2])}f}'


def read_rows(path: str | Path = TABLES) -> list[Row]:
    """Every row of the papers' tables, in their order.

    Args:
        path: a file like ``cost_tables.yml``.
    """
    rows = []
    for table in yaml.safe_load(read_text(path))['tables']:
        shared = {key: table[key] for key in ('convention', 'size') if key in table}
        for row in table['rows']:
            rows.append(Row(table['title'], **{**shared, **row}))
    return rows


def count(row: Row) -> Count:
    """Build the row's network, without values, and count it."""
    if row.base is None:
        return _count(row)
    alone = replace(row, base=None)
    return replace(_count(alone).minus(_count_base(row)), row=row)


def _count_base(row: Row) -> Count:
    key = tuple(sorted(row.base.items()))
    return _count_plain(key, row.convention, row.size, bool(row.memory))


@cache
def _count_plain(net: tuple, convention: str, size: int, memory: bool) -> Count:
    shown = dict(params='', gflops='0', memory='0' if memory else '')
    return _count(Row('', '', dict(net), convention=convention, size=size, **shown))


def _count(row: Row) -> Count:
    init_default_scope('mmdet')
    with torch.device('meta'):  # shapes without values: nothing is computed
        model = row.build().eval()
    params = sum(parameter.numel() for parameter in model.parameters())
    if row.gflops == '-':
        return Count(row, params, float('nan'))
    image = torch.zeros(1, 3, row.size, row.size, device='meta')
    if row.convention in ('A', 'B'):
        touched = []
        with hooks(_gates(model), lambda *call: touched.append(_touched(*call))):
            macs = measure_complexity(model, image).macs
        return Count(row, params, macs + (sum(touched) if row.convention == 'B' else 0))
    elements: dict[nn.Module, int] = {}
    with hooks(_layers(model) if row.memory else (), partial(_note_given_out, elements)):
        operations = count_modules(model, image, row.convention == 'torchstat')
    return Count(row, params, operations, sum(elements.values()))


def _gates(model: nn.Module) -> list[nn.Module]:
    return [module for module in model.modules() if isinstance(module, Gate)]


def _leaves(model: nn.Module) -> list[nn.Module]:
    return [module for module in model.modules() if not list(module.children())]


def _layers(model: nn.Module) -> list[nn.Module]:
    """Of the published code, where SE has its activations and ECA its pooling and its sigmoid."""
    leaves = set(_leaves(model))
    return [m for m in model.modules() if m in leaves or type(m).__name__ in ('SE', 'ECA')]


def _touched(gate: nn.Module, inputs: tuple, out: Tensor) -> int:
    """Convention B: what a gate reads for pooling and scales."""
    passes = {'SE': 2, 'ECA': 2}.get(type(gate).__name__)
    if passes is None:  # CBAM: average, [maximum], scale; [maximum, mean, scale]
        passes = 2 + gate.max_pool + 3 * (gate.spatial is not None)
    return passes * inputs[0].numel()


def _note_given_out(elements: dict, module: nn.Module, inputs: tuple, out: Tensor) -> None:
    """Return the values a layer gives out; of one that is called several times the last call's."""
    inside = sum(elements[layer] for layer in module.children())
    elements[module] = {'SE': inside, 'ECA': 2 * inside}.get(type(module).__name__, out.numel())


def count_modules(model: nn.Module, image: Tensor, last_call_only: bool) -> int:
    """Return what counters that look at modules print: ptflops, or torchstat.

    Args:
        model: the network.
        image: its input, ``(1, 3, H, W)``.
        last_call_only: as torchstat, which keeps the last call of a module and knows no adaptive
            pooling.
    """
    operations: dict[nn.Module, list] = {}
    pooled = []

    def note(module: nn.Module, inputs: tuple, out: Tensor) -> None:
        cost = _module_operations(module, inputs[0], out, last_call_only)
        operations.setdefault(module, []).append(cost)

    def note_pooling(gate: nn.Module, inputs: tuple, out: Tensor) -> None:
        # the pooling inside our gates is functional; the counters' users had it as a module
        pooled.append(inputs[0].numel() * {'CBAM': 2, 'SimAM': 0}.get(type(gate).__name__, 1))

    with hooks(_leaves(model), note), hooks(_gates(model), note_pooling), torch.no_grad():
        model(image)
    calls = operations.values()
    if last_call_only:
        return sum(costs[-1] for costs in calls)
    return sum(pooled) + sum(sum(costs) for costs in calls)


def _module_operations(module: nn.Module, x: Tensor, out: Tensor, skip_adaptive: bool) -> int:
    if isinstance(module, (nn.Conv2d, nn.Conv1d, nn.Linear)):
        bias = out.numel() if module.bias is not None else 0
        return out.numel() * module.weight[0].numel() + bias
    if isinstance(module, nn.BatchNorm2d):
        return 2 * x.numel()
    if isinstance(module, (nn.ReLU, nn.MaxPool2d)):
        return x.numel()
    if isinstance(module, nn.AdaptiveAvgPool2d):
        return 0 if skip_adaptive else x.numel()
    return 0


def as_page(counts: list[Count]) -> str:
    """Return the Markdown page: conventions, then a table for each paper."""
    lines = [
        '# Costs',
        '',
        "The papers' cost tables, recounted with this package's modules. Made by",
        '`python tools/analysis_tools/cost_tables.py --out docs/costs.md`. The papers print',
        'multiply-accumulates and call them FLOPs; they do not say how they counted:',
        '',
        *(f'- **{name}**: {meaning}.' for name, meaning in CONVENTIONS.items()),
        '',
        'Memory, which the SSIA paper prints, is what the layers give out, in float32; of a layer',
        'that is called several times the last call.',
        '',
        'A figure matches when ours, rounded to the digits printed, is the printed one.',
    ]
    table = None
    for item in counts:
        if item.row.table != table:
            table = item.row.table
            head = ['params (M)', 'GFLOPs', *(['memory (MiB)'] if item.row.memory else [])]
            columns = ' | '.join(f'{name}, paper | ours | match' for name in head)
            lines += ['', f'## {table}', '', f'| row | {columns} | convention, note |']
            lines.append('|---|' + '---:|---:|---|' * len(head) + '---|')
        lines.append(_as_line(item))
    return '\n'.join(lines) + '\n'


def _as_line(item: Count) -> str:
    row = item.row
    digits = max(len(row.params.partition('.')[2]), 4)
    cells = [row.name, row.params, f'{item.params / 1e6:.{digits}f}', _yes(item.params_match)]
    if row.gflops == '-':
        cells += ['-', '-', '-']
    else:
        cells += [row.gflops, f'{item.operations / 1e9:.4f}', _yes(item.gflops_match)]
    if row.memory:
        cells += [row.memory, f'{item.memory:.3f}', _yes(item.memory_match)]
    note = '; '.join(filter(None, (row.convention if row.gflops != '-' else '', row.note)))
    return '| ' + ' | '.join((*cells, note)) + ' |'


def _yes(match: bool) -> str:
    return 'yes' if match else '**no**'
