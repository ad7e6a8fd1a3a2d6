"""The preprocessing of an mmpretrain config, as mmpretrain itself does it.

What a config leaves out is what mmpretrain does without it: no resize, no mean, blue first. It is
read from the transforms and the data preprocessor that mmpretrain builds, defaults included.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmengine.config import Config
from torch import Tensor, nn

from mmattn.localization.images import Preprocess
from mmattn.localization.resizing import FILTERS, Step

__all__ = ['colours_of', 'preprocess_of']

_NO_CHANGE = {'PackInputs', 'Collect', 'ImageToTensor', 'ToTensor'}
_INSTEAD = (
    'give --input-size, which resizes each image to it, or python:FILE.py:FUNCTION with '
    'preprocessing of your own'
)
_PROBES = ((9001, 8003), (7003, 9007))  # sizes of images, none is smaller than an input


def preprocess_of(
    config: Config, model: nn.Module, name: str, own_size: bool = True
) -> Preprocess:
    """Read how mmpretrain prepares images for a classifier.

    Args:
        config: The config; the pipeline of its test data counts, as in mmpretrain's inferencer.
        model: The network that was built from it, with its data preprocessor.
        name: What the user asked for, for the messages.
        own_size: Whether the resizes and crops of the pipeline are used.

    Raises:
        ValueError: There is no test pipeline, or a step of it cannot be reproduced.
    """
    from mmpretrain.models.utils import ClsDataPreprocessor

    preprocessor = getattr(model, 'data_preprocessor', None)
    if type(preprocessor) is not ClsDataPreprocessor:
        raise ValueError(
            f'{name}: data_preprocessor must be a ClsDataPreprocessor, got '
            f'{type(preprocessor).__name__}, which is not reproduced here'
        )
    values = colours_of(preprocessor)
    if not own_size:
        return Preprocess(**values)
    pipeline = _pipeline(config)
    if pipeline is None:
        raise ValueError(f'{name} has no test_dataloader with a pipeline: {_INSTEAD}')
    steps = tuple(step for transform in pipeline for step in _steps(transform, name))
    values.update(input_size=None, steps=steps)
    preprocess = Preprocess(**values)
    got = {preprocess.size_of(size) for size in _PROBES}
    if len(got) == 1:
        preprocess = Preprocess(**{**values, 'input_size': got.pop()})
    divisor = getattr(preprocessor, 'pad_size_divisor', 1)
    size = preprocess.input_size
    if divisor > 1 and (size is None or size[0] % divisor or size[1] % divisor):
        raise ValueError(
            f'{name}: the data preprocessor pads images to multiples of {divisor}, which is not '
            f'reproduced here: {_INSTEAD}'
        )
    return preprocess


def _pipeline(config: Config) -> Sequence | None:
    for loader in ('test_dataloader', 'val_dataloader'):
        dataset = (config.get(loader) or {}).get('dataset') or {}
        if dataset.get('pipeline') is not None:
            return dataset['pipeline']
    return config.get('test_pipeline')


def colours_of(preprocessor: nn.Module) -> dict[str, Any]:
    """Read how a data preprocessor of mmpretrain treats colours.

    Args:
        preprocessor: It has ``to_rgb``, and ``mean`` and ``std`` unless it leaves values as they
            are; one of these may stand for all channels.

    Returns:
        ``channels``, ``mean`` and ``std``, as :class:`~mmattn.localization.images.Preprocess`
        takes them.
    """
    mean, std = (getattr(preprocessor, name, None) for name in ('mean', 'std'))
    channels = 'rgb' if preprocessor.to_rgb else 'bgr'
    return dict(channels=channels, mean=_three(mean, 0.0), std=_three(std, 1.0))


def _three(values: Tensor | None, otherwise: float) -> tuple[float, ...]:
    values = [otherwise] if values is None else values.flatten().tolist()
    return tuple(values * 3 if len(values) == 1 else values)


def _steps(config: Any, name: str) -> list[Step]:
    """Make the steps of a transform of the pipeline."""
    from mmcv.transforms import CenterCrop, LoadImageFromFile, Resize
    from mmpretrain.datasets import EfficientNetCenterCrop, ResizeEdge
    from mmpretrain.registry import TRANSFORMS

    kind = config.get('type')
    kind = getattr(kind, '__name__', str(kind)).rpartition('.')[2]
    if kind in _NO_CHANGE:
        return []
    try:
        transform = TRANSFORMS.build(config)
    except Exception as error:
        raise ValueError(
            f'{name}: {kind} of the test pipeline cannot be built: {error}'
        ) from error

    def refuse(what: str) -> ValueError:
        return ValueError(
            f'{name}: {what} of the test pipeline cannot be reproduced here: {_INSTEAD}'
        )

    def filtered(kind: str, size: tuple, margin: int = 0) -> list[Step]:
        backend, how = transform.backend or 'cv2', transform.interpolation
        if how not in FILTERS.get(backend, ()):
            raise refuse(f'interpolation {how!r} with backend {backend!r}')
        return [Step(kind, size, how, backend, margin)]

    if type(transform) is LoadImageFromFile:
        if transform.color_type != 'color':
            raise refuse(f'color_type={transform.color_type!r}')
        return []
    if type(transform) is Resize:
        if transform.scale is None or transform.keep_ratio:
            raise refuse('Resize with scale_factor or keep_ratio')
        return filtered('resize', tuple(transform.scale)[::-1])
    if type(transform) is ResizeEdge:
        if transform.edge != 'short':
            raise refuse(f'ResizeEdge with edge={transform.edge!r}')
        return filtered('short edge', (transform.scale, transform.scale))
    if type(transform) is CenterCrop:
        if transform.auto_pad:
            raise refuse('CenterCrop with auto_pad')
        return [Step('centre crop', tuple(transform.crop_size)[::-1])]
    if type(transform) is EfficientNetCenterCrop:
        size = (transform.crop_size, transform.crop_size)
        return filtered('crop and resize', size, transform.crop_padding)
    raise refuse(kind)
