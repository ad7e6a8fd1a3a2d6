"""What a study found: ``study.json``, ``study.csv``, ``study.md``, and the command to try next."""

import csv
import io
import json
import math
import shlex
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mmattn.core.text import write_text
from mmattn.study.plan import PLAIN
from mmattn.study.runs import Run
from mmattn.study.scores import FIGURES, Figure, collect
from mmattn.study.settings import schedule
from mmattn.study.statistics import Comparison, Scores, compare, visible_with
from mmattn.study.study import Study

__all__ = ['as_csv', 'as_markdown', 'next_command', 'summarize', 'write_tables']

MORE_SEEDS = (3, 5, 10, 20)


def summarize(study: Study, costs: Mapping[str, Any], command: list[str]) -> dict[str, Any]:
    """Everything that is known, as ``study.json`` holds it.

    Args:
        study: The study, finished or not.
        costs: What :func:`.measure_costs` gave.
        command: The command line.

    Raises:
        ValueError: Runs were tested on different images.
    """
    runs: dict[str, dict[int, Run]] = {}
    failed: dict[str, str] = {}
    missing = 0
    for run in study.runs():
        if run.finished:
            runs.setdefault(run.label, {})[run.seed] = run
        elif run.failure():
            failed[f'{run.label}, seed {run.seed}'] = run.failure()
        else:
            missing += 1
    unit, length = schedule(study.entries[0].config)
    found: dict[str, Any] = dict(
        title=study.title,
        command=shlex.join(command),
        schedule=f'{length} {unit}',
        seeds=list(study.seeds),
        tested=f'best {study.best}' if study.best else 'last checkpoint',
        images=0,
        kind='',
        figure='',
        notes=study.notes,
        refused=study.refused,
        failed=failed,
        missing=missing,
        hours=0.0,
        machines=[],
        rows=[],
    )
    if PLAIN not in runs:
        return found
    kind, images, scores = collect(runs, study.truth(), study.work_dir / 'resampled')
    results = [run.result() for own in runs.values() for run in own.values()]
    figures = _figures(kind, scores)
    found.update(
        kind=kind,
        images=images,
        figure=next(iter(figures)),
        figures={name: figure._asdict() for name, figure in figures.items()},
        hours=round(sum(one['train_seconds'] for one in results) / 3600, 2),
        machines=sorted({one['machine'] for one in results}),
    )
    compared = {name: _compare(scores[name], figure, images) for name, figure in figures.items()}
    more = [count for count in MORE_SEEDS if count > len(study.seeds)]
    found['visible_with'] = visible_with(compared[found['figure']], more)
    for entry in study.entries:
        if entry.label not in runs:
            continue
        own = runs[entry.label]
        row: dict[str, Any] = dict(
            label=entry.label,
            asked=entry.asked,
            changes=entry.changes,
            seeds=sorted(own),
            minutes=round(
                sum(run.result()['train_seconds'] for run in own.values()) / 60 / len(own), 1
            ),
            curves={str(seed): run.result()['curves'] for seed, run in own.items()},
            cost=dict(costs.get(entry.label, {})),
            figures={},
        )
        for name in figures:
            if entry.label in scores[name]:
                values = scores[name][entry.label].values
                cell = dict(mean=_mean(values), values={str(s): v for s, v in values.items()})
                if entry.label in compared[name]:
                    one = compared[name][entry.label]
                    cell.update(_plain(asdict(one)), words=one.words(2))
                row['figures'][name] = cell
        found['rows'].append(row)
    found['next'] = next_command(found, command)
    return found


def _figures(kind: str, scores: Mapping[str, Any]) -> dict[str, Figure]:
    """Ours in their order, then those of the config's own evaluator."""
    known = {figure.name: figure for figure in FIGURES.get(kind, ())}
    own = {name: Figure(name, 'of its evaluator', 1, 3) for name in scores if name not in known}
    return {name: figure for name, figure in {**known, **own}.items() if name in scores}


