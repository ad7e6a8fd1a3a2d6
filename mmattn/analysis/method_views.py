"""Pages of small images: the maps that attention computes, as the papers draw them."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from mmattn.analysis.attention_maps import Seen
from mmattn.analysis.panels import BLUE, gamma_line, overlay, panels, save, show_image

__all__ = ['paint_positions', 'paint_searchlights', 'paint_selectivity', 'paint_weights']

SHOWN = 96  # channels of a selectivity matrix


def paint_weights(
    maps: Mapping[str, np.ndarray], file: Path, gammas: Mapping[str, float] | None = None
) -> None:
    """Draw a row an AW-convolution: A at each place of its kernel, and of each output channel.

    Args:
        maps: what :func:`mmattn.analysis.attention_maps.weight_maps` returns.
        file: to write.
        gammas: learned scalars by module (:func:`mmattn.analysis.gammas.gammas_of`), for the
            titles.
    """
    figure, grid = plt.subplots(
        len(maps), 2, figsize=(6.4, 1.9 * len(maps)), squeeze=False, layout='constrained'
    )
    low = min(values.mean(0).min() for values in maps.values())
    high = max(values.mean(0).max() for values in maps.values())
    for (name, values), (left, right) in zip(maps.items(), grid):
        kernel = values.mean(0)
        left.imshow(kernel, cmap='viridis', vmin=low, vmax=max(high, low + 1e-6))
        middle = (low + high) / 2
        for (row, column), value in np.ndenumerate(kernel):
            colour = 'black' if value > middle else 'white'
            left.text(column, row, f'{value:.3f}', ha='center', va='center', fontsize=6, c=colour)
        left.set_axis_off()
        title = '\n'.join([name, *gamma_line(name, gammas or {}), 'A by place in the kernel'])
        left.set_title(title, fontsize=7)
        _bars(right, values.mean((1, 2)), 'A')
    save(figure, file)


def paint_positions(
    maps: Mapping[str, np.ndarray], image: np.ndarray, padded: tuple[int, int], file: Path
) -> None:
    """Draw an image, and over it the weights of its positions at every depth.

    Args:
        maps: what :func:`mmattn.analysis.attention_maps.position_maps` returns.
        image: RGB ``(H, W, 3)``.
        padded: height and width of the network's input, of which the image is the top left part.
        file: to write.
    """
    figure, (row,) = panels(1, 1 + len(maps), image)
    show_image(row[0], image)
    for axes, (name, weights) in zip(row[1:], maps.items()):
        overlay(axes, image, weights, padded)
        height, width = weights.shape
        even = 1 / weights.size
        axes.set_title(
            f'{name}, {height} x {width}\nlargest weight {weights.max() / even:.1f} x even',
            fontsize=7,
        )
    save(figure, file)


def paint_searchlights(
    seen: Mapping[str, Seen], image: np.ndarray, padded: tuple[int, int], file: Path
) -> None:
    """Draw a row a searchlight: its gate of positions over the image, that of channels as bars.

    Args:
        seen: what :func:`mmattn.analysis.attention_maps.searchlights` returns.
        image, padded, file: as :func:`paint_positions`.
    """
    figure, grid = panels(len(seen), 2, image)
    for (name, (channels, positions)), (left, right) in zip(seen.items(), grid):
        if positions is None:
            show_image(left, image)
            left.set_title(f'{name}\nno gate of positions', fontsize=7)
        else:
            overlay(left, image, positions, padded)
            span = f'{positions.min():.2f} to {positions.max():.2f}'
            left.set_title(f'{name}\ngate of positions, {span}', fontsize=7)
        if channels is None:
            right.set_axis_off()
            right.set_title('no gate of channels', fontsize=7)
        else:
            _bars(right, channels, 'gate')
    save(figure, file)


def paint_selectivity(
    seen: Sequence[Mapping[str, Seen]], names: Sequence[str], file: Path
) -> None:
    """Draw, for every searchlight, its gate of each channel in each of several images.

    The channels in which the images differ most come first: a searchlight that selects has columns
    of several colours, one that does not has plain ones.

    Args:
        seen: for every image what :func:`mmattn.analysis.attention_maps.searchlights` returns.
        names: of the images.
        file: to write.

    Raises:
        ValueError: fewer than two images, or no searchlight that gates channels.
    """
    if len(seen) < 2:
        raise ValueError(f'images must be 2 or more to compare, got {len(seen)}')
    rows = [name for name, first in seen[0].items() if first.channels is not None]
    if not rows:
        raise ValueError('searchlights must gate channels, got operations that do not')
    size = (7.5, len(rows) * (0.75 + 0.18 * len(names)))
    figure, grid = plt.subplots(len(rows), 1, figsize=size, squeeze=False, layout='constrained')
    for name, axes in zip(rows, grid[:, 0]):
        gates = np.stack([image[name].channels for image in seen])  # (images, C)
        spread = gates.std(0)
        chosen = np.argsort(-spread)[:SHOWN]
        drawn = axes.imshow(gates[:, chosen], aspect='auto', cmap='viridis', vmin=0, vmax=1)
        axes.set_yticks(range(len(names)), names, fontsize=6)
        axes.tick_params(labelsize=6)
        shown = f'{len(chosen)} of {gates.shape[1]} channels'
        axes.set_title(
            f'{name}: gate of {shown}; spread over images {spread.mean():.3f} (mean), '
            f'{spread.max():.3f} (largest)',
            fontsize=7,
        )
        figure.colorbar(drawn, ax=axes).ax.tick_params(labelsize=6)
    save(figure, file)


def _bars(axes: Axes, values: np.ndarray, what: str) -> None:
    """Values of channels, from 0 to 1, the largest first."""
    values = np.sort(values)[::-1]
    axes.bar(np.arange(len(values)), values, width=1.0, color=BLUE)
    axes.axhline(0.5, color='#888888', linewidth=0.6, linestyle=':')
    axes.set(ylim=(0, 1), xlim=(-0.5, len(values) - 0.5))
    axes.tick_params(labelsize=6)
    axes.set_title(
        f'{what} of {len(values)} channels, sorted: {values.min():.2f} to {values.max():.2f}',
        fontsize=7,
    )
