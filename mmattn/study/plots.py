"""Plots of a study: gain over latency, and learning curves."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mmattn.study.plan import PLAIN

__all__ = ['draw_curves', 'draw_pareto']

_COLOURS = {'better': '#067647', 'worse': '#b42318', 'no difference': '#2563eb'}


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), layout='constrained')
    FigureCanvasAgg(figure)
    return figure


def draw_pareto(found: Mapping[str, Any], path: Path) -> bool:
    """Draw the gain of every method, with its interval, over what it costs at inference.

    Methods on the line have no other that is both faster and better. They are numbered from the
    largest gain on; the names stand beside the plot.

    Args:
        found: What :func:`.summarize` gave.
        path: The file; its ending says the format.

    Returns:
        Whether there was something to draw.
    """
    name = found['figure']
    points = []
    for row in found['rows']:
        cell, cost = row['figures'].get(name, {}), row['cost']
        if row['label'] != PLAIN and 'difference' in cell and 'latency' in cost:
            points.append((cost['latency'], cell['difference'], cell, row['label']))
    if not points:
        return False
    points.sort(key=lambda point: -point[1])
    figure = _figure(9, max(5, 0.21 * len(points)))
    axes = figure.add_subplot()
    axes.axhline(0, color='#98a2b3', linewidth=1)
    names = axes.plot(1, 0, 's', color='#1f2430', markersize=8, label='plain')
    for number, (latency, gain, cell, label) in enumerate(points, 1):
        colour = _COLOURS[cell['verdict']]
        if cell.get('low') is not None:
            axes.plot([latency] * 2, [cell['low'], cell['high']], color=colour, alpha=0.25)
        (point,) = axes.plot(latency, gain, 'o', color=colour, markersize=10, alpha=0.8)
        axes.annotate(number, (latency, gain), ha='center', va='center', size=6, color='white')
        point.set_label(f'{number}  {label}')
        names.append(point)
    figure.legend(handles=names, loc='outside right center', fontsize=8, markerscale=0.5)
    front, best = [(1.0, 0.0)], 0.0
    for latency, gain, *_ in sorted(points, key=lambda point: (point[0], -point[1])):
        if gain > best:
            front.append((latency, gain))
            best = gain
    axes.step(*zip(*front), where='post', color='#98a2b3', linestyle=':')
    axes.set(xlabel='latency (times plain)', ylabel=f'difference in {name} (points)')
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)
    return True


def draw_curves(found: Mapping[str, Any], path: Path) -> bool:
    """Draw training loss and validation figures of every entry, a line a run.

    Returns:
        Whether there was something to draw.
    """
    names = sorted({name for row in found['rows'] for c in row['curves'].values() for name in c})
    first = [name for name in ('loss',) if name in names]
    names = (first + [n for n in names if n not in first and not n.endswith('_precision')])[:4]
    if not names:
        return False
    figure = _figure(5 * len(names), 4)
    for number, name in enumerate(names):
        axes = figure.add_subplot(1, len(names), number + 1)
        for index, row in enumerate(found['rows']):
            colour = '#1f2430' if row['label'] == PLAIN else f'C{index % 10}'
            for place, curves in enumerate(row['curves'].values()):
                if name in curves:
                    label = row['label'] if place == 0 else None
                    x, y = zip(*curves[name])
                    axes.plot(x, y, color=colour, linewidth=1, alpha=0.8, label=label)
        axes.set(title=name, xlabel='iteration' if name == 'loss' else 'step')
        axes.grid(alpha=0.3)
        if number == 0 and len(found['rows']) <= 12:
            axes.legend(fontsize=7)
    figure.savefig(path, dpi=110)
    return True
