"""Pages of small images: what gates, SSIA's predictors, classifiers and detectors look at."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from torch import nn

from mmattn.analysis.det_cam import DetectorMap
from mmattn.analysis.panels import (
    BLUE,
    colour_bar,
    gamma_line,
    is_flat,
    overlay,
    panels,
    save,
    say_no_signal,
    show_image,
)
from mmattn.localization.drawing import Overlay, heat_rgba

__all__ = ['paint_cams', 'paint_detections', 'paint_gates', 'paint_signals', 'signals']


def paint_gates(
    found: Mapping[str, tuple],
    image: np.ndarray,
    padded: tuple[int, int],
    file: Path,
    gammas: Mapping[str, float] | None = None,
) -> None:
    """Draw a row a gate: the gain of its positions over the image, that of its channels as bars.

    The bars are sorted, and those of all gates have one axis.

    Args:
        found: what :func:`mmattn.analysis.gains.watch_gates` returns.
        image: RGB ``(H, W, 3)``.
        padded: height and width of the network's input, of which the image is the top left part.
        file: to write.
        gammas: learned scalars by module (:func:`mmattn.analysis.gammas.gammas_of`), for the
            titles.
    """
    figure, grid = panels(len(found), 2, image)
    channels = [c[np.isfinite(c)] for c, _ in found.values() if c is not None]
    top = max((c.max() for c in channels if c.size), default=1.0)
    for (name, (channel, spatial)), (left, right) in zip(found.items(), grid):
        title = '\n'.join([name, *gamma_line(name, gammas or {})])
        if spatial is None:
            show_image(left, image)
            left.set_title(f'{title}\nall positions alike', fontsize=7)
        else:
            overlay(left, image, spatial, padded)
            left.set_title(f'{title}\ngain of positions', fontsize=7)
        if channel is None:
            right.set_axis_off()
            right.set_title('all channels alike', fontsize=7)
        else:
            _bars(right, channel, 1.05 * top)
    save(figure, file)


def _bars(axes: Axes, channel: np.ndarray, top: float) -> None:
    """Gains of channels, the largest first; those of channels that are zero are left out."""
    gains = np.sort(channel[np.isfinite(channel)])[::-1]
    axes.set_title(f'gain of {len(channel)} channels, sorted', fontsize=7)
    axes.set(ylim=(0, top), xlim=(-0.5, max(len(gains), 1) - 0.5))
    axes.tick_params(labelsize=6)
    if is_flat(gains):
        say_no_signal(axes, gains)
    axes.bar(np.arange(len(gains)), gains, width=1.0, color=BLUE)
    axes.axhline(1, color='#888888', linewidth=0.6, linestyle=':')


def signals(model: nn.Module, inputs: torch.Tensor) -> list[tuple]:
    """``(name, predicted, asked for)`` of every block of SSIA, for the first image.

    Args:
        model: of type ``mmattn.SSIA``, its predictors loaded.
        inputs: the network's input batch.

    Raises:
        ValueError: the model predicts no spatial signal.
    """
    maps = [
        (f'{low} -> {high}', predicted[0, 0].numpy(), signal[0, 0].numpy())
        for (low, high), predicted, signal in model.spatial_signals(inputs)
    ]
    if not maps:
        raise ValueError('the model has lambda_s=0: there is no spatial prediction')
    return maps


def paint_signals(
    maps: Sequence[tuple], image: np.ndarray, padded: tuple[int, int], file: Path
) -> None:
    """Draw a row a block: the image, the predicted and the true signal over it.

    Args:
        maps: what :func:`signals` returns.
        image, padded, file: as :func:`paint_gates`.
    """
    figure, grid = panels(len(maps), 3, image)
    for (name, predicted, signal), row in zip(maps, grid):
        show_image(row[0], image)
        row[0].set_title(name, fontsize=7)
        for axes, heat, title in zip(row[1:], (predicted, signal), ('predicted', 'signal')):
            overlay(axes, image, heat, padded)
            axes.set_title(f'{title}, {heat.shape[0]} x {heat.shape[1]}', fontsize=7)
    save(figure, file)


def paint_cams(overlays: Sequence[Overlay], names: Sequence[str], file: Path) -> None:
    """Draw the image, and the class activation map of each checkpoint over it.

    Args:
        overlays: of one image (:func:`mmattn.localization.drawing.explain`).
        names: of the checkpoints.
        file: to write.
    """
    image = np.asarray(overlays[0].image)
    height, width = image.shape[:2]
    figure, (row,) = panels(1, 1 + len(overlays), image)
    for axes in row:
        axes.imshow(image, extent=(0, width, height, 0))
        axes.set_axis_off()
    for axes, found, name in zip(row[1:], overlays, names):
        x0, y0, x1, y1 = found.heat_xyxy
        if is_flat(found.heat):
            say_no_signal(axes, found.heat)
        else:
            axes.imshow(heat_rgba(found.heat), extent=(x0, x1, y1, y0))
            colour_bar(axes, 0, 1)
        axes.set(xlim=(0, width), ylim=(height, 0))
        axes.set_title(f'{name}\nclass {found.label}: {found.score:.2f}', fontsize=7)
    save(figure, file)


def paint_detections(
    maps: Sequence[DetectorMap],
    found: Mapping[str, torch.Tensor],
    image: np.ndarray,
    padded: tuple[int, int],
    file: Path,
    score_thr: float = 0.3,
) -> None:
    """Draw the image with all boxes, and a panel for each map with the boxes it is of.

    Args:
        maps: what :func:`mmattn.analysis.det_cam.explain_detections` returns.
        found: what :func:`mmattn.analysis.det_cam.detect` returns.
        image, padded, file: as :func:`paint_gates`.
        score_thr: boxes from this score on are drawn in the first panel.
    """
    figure, (row,) = panels(1, 1 + len(maps), image)
    show_image(row[0], image)
    sure = found['bboxes'][found['scores'] >= score_thr].detach().cpu().numpy()
    row[0].set_title(f'{len(sure)} found (score {score_thr} and above)', fontsize=7)
    _boxes(row[0], sure, image)
    for axes, one in zip(row[1:], maps):
        overlay(axes, image, one.heat, padded, low=0)
        _boxes(axes, one.boxes_xyxy, image)
        axes.set_title(
            f'{one.title}\nmap of {one.heat.shape[0]} x {one.heat.shape[1]}', fontsize=7
        )
    save(figure, file)


def _boxes(axes: Axes, boxes_xyxy: np.ndarray, image: np.ndarray) -> None:
    for x1, y1, x2, y2 in boxes_xyxy:
        for colour, width in (('#101828', 2.6), ('#ffffff', 1.2)):  # seen on any ground
            box = Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, ec=colour, lw=width)
            axes.add_patch(box)
    axes.set(xlim=(-0.5, image.shape[1] - 0.5), ylim=(image.shape[0] - 0.5, -0.5))