def _compare(scores: Mapping[str, Scores], figure: Figure, images: int) -> dict[str, Comparison]:
    """Differences to plain; where less is better, the signs are turned for the test and back."""
    signed = {label: _turned(one, figure.sign) for label, one in scores.items()}
    plain = signed.pop(PLAIN)
    found = compare(plain, signed, images)
    if figure.sign < 0:
        for one in found.values():
            one.difference = -one.difference
            one.low, one.high = -one.high, -one.low
            one.alone_low, one.alone_high = -one.alone_high, -one.alone_low
    return found


def _turned(scores: Scores, sign: int) -> Scores:
    if sign > 0:
        return scores
    sets = scores.resampled
    return Scores(
        {seed: -value for seed, value in scores.values.items()},
        None if sets is None else {seed: -values for seed, values in sets.items()},
    )


def _mean(values: Mapping[int, float]) -> float:
    return sum(values.values()) / len(values)


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """As JSON has it: no nan, no numpy."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, tuple):
            found[name] = list(value)
        elif isinstance(value, str | int):
            found[name] = value
        else:
            found[name] = None if not math.isfinite(value) else float(f'{float(value):.6g}')
    return found


def next_command(found: Mapping[str, Any], command: list[str]) -> str:
    """Return what to try next: the rest of the runs, or one method alone with fresh seeds.

    It is the method that did best. Chosen among many, it was lucky too, and only starts that it
    was not chosen by tell what it is worth: as many as there were where it was found better, else
    as many as would see its difference, if that is real.
    """
    if found['failed'] or found['missing']:
        return shlex.join(command)
    name = found['figure']
    rows = [row for row in found['rows'] if row['label'] != PLAIN]
    if not rows:
        return shlex.join(command)
    better = [r for r in rows if r['figures'][name].get('verdict') == 'better']
    chosen = max(better or rows, key=lambda row: row['figures'][name]['difference'])
    cell, count = chosen['figures'][name], len(found['seeds'])
    first = max(found['seeds']) + 1
    if not better:
        size, visible = abs(cell['difference']), cell.get('visible') or 0
        times = (visible / size) ** 2 if size else 4
        count = max(min(math.ceil(count * times), 4 * count), count + 2)
    seeds = list(range(first, first + count))
    return shlex.join(_exchanged(command, chosen['asked'], seeds))


def _exchanged(command: list[str], method: str, seeds: list[int]) -> list[str]:
    """Return the command with one method, other seeds and another work dir."""
    given = {'--methods': [method], '--seeds': [str(seed) for seed in seeds]}
    words, skipping = [], False
    for number, word in enumerate(command):
        if word.startswith('--'):
            skipping = word in given or word == '--out'
        if skipping:
            continue
        words.append(f'{word}-next' if command[number - 1] == '--work-dir' else word)
    return [*words, *(w for name, values in given.items() for w in (name, *values))]


def write_tables(found: Mapping[str, Any], out: Path) -> None:
    """Write ``study.json``, ``study.csv`` and ``study.md``."""
    write_text(out / 'study.json', json.dumps(found, indent=1) + '\n')
    write_text(out / 'study.csv', as_csv(found))
    write_text(out / 'study.md', as_markdown(found))


def as_csv(found: Mapping[str, Any]) -> str:
    """One line for every entry and figure."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator='\n')
    names = ['difference', 'low', 'high', 'p_holm', 'visible', 'verdict']
    costs = ['params', 'macs', 'latency_ms', 'latency', 'step']
    writer.writerow(['entry', 'figure', 'runs', 'mean', *names, *costs])
    for row in found['rows']:
        for name, cell in row['figures'].items():
            values = [cell.get(n, '') for n in names] + [row['cost'].get(n, '') for n in costs]
            writer.writerow([row['label'], name, len(cell['values']), cell['mean'], *values])
    return text.getvalue()


