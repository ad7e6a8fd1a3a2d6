"""Reading images: any colour mode, turned upright, resized, with the way back kept exactly."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from mmattn.data.decode import read_image
from mmattn.data.sizes import choose_frame, measure, show_size
from mmattn.localization.resizing import Step
from mmattn.localization.structures import AnnotatedImage, Geometry

__all__ = ['ImageDataset', 'Preprocess', 'collate', 'read_in_frame']

_FILTERS = ('bilinear', 'bicubic')


@dataclass(frozen=True)
class Preprocess:
    """How an image becomes the network's input.

    Args:
        input_size: ``(height, width)`` of the input; None is whatever ``steps`` make of an image,
            its own size where there are none.
        mean: Per channel, on the 0 to 255 scale, in the order of ``channels``.
        std: Per channel, on the 0 to 255 scale.
        channels: ``'rgb'`` or ``'bgr'``.
        interpolation: ``'bilinear'`` or ``'bicubic'`` (PIL, smoothed when it makes smaller).
        crop_from: None resizes width and height to the input on their own (no crop, the default
            of the localization literature). A number resizes the shorter edge to it and cuts the
            centre.
        steps: The resizes and crops of a model's own test pipeline, in place of ``interpolation``
            and ``crop_from``.

    Raises:
        ValueError: A value outside what is listed.
    """

    input_size: tuple | None = (224, 224)
    mean: tuple = (123.675, 116.28, 103.53)
    std: tuple = (58.395, 57.12, 57.375)
    channels: str = 'rgb'
    interpolation: str = 'bilinear'
    crop_from: int | None = None
    steps: tuple[Step, ...] = ()

    def __post_init__(self) -> None:
        size = self.input_size
        if size is not None and (len(size) != 2 or min(size) < 1):
            raise ValueError(f'input size must be positive, got {size}')
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
        if self.crop_from is None:
            return
        if size is None:
            raise ValueError(f'crop-from needs an input size, got {self.crop_from} alone')
        if self.crop_from < max(size):
            raise ValueError(
                f'crop-from must be at least the input size {max(size)}, got {self.crop_from}'
            )

    def apply(self, image: Image.Image) -> tuple[np.ndarray, Geometry]:
        """Resize and crop an RGB image.

        Returns:
            ``(array (H, W, 3) uint8, Geometry)``.
        """
        array = np.asarray(image)
        geometry = Geometry.resized(array.shape[:2], array.shape[:2])
        for step in self._all_steps():
            array, geometry = step(array, geometry)
        return array, geometry

    def size_of(self, image_size: tuple[int, int]) -> tuple[int, int]:
        """Size of the input that an image of a size becomes."""
        for step in self._all_steps():
            image_size = step.plan(image_size)[1]
        return image_size

    def settled(self, image_sizes: Iterable[tuple[int, int]]) -> Preprocess:
        """Fix the input size to the one that all images get.

        Raises:
            ValueError: They get several, so that they make no batch.
        """
        examples = {self.size_of(size): size for size in dict.fromkeys(image_sizes)}
        if len(examples) > 1:
            named = [
                f'{show_size(got)} from images of {show_size(size)}'
                for got, size in list(examples.items())[:3]
            ]
            raise ValueError(
                f"the model's own preprocessing ({self.shape()}) makes inputs of {len(examples)} "
                f'sizes, such as {", ".join(named)}: give --input-size'
            )
        return replace(self, input_size=next(iter(examples), self.input_size))

    def changed(
        self,
        input_size: tuple[int, int] | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        interpolation: str | None = None,
        crop_from: int | None = None,
    ) -> Preprocess:
        """Return it with what a user asks for; None leaves a value as it is.

        Args:
            input_size: Width and height are resized to it on their own, unless ``crop_from`` is
                given beside it.
            mean: R, G, B, whatever the network's order.
            std: R, G, B, whatever the network's order.
            interpolation: Of every resize.
            crop_from: As of the class; 0 resizes the whole image to the input.

        Raises:
            ValueError: A value outside what the class allows.
        """
        values: dict[str, Any] = {}
        if input_size is not None or crop_from is not None:
            values.update(steps=(), crop_from=crop_from or None)
        if input_size is not None:
            values['input_size'] = tuple(input_size)
        for name, colours in dict(mean=mean, std=std).items():
            if colours is not None:
                values[name] = tuple(colours)[:: -1 if self.channels == 'bgr' else 1]
        made = replace(self, **values)
        if interpolation is None:
            return made
        steps = tuple(replace(step, interpolation=interpolation) for step in made.steps)
        return replace(made, interpolation=interpolation, steps=steps)

    def shape(self) -> str:
        """Say in words how an image gets its size."""
        return ', '.join(map(str, self._all_steps())) or 'images stay as they are'

    def __str__(self) -> str:
        mean, std = (' '.join(f'{v:g}' for v in values) for values in (self.mean, self.std))
        order = ' '.join(self.channels.upper())
        return f'{self.shape()}; {order} minus mean {mean}, divided by std {std}'

    def _all_steps(self) -> tuple[Step, ...]:
        if self.steps or self.input_size is None:
            return self.steps
        if self.crop_from is None:
            return (Step('resize', self.input_size, self.interpolation),)
        edge = (self.crop_from, self.crop_from)
        return (
            Step('short edge', edge, self.interpolation),
            Step('centre crop', self.input_size),
        )

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
