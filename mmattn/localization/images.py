"""Reading images: any colour mode, turned upright, resized, with the way back kept exactly."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from mmattn.data.decode import read_image
from mmattn.data.sizes import choose_frame, measure
from mmattn.localization.structures import AnnotatedImage, Geometry

__all__ = ['ImageDataset', 'Preprocess', 'collate', 'read_in_frame']

_FILTERS = {'bilinear': Image.BILINEAR, 'bicubic': Image.BICUBIC}


@dataclass(frozen=True)
class Preprocess:
    """How an image becomes the network's input.

    Args:
        input_size: ``(height, width)`` of the input.
        mean: Per channel, on the 0 to 255 scale, in the order of ``channels``.
        std: Per channel, on the 0 to 255 scale.
        channels: ``'rgb'`` or ``'bgr'``.
        interpolation: ``'bilinear'`` or ``'bicubic'`` (PIL, smoothed when it makes smaller).
        crop_from: None resizes width and height to the input on their own (no crop, the default
            of the localization literature). A number resizes the shorter edge to it and cuts the
            centre.

    Raises:
        ValueError: A value outside what is listed.
    """

    input_size: tuple = (224, 224)
    mean: tuple = (123.675, 116.28, 103.53)
    std: tuple = (58.395, 57.12, 57.375)
    channels: str = 'rgb'
    interpolation: str = 'bilinear'
    crop_from: int | None = None

    def __post_init__(self) -> None:
        if len(self.input_size) != 2 or min(self.input_size) < 1:
            raise ValueError(f'input size must be positive, got {self.input_size}')
        finite = all(map(math.isfinite, (*self.mean, *self.std)))
        if len(self.mean) != 3 or len(self.std) != 3 or not finite or min(self.std) <= 0:
            raise ValueError(
                'mean and std need three finite numbers each and std above 0, '
                f'got {self.mean}, {self.std}'
            )
        if self.channels not in ('rgb', 'bgr'):
            raise ValueError(f'channels must be rgb or bgr, got {self.channels!r}')
        if self.interpolation not in _FILTERS:
            allowed = ' or '.join(_FILTERS)
            raise ValueError(f'interpolation must be {allowed}, got {self.interpolation!r}')
        if self.crop_from is not None and self.crop_from < max(self.input_size):
            raise ValueError(
                f'crop-from must be at least the input size {max(self.input_size)}, '
                f'got {self.crop_from}'
            )

    def apply(self, image: Image.Image) -> tuple[np.ndarray, Geometry]:
        """Resize and crop an RGB image.

        Returns:
            ``(array (H, W, 3) uint8, Geometry)``.
        """
        resample = _FILTERS[self.interpolation]
        w, h = image.size
        in_h, in_w = self.input_size
        if self.crop_from is None:
            array = np.asarray(image.resize((in_w, in_h), resample))
            return array, Geometry.resized((h, w), self.input_size)
        factor = self.crop_from / min(w, h)
        new_w, new_h = max(round(w * factor), in_w), max(round(h * factor), in_h)
        left, top = (new_w - in_w) // 2, (new_h - in_h) // 2
        cut = image.resize((new_w, new_h), resample).crop((left, top, left + in_w, top + in_h))
        geometry = Geometry((new_w / w, new_h / h), (left, top), (in_h, in_w), (h, w))
        return np.asarray(cut), geometry

    def normalize(self, batch: Tensor) -> Tensor:
        """Bytes to the network's values, on the batch's device.

        Shape: ``(N, H, W, 3)`` uint8 RGB -> ``(N, 3, H, W)`` float32.
        """
        batch = batch.permute(0, 3, 1, 2).float()
        if self.channels == 'bgr':
            batch = batch.flip(1)
        mean = torch.tensor(self.mean, device=batch.device).view(1, 3, 1, 1)
        std = torch.tensor(self.std, device=batch.device).view(1, 3, 1, 1)
        return ((batch - mean) / std).contiguous()


def read_in_frame(
    path: str | Path, size: tuple[int, int] | None = None, frame: str | None = None
) -> Image.Image:
    """Read an image as 8-bit RGB: gray, palette, CMYK, alpha and 16-bit files too.

    Args:
        path: The file.
        size: ``(height, width)`` that the annotations say, or None.
        frame: ``'upright'`` turns it as its EXIF orientation says, ``'stored'`` leaves it; None
            turns it unless ``size`` is that of the unturned image.

    Raises:
        ValueError: The file cannot be decoded, is too large, or its size is not the annotated one.
    """
    if frame is None:
        measured = measure(path)
        frame = measured and choose_frame(measured, size, 'upright')
    return read_image(path, frame or 'upright', size)


class ImageDataset(Dataset):
    """Decodes and resizes images in worker processes.

    Items are ``(index, array or None, Geometry or None, error or None)``: an image that cannot
    be decoded is an item like any other, so one bad file never ends a run.
    """

    def __init__(self, images: Sequence[AnnotatedImage], preprocess: Preprocess) -> None:
        self.images, self.preprocess = images, preprocess

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(
        self, index: int
    ) -> tuple[int, np.ndarray | None, Geometry | None, str | None]:
        image = self.images[index]
        try:
            pixels = read_in_frame(image.path, image.size, image.frame)
            array, geometry = self.preprocess.apply(pixels)
        except Exception as error:  # whatever a decoder or a resize meets: the run continues
            said = str(error) if isinstance(error, ValueError) else f'{image.path}: {error!r}'
            return index, None, None, said
        return index, array, geometry, None


def collate(items: Sequence[tuple]) -> tuple[list[int], Tensor, list[Geometry], list[tuple]]:
    """Stacks the readable images: ``(indices, batch (N, H, W, 3), geometries, failures)``."""
    good = [item for item in items if item[3] is None]
    failures = [(index, error) for index, _, _, error in items if error is not None]
    arrays = [torch.from_numpy(np.array(item[1])) for item in good]
    batch = torch.stack(arrays) if arrays else torch.empty(0)
    return [item[0] for item in good], batch, [item[2] for item in good], failures
