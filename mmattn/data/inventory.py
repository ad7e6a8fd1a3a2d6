"""What a config's data sets hold: found, missing, and the first broken file.

:func:`mmattn.data.checks.check_data` stops before a run at the first thing that is wrong. This
looks at every data set, also those of classifiers, and says of each what is there.
"""

import hashlib
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmattn.core.names import shorten
from mmattn.data.checks import check_data, image_paths
from mmattn.data.config import check_names, find_class, leaves
from mmattn.data.decode import decode_problem, looks_whole
from mmattn.data.folders import Names, missing_files

__all__ = ['Inventory', 'take_inventory']

SPLITS = ('train', 'val', 'test')
# images of the whole set, as its makers give them
WHOLE = {
    ('ImageNet', 'train'): 1_281_167,
    ('ImageNet', 'val'): 50_000,
    ('mmattn.ImageNetV2', ''): 10_000,
    ('CUB', 'train'): 5_994,
    ('CUB', 'test'): 5_794,
    ('CIFAR10', 'train'): 50_000,
    ('CIFAR10', 'test'): 10_000,
    ('CIFAR100', 'train'): 50_000,
    ('CIFAR100', 'test'): 10_000,
}
_MAX_DECODED = 1000  # beyond it, images spread evenly over the data set


@dataclass
class Inventory:
    """One data set of a config.

    Args:
        where: Its place in the config.
        kind: Its type.
        root: Where its images are looked for.
        found: What is there, in words.
        missing: What is not; empty where everything is.
        broken: The first file that cannot be used and why; empty where none is known.
        decoded: How many images were decoded, or looked whole at both ends.
        notes: What else a person should know.
    """

    where: str
    kind: str
    root: str
    found: str = ''
    missing: str = ''
    broken: str = ''
    decoded: int = 0
    notes: list[str] = field(default_factory=list)

    @property
    def whole(self) -> bool:
        """Whether nothing is missing and nothing broken."""
        return not (self.missing or self.broken)

    def __str__(self) -> str:
        broken = self.broken or (f'none of {self.decoded:,}' if self.decoded else '')
        lines = [f'{self.where}: {self.kind} in {self.root}']
        lines += [f'  found:   {self.found or "nothing"}']
        lines += [f'  missing: {self.missing or "nothing"}']
        lines += [f'  broken:  {broken}'] if broken else []
        return '\n'.join(lines + [f'  note:    {note}' for note in self.notes])


def take_inventory(
    cfg: Config, splits: Sequence[str] = SPLITS, every: bool = False
) -> list[Inventory]:
    """Look at every data set of a config; downloads nothing, changes nothing.

    Args:
        cfg: The whole config, of a detector or a classifier.
        splits: Which of ``train``, ``val`` and ``test`` to look at.
        every: Decode every image; else the ends of up to 1,000 are looked at.

    Returns:
        One entry a data set, in the order of the splits; one that is there twice is in once.

    Raises:
        ValueError: The config has no data set, or one with an option it does not have.
    """
    scope = cfg.get('default_scope') or 'mmengine'
    seen: list[Any] = []
    taken = []
    for split in splits:
        loader = cfg.get(f'{split}_dataloader') or {}
        for where, dataset_cfg in leaves(loader.get('dataset'), f'{split}_dataloader.dataset'):
            about = {k: v for k, v in dataset_cfg.items() if k not in ('pipeline', 'test_mode')}
            if about in seen:
                continue
            seen.append(about)
            entry = Inventory(where, str(dataset_cfg.get('type')), _place(dataset_cfg))
            cls = find_class(dataset_cfg, scope)
            if _is_classification(cls):
                _look_at_classes(entry, cls, dataset_cfg, cfg, every)
            else:
                _look_at_boxes(entry, cfg, split, dataset_cfg, every)
            taken.append(entry)
    if not taken:
        raise ValueError(f'the config has no data set in {", ".join(splits)}')
    return taken


def _place(dataset_cfg: Mapping) -> str:
    """Return where the images are looked for, as the config says it."""
    prefix = dataset_cfg.get('data_prefix') or dataset_cfg.get('split') or ''
    if isinstance(prefix, Mapping):
        prefix = next(iter(prefix.values()), '')
    return os.path.normpath(os.path.join(str(dataset_cfg.get('data_root') or ''), str(prefix)))


def _is_classification(cls: Any) -> bool:
    try:
        from mmpretrain.datasets import BaseDataset
    except ImportError:
        return False
    return isinstance(cls, type) and issubclass(cls, BaseDataset)


def _look_at_boxes(
    entry: Inventory, cfg: Config, split: str, dataset_cfg: Mapping, every: bool
) -> None:
    """Look at a data set of boxes by the checks before a run."""
    alone = Config(
        dict(
            default_scope=cfg.get('default_scope'),
            model=cfg.get('model') or {},
            **{f'{split}_dataloader': dict(dataset=dict(dataset_cfg))},
        )
    )
    try:
        notes = check_data(alone, (split,))
        start = f'{entry.where}: '  # what the model says about its start is no word on the data
        entry.notes += [n.removeprefix(start) for n in notes if n.startswith(start)]
        paths = image_paths(alone, (split,))
    except FileNotFoundError as error:
        entry.missing = str(error).removeprefix(f'{entry.where}: ')
    except (ValueError, OSError) as error:
        entry.broken = str(error).removeprefix(f'{entry.where}: ')
    else:
        if not paths:
            entry.notes.append(f'{entry.kind} is not looked into: not local, or not known here')
            return
        entry.found = f'{len(paths):,} images'
        _look_at_images(entry, paths, every)


