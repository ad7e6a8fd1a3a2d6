"""The sizes an image has: as annotated, as stored, turned upright, as a pipeline loads it.

Sizes are ``(height, width)``. The frame of boxes is what they belong to: ``'stored'``, the pixels
as they lie in the file, or ``'upright'``, the image turned by the file's EXIF orientation.
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

__all__ = [
    'FRAMES',
    'LARGEST',
    'ImageSize',
    'choose_frame',
    'first_size',
    'loaded_size',
    'measure',
    'show_size',
]

FRAMES = ('stored', 'upright')
LARGEST = 89_478_485  # pixels, from where Pillow speaks of a decompression bomb
_TURNED = (5, 6, 7, 8)  # EXIF orientations that swap width and height
_EXIF = ('exif', 'Raw profile type exif', 'XML:com.adobe.xmp', 'xmp')  # where a PNG may have it


@dataclass(frozen=True)
class ImageSize:
    """The size of an image file.

    Args:
        stored: As the file's header says.
        orientation: 1 to 8 as in EXIF, or None where the EXIF data are damaged.
    """

    stored: tuple[int, int]
    orientation: int | None = 1

    @property
    def upright(self) -> tuple[int, int]:
        """Size after the turn that the EXIF orientation asks for."""
        return self.stored[::-1] if self.orientation in _TURNED else self.stored

    def size(self, frame: str) -> tuple[int, int]:
        """Size in one of :data:`FRAMES`."""
        return self.stored if frame == 'stored' else self.upright

    def __str__(self) -> str:
        if self.upright == self.stored:
            return show_size(self.stored)
        return (
            f'{show_size(self.stored)} as stored and {show_size(self.upright)} turned upright by '
            f'its EXIF orientation {self.orientation}'
        )


def show_size(size: tuple[int, int]) -> str:
    """Return a size as people write it, width first."""
    return f'{size[1]} x {size[0]}'


def measure(path: str | os.PathLike) -> ImageSize | None:
    """Read the size from the header of an image file; None where that is not possible."""
    try:
        with Image.open(path) as image:
            stored = image.size[::-1]
            try:
                return ImageSize(stored, _orientation(image))
            except Exception:  # damaged EXIF data raise whatever their reader meets
                return ImageSize(stored, None)
    except Exception:
        return None


def first_size(paths: Iterable[str | os.PathLike]) -> tuple[int, int] | None:
    """Upright size of the first image whose header can be read; None where there is none."""
    sizes = (measure(path) for path in paths)
    return next((size.upright for size in sizes if size is not None), None)


def _orientation(image: Image.Image) -> int:
    if image.format == 'PNG' and not any(key in image.info for key in _EXIF):
        return 1  # Pillow would decode the whole image to look for it
    orientation = image.getexif().get(0x0112, 1)
    return orientation if orientation in range(1, 9) else 1


def choose_frame(size: ImageSize, annotated: tuple | None, default: str) -> str | None:
    """Find what the boxes of an image belong to.

    Args:
        size: The size of the file.
        annotated: Size that the annotations give, or None.
        default: The frame of the layout, for images whose size does not decide it.

    Returns:
        One of :data:`FRAMES`, or None where the annotated size is neither.
    """
    fitting = [f for f in FRAMES if annotated is None or size.size(f) == tuple(annotated)]
    if len(fitting) == 1:
        return fitting[0]
    return default if fitting else None


def loaded_size(
    path: str | os.PathLike, size: ImageSize, step: Mapping | None
) -> tuple[int, int] | None:
    """Find the size in which a pipeline of mmcv loads an image.

    Only an image with an orientation has to be decoded for it: which decoder turns which file is
    for the decoder to say.

    Args:
        path: The file.
        size: Its size.
        step: The config of the pipeline's ``LoadImageFromFile``.

    Returns:
        The size, or None where the pipeline cannot decode it.
    """
    if size.orientation not in (None, *_TURNED):
        return size.stored
    import mmcv

    options = step or {}
    try:
        image = mmcv.imfrombytes(
            Path(path).read_bytes(),
            flag=options.get('color_type', 'color'),
            backend=options.get('imdecode_backend', 'cv2'),
        )
    except Exception:
        return None
    return None if image is None else image.shape[:2]
