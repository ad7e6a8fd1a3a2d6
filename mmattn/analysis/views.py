"""Pages of small images: what gates, SSIA's predictors and classifiers look at."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import matplotlib
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import nn

from mmattn.localization.drawing import Overlay, heat_rgba

matplotlib.use('Agg')
import matplotlib.pyplot as plt  # noqa: E402

__all__ = ['paint_cams', 'paint_gates', 'paint_signals', 'signals']


def paint_gates(
    found: Mapping[str, tuple], image: np.ndarray, padded: tuple[int, int], file: Path
) -> None:
    """Return a row a gate: the gain of its positions over the image, that of its channels as bars.

    Args:
        found: what :func:`mmattn.analysis.gains.watch_gates` returns.
        image: RGB ``(H, W, 3)``.
        padded: height and width of the network's input, of which the image is the top left part.
        file: to write.
    """
    figure, grid = _panels(len(found), 2, image)
    for (name, (channel, spatial)), (left, right) in zip(found.items(), grid):
        if spatial is None:
            left.imshow(image)
            left.set_axis_off()
            left.set_title(f'{name}\nall positions alike', fontsize=7)
        else:
            low, high = _overlay(left, image, spatial, padded)
            left.set_title(f'{name}\n{low:.2f} (blue) to {high:.2f} (red)', fontsize=7)
        if channel is None:
            right.set_axis_off()
            right.set_title('all channels alike', fontsize=7)
        else:
            right.bar(np.arange(len(channel)), channel, width=1.0, color='#2f6fb3')
            right.set_title(f'gain of {len(channel)} channels', fontsize=7)
            right.tick_params(labelsize=6)
            right.set_ylim(bottom=0)
    _save(figure, file)


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
    """Return a row a block: the image, the predicted and the true signal over it.

    Args:
        maps: what :func:`signals` returns.
        image, padded, file: as :func:`paint_gates`.
    """
    figure, grid = _panels(len(maps), 3, image)
    for (name, predicted, signal), row in zip(maps, grid):
        row[0].imshow(image)
        row[0].set_axis_off()
        row[0].set_title(name, fontsize=7)
        for axes, heat, title in zip(row[1:], (predicted, signal), ('predicted', 'signal')):
            _overlay(axes, image, heat, padded)
            axes.set_title(f'{title}, {heat.shape[0]} x {heat.shape[1]}', fontsize=7)
    _save(figure, file)


def paint_cams(overlays: Sequence[Overlay], names: Sequence[str], file: Path) -> None:
    """Return the image, and the class activation map of each checkpoint over it.

    Args:
        overlays: of one image (:func:`mmattn.localization.drawing.explain`).
        names: of the checkpoints.
        file: to write.
    """
    image = np.asarray(overlays[0].image)
    height, width = image.shape[:2]
    figure, (row,) = _panels(1, 1 + len(overlays), image)
    for axes in row:
        axes.imshow(image, extent=(0, width, height, 0))
        axes.set_axis_off()
    for axes, found, name in zip(row[1:], overlays, names):
        x0, y0, x1, y1 = found.heat_xyxy
        axes.imshow(heat_rgba(found.heat), extent=(x0, x1, y1, y0))
        axes.set(xlim=(0, width), ylim=(height, 0))
        axes.set_title(f'{name}\nclass {found.label}: {found.score:.2f}', fontsize=7)
    _save(figure, file)


def _overlay(
    axes: Axes, image: np.ndarray, heat: np.ndarray, padded: tuple[int, int]
) -> tuple[float, float]:
    """Heat over an image: the map covers the padded input, of which the image is a part."""
    low, high = np.nanmin(heat), np.nanmax(heat)
    heat = (np.nan_to_num(heat, nan=low) - low) / max(high - low, 1e-12)
    heat = cv2.resize(heat, padded[::-1], interpolation=cv2.INTER_LINEAR)
    axes.imshow(image)
    axes.imshow(heat_rgba(heat[: image.shape[0], : image.shape[1]]))
    axes.set_axis_off()
    return low, high


def _panels(rows: int, columns: int, image: np.ndarray) -> tuple[Figure, np.ndarray]:
    """Return a grid of axes with cells of the image's shape."""
    ratio = np.clip(image.shape[1] / image.shape[0], 0.5, 2)
    size = (columns * (2.2 * ratio + 0.2), rows * 2.5)
    return plt.subplots(rows, columns, figsize=size, squeeze=False, layout='constrained')


def _save(figure: Figure, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=130)
    plt.close(figure)
