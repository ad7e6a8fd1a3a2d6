"""From a config to its data sets: wrappers opened, options checked, nothing read."""

import inspect
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmengine.registry import DATASETS, DefaultScope

from mmattn.core.names import did_you_mean

__all__ = ['check_names', 'find_class', 'is_local', 'leaves', 'open_dataset']


def leaves(dataset_cfg: Any, where: str) -> Iterator[tuple[str, Mapping]]:
    """Walk through wrappers (RepeatDataset, ConcatDataset, ...) down to the data sets."""
    if not isinstance(dataset_cfg, Mapping):
        return
    if isinstance(dataset_cfg.get('dataset'), Mapping):
        yield from leaves(dataset_cfg['dataset'], f'{where}.dataset')
    elif isinstance(dataset_cfg.get('datasets'), list | tuple):
        for i, child in enumerate(dataset_cfg['datasets']):
            yield from leaves(child, f'{where}.datasets.{i}')
    else:
        yield where, dataset_cfg


def find_class(dataset_cfg: Mapping, scope: str) -> Any:
    """Return what the type of a data set's config names; None where nothing is registered so."""
    if DefaultScope.get_current_instance() is None:
        DefaultScope.get_instance('mmattn', scope_name=scope)
    kind = dataset_cfg.get('type')
    with DATASETS.switch_scope_and_registry(scope) as registry:
        return registry.get(kind) if isinstance(kind, str) else kind


def open_dataset(dataset_cfg: Mapping, where: str, scope: str) -> Any:
    """Build the data set without reading anything; None if it is not local and mmdet's."""
    try:
        from mmdet.datasets import BaseDetDataset
    except ImportError:
        return None
    if any('://' in str(dataset_cfg.get(key)) for key in ('data_root', 'ann_file')):
        return None
    cls = find_class(dataset_cfg, scope)
    if not (inspect.isclass(cls) and issubclass(cls, BaseDetDataset)):
        return None
    options = {k: v for k, v in dataset_cfg.items() if k not in ('type', '_scope_', 'pipeline')}
    check_names(cls, options, where)
    _check_classes((options.get('metainfo') or {}).get('classes'), where)
    return cls(**{**options, 'lazy_init': True})


def check_names(cls: type, options: Mapping, where: str) -> None:
    """Refuse a misspelt option with the nearest valid one."""
    known = set()
    for base in cls.__mro__:
        if '__init__' in vars(base):
            known |= set(inspect.signature(base.__init__).parameters)
    for name in options:
        if name not in known:
            hint = did_you_mean(name, known)
            raise ValueError(f'{where}: {cls.__name__} has no option {name!r}{hint}')


def _check_classes(classes: Any, where: str) -> None:
    """Refuse classes that are not different names."""
    if isinstance(classes, str):
        if Path(classes).is_file():  # mmengine reads one name a line
            return
        raise ValueError(
            f'{where}.metainfo: classes is the text {classes!r}, it must be a tuple of names: '
            f'write ({classes!r},), with a comma'
        )
    for name in classes or ():
        if not isinstance(name, str):
            raise ValueError(f'{where}.metainfo: classes must be names, got {name!r}')
    if classes and len(set(classes)) < len(classes):
        twice = sorted({name for name in classes if list(classes).count(name) > 1})
        raise ValueError(
            f'{where}.metainfo: classes must differ, {", ".join(twice)} is there twice'
        )


def is_local(dataset: Any) -> bool:
    """Whether a data set lies in local files."""
    return (dataset.backend_args or {}).get('backend', 'local') in ('local', 'disk')
