"""Resizes and crops one after the other, as test pipelines have them, with the way back kept."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image

from mmattn.data.sizes import show_size
from mmattn.localization.structures import Geometry

__all__ = ['FILTERS', 'Step']

FILTERS = {
    'cv2': {
        'nearest': cv2.INTER_NEAREST,
        'bilinear': cv2.INTER_LINEAR,
        'bicubic': cv2.INTER_CUBIC,
        'area': cv2.INTER_AREA,
        'lanczos': cv2.INTER_LANCZOS4,
    },
    'pillow': {
        'nearest': Image.NEAREST,
        'bilinear': Image.BILINEAR,
        'bicubic': Image.BICUBIC,
        'box': Image.BOX,
        'lanczos': Image.LANCZOS,
        'hamming': Image.HAMMING,
    },
}
_KINDS = ('resize', 'short edge', 'centre crop', 'crop and resize')


@dataclass(frozen=True)
class Step:
    """One resize or crop of an image.

    Args:
        kind: ``'resize'`` makes width and height ``size`` on their own; ``'short edge'`` makes the
            shorter edge as long as the first of ``size`` and keeps the proportions; ``'centre
            crop'`` cuts ``size`` out of the centre, less where the image is smaller; ``'crop and
            resize'`` cuts a square out of the centre and resizes it to ``size`` (EfficientNet).
        size: ``(height, width)``.
        interpolation: One of ``FILTERS[backend]``.
        backend: ``'cv2'`` interpolates between neighbours however small the image becomes,
            ``'pillow'`` smooths when it makes smaller.
        margin: Of ``'crop and resize'``: pixels that the size is short of the shorter edge.

    Raises:
        ValueError: A value outside what is listed.
    """

    kind: str
    size: tuple
    interpolation: str = 'bilinear'
    backend: str = 'pillow'
    margin: int = 0

    def __post_init__(self) -> None:
        if self.kind not in _KINDS:
            raise ValueError(f'kind must be one of {", ".join(_KINDS)}, got {self.kind!r}')
        if len(self.size) != 2 or min(self.size) < 1:
            raise ValueError(f'size must be two positive integers, got {self.size}')
        if self.backend not in FILTERS:
            raise ValueError(f'backend must be {" or ".join(FILTERS)}, got {self.backend!r}')
        if self.interpolation not in FILTERS[self.backend]:
            allowed = ', '.join(FILTERS[self.backend])
            raise ValueError(
                f'interpolation must be one of {allowed} ({self.backend}), '
                f'got {self.interpolation!r}'
            )

    def plan(self, size: tuple[int, int]) -> tuple[tuple, tuple[int, int]]:
        """Say what the step does to an image of a size.

        Returns:
            The part that is kept ``(x0, y0, x1, y1)``, and the size it gets.
        """
        h, w = size
        if self.kind == 'resize':
            return (0, 0, w, h), tuple(self.size)
        if self.kind == 'short edge':
            edge = self.size[0]
            resized = (int(edge * h / w), edge) if w < h else (edge, int(edge * w / h))
            return (0, 0, w, h), resized
        if self.kind == 'centre crop':
            cut = min(self.size[0], h), min(self.size[1], w)
            y0, x0 = round((h - cut[0]) / 2), round((w - cut[1]) / 2)
            return (x0, y0, x0 + cut[1], y0 + cut[0]), cut
        side = self.size[0] / (self.size[0] + self.margin) * min(h, w)
        y0, x0 = max(0, round((h - side) / 2)), max(0, round((w - side) / 2))
        x1, y1 = (max(start + 1, int(start + side)) for start in (x0, y0))
        return (x0, y0, min(x1, w), min(y1, h)), tuple(self.size)

    def __call__(self, array: np.ndarray, geometry: Geometry) -> tuple[np.ndarray, Geometry]:
        """Do it.

        Args:
            array: ``(H, W, 3)`` uint8.
            geometry: How its pixels relate to those of the image.
        """
        (x0, y0, x1, y1), size = self.plan(array.shape[:2])
        array = array[y0:y1, x0:x1]
        factors = size[1] / (x1 - x0), size[0] / (y1 - y0)
        if array.shape[:2] != size:
            array = self._resize(array, size)
        scale = tuple(s * f for s, f in zip(geometry.scale_xy, factors))
        offset = tuple((o + c) * f for o, c, f in zip(geometry.offset_xy, (x0, y0), factors))
        return array, Geometry(scale, offset, size, geometry.image_size)

    def _resize(self, array: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        method = FILTERS[self.backend][self.interpolation]
        if self.backend == 'cv2':
            return cv2.resize(array, size[::-1], interpolation=method)
        return np.asarray(Image.fromarray(array).resize(size[::-1], method))

    def __str__(self) -> str:
        shown = show_size(self.size)
        if self.kind == 'centre crop':
            return f'the centre of {shown} cut out'
        how = f'({self.interpolation}, {self.backend})'
        if self.kind == 'short edge':
            return f'shorter edge resized to {self.size[0]} {how}'
        if self.kind == 'resize':
            return f'width and height resized to {shown} {how}'
        share = self.size[0] / (self.size[0] + self.margin)
        return (
            f'the centre of {share:.3g} of the shorter edge cut out and resized to {shown} {how}'
        )
