"""Classes that are folders of images: mmpretrain numbers them by their sorted names."""

import inspect
import os
from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.fileio import LocalBackend, get_file_backend

from mmattn.core.names import shorten
from mmattn.data.config import find_class

__all__ = ['check_folders']


def check_folders(
    cfg: Mapping, dataset_cfg: Mapping, where: str, trained: Sequence[str] = ()
) -> list[str]:
    """Check a data set of mmpretrain whose labels are its folders.

    Args:
        cfg: The whole config.
        dataset_cfg: The data set's.
        where: Its place in the config, for the messages.
        trained: The folders of the training, by label.

    Returns:
        The folders by label; nothing for any other data set.

    Raises:
        FileNotFoundError: The folder does not exist.
        ValueError: ``classes``, the folders and those of the training do not agree, or the head
            has fewer outputs.
    """
    dataset = _open(dataset_cfg, cfg.get('default_scope') or 'mmengine')
    if dataset is None:
        return []
    root = dataset.img_prefix
    if not os.path.isdir(root):
        raise FileNotFoundError(
            f'{where}: the folder {root} does not exist; set data_root and data_prefix of this '
            'data set to where its images lie'
        )
    folders = sorted(entry.name for entry in os.scandir(root) if entry.is_dir())
    classes = list(dataset.metainfo.get('classes') or [])
    if classes:
        _compare(classes, folders, where, root, 'classes')
    if trained:
        _compare(list(trained), folders, where, root, 'the training')
    head = (cfg.get('model') or {}).get('head') or {}
    outputs = head.get('num_classes') if isinstance(head, Mapping) else None
    if outputs is not None and outputs < len(folders):
        raise ValueError(
            f'{where}: {root} has {len(folders)} folders, one a class, and model.head has '
            f'num_classes={outputs}: write num_classes={len(folders)}'
        )
    return folders


def _open(dataset_cfg: Mapping, scope: str) -> Any:
    """Build the data set without reading anything; None if its labels are not local folders."""
    try:
        from mmpretrain.datasets import CustomDataset
    except ImportError:
        return None
    if any('://' in str(dataset_cfg.get(key)) for key in ('data_root', 'data_prefix')):
        return None
    cls = find_class(dataset_cfg, scope)
    if not (inspect.isclass(cls) and issubclass(cls, CustomDataset)):
        return None
    if cls.load_data_list is not CustomDataset.load_data_list:
        return None
    options = {k: v for k, v in dataset_cfg.items() if k not in ('type', '_scope_', 'pipeline')}
    try:
        dataset = cls(**{**options, 'lazy_init': True})
    except (TypeError, AssertionError):  # its own sentence comes when it is built
        return None
    local = isinstance(get_file_backend(dataset.img_prefix), LocalBackend)
    return dataset if local and dataset.with_label and not dataset.ann_file else None


def _compare(names: list[str], folders: list[str], where: str, root: str, whose: str) -> None:
    """Refuse a name that stands at another place than its folder."""
    places = {folder: place for place, folder in enumerate(folders)}
    moved = [name for place, name in enumerate(names) if places.get(name, place) != place]
    rule = 'mmpretrain numbers folders by their sorted names'
    if moved:
        name = moved[0]
        remedy = (
            f'write classes={tuple(folders)}'
            if whose == 'classes'
            else 'give both the same folders (empty ones count)'
        )
        raise ValueError(
            f'{where}: {name!r} is label {names.index(name)} in {whose} and label '
            f'{places[name]} in {root}: {rule}, so labels would be exchanged: {remedy}'
        )
    if len(names) != len(folders):
        raise ValueError(
            f'{where}: {whose} has {len(names)} names and {root} {len(folders)} folders '
            f'({shorten(folders)}): {rule}, one for each class'
        )
