"""Look at the configured data before a run, and say in one sentence what is wrong.

mmdet's own answers to bad data are an assertion without the file, an infinite loss, labels that
are silently dropped, or nothing. Here each finding names the file and the way out. A finding that
makes the run meaningless raises; one that a person should know of comes back as text.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmattn.data.coco_checks import CocoLayout
from mmattn.data.config import is_local, leaves, open_dataset
from mmattn.data.decode import broken_image_sentence, find_broken_images
from mmattn.data.evaluator_checks import check_evaluator, evaluated_files
from mmattn.data.folder_checks import check_folders
from mmattn.data.layout import Layout
from mmattn.data.model_checks import check_num_classes, check_start
from mmattn.data.voc_checks import VocLayout

__all__ = ['broken_image_sentence', 'check_data', 'find_broken_images', 'image_paths']


def check_data(cfg: Config, splits: Sequence[str] = ('train', 'val')) -> list[str]:
    """Check the data sets of a config, and how its model starts.

    Args:
        cfg: The whole config.
        splits: Which of ``train``, ``val`` and ``test`` to look at.

    Returns:
        What a person should know but what does not stop a run.

    Raises:
        FileNotFoundError: An annotation file, an image folder or images are missing.
        ValueError: Anything else that makes a run meaningless; the text names file and remedy.
    """
    notes: list[str] = []
    trained: list[str] = []
    folders: list[str] = []
    for split in splits:
        loader = cfg.get(f'{split}_dataloader')
        if loader is None:
            continue
        evaluated = evaluated_files(cfg, split) if split != 'train' else {}
        classes: list[str] = []
        image_ids: set = set()
        for where, dataset_cfg in leaves(loader.get('dataset'), f'{split}_dataloader.dataset'):
            own = check_folders(cfg, dataset_cfg, where, folders if split != 'train' else ())
            folders = own if split == 'train' else folders
            dataset = open_dataset(dataset_cfg, where, cfg.get('default_scope') or 'mmengine')
            if dataset is None:
                continue
            classes = list(dataset.metainfo.get('classes') or [])
            notes += check_num_classes(cfg, dataset, where)
            readers = evaluated.pop(os.path.abspath(dataset.ann_file), ())
            layout = _open_layout(dataset, dataset_cfg, where, readers)
            if layout is not None:
                notes += layout.check()
                image_ids |= layout.image_ids()
            if split == 'train':
                trained = classes
            else:
                _compare_classes(trained, classes, where)
        if split == 'train':
            notes += check_start(cfg)
        else:
            notes += check_evaluator(cfg, split, evaluated, classes, image_ids)
    return list(dict.fromkeys(notes))


def image_paths(cfg: Config, splits: Sequence[str] = ('train', 'val')) -> list[str]:
    """Find every image of the configured data sets that lies in a local file."""
    paths = []
    for split in splits:
        loader = cfg.get(f'{split}_dataloader') or {}
        for where, dataset_cfg in leaves(loader.get('dataset'), split):
            dataset = open_dataset(dataset_cfg, where, cfg.get('default_scope') or 'mmengine')
            layout = None if dataset is None else _open_layout(dataset, dataset_cfg, where)
            if layout is not None:
                paths += layout.paths()
    return list(dict.fromkeys(paths))


def _open_layout(
    dataset: Any, dataset_cfg: Any, where: str, readers: Sequence[str] = ()
) -> Layout | None:
    """Return the layout that this data set reads; None for one that is not local or not known
    here.
    """
    from mmdet.datasets import CocoDataset, XMLDataset

    if not is_local(dataset):
        return None
    if dataset.ann_file and not Path(dataset.ann_file).is_file():
        raise FileNotFoundError(
            f'{where}: the annotation file {dataset.ann_file} does not exist; '
            'set data_root and ann_file of this data set to where it lies (relative paths start '
            f'at {Path.cwd()})'
        )
    load = type(dataset).load_data_list
    if load is CocoDataset.load_data_list:
        return CocoLayout(dataset, dataset_cfg, where, readers)
    if load is XMLDataset.load_data_list:
        return VocLayout(dataset, dataset_cfg, where, readers)
    return None


def _compare_classes(trained: list[str], classes: list[str], where: str) -> None:
    """Refuse names that a trained label would be exchanged for in the evaluation."""
    if trained != classes and set(trained) == set(classes):
        raise ValueError(
            f'{where}: the classes {tuple(classes)} are those of the training in another order, '
            f'so labels would be exchanged: write {tuple(trained)}'
        )
