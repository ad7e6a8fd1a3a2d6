"""``summary.json``, the curves as an image, and one self-contained page to read."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from mmengine.logging import print_log

from mmattn.core.text import write_text
from mmattn.localization.boxes import get_rule
from mmattn.localization.metrics import LocalizationMetrics
from mmattn.localization.results import GALLERY
from mmattn.localization.slider import slider_thresholds
from mmattn.localization.sweep import IOU_THRS
from mmattn.localization.tables import BOX_CSV, CLASS_CSV, IMAGE_CSV

__all__ = ['MEANING', 'write_curves_png', 'write_report', 'write_summary']

MEANING = {
    'gt_known': 'Box of the true class hits (IoU &ge; {iou})',
    'top1_loc': 'Best class right and its box hits',
    'top5_loc': 'One of the five best classes right and its box hits',
    'max_box_acc': 'Largest contour, best threshold, IoU &ge; 0.5',
    'max_box_acc_v2': 'Any contour, best thresholds, mean over IoU 0.3, 0.5, 0.7',
    'top1_cls': 'Best class right',
    'top5_cls': 'True class among the five best',
}
_COLOURS = ('#2563eb', '#d97706', '#7c3aed', '#0f766e')


def write_summary(
    work_dir: str | Path, metrics: LocalizationMetrics, summary: dict[str, Any]
) -> None:
    """Write ``summary.json`` and ``curves.json``."""
    work_dir = Path(work_dir)
    write_text(work_dir / 'summary.json', json.dumps(summary, indent=1) + '\n')
    if metrics.swept:
        curves = {k: v.round(6).tolist() for k, v in metrics.curves().items()}
        text = json.dumps(dict(curves, iou_thrs=IOU_THRS))
        write_text(work_dir / 'curves.json', text + '\n')


def curve_lines(metrics: LocalizationMetrics) -> list[tuple[str, np.ndarray]]:
    """List the four curves of the sweep: ``[(name, accuracies)]``."""
    curves = metrics.curves()
    lines = [('MaxBoxAcc (IoU 0.5)', curves['v1'][IOU_THRS.index(0.5)])]
    return lines + [(f'V2, IoU {t}', c) for t, c in zip(IOU_THRS, curves['v2'])]


def write_curves_png(work_dir: str | Path, metrics: LocalizationMetrics) -> None:
    """Draw accuracy against threshold; leave it out with a word where matplotlib is missing."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        print_log('curves.png left out: matplotlib is not installed', 'current')
        return
    figure = Figure(figsize=(7, 4), layout='constrained')
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    thresholds = metrics.thresholds
    for (name, values), colour in zip(curve_lines(metrics), _COLOURS):
        axes.plot(thresholds, values, color=colour, label=f'{name}: {values.max():.3f}')
        best = int(values.argmax())
        axes.plot(thresholds[best], values[best], 'o', color=colour, markersize=4)
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel='threshold (fraction of the map)')
    axes.set_ylabel('accuracy')
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(Path(work_dir) / 'curves.png', dpi=120)


