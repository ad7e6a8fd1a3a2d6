"""Look at the configured data before a run, and say in one sentence what is wrong.

The host's own answers to bad data are an assertion without the file, an infinite loss, labels
that are silently dropped, or nothing. Here each finding names the file and the way out. A finding
that makes the run meaningless raises; one that a person should know of comes back as text.
"""

from pathlib import Path

from mmattn.data.coco import CocoLayout
from mmattn.data.config import is_local, leaves, open_dataset
from mmattn.data.evaluator import check_evaluator, check_num_classes
from mmattn.data.images import broken_picture_sentence, find_broken_pictures
from mmattn.data.voc import VocLayout

__all__ = ['broken_picture_sentence', 'check_data', 'find_broken_pictures', 'picture_paths']


def check_data(cfg, splits=('train', 'val')) -> list[str]:
    """Check the data sets of a config.

    Args:
        cfg (mmengine.Config): The whole config.
        splits: Which of ``train``, ``val`` and ``test`` to look at.

    Returns:
        list[str]: What a person should know but what does not stop a run.

    Raises:
        FileNotFoundError: An annotation file, a picture folder or pictures are missing.
        ValueError: Anything else that makes a run meaningless; the text names file and remedy.
    """
    notes = []
    for split in splits:
        loader = cfg.get(f'{split}_dataloader')
        if loader is None:
            continue
        for where, dataset_cfg in leaves(loader.get('dataset'), f'{split}_dataloader.dataset'):
            dataset = open_dataset(dataset_cfg, where, cfg.get('default_scope') or 'mmengine')
            if dataset is not None:
                notes += _check_dataset(dataset, dataset_cfg, where)
                notes += check_num_classes(cfg, dataset, where)
        if split != 'train':
            notes += check_evaluator(cfg, split)
    return list(dict.fromkeys(notes))


def picture_paths(cfg, splits=('train', 'val')) -> list[str]:
    """Every picture of the configured data sets that lies in a local file."""
    paths = []
    for split in splits:
        loader = cfg.get(f'{split}_dataloader') or {}
        for where, dataset_cfg in leaves(loader.get('dataset'), split):
            dataset = open_dataset(dataset_cfg, where, cfg.get('default_scope') or 'mmengine')
            reader = find_reader(dataset)
            if reader is not None and is_local(dataset):
                paths += reader(dataset, dataset_cfg, where).pictures()
    return list(dict.fromkeys(paths))


def find_reader(dataset):
    """The class below that reads what this data set reads; None for a layout unknown here."""
    from mmdet.datasets import CocoDataset, XMLDataset

    if dataset is None:
        return None
    load = type(dataset).load_data_list
    if load is CocoDataset.load_data_list:
        return CocoLayout
    return VocLayout if load is XMLDataset.load_data_list else None


def _check_dataset(dataset, dataset_cfg, where: str) -> list[str]:
    if not is_local(dataset):
        return []
    if dataset.ann_file and not Path(dataset.ann_file).is_file():
        raise FileNotFoundError(
            f'{where}: the annotation file {dataset.ann_file} does not exist; '
            'set data_root and ann_file of this data set to where it lies (relative paths start '
            f'at {Path.cwd()})'
        )
    reader = find_reader(dataset)
    return reader(dataset, dataset_cfg, where).check() if reader else []
