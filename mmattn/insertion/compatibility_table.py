"""Every method in stock configs of many families: the cells of the table, and its page."""

import importlib
import json
import os
import re
import warnings
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

import torch

from mmattn.backbones._trial import stand_ins
from mmattn.core.text import read_lines
from mmattn.insertion.compatibility import (
    COLUMNS,
    FAILS,
    FRAMEWORK,
    NOT_APPLICABLE,
    STARTS,
    TOLERANCE,
    WORKS,
    Cell,
    Host,
    sentence_of,
    try_method,
)
from mmattn.insertion.methods import METHODS
from mmattn.insertion.stock import STOCK, Stock

__all__ = ['page', 'read_cells', 'run']


def run(
    file: str | Path,
    stocks: Sequence = STOCK,
    methods: Sequence = COLUMNS,
    parallel: int = 1,
    again: Sequence = (),
    show: Callable = print,
) -> list[Cell]:
    """Try methods in configs; what ``file`` holds already is not tried again.

    Args:
        file: every cell is added to it when it is done, as a line of JSON.
        stocks: the configs.
        methods: names of columns.
        parallel: processes; each takes a whole config.
        again: statuses whose cells are tried again, such as ``'fails'``.
        show: called with a line of text for every config.

    Returns:
        All cells of these configs and methods.
    """
    file = Path(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    known = read_cells(file)
    wanted = []
    for stock in stocks:
        left = [m for m in methods if _is_due(known.get((stock.config, m)), again)]
        if left:
            wanted.append((stock, left))
    if parallel <= 1:
        rows = (_row(stock, left, file) for stock, left in wanted)
        for cells in rows:
            show(_line(cells))
    else:
        with ProcessPoolExecutor(parallel, mp_context=get_context('spawn')) as pool:
            tasks = [pool.submit(_row, stock, left, file) for stock, left in wanted]
            for task in as_completed(tasks):
                show(_line(task.result()))
    known = read_cells(file)
    keys = [(stock.config, method) for stock in stocks for method in methods]
    return [known[key] for key in keys if key in known]


def _is_due(cell: Cell | None, again: Sequence) -> bool:
    return cell is None or cell.status in again


def _line(cells: list) -> str:
    counts = {status: sum(cell.status == status for cell in cells) for status in _STATUSES}
    said = ', '.join(f'{number} {status}' for status, number in counts.items() if number)
    lines = [f'{cells[0].config}: {said} ({sum(cell.seconds for cell in cells):.0f} s)']
    lines += [f'    {c.method}: {c.note}' for c in cells if c.status == FAILS]
    return '\n'.join(lines)


_STATUSES = (WORKS, FRAMEWORK, NOT_APPLICABLE, FAILS)


def _row(stock: Stock, methods: Sequence, file: Path) -> list[Cell]:
    """All wanted cells of one config."""
    torch.set_num_threads(max(1, min(torch.get_num_threads(), os.cpu_count() or 1)))
    with warnings.catch_warnings(), stand_ins():
        warnings.simplefilter('ignore')
        try:
            host = Host(stock)
        except Exception as error:
            note = f'the plain network cannot be built: {sentence_of(error)}'
            cells = [Cell(stock.config, method, FRAMEWORK, note) for method in methods]
            _append(file, cells)
            return cells
        cells = []
        for method in methods:
            cells.append(try_method(host, method))
            _append(file, cells[-1:])
    return cells


def _append(file: Path, cells: list) -> None:
    with file.open('a') as out:
        out.write(''.join(json.dumps(cell._asdict()) + '\n' for cell in cells))


def read_cells(file: str | Path) -> dict:
    """``{(config, method): cell}`` of a file, of each cell the last one.

    A line that a killed process left half-written is passed over.
    """
    found: dict = {}
    if not Path(file).is_file():
        return found
    for line in read_lines(file):
        try:
            cell = Cell(**json.loads(line))
        except (json.JSONDecodeError, TypeError):
            continue
        found[cell.config, cell.method] = cell
    return found


# ------------------------------------------------------------------------------------- the page

_GATES = tuple(method.name for method in METHODS if method.kind == 'gate')
_INTRO = """# Which method works in which network

Every method at its natural place (`mmattn.add_attention`) in {configs} stock configs of mmdet and
mmpretrain of different families: {cells} pairs, of which {works}.
The page is written by

```
python tools/analysis_tools/compatibility.py
```

with mmdet {mmdet}, mmpretrain {mmpretrain}, mmcv {mmcv} and torch {torch} on a CPU. The networks
are narrow (a quarter of their widths, where a config has widths) and start from random weights
with statistics of their own in every norm. Each pair is built and initialised, trains a step on
two images of different size (one size for a classifier), predicts, is copied, pickled and loaded
from its checkpoint.

**yes** means: the loss and all gradients are finite; every new parameter is trainable and gets
a gradient, and no gate or convolution only zeros (in each of {starts} starts, since hidden
units or a whole block may be off by chance; unless the plain convolution gets only zeros here
as well, or starts at 0); the predictions are finite; a copy that went through pickle, was
zeroed and loaded the checkpoint gives the same output; and with `init='identity'` and the
weights of the plain network the output is the plain network's, within {tolerance:.0e} relative
in float32, or that of its maps in float64 where a network makes rounding grow (deformable and
switchable convolutions, proposals that change places).

Set right beforehand, in the plain network too: CARAFE's operators and guided anchoring's masked
convolution, which mmcv has for CUDA alone, are others of the same output shape; TridentNet's
convolutions, which mmdet leaves as the memory was, have Kaiming's start.

A number is a reason, below the tables. *yes* with a number: the method works, and the number says
what this network cannot do here even without attention. A dash: the method has no place there.
"""


def page(cells: Iterable[Cell]) -> str:
    """Return the cells as a page of Markdown: two tables and the reasons."""
    cells = list(cells)
    rows: dict = {}
    for cell in cells:
        rows.setdefault(cell.config, {})[cell.method] = cell
    reasons: dict = {}
    parts = [_intro(cells, rows)]
    for framework in ('mmdet', 'mmpretrain'):
        own = {k: v for k, v in rows.items() if k.startswith(f'{framework}::')}
        if own:
            parts.append(f'## {framework}\n\n{_table(own, reasons)}')
    lines = [f'{number}. {note}' for note, number in reasons.items()]
    parts.append('## Reasons\n\n' + '\n'.join(lines))
    return '\n\n'.join(parts) + '\n'


def _intro(cells: list, rows: dict) -> str:
    counts = {status: sum(cell.status == status for cell in cells) for status in _STATUSES}
    works = f'{counts[WORKS] + counts[FRAMEWORK]} work'
    if counts[FRAMEWORK]:
        works += f' ({counts[FRAMEWORK]} of them in networks that have a fault of their own here)'
    works += f', {counts[NOT_APPLICABLE]} do not apply and {counts[FAILS]} fail'
    versions = {name: _version(name) for name in ('mmdet', 'mmpretrain', 'mmcv', 'torch')}
    return _INTRO.format(
        configs=len(rows),
        cells=len(cells),
        works=works,
        tolerance=TOLERANCE,
        starts=STARTS,
        **versions,
    )


def _version(name: str) -> str:
    try:
        return str(importlib.import_module(name).__version__)
    except ImportError:
        return '(absent)'


def _table(rows: dict, reasons: dict) -> str:
    others = [method for method in COLUMNS if method not in _GATES]
    lines = [
        f'| config | {len(_GATES)} gates | ' + ' | '.join(others) + ' |',
        '|---|' + '---|' * (len(others) + 1),
    ]
    for config, cells in rows.items():
        gates = [cells[name] for name in _GATES if name in cells]
        shown = [_gates_cell(gates, reasons)]
        shown += [_cell(cells.get(name), reasons) for name in others]
        name = re.sub(r'^\w+::|\.py$', '', config)
        lines.append(f'| {name} | ' + ' | '.join(shown) + ' |')
    return '\n'.join(lines)


def _gates_cell(cells: list, reasons: dict) -> str:
    """How many gates work, and the reasons of those that do not."""
    good = [cell for cell in cells if cell.status in (WORKS, FRAMEWORK)]
    text = 'all' if len(good) == len(cells) else f'{len(good)} of {len(cells)}'
    notes: dict = {}
    for cell in cells:
        if cell.note:
            notes.setdefault((cell.status, _number(cell.note, reasons)), []).append(cell.method)
    for (status, number), methods in notes.items():
        if status == FRAMEWORK:
            text += f' [{number}]'
        else:
            text += f'; {", ".join(methods)}: {_MARKS[status]}[{number}]'
    return text


_MARKS = {WORKS: 'yes', FRAMEWORK: 'yes ', NOT_APPLICABLE: '-', FAILS: '**fails** '}


def _cell(cell: Cell | None, reasons: dict) -> str:
    if cell is None:
        return ''
    mark = _MARKS[cell.status]
    return f'{mark.rstrip()} [{_number(cell.note, reasons)}]' if cell.note else mark


def _number(note: str, reasons: dict) -> int:
    note = re.sub(r'^\w+ cannot', 'It cannot', note)
    note = re.sub(r'(the (?:backbone|neck|head)) [A-Z]\w+', r'\1', note)
    return reasons.setdefault(note, len(reasons) + 1)