def svg_curves(
    metrics: LocalizationMetrics,
    thresholds: Sequence[float],
    baseline: Mapping[str, float] | None = None,
    width: int = 640,
    height: int = 300,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Draw the same as inline SVG parts for the page.

    Args:
        metrics: A swept one.
        thresholds: Those of the slider.
        baseline: The centre box, or None.
        width, height: Of the drawing.

    Returns:
        ``(what the page shows, what its script moves the mark with)``.
    """
    left, right, top, bottom = 44, 12, 10, 36
    w, h = width - left - right, height - top - bottom

    def place(x: float, y: float) -> tuple[float, float]:
        return round(left + x * w, 1), round(top + (1 - y) * h, 1)

    lines, mark = [], dict(top=top, bottom=top + h, y=[], values=[])
    last = len(metrics.thresholds) - 1
    keep = np.unique(np.linspace(0, last, 256).astype(int))
    nearest = [int(np.abs(metrics.thresholds - t).argmin()) for t in thresholds]
    mark['x'] = [place(t, 0)[0] for t in thresholds]
    for name, values in curve_lines(metrics):
        best = int(values.argmax())
        points = [place(metrics.thresholds[i], values[i]) for i in keep]
        lines.append(
            dict(
                name=name,
                points=' '.join(f'{x},{y}' for x, y in points),
                best=place(metrics.thresholds[best], values[best]),
                value=float(values.max()),
                threshold=float(metrics.thresholds[best]),
            )
        )
        mark['values'].append([round(float(values[i]), 4) for i in nearest])
        mark['y'].append([place(0, values[i])[1] for i in nearest])
    ticks = [i / 5 for i in range(6)]
    level = baseline and baseline['gt_known']
    shown = dict(
        width=width,
        height=height,
        lines=lines,
        x_ticks=[(t, place(t, 0)) for t in ticks],
        y_ticks=[(t, place(0, t), place(1, t)) for t in ticks],
        baseline=(place(0, level), place(1, level)) if baseline else None,
    )
    return shown, mark


def write_report(
    work_dir: str | Path,
    summary: dict[str, Any],
    cards: Sequence[dict[str, Any]],
    names: Sequence[str] = (),
    command: str = '',
    metrics: LocalizationMetrics | None = None,
    names_assumed: bool = False,
    gallery: int = GALLERY,
) -> Path:
    """Write ``report.html``: one file that needs no network, and no script to be read.

    Args:
        work_dir: Its folder; the tables of :mod:`~mmattn.localization.tables` lie there already.
        summary: What ``summary.json`` holds.
        cards: What :func:`~mmattn.localization.cards.make_cards` gave.
        names: Class names in label order.
        command: The command line.
        metrics: The counts, or None where there are no true boxes.
        names_assumed: Whether the names are ImageNet's for want of any.
        gallery: Hits, and misses, that were picked at most.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / 'page'),
        autoescape=jinja2.select_autoescape(['j2']),
        trim_blocks=True,
    )
    thresholds = slider_thresholds(get_rule(summary['rule']))
    data = dict(
        rule=summary['rule'],
        thresholds=thresholds,
        start=thresholds.index(summary['rule']['threshold']),
        iou_thr=summary.get('iou_thr'),
        images=[_for_script(card) for card in cards],
    )
    curves = None
    if metrics is not None and metrics.swept:
        curves, data['curves'] = svg_curves(metrics, thresholds, summary.get('baseline'))
    page = environment.get_template('report.html.j2').render(
        summary=summary,
        rows=_rows(summary),
        curves=curves,
        compared=summary.get('compared'),
        cards=cards,
        data=data,
        gallery=gallery,
        classes_shown=sorted({(c['label'], c['name']) for c in cards}, key=lambda c: c[::-1]),
        classes=metrics.class_table(names) if metrics is not None else None,
        downloads=_downloads(Path(work_dir)),
        command=command,
        names_assumed=names_assumed,
    )
    path = Path(work_dir) / 'report.html'
    path.write_text(page, encoding='utf-8', errors='replace')
    return path


def _for_script(card: Mapping[str, Any]) -> dict[str, Any]:
    kept = ('key', 'label', 'score', 'shot', 'iou', 'hit', 'class_right', 'other_iou')
    return dict({k: card[k] for k in kept if k in card}, truth=card['truth_xyxy'])


def _rows(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """List the figures that a summary has, each with its meaning and its interval."""
    return [
        dict(
            key=key,
            value=summary[key],
            meaning=meaning.replace('{iou}', f'{summary["iou_thr"]:g}'),
            interval=summary['interval_95'].get(key),
        )
        for key, meaning in MEANING.items()
        if summary.get(key) is not None
    ]


def _downloads(work_dir: Path, largest: int = 300_000) -> list[tuple[str, str, str]]:
    """List the tables to save: inside the page where they are small, else beside it."""
    found = []
    known = {IMAGE_CSV: 'a row an image', CLASS_CSV: 'a row a class', BOX_CSV: 'a row a box'}
    for name, what in known.items():
        file = work_dir / name
        if not file.is_file():
            continue
        href = name
        if file.stat().st_size <= largest:
            href = f'data:text/csv;base64,{base64.b64encode(file.read_bytes()).decode()}'
        else:
            what += ', beside this page'
        found.append((name, href, what))
    return found
