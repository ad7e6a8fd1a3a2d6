"""The papers' tables as a page: every row with its figure, its config and the command to run it.

The rows stand in the metafiles of ``configs/``, which hold the papers' figures once. A collection
names its paper, its ``Tables`` (name, text and, where a row is no training, the command), and in
``Without Config`` the rows that have none and why; a model names the rows it is for in ``Rows``::

    Rows:
      - {Table: Table 1, Row: ResNet50, Figure: 24.56 / 7.50, Measured: ''}
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from mmattn.core.names import did_you_mean
from mmattn.core.text import read_text

__all__ = ['Paper', 'Row', 'Table', 'as_page', 'read_papers']

_HEAD = """# Reproducing the papers

Every row of the papers' tables that our texts hold: the figure **as the paper prints it**, the
config of the row, the command, and what we measured with it. Made by
`python tools/analysis_tools/reproduce.py --out docs/reproduce.md` from the metafiles in
`configs/`.

*Paper* is empty where the texts we have give no figure. *Measured* is empty where nobody has run
the config on the whole of its data; what we measured on other data is in
[does_attention_help.md](does_attention_help.md), [bccd.md](bccd.md) and [ssia.md](ssia.md).
A row without a config says why. Where the recipe differs from the paper's, the README next to the
config says so. The data sets and where they are looked for: [datasets.md](datasets.md).
"""


@dataclass(frozen=True)
class Row:
    """A row of a paper's table.

    Args:
        name: What the paper calls it.
        figure: As printed, or empty.
        config: The file below the repository, or empty.
        command: What runs it, or empty.
        measured: Our figure, or empty.
        why: Why there is no config.
    """

    name: str
    figure: str = ''
    config: str = ''
    command: str = ''
    measured: str = ''
    why: str = ''


@dataclass
class Table:
    """A table of a paper.

    Args:
        name: ``Table 1`` or what it is about.
        text: Data, metric and unit.
        command: Of its rows, ``{config}`` being the row's file; empty: the training of the config.
        rows: In the order of the metafiles.
    """

    name: str
    text: str
    command: str = ''
    rows: list[Row] = field(default_factory=list)


@dataclass
class Paper:
    """A paper and its tables by name."""

    title: str
    url: str = ''
    tables: dict[str, Table] = field(default_factory=dict)


def read_papers(index: str | Path) -> list[Paper]:
    """Read the papers' tables from the metafiles.

    Args:
        index: ``model-index.yml``, which names the metafiles.

    Returns:
        The papers in the order of the index.

    Raises:
        ValueError: A row is of no table, or has an unknown key.
    """
    index = Path(index)
    papers: dict[str, Paper] = {}
    for name in yaml.safe_load(read_text(index))['Import']:
        metafile = yaml.safe_load(read_text(index.parent / name))
        owners = {}
        for collection in metafile['Collections']:
            about = collection.get('Paper') or {}
            title = about.get('Title')
            if title is None:
                continue
            paper = papers.setdefault(title, Paper(title, about.get('URL', '')))
            owners[collection['Name']] = paper
            for table in collection.get('Tables', ()):
                made = Table(table['Name'], table['Text'], table.get('Command', ''))
                paper.tables.setdefault(made.name, made)
            for row in collection.get('Without Config', ()):
                _add(paper, row, name, why=row['Why'])
        for model in metafile['Models']:
            for row in model.get('Rows', ()):
                _add(owners[model['In Collection']], row, name, config=model['Config'])
    return list(papers.values())


_KEYS = {'Table', 'Row', 'Figure', 'Measured', 'Why'}


def _add(paper: Paper, row: Mapping[str, Any], file: str, config: str = '', why: str = '') -> None:
    for key in row:
        if key not in _KEYS:
            raise ValueError(f'{file}: a row has no key {key!r}{did_you_mean(key, _KEYS)}')
    table = paper.tables.get(row['Table'])
    if table is None:
        hint = did_you_mean(row['Table'], paper.tables)
        raise ValueError(f'{file}: row {row["Row"]!r} is of no table {row["Table"]!r}{hint}')
    command = (table.command or _training(config)).format(config=config) if config else ''
    made = Row(row['Row'], row.get('Figure', ''), config, command, row.get('Measured', ''), why)
    table.rows.append(made)


def _training(config: str) -> str:
    """Return the command that trains a config on as many GPUs as its name says."""
    found = re.search(r'_(\d+)xb\d+', config)
    gpus = int(found[1]) if found else 8 if '_1x_' in config else 1
    if gpus == 1:
        return 'python tools/train.py {config}'
    return f'bash tools/dist_train.sh {{config}} {gpus}'


def as_page(papers: Sequence[Paper]) -> str:
    """Return the page in Markdown."""
    parts = [_HEAD]
    for paper in papers:
        title = f'[{paper.title}]({paper.url})' if paper.url else paper.title
        tables = [table for table in paper.tables.values() if table.rows]
        if tables:
            parts.append(f'## {title}\n')
        for table in sorted(tables, key=lambda table: _natural(table.name)):
            parts += [f'### {table.name}: {table.text}\n', _rows(table)]
    return '\n'.join(parts)


def _rows(table: Table) -> str:
    lines = ['| row | paper | config | command | measured |', '|---|---|---|---|---|']
    for row in table.rows:
        if row.config:
            where, command = f'[config](../{row.config})', f'`{row.command}`'
        else:
            where, command = f'none: {row.why}', ''
        lines.append(f'| {row.name} | {row.figure} | {where} | {command} | {row.measured} |')
    return '\n'.join(lines) + '\n'


def _natural(text: str) -> tuple:
    """Sort key: tables with a number by it and first, the others in their order."""
    number = re.match(r'Table (\d+)', text)
    return (0, int(number[1])) if number else (1, 0)
