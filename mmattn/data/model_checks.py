"""What the model of a config says about its data and its start."""

import inspect
import os
from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.config import Config
from mmengine.registry import MODELS

from mmattn.core.config import is_pretrained

__all__ = ['check_num_classes', 'check_start']

_FEW_IMAGES = 4  # from here on a norm's statistics are worth something


def check_num_classes(cfg: Config, dataset: Any, where: str) -> list[str]:
    """Compare the classes of the data with those of the box head.

    Raises:
        ValueError: The head has fewer outputs than there are classes.
    """
    model = cfg.get('model') or {}
    model = model.get('model', model)  # a wrapper's own entry is the model inside
    heads = (model.get('roi_head') or {}).get('bbox_head') or model.get('bbox_head') or {}
    classes = dataset.metainfo.get('classes')
    for head in heads if isinstance(heads, list | tuple) else [heads]:
        number = head.get('num_classes') if isinstance(head, Mapping) else None
        if not isinstance(number, int) or not isinstance(classes, list | tuple):
            continue
        said = f'{where} has {len(classes)} classes, the model num_classes={number}'
        if number < len(classes):
            raise ValueError(f'{said}: set num_classes of every box head to {len(classes)}')
        if number > len(classes):
            return [f'{said}: {number - len(classes)} outputs can never be right']
    return []


def check_start(cfg: Config) -> list[str]:
    """Say what about the start of a training keeps parts of the model from learning."""
    model = cfg.get('model') or {}
    start = cfg.get('load_from') or cfg.get('resume') or _is_pretrained(model.get('init_cfg'))
    model = model.get('model', model)
    start = start or _is_pretrained(model.get('init_cfg'))
    notes = _note_frozen(model, start) + _note_batch_norm(cfg, model)
    for name, part in model.items():
        if isinstance(part, Mapping) and any(
            _is_pretrained(c.get('init_cfg')) for c in _walk(part)
        ):
            notes += _note_paper_init(f'model.{name}', part)
    return notes


def _walk(config: Any) -> Iterator[Mapping]:
    """Every mapping inside a config, itself first."""
    if isinstance(config, Mapping):
        yield config
        config = list(config.values())
    if isinstance(config, list | tuple):
        for value in config:
            yield from _walk(value)


def _is_pretrained(init_cfg: Any) -> bool:
    each = init_cfg if isinstance(init_cfg, list | tuple) else [init_cfg]
    return any(map(is_pretrained, each))


def _note_frozen(model: Mapping, start: Any) -> list[str]:
    """Note a frozen stage without weights: it never learns, nor may a gate in it."""
    backbone = model.get('backbone')
    if start or not isinstance(backbone, Mapping):
        return []
    for part in _walk(backbone):
        frozen = part.get('frozen_stages')
        if isinstance(frozen, int) and frozen >= 0 and not part.get('pretrained'):
            if any(_is_pretrained(inner.get('init_cfg')) for inner in _walk(backbone)):
                return []
            return [
                f'model.backbone: frozen_stages={frozen} freezes its first stages at random '
                'values, as no weights are loaded (init_cfg, load_from); a gate there may get no '
                'gradient: set frozen_stages=-1'
            ]
    return []


def _note_paper_init(where: str, part: Mapping) -> list[str]:
    """Attention that changes pretrained maps from the first step."""
    found = dict.fromkeys(_starting_as_paper(part))
    return [
        f"{where}: {kind} starts with init='paper' on pretrained weights and changes the maps "
        "they were trained for: init='identity' starts as the plain network"
        for kind in found
    ]


def _starting_as_paper(config: Any) -> Iterator[str]:
    """Types with ``init='paper'`` that lie in none with ``init='identity'``."""
    if isinstance(config, Mapping):
        init = _option(config, 'init')
        if init == 'paper':
            yield config['type']
        config = [] if init == 'identity' else list(config.values())
    if isinstance(config, list | tuple):
        for value in config:
            yield from _starting_as_paper(value)


def _note_batch_norm(cfg: Config, model: Mapping) -> list[str]:
    """Norms over the values of a few images, which the branch of AWConv2d has."""
    batch = (cfg.get('train_dataloader') or {}).get('batch_size')
    if not isinstance(batch, int):
        return []
    images = {'BN': batch, 'SyncBN': batch * int(os.environ.get('WORLD_SIZE', '1'))}
    for config in _walk(model):
        norm = _option(config, 'norm') if config.get('type') == 'mmattn.AWConv2d' else None
        if norm in images and images[norm] < _FEW_IMAGES:
            return [
                f'model: norm={norm!r} in the branches of AWConv2d takes its statistics '
                f"over {images[norm]} images: use {_FEW_IMAGES} or more a process, norm='SyncBN' "
                "on several GPUs, or norm='GN'"
            ]
    return []


def _option(config: Mapping, name: str) -> Any:
    """Return the value of an option of a class of ours, else its default."""
    kind = config.get('type')
    if not isinstance(kind, str) or not kind.startswith('mmattn.'):
        return None
    if name in config:
        return config[name]
    try:
        cls = MODELS.get(kind)
    except (KeyError, ImportError):  # the runner says so
        return None
    for base in getattr(cls, '__mro__', ()):
        parameters = inspect.signature(base.__init__).parameters
        if name in parameters:
            return parameters[name].default
    return None