def as_markdown(found: Mapping[str, Any]) -> str:
    """Tables to read, and what a reader should know."""
    lines = [f'# Study: {found["title"]}', '']
    if not found['rows']:
        lines += ['No run of the plain config has finished yet.', '']
    else:
        lines += [_sentence(found), '', *_main_table(found), '']
        if found['visible_with']:
            lines += [_more_seeds(found), '']
        lines += [*_figure_table(found), '']
    for title, group in (('Cannot stand in this network', 'refused'), ('Failed runs', 'failed')):
        if found[group]:
            lines += [f'## {title}', '', *(f'- {k}: {v}' for k, v in found[group].items()), '']
    if found['notes']:
        lines += ['## Notes', '', *(f'- {note}' for note in found['notes']), '']
    changed = [(row['label'], row['changes']) for row in found['rows'] if row['changes']]
    if changed:
        lines += ['Besides the model, these differ from plain:', '']
        lines += [f'- {label}: {"; ".join(changes)}' for label, changes in changed] + ['']
    lines += ['## How this was made', '', '```shell', found['command'], '```', '']
    if found['rows']:
        lines += [f'{found["hours"]} hours of training; {"; ".join(found["machines"])}.', '']
        lines += ['The next command to try:', '', '```shell', found['next'], '```', '']
    return '\n'.join(lines)


def _sentence(found: Mapping[str, Any]) -> str:
    unfinished = ''
    if found['missing'] or found['failed']:
        unfinished = (
            f' **Unfinished: {found["missing"]} runs are to come, {len(found["failed"])} failed.**'
        )
    return (
        f'{found["schedule"]}, seeds {", ".join(map(str, found["seeds"]))}, {found["tested"]}, '
        f'{found["images"]} test images.{unfinished} *Difference* is the mean of method minus '
        'plain over the seeds both have. Its 95 % interval holds the chance of the starts and of '
        'the test images, and is widened for the number of methods (Holm): it leaves out 0 '
        'exactly where the verdict is *better* or *worse*.'
    )


def _more_seeds(found: Mapping[str, Any]) -> str:
    each = [f'{value:.1f} with {count}' for count, value in found['visible_with'].items()]
    return (
        'More seeds see more. The smallest difference of one of these methods that this study '
        f'would see four times in five: {", ".join(each)} seeds each.'
    )


def _signed(value: float | None, digits: int = 1) -> str:
    return '' if value is None else f'{value:+.{digits}f}'


def _main_table(found: Mapping[str, Any]) -> list[str]:
    name = found['figure']
    digits = 2 if found['kind'] == 'classification' else 1
    lines = [
        f'| method | {name} (single runs) | difference | 95 % interval | verdict | parameters '
        '| GMACs | latency | step |',
        '|---|---|---:|---|---|---:|---:|---:|---:|',
    ]
    for row in found['rows']:
        cell, cost = row['figures'].get(name), row['cost']
        if cell is None:
            continue
        single = ', '.join(f'{value:.1f}' for value in cell['values'].values())
        interval = ''
        if cell.get('low') is not None:
            interval = f'{_signed(cell["low"], digits)} to {_signed(cell["high"], digits)}'
        params = f'{cost["params"]:,}' if 'params' in cost else ''
        macs = f'{cost["macs"] / 1e9:.3f}' if 'macs' in cost else ''
        ratios = [f'{cost[n]:.2f}x' if n in cost else '' for n in ('latency', 'step')]
        lines.append(
            f'| {row["label"]} | {cell["mean"]:.1f} ({single}) '
            f'| {_signed(cell.get("difference"), digits)} | {interval} | {cell.get("words", "")} '
            f'| {params} | {macs} | {ratios[0]} | {ratios[1]} |'
        )
    return lines


def _figure_table(found: Mapping[str, Any]) -> list[str]:
    """Differences of the other figures, each with its interval alone."""
    names = [name for name in found['figures'] if name != found['figure']]
    if not names:
        return []
    lines = [
        'Differences in the other figures, each with the 95 % interval of one comparison alone '
        '(many are shown: some leave out 0 by chance):',
        '',
        '| method | ' + ' | '.join(names) + ' |',
        '|---' * (len(names) + 1) + '|',
    ]
    for row in found['rows']:
        cells = []
        for name in names:
            cell = row['figures'].get(name)
            if cell is None:
                cells.append('')
            elif 'difference' not in cell:
                cells.append(f'{cell["mean"]:.1f}')
            else:
                text = _signed(cell['difference'])
                if cell.get('alone_low') is not None:
                    low, high = _signed(cell['alone_low']), _signed(cell['alone_high'])
                    text += f' ({low} to {high})'
                cells.append(text)
        lines.append(f'| {row["label"]} | ' + ' | '.join(cells) + ' |')
    return lines