def _look_at_classes(
    entry: Inventory, cls: type, dataset_cfg: Mapping, cfg: Config, every: bool
) -> None:
    """Look at a data set of images with a class, or several, each."""
    options = {k: v for k, v in dataset_cfg.items() if k not in ('type', '_scope_', 'pipeline')}
    check_names(cls, options, entry.where)
    root = str(options.get('data_root') or '')
    if '://' in root:
        entry.notes.append('not looked into: it is not local')
        return
    if root and not Path(root).is_dir():
        entry.missing = f'{root} is no folder (relative paths start at {Path.cwd()})'
        return
    if hasattr(cls, 'train_list'):
        _look_at_archives(entry, cls, root)
        if not entry.whole:
            return
    dataset = None
    try:
        dataset = cls(**{**options, 'lazy_init': True})
        infos = dataset.load_data_list()
    except FileNotFoundError as error:
        entry.missing = _missing(error, cls, dataset)
        return
    except Exception as error:  # frameworks assert, or fail wherever a line is not what they think
        entry.broken = f'{_list_file(dataset) or entry.root}: {_words(error)}'
        return
    if not infos:
        entry.missing = f'{entry.root} has no image that {entry.kind} reads'
        return
    paths = [info['img_path'] for info in infos if 'img_path' in info]
    lost = set(missing_files(paths))
    there = [info for info in infos if info.get('img_path') not in lost]
    _count(entry, there, dataset, options.get('split', ''), cfg)
    _look_at_images(entry, paths, every)


def _list_file(dataset: Any) -> str:
    return str(getattr(dataset, 'ann_file', '') or '')


def _missing(error: FileNotFoundError, cls: type, dataset: Any) -> str:
    path = error.filename or _list_file(dataset) or str(error)
    folder, name = os.path.split(str(path))
    near = ''
    if os.path.isdir(folder or '.'):
        names = Names(os.listdir(folder or '.'))
        found = names.twin(name) or names.nearest(name)
        near = f' (the nearest there is {found})' if found else ''
    return f'{path}, which {cls.__name__} reads, does not exist{near}'


def _words(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return f'{type(error).__name__}: {text[0]}' if text else type(error).__name__


def _look_at_archives(entry: Inventory, cls: Any, root: str) -> None:
    """CIFAR lies in a few files whose checksums are known."""
    files = [*cls.train_list, *cls.test_list, [cls.meta['filename'], cls.meta.get('md5')]]
    there = []
    for name, checksum in files:
        path = Path(root, cls.base_folder, name)
        if not path.is_file():
            continue
        there.append(name)
        if checksum and hashlib.md5(path.read_bytes()).hexdigest() != checksum:
            entry.broken = entry.broken or f'{path} is not the file that was published (checksum)'
    entry.found = f'{len(there)} of the {len(files)} files of {cls.base_folder}'
    lost = [name for name, _ in files if name not in there]
    if lost:
        folder = Path(root, cls.base_folder)
        entry.missing = (
            f'{shorten(lost)} in {folder}; unpack {cls.filename} into {root}, or let the training '
            f'download it from {cls.url}'
        )


def _count(
    entry: Inventory, infos: Sequence[Mapping], dataset: Any, split: str, cfg: Config
) -> None:
    """Count images and classes, and compare the labels with the head."""
    labels: Counter = Counter()
    for info in infos:
        label = info.get('gt_label', ())
        labels.update(label if isinstance(label, list | tuple) else [label])
    classes = len(dataset.metainfo.get('classes') or ()) or len(labels)
    entry.found = f'{len(infos):,} images of {len(labels):,} classes'
    if labels:
        least, most = min(labels.values()), max(labels.values())
        entry.found += f', {least:,} to {most:,} a class'
    if whole := WHOLE.get((entry.kind, split)):
        entry.found += f'; the whole set has {whole:,}'
        if len(infos) < whole:
            entry.notes.append(f'{whole - len(infos):,} images fewer than the whole set')
    if len(labels) < classes:
        entry.notes.append(f'{classes - len(labels):,} of {classes:,} classes have no image')
    head = ((cfg.get('model') or {}).get('head')) or {}
    outputs = head.get('num_classes') if isinstance(head, Mapping) else None
    wrong = [label for label in labels if isinstance(outputs, int) and label not in range(outputs)]
    if wrong:
        labelled = _list_file(dataset) or entry.root
        entry.broken = (
            f'label {shorten(map(str, sorted(wrong)))} of {labelled} is not in 0 to '
            f'{outputs - 1}, the outputs of the head (num_classes={outputs})'
        )


def _look_at_images(entry: Inventory, paths: Sequence[str], every: bool) -> None:
    """Find images that are not there, and the first that cannot be decoded."""
    lost = set(missing_files(paths))
    if lost:
        first = next(path for path in paths if path in lost)
        entry.missing = f'{len(lost):,} of {len(paths):,} images, the first is {first}'
    there = [path for path in paths if path not in lost]
    looked_at = there if every else there[:: max(len(there) // _MAX_DECODED, 1)]
    entry.decoded = len(looked_at)
    for path in looked_at:
        if not every and looks_whole(path):
            continue
        if reason := decode_problem(path):
            entry.broken = entry.broken or f'{path}: {reason}'
            return
