"""``summary.json``, the curves as an image, and one self-contained page to read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from mmengine.logging import print_log

from mmattn.localization.drawing import BOX_COLOUR, HALO, TRUE_COLOUR, card, explain
from mmattn.localization.localizer import Localizer
from mmattn.localization.metrics import LocalizationMetrics
from mmattn.localization.structures import AnnotatedImage, ImageResult
from mmattn.localization.sweep import IOU_THRS

__all__ = [
    'MEANING',
    'class_name',
    'make_cards',
    'write_curves_png',
    'write_report',
    'write_summary',
]

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
    (work_dir / 'summary.json').write_text(json.dumps(summary, indent=1) + '\n')
    if metrics.swept:
        curves = {k: v.round(6).tolist() for k, v in metrics.curves().items()}
        (work_dir / 'curves.json').write_text(json.dumps(dict(curves, iou_thrs=IOU_THRS)) + '\n')


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
    metrics: LocalizationMetrics, width: int = 640, height: int = 300
) -> dict[str, Any]:
    """Draw the same as inline SVG parts for the page."""
    left, right, top, bottom = 44, 12, 10, 36
    w, h = width - left - right, height - top - bottom

    def place(x: float, y: float) -> tuple[float, float]:
        return round(left + x * w, 1), round(top + (1 - y) * h, 1)

    lines = []
    keep = np.unique(np.linspace(0, len(metrics.thresholds) - 1, 256).astype(int))
    for (name, values), colour in zip(curve_lines(metrics), _COLOURS):
        best = int(values.argmax())
        points = [place(metrics.thresholds[i], values[i]) for i in keep]
        lines.append(
            dict(
                name=name,
                colour=colour,
                points=' '.join(f'{x},{y}' for x, y in points),
                best=place(metrics.thresholds[best], values[best]),
                value=float(values.max()),
                threshold=float(metrics.thresholds[best]),
            )
        )
    ticks = [i / 5 for i in range(6)]
    return dict(
        width=width,
        height=height,
        lines=lines,
        x_ticks=[(t, place(t, 0)) for t in ticks],
        y_ticks=[(t, place(0, t), place(1, t)) for t in ticks],
    )


def make_cards(
    localizer: Localizer,
    results: Sequence[ImageResult],
    images: Sequence[AnnotatedImage],
    names: Sequence[str],
    iou_thr: float,
) -> list[dict[str, Any]]:
    """Gallery cards for results, in order; the maps are made again, one image at a time."""
    by_key = {p.key: p for p in images}
    cards = []
    for result in results:
        image = by_key[result.key]
        overlay = explain(localizer, image.path, image.label, image.boxes_xyxy, image.size)[-1]
        best = result.top5[0] if result.top5 else -1
        cards.append(
            dict(
                card(overlay),
                key=result.key,
                hit=result.iou >= iou_thr,
                iou=result.iou,
                true_name=class_name(names, result.label),
                best_name=class_name(names, best),
                class_right=best == result.label,
            )
        )
    return cards


def class_name(names: Sequence[str], label: int) -> str:
    """Readable name of a class, its number where no name is known."""
    return names[label] if 0 <= label < len(names) else f'class {label}'


def write_report(
    work_dir: str | Path,
    metrics: LocalizationMetrics,
    summary: dict[str, Any],
    cards: Sequence[dict[str, Any]],
    names: Sequence[str],
    command: str,
    worst: int = 20,
) -> Path:
    """Write ``report.html``: needs no network and no script to be read."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True
    )
    iou = f'{summary["iou_thr"]:g}'
    rows = []
    for key, meaning in MEANING.items():
        if summary.get(key) is not None:
            rows.append(
                dict(
                    key=key,
                    value=summary[key],
                    meaning=meaning.replace('{iou}', iou),
                    interval=summary['interval_95'].get(key),
                )
            )
    page = environment.get_template('report.html.j2').render(
        summary=summary,
        rows=rows,
        curves=svg_curves(metrics) if metrics.swept else None,
        hits=[c for c in cards if c['hit']],
        misses=[c for c in cards if not c['hit']],
        classes=metrics.class_table(names)[:worst],
        class_count=len(metrics.per_class),
        command=command,
        true_colour=TRUE_COLOUR,
        box_colour=BOX_COLOUR,
        halo=HALO,
    )
    path = Path(work_dir) / 'report.html'
    path.write_text(page, encoding='utf-8')
    return path
