"""A page for each method, from its row, its docstring, its config and the table of costs."""

import inspect
import re
from pathlib import Path

from docsite.drawings import block, network
from mmattn.analysis.method_table import MethodRow, measured, paper_link, read_methods
from mmattn.insertion.methods import METHODS as PLACES
from mmattn.registry import MODELS

__all__ = ['method_pages', 'page_name']

_STAGES = ('C2', 'C3', 'C4', 'C5')
_DETECTOR = 'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py'
_CLASSIFIER = 'mmpretrain::resnet/resnet50_8xb32_in1k.py'
# a norm that trains with the one or two images a GPU that detectors have
_NORMS = {
    'AWConv2d': "dict(type='AWConv2d', norm='GN')",
    'AWFPN': "dict(type='AWFPN', conv_cfg=dict(type='mmattn.AWConv2d', norm='GN'))",
}
_PAGES = {'TDResNet': 'tdam', 'SSIA': 'ssia'}  # methods with a page of docs/ on top
_IDENTITY = (
    "With `init='identity'` the network equals the plain one at the start and keeps its weights; "
    "from scratch, `init='paper'` is the method as published."
)
_TRAINED = 'The network keeps its weights: nothing is inserted that could change its maps.'
_PAGE = """# {title}

{summary}

| | |
|---|---|
| registered as | `mmattn.{row.name}` |
| slot | {row.slot} |
| paper | {paper} |
| place in its paper | {natural} |
| place in the config below | {row.place} |

## What it computes

{formula}

## Where it sits

{drawing}

## In one line

```python
import mmattn

cfg = mmattn.add_attention(
    '{host}',
    {line},
{init})
```

{start_note} Another place: [backbones](../backbones.md).

## Cost

{cost}

## Config

[configs/{row.config}.py](../../configs/{row.config}.py)

```python
{config}```

## Accuracy

| | |
|---|---|
| measured here | {measured} |
| the paper reports | {reported} |
{more}
## Paper and options

```{{eval-rst}}
.. autoclass:: {path}
{no_index}```
"""


def page_name(row: MethodRow) -> str:
    """Return the name of a row's page: that of the method, or of the config of a sequence."""
    if row.name == 'Sequence':
        return 'sequence-' + re.search(r'r50-(.+?)_', row.config)[1]
    return row.name.lower()


def method_pages(root: Path) -> dict[str, str]:
    """Return the text of every page by its name.

    Args:
        root: the folder of the project.
    """
    MODELS.import_from_location()
    costs = _costs(root / 'docs' / 'methods.md')
    pages, seen = {}, set()
    for row in read_methods():
        pages[page_name(row)] = _page(root, row, costs[row.config], row.name in seen)
        seen.add(row.name)
    return pages


def _costs(page: Path) -> dict[str, tuple[str, str]]:
    """Parameters and GMACs by config, as docs/methods.md has them (a test counts them)."""
    pattern = r'\(\.\./configs/(.+?)\.py\) \| (\+[\d,]+) \| (\+[\d.]+) \|'
    return {
        config: (params, macs) for config, params, macs in re.findall(pattern, page.read_text())
    }


def _page(root: Path, row: MethodRow, cost: tuple[str, str], again: bool) -> str:
    kind = MODELS.module_dict[row.name]
    place = next(method for method in PLACES if method.name == row.name)
    doc = inspect.getdoc(kind).split('\n\n')
    params, macs = cost
    image = 'one 224 x 224 image'
    start = 'a classifier of ResNet-50' if row.slot == 'head' else 'ResNet-50 with FPN'
    more, found = '', measured(row, root)
    identity = 'init' in inspect.signature(kind).parameters or row.name in ('AWFPN', 'TDResNet')
    if row.name in _PAGES:
        more = f'\nMore on it: [{_PAGES[row.name]}.md](../{_PAGES[row.name]}.md).\n'
    return _PAGE.format(
        row=row,
        title=row.title or row.name,
        summary=_markdown(doc[0]),
        formula=_formula(row.name, _gates(root, row)),
        paper=paper_link(row.paper),
        natural=place.place,
        drawing='\n\n'.join(_drawings(place)),
        host=_CLASSIFIER if row.slot == 'head' else _DETECTOR,
        line=_one_line(root, row),
        init="    init='identity',\n" if identity else '',
        start_note=_IDENTITY if identity else _TRAINED,
        cost=f'{params} parameters and {macs} GMACs on {start}, {image}.',
        config=(root / 'configs' / f'{row.config}.py').read_text(),
        measured='nothing yet' if found == 'no' else found.replace('docs/', '../'),
        reported='no figure in the texts we worked from' if row.reported == '-' else row.reported,
        more=more,
        path=f'{kind.__module__}.{kind.__name__}',
        no_index='   :no-index:\n' if again else '',
    )


def _one_line(root: Path, row: MethodRow) -> str:
    """Return the method as add_attention takes it: its name, or a dict where it needs options."""
    if row.name in _NORMS:
        return _NORMS[row.name]
    gates = ', '.join(f"dict(type='{gate}')" for gate in _gates(root, row))
    return f"dict(type='Sequence', gates=[{gates}])" if gates else repr(row.name)


def _gates(root: Path, row: MethodRow) -> list[str]:
    """Return the gates of a sequence, in the order of its config."""
    if row.name != 'Sequence':
        return []
    text = (root / 'configs' / f'{row.config}.py').read_text()
    return re.findall(r"'mmattn\.(\w+)'", text[text.index('gates=') :])


def _formula(name: str, gates: list[str]) -> str:
    """Return the paragraph with the formulas of a docstring, of a sequence that of each gate."""
    if gates:
        parts = [f'g_{k}, `{gate}`: {_formula(gate, [])}' for k, gate in enumerate(gates, 1)]
        return '\n\n'.join(['`out = g_k(... g_1(x))`:', *parts])
    paragraphs = inspect.getdoc(MODELS.module_dict[name]).split('\n\n')
    return _markdown(next(p for p in paragraphs if p.startswith('``')))


def _markdown(text: str) -> str:
    """Turn a docstring's literals and roles into Markdown's."""
    text = re.sub(r':\w+:`~?([\w.]+)`', r'`\1`', text)
    return re.sub(r'``(.+?)``', r'`\1`', text, flags=re.DOTALL)


def _drawings(place: tuple) -> list[str]:
    """Draw the network with the method marked and, of what stands in blocks, a block."""
    name, kind = place.name, place.kind
    words = f'{name}: {place.place}'
    if kind == 'neck':
        return [network(words, neck=True)]
    if kind == 'head':
        return [network(words, after=('C3', 'C4', 'C5'), head=True)]
    if kind == 'model':
        return [network(words, after=_STAGES[1:])]
    stages = _STAGES[place.stages]
    if kind == 'conv':
        return [network(words, inside=stages), block(words, conv=True)]
    if kind == 'twin':
        stages = ('C4', 'C5')
        return [network(words, inside=stages), block(words, feedback=True)]
    if place.position == 'after_stage':
        return [network(words, after=stages)]
    return [network(words, inside=stages), block(words, place.position)]
