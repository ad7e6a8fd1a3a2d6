"""Every method with its source, place, config, cost on ResNet-50 and what is known of its gain.

``methods.yml`` holds the rows. The costs are those of the config's backbone and neck (or head) for
one 224 x 224 image, less those of the plain network.
"""

import copy
import json
import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch
import yaml
from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.registry import MODELS, init_default_scope
from torch import nn

from mmattn.analysis.complexity import Complexity, measure_complexity
from mmattn.core.text import read_text

__all__ = [
    'MethodRow',
    'costs',
    'costs_table',
    'measured',
    'paper_link',
    'read_methods',
    'short_table',
]

ROWS = Path(__file__).with_name('methods.yml')
PLAIN = {
    'mmdet': 'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py',
    'mmpretrain': 'mmpretrain::resnet/resnet50_8xb32_in1k.py',
}


class MethodRow(NamedTuple):
    """A row of ``methods.yml``, whose head says what each field means."""

    name: str
    words: str
    sentence: str
    paper: str
    slot: str
    place: str
    config: str
    reported: str = '-'
    measured: str = ''
    study: str = ''
    title: str = ''


def read_methods(path: str | Path = ROWS) -> list[MethodRow]:
    """Every method, in the order of the tables.

    Args:
        path: a file like ``methods.yml``.
    """
    return [MethodRow(**row) for row in yaml.safe_load(read_text(path))]


@cache
def costs(config: str) -> tuple[int, int]:
    """Parameters and multiply-accumulates that a config adds to plain ResNet-50.

    Args:
        config: path of the config.
    """
    cfg = Config.fromfile(config)
    ours, plain = _count(cfg), _count(get_config(PLAIN[cfg.default_scope]))
    return ours.params - plain.params, ours.macs - plain.macs


def measured(row: MethodRow, root: str | Path) -> str:
    """Say what the pages and the finished studies of this project found of a method.

    Args:
        row: of the method.
        root: the folder that holds ``docs/studies``.

    Returns:
        The differences to plain with their 95 % intervals and verdicts; ``'no'`` without any.
    """
    found = [row.measured] if row.measured else []
    for path in sorted(Path(root, 'docs', 'studies').glob('*/study.json')):
        study = json.loads(read_text(path))
        if study['missing']:  # what is unfinished is not quoted
            continue
        name, figure = path.parent.name, study['figure']
        for entry in study['rows']:
            gain = entry['figures'].get(figure, {})
            if entry['asked'] == (row.study or row.name) and 'verdict' in gain:
                found.append(
                    f'[{name}](docs/studies/{name}/study.md) {figure} {gain["difference"]:+.1f} '
                    f'({gain["low"]:+.1f} to {gain["high"]:+.1f}): {gain["verdict"]}'
                )
    return '; '.join(found) or 'no'


def short_table(root: str | Path, configs: str = 'configs') -> str:
    """Return the README's table, in Markdown.

    Args:
        root: the folder that holds ``docs/studies``.
        configs: the folder of configs, as the page's links name it.
    """
    lines = ['| method | what it does | paper | slot | measured |', '|---|---|---|---|---|']
    for row in read_methods():
        name = f'[`{row.name}`]({configs}/{row.config}.py)'
        cells = (name, row.words, paper_link(row.paper), row.slot, measured(row, root))
        lines.append(f'| {" | ".join(cells)} |')
    return '\n'.join(lines)


def costs_table(root: str | Path) -> str:
    """Return the table of docs/methods.md, in Markdown: place, cost and the papers' figures.

    Args:
        root: the folder that holds ``configs``.
    """
    lines = [
        '| method | what it does | here | parameters | GMACs | papers report |',
        '|---|---|---|---:|---:|---|',
    ]
    for row in read_methods():
        params, macs = costs(str(Path(root, 'configs', f'{row.config}.py')))
        config = f'[{row.place}](../configs/{row.config}.py)'
        lines.append(
            f'| `{row.name}` | {row.sentence} | {config} | +{params:,} | +{macs / 1e9:.3f} '
            f'| {row.reported} |'
        )
    return '\n'.join(lines)


def paper_link(paper: str) -> str:
    """Return an arXiv id as a link, and any other source as it is."""
    arxiv = re.fullmatch(r'\d{4}\.\d{4,5}', paper)
    return f'[{paper}](https://arxiv.org/abs/{paper})' if arxiv else paper


def _count(cfg: Config) -> Complexity:
    """Backbone and neck or head of a config's model, one image of 224 x 224."""
    init_default_scope(cfg.default_scope)
    model = copy.deepcopy(cfg.model.get('model', cfg.model))  # SSIA is around another model
    model.backbone.init_cfg = None
    parts = [model.backbone, *(model[key] for key in ('neck', 'head') if model.get(key))]
    net = nn.Sequential(*(MODELS.build(part) for part in parts)).to('meta')
    return measure_complexity(net, torch.zeros(1, 3, 224, 224, device='meta'))
