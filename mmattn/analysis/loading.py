"""A trained model of a config, and the image as its network sees it."""

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import DATASETS, MODELS, init_default_scope
from torch import nn

from mmattn.core.checkpoint import compare, load_checkpoint, load_weights
from mmattn.core.config import forget_pretrained, read_config

__all__ = [
    'class_names',
    'is_detector',
    'load_image',
    'load_model',
    'load_predictors',
    'model_of',
]

_OF_DETECTORS = ('bbox_head', 'roi_head', 'rpn_head', 'mask_head')


def model_of(cfg: Config) -> nn.Module:
    """Return a config's model in eval mode with random weights; no checkpoint is fetched.

    Args:
        cfg: a config of mmdet or mmpretrain.
    """
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    if 'data_preprocessor' in cfg:
        cfg.model.setdefault('data_preprocessor', cfg.data_preprocessor)
    forget_pretrained(cfg.model)
    return MODELS.build(cfg.model).eval()


def load_model(path: str | Path, checkpoint: str) -> tuple[nn.Module, Config, dict]:
    """Return a config's model in eval mode with the weights of a checkpoint.

    Args:
        path: the config.
        checkpoint: file or address.

    Returns:
        The model, its config, and all that the checkpoint holds.

    Raises:
        ValueError: the checkpoint cannot be read or is not of this model.
    """
    cfg = read_config(path)
    model = model_of(cfg)
    saved = load_checkpoint(checkpoint)
    report = compare(model, saved)
    if not report.fits:
        raise ValueError(
            f'{checkpoint} does not fit {path}: {report.summary()}. {report.advice()}'
        )
    load_weights(model, saved, checkpoint)
    return model, cfg, saved


def load_predictors(path: str | Path, checkpoint: str) -> tuple[nn.Module, Config]:
    """Return a config's ``mmattn.SSIA`` with the weights of its network and its predictors.

    Args:
        path: the config.
        checkpoint: file or address; ``mmattn.SSIAHook`` saves the predictors.

    Raises:
        ValueError: the model is another one, or the checkpoint has no predictors of it.
    """
    model, cfg, saved = load_model(path, checkpoint)
    if not hasattr(model, 'spatial_signals'):
        raise ValueError(f"{path} must have a model of type 'mmattn.SSIA'")
    if 'ssia' not in saved:
        raise ValueError(f'{checkpoint} holds no predictors (mmattn.SSIAHook saves them)')
    try:
        model.ssia.load_state_dict(saved['ssia'])
    except RuntimeError as error:
        raise ValueError(
            f'the predictors in {checkpoint} do not fit {path}: they were made with other taps, '
            'another sample or another width'
        ) from error
    return model, cfg


def is_detector(model: nn.Module | Mapping) -> bool:
    """Whether a model, or its config, has the heads of a detector."""
    if isinstance(model, Mapping):
        return any(model.get(head) for head in _OF_DETECTORS)
    return any(getattr(model, head, None) is not None for head in _OF_DETECTORS)


def class_names(cfg: Config, saved: Mapping) -> list[str]:
    """Return the names of a model's classes: its checkpoint's, else its test data set's.

    Args:
        cfg: the config.
        saved: all that the checkpoint holds.

    Returns:
        Where neither names them, their numbers.
    """
    meta = saved.get('meta') or {}
    names = (meta.get('dataset_meta') or {}).get('classes') or meta.get('CLASSES')
    if not names and 'test_dataloader' in cfg:
        dataset = _dataset(cfg)
        kind = DATASETS.get(dataset.type)
        names = dataset.get('metainfo', {}).get('classes') or kind.METAINFO.get('classes')
    return [names] if isinstance(names, str) else list(names or map(str, range(10_000)))


def _dataset(cfg: Config) -> Mapping:
    """Return the settings of the test data set itself, without what repeats or concatenates it."""
    dataset = cfg.test_dataloader.dataset
    while 'dataset' in dataset:
        dataset = dataset.dataset
    return dataset


def load_image(cfg: Config, model: nn.Module, path: str | Path) -> tuple[np.ndarray, dict]:
    """Return the image a network sees, and its input batch.

    Args:
        cfg: the config, of which the test pipeline is taken.
        model: built from it.
        path: the image file.

    Returns:
        RGB ``(H, W, 3)`` uint8 as it stands before the network, and what the model's ``forward``
        takes.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no image that can be decoded.
    """
    steps = [step for step in _dataset(cfg).pipeline if 'Annotations' not in step.type]
    from_file = steps[0].type.endswith('LoadImageFromFile')
    if not Path(path).is_file():
        raise FileNotFoundError(f'the image {path} does not exist')
    image = cv2.imread(str(path))
    if image is None:
        raise ValueError(f'{path} is no image that can be decoded')
    results = dict(img_path=str(path), img_id=0, instances=[])
    if not from_file:  # a data set of arrays, such as CIFAR, which are RGB
        shape = image.shape[:2]
        results.update(img=image[..., ::-1].copy(), img_shape=shape, ori_shape=shape)
    packed = Compose(steps)(results)
    shown = packed['inputs'].permute(1, 2, 0).numpy().astype(np.uint8)
    data = dict(inputs=[packed['inputs']], data_samples=[packed['data_samples']])
    return shown[..., ::-1] if from_file else shown, model.data_preprocessor(data, False)
