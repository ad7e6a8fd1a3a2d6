"""What the pages of small images share: panels, heat over an image, colour bars, titles."""

from collections.abc import Mapping
from pathlib import Path

import cv2
import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from mmattn.localization.drawing import heat_rgba

matplotlib.use('Agg')
import matplotlib.pyplot as plt  # noqa: E402

__all__ = [
    'BLUE',
    'colour_bar',
    'gamma_line',
    'is_flat',
    'overlay',
    'panels',
    'save',
    'say_no_signal',
    'show_image',
]

BLUE = '#2f6fb3'  # of bars
FLAT = 1e-4  # values that differ by no more than this share of the largest are no signal


def gamma_line(name: str, gammas: Mapping[str, float]) -> list[str]:
    """Return a line on the scalars of a gate and of those inside it; none where it has none."""
    gate = name.partition(' (')[0]  # a later call is named gate (2)
    own = [f'{v:+.3f}' for n, v in gammas.items() if n == gate or n.startswith(f'{gate}.')]
    return [f'gamma {", ".join(own)}'] if own else []


def show_image(axes: Axes, image: np.ndarray) -> None:
    """Show an image without ticks."""
    axes.imshow(image)
    axes.set_axis_off()


def overlay(
    axes: Axes,
    image: np.ndarray,
    heat: np.ndarray,
    padded: tuple[int, int],
    low: float | None = None,
) -> None:
    """Draw heat over an image, with its colour bar.

    Args:
        axes: to draw in.
        image: RGB ``(H, W, 3)``.
        heat: ``(h, w)``; it covers the padded input.
        padded: height and width of that input, of which the image is the top left part.
        low: value of the coldest colour (the lowest of the map).
    """
    show_image(axes, image)
    if is_flat(heat):
        say_no_signal(axes, heat)
        return
    heat = np.where(np.isfinite(heat), heat, np.nan)  # something made of nothing is infinite
    low, high = np.nanmin(heat) if low is None else low, np.nanmax(heat)
    heat = (np.nan_to_num(heat, nan=low) - low) / (high - low)
    heat = cv2.resize(heat, padded[::-1], interpolation=cv2.INTER_LINEAR)
    axes.imshow(heat_rgba(heat[: image.shape[0], : image.shape[1]]))
    colour_bar(axes, low, high)


def is_flat(values: np.ndarray) -> bool:
    """Whether there is nothing to see: the same value everywhere, up to rounding, or none."""
    values = values[np.isfinite(values)]
    return not values.size or np.ptp(values) <= FLAT * np.abs(values).max()


def say_no_signal(axes: Axes, values: np.ndarray) -> None:
    """Write over the axes that a map is flat, and its value."""
    values = values[np.isfinite(values)]
    text = f'no signal\n({values.flat[0]:.2f} everywhere)' if values.size else 'no signal'
    ground = dict(facecolor='white', edgecolor='none', alpha=0.8)
    place = dict(transform=axes.transAxes, ha='center', va='center')
    axes.text(0.5, 0.5, text, fontsize=7, bbox=ground, **place)


def colour_bar(axes: Axes, low: float, high: float) -> None:
    """Put a bar of the colours of heat beside the axes, from ``low`` to ``high``."""
    scale = ScalarMappable(Normalize(low, high), 'turbo')  # the colours of heat_rgba
    bar = axes.figure.colorbar(scale, ax=axes, fraction=0.046, pad=0.02, ticks=[low, high])
    bar.ax.set_yticklabels([f'{low:.3g}', f'{high:.3g}'], fontsize=6)
    bar.outline.set_visible(False)


def panels(rows: int, columns: int, image: np.ndarray) -> tuple[Figure, np.ndarray]:
    """Return a grid of axes with cells of the image's shape."""
    ratio = np.clip(image.shape[1] / image.shape[0], 0.5, 2)
    size = (columns * (2.2 * ratio + 0.2), rows * 2.5)
    return plt.subplots(rows, columns, figsize=size, squeeze=False, layout='constrained')


def save(figure: Figure, file: Path) -> None:
    """Write a figure, whose folder is made, and close it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=130)
    plt.close(figure)
