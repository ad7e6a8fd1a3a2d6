"""Configs of a study: the schedule shortened, and two configs compared setting by setting."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config

__all__ = ['canonical', 'differences', 'schedule', 'shorten_schedule', 'write_config']

# what a machine, a folder or a screen decides and a result does not depend on
_PRIVATE = {
    *('work_dir', 'launcher', 'resume', 'log_level', 'env_cfg', 'visualizer', 'vis_backends'),
    *('log_processor', 'default_hooks', 'randomness', 'experiment_name', 'custom_imports'),
    *('auto_scale_lr', 'mmattn', 'num_workers', 'persistent_workers', 'prefetch_factor'),
    'pin_memory',
}
_EPOCHS = ('begin', 'end', 'T_max', 'total_steps', 'total_iters', 'step_size')


def schedule(cfg: Config) -> tuple[str, int]:
    """Return the unit and the length of a config's training.

    Returns:
        ``('epochs', 12)`` or ``('iters', 90000)``.

    Raises:
        ValueError: The config does not say how long it trains.
    """
    train = cfg.get('train_cfg') or {}
    for unit in ('epochs', 'iters'):
        if train.get(f'max_{unit}'):
            return unit, int(train[f'max_{unit}'])
    raise ValueError('config: train_cfg must hold max_epochs or max_iters')


def shorten_schedule(cfg: Config, epochs: int | None = None, iters: int | None = None) -> None:
    """Train for another time, with the learning rate's curve scaled to it.

    Curves counted in the training's own unit (milestones, ends, periods) are scaled; a warm-up
    that a training by epochs counts in iterations stays as it is.

    Args:
        cfg: The config, changed in place.
        epochs: The new length of a training by epochs.
        iters: The new length of a training by iterations.

    Raises:
        ValueError: Both, none of them positive, or the config counts in the other unit.
    """
    given = {unit: n for unit, n in (('epochs', epochs), ('iters', iters)) if n is not None}
    if not given:
        return
    if len(given) > 1:
        raise ValueError('--epochs and --iters exclude each other')
    ((unit, length),) = given.items()
    own, before = schedule(cfg)
    if unit != own:
        raise ValueError(f'--{unit}: this config trains by {own} ({before}); use --{own}')
    if length < 1:
        raise ValueError(f'--{unit} must be >= 1, got {length}')
    factor = length / before
    train = cfg.train_cfg
    train[f'max_{unit}'] = length
    for name in ('val_interval', 'val_begin'):
        if train.get(name):
            train[name] = max(round(train[name] * factor), 1)
    curves = cfg.get('param_scheduler') or []
    for curve in curves if isinstance(curves, list | tuple) else [curves]:
        if curve.get('by_epoch', True) != (unit == 'epochs'):
            continue
        if curve.get('begin', 0) == 0 and curve.get('end', before) < before / 4:
            continue  # a warm-up
        for name in _EPOCHS:
            if isinstance(curve.get(name), int) and curve[name] > 0:
                curve[name] = max(round(curve[name] * factor), 1)
        if curve.get('milestones'):
            curve['milestones'] = [max(round(m * factor), 1) for m in curve['milestones']]


def write_config(cfg: Config, path: Path) -> None:
    """Write a config that needs no other file.

    ``Config.dump`` makes it pretty, which for a long list of indices takes minutes.
    """
    content = cfg.to_dict()
    lines = [f'{key} = {_plain(value)!r}\n' for key, value in content.items()]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(''.join(lines), encoding='utf-8')


def canonical(cfg: Config) -> dict[str, Any]:
    """Return what a result depends on: settings by dotted name, without folders and machines.

    Data roots are cut from paths, a checkpoint stands as the sum of its content, and settings
    that change no result (workers, logging, the seed) are left out.
    """
    content = _plain(cfg.to_dict())
    if content.get('load_from') and Path(content['load_from']).is_file():
        data = Path(content['load_from']).read_bytes()
        content['load_from'] = f'sha256 {hashlib.sha256(data).hexdigest()[:16]}'
    roots = sorted(_roots(content), key=len, reverse=True)
    flat: dict[str, Any] = {}
    _flatten({k: content[k] for k in _used(content)}, '', flat, roots)
    return flat


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, tuple]:
    """Return settings that differ: name to both values, None where one has it not."""
    return {
        name: (one.get(name), other.get(name))
        for name in dict.fromkeys([*one, *other])
        if one.get(name) != other.get(name)
    }


_RUN = {
    *('model', 'data_preprocessor', 'train_cfg', 'val_cfg', 'test_cfg', 'optim_wrapper'),
    *('param_scheduler', 'custom_hooks', 'load_from', 'test_evaluator', 'default_scope'),
    *('model_wrapper_cfg', 'sync_bn', 'train_dataloader', 'test_dataloader'),
}


def _used(content: Mapping) -> list[str]:
    """Return the entries that a runner reads; variables beside them change nothing."""
    return [name for name in content if name in _RUN]


def _roots(value: Any) -> set[str]:
    if isinstance(value, Mapping):
        own = {value['data_root']} if isinstance(value.get('data_root'), str) else set()
        return own.union(*(_roots(child) for child in value.values())) - {''}
    if isinstance(value, list | tuple):
        return set().union(*(_roots(child) for child in value if isinstance(child, Mapping)))
    return set()


def _flatten(value: Any, name: str, flat: dict, roots: Sequence[str]) -> None:
    last = name.rpartition('.')[2]
    if last in _PRIVATE or last == 'data_root':
        return
    if isinstance(value, Mapping) and value:
        for key, child in value.items():
            _flatten(child, f'{name}.{key}' if name else str(key), flat, roots)
    elif isinstance(value, list | tuple) and any(isinstance(child, Mapping) for child in value):
        for number, child in enumerate(value):
            _flatten(child, f'{name}.{number}', flat, roots)
    elif isinstance(value, list | tuple) and len(value) > 50:
        text = repr(list(value)).encode()
        flat[name] = f'{len(value)} values, sha256 {hashlib.sha256(text).hexdigest()[:16]}'
    else:
        flat[name] = _comparable(value, roots)


def _comparable(value: Any, roots: Sequence[str]) -> Any:
    """As JSON would give it back."""
    if isinstance(value, list | tuple):
        return [_comparable(child, roots) for child in value]
    if isinstance(value, str):
        for root in roots:
            if value.startswith(root):
                return value[len(root) :].lstrip('/')
        return value
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)
    return value if value is None or isinstance(value, bool | int | float) else repr(value)


def _plain(value: Any) -> Any:
    """Without mmengine's own kinds of dict and list."""
    if isinstance(value, Mapping):
        return {key: _plain(child) for key, child in value.items()}
    if isinstance(value, tuple):
        return tuple(_plain(child) for child in value)
    if isinstance(value, list):
        return [_plain(child) for child in value]
    if isinstance(value, type):
        return f'{value.__module__}.{value.__qualname__}'
    return value
